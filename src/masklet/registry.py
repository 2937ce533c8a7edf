"""The models that masklet knows by name: where they come from, their size, and their licenses.

    >>> get_card("sam2.1_b.pt").name
    'sam2.1_hiera_base_plus'
    >>> resolve("sam2.1_b.pt")  # doctest: +SKIP
    PosixPath('/home/me/.cache/masklet/sam2.1_hiera_base_plus.pt')

SHA-256 and size are those of the hub's Git LFS records (huggingface.co/facebook/sam2*-hiera-*), whose `.pt` files are
the publisher's; those of SAM and MobileSAM are the ones that many public projects check their downloads against. Of
EdgeTAM and EfficientTAM no hash is published, and a size of some files only: the rest is checked by its tensors.
`parameters` counts every value of every tensor in the published file, buffers included; for YOLOv8 and FastSAM only
learned values, as in their published tables.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from masklet.checkpoints import Progress, cache_dir, download
from masklet.errors import CheckpointError, UnknownModelError

__all__ = ["BUILTIN", "MODELS", "ModelCard", "get_card", "is_downloaded", "locate", "resolve"]

BUILTIN = "masklet-builtin"
"""Name of the model inside the package, which `SAM()` opens by default."""

_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class ModelCard:
    """One model: its names, its file and its licenses.

    `url` is None for the model inside the package. `size` is in bytes. `parameters`, `size` and `sha256` are None if
    nobody published them.
    """

    name: str
    title: str
    file: str
    aliases: tuple[str, ...]
    url: str | None
    size: int | None
    sha256: str | None
    parameters: int | None
    license_code: str
    license_weights: str
    source: str
    family: str = "sam2"
    """Family of the network: sam2, sam1, yolo or fastsam."""

    @property
    def is_builtin(self) -> bool:
        """Whether the weights are inside the package."""
        return self.url is None

    @property
    def short_name(self) -> str:
        """The shortest usual name: an alias, or the name of the file."""
        if self.is_builtin:
            return self.aliases[0]
        return f"{self.aliases[0]}.pt" if self.name.startswith("sam") else self.file


@dataclass(frozen=True)
class _PublishedFile:
    size: int
    sha256: str
    parameters: int


# Spellings of each size.
_SAM2_SIZE_ALIASES: dict[str, tuple[str, ...]] = {
    "tiny": ("t",),
    "small": ("s",),
    "base_plus": ("b", "b+", "base", "base+", "base_plus"),
    "large": ("l",),
}
_DATES = {"2": "072824", "2.1": "092824"}
_SAM2_FILES: dict[tuple[str, str], _PublishedFile] = {
    ("2", "tiny"): _PublishedFile(
        155906050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 38946242
    ),
    ("2", "small"): _PublishedFile(
        184309650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 46044098
    ),
    ("2", "base_plus"): _PublishedFile(
        323493298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", 80833922
    ),
    ("2", "large"): _PublishedFile(
        897952466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", 224430386
    ),
    ("2.1", "tiny"): _PublishedFile(
        156008466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 38962754
    ),
    ("2.1", "small"): _PublishedFile(
        184416285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 46060610
    ),
    ("2.1", "base_plus"): _PublishedFile(
        323606802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 80850434
    ),
    ("2.1", "large"): _PublishedFile(
        898083611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 224446898
    ),
}


def _sam2_card(version: str, size: str, published: _PublishedFile) -> ModelCard:
    name = f"sam{version}_hiera_{size}"
    versions = ("sam2", "sam2.0", "sam_2") if version == "2" else ("sam2.1", "sam_2.1")
    spellings = dict.fromkeys((*_SAM2_SIZE_ALIASES[size], size))
    aliases = [f"{v}_{infix}{s}" for v in versions for infix in ("", "hiera_") for s in spellings]
    aliases.append(f"facebook/{name}")
    return ModelCard(
        name=name,
        title=f"SAM {version} {size.replace('_plus', '+')}",
        file=f"{name}.pt",
        aliases=tuple(alias for alias in dict.fromkeys(aliases) if alias != name),  # as `_normalize_name` spells them
        url=f"https://dl.fbaipublicfiles.com/segment_anything_2/{_DATES[version]}/{name}.pt",
        size=published.size,
        sha256=published.sha256,
        parameters=published.parameters,
        license_code="Apache-2.0",
        license_weights="Apache-2.0",
        source="Meta AI, https://github.com/facebookresearch/sam2",
    )


_EDGETAM_CARD = ModelCard(
    name="edgetam",
    title="EdgeTAM",
    file="edgetam.pt",
    aliases=("edge_tam", "facebook/edgetam"),
    url="https://github.com/facebookresearch/EdgeTAM/raw/9cc44bfe9e16cc374242917b91283c718410ea87/checkpoints/edgetam.pt",
    size=56116523,
    sha256=None,
    parameters=13_943_148,
    license_code="Apache-2.0",
    license_weights="Apache-2.0",
    source="Meta Reality Labs, https://github.com/facebookresearch/EdgeTAM",
)

# Size -> its other spelling, the size of the base file, and parameters.
_EFFICIENTTAM_FILES: dict[str, tuple[str, int, int]] = {
    "s": ("small", 136375868, 34_056_098),
    "ti": ("tiny", 71616316, 17_866_274),
}


def _efficienttam_card(size: str, suffix: str) -> ModelCard:
    spelling, file_size, parameters = _EFFICIENTTAM_FILES[size]
    name = f"efficienttam_{size}{suffix}"
    return ModelCard(
        name=name,
        title=f"EfficientTAM {size.capitalize()}{suffix.replace('_', '/')}",
        file=f"{name}.pt",
        aliases=(f"efficienttam_{spelling}{suffix}",),
        url=f"https://huggingface.co/yunyangx/efficient-track-anything/resolve/main/{name}.pt",
        size=None if suffix else file_size,
        sha256=None,
        parameters=parameters,
        license_code="Apache-2.0",
        license_weights="Apache-2.0",
        source="Yunyang Xiong et al., https://github.com/yformer/EfficientTAM",
    )


_BUILTIN_CARD = ModelCard(
    name=BUILTIN,
    title="masklet's own small SAM 2",
    file="masklet-builtin.safetensors",
    aliases=("builtin", "masklet"),
    url=None,
    size=13787836,
    sha256=None,
    parameters=6_867_666,
    license_code="Apache-2.0",
    license_weights="Apache-2.0",
    source="trained for masklet; the model card is in the package's builtin folder",
)

# Size -> its letter, the suffix of the file's name, and the file.
_SAM1_FILES: dict[str, tuple[str, str, _PublishedFile]] = {
    "base": (
        "b",
        "01ec64",
        _PublishedFile(375042383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 93735728),
    ),
    "large": (
        "l",
        "0b3195",
        _PublishedFile(1249524607, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 312343088),
    ),
    "huge": (
        "h",
        "4b8939",
        _PublishedFile(2564550879, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 641090864),
    ),
}


def _vit_card(size: str, letter: str, end: str, published: _PublishedFile) -> ModelCard:
    name = f"sam_vit_{letter}"
    file = f"{name}_{end}"
    return ModelCard(
        name=name,
        title=f"SAM ViT-{letter.upper()}",
        file=f"{file}.pth",
        aliases=(f"sam_{letter}", f"sam1_{letter}", f"sam_{size}", f"sam_vit_{size}", file, f"facebook/sam_vit_{size}"),
        url=f"https://dl.fbaipublicfiles.com/segment_anything/{file}.pth",
        size=published.size,
        sha256=published.sha256,
        parameters=published.parameters,
        license_code="Apache-2.0",
        license_weights="Apache-2.0",
        source="Meta AI, https://github.com/facebookresearch/segment-anything",
        family="sam1",
    )


_MOBILE_CARD = ModelCard(
    name="mobile_sam",
    title="MobileSAM",
    file="mobile_sam.pt",
    aliases=("mobilesam", "mobile_sam_vit_t"),
    url="https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
    size=40728226,
    sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    parameters=10_140_231,
    license_code="Apache-2.0",
    license_weights="Apache-2.0",
    source="Chaoning Zhang et al., https://github.com/ChaoningZhang/MobileSAM",
    family="sam1",
)

_YOLO_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
# Name -> parameters. Size and hash are published for the smallest file only.
_YOLO_PARAMETERS: dict[str, int] = {
    "yolov8n": 3_157_200,
    "yolov8s": 11_166_560,
    "yolov8m": 25_902_640,
    "yolov8l": 43_691_520,
    "yolov8x": 68_229_648,
    "yolov8n-seg": 3_409_968,
    "yolov8s-seg": 11_821_056,
    "yolov8m-seg": 27_285_968,
    "yolov8l-seg": 45_997_728,
    "yolov8x-seg": 71_827_888,
    "FastSAM-s": 11_790_483,
    "FastSAM-x": 71_751_811,
}
_YOLO_FILES: dict[str, tuple[int, str]] = {
    "yolov8n": (6549796, "f59b3d833e2ff32e194b5bb8e08d211dc7c5bdf144b90d2c8412c47ccfc83b36"),
}


def _yolo_card(name: str, parameters: int) -> ModelCard:
    size, sha256 = _YOLO_FILES.get(name, (None, None))
    fast = name.startswith("FastSAM")
    return ModelCard(
        name=name,
        title=name if fast else name.replace("yolo", "YOLO").replace("-seg", " segment"),
        file=f"{name}.pt",
        aliases=(),
        url=f"{_YOLO_RELEASE}/{name}.pt",
        size=size,
        sha256=sha256,
        parameters=parameters,
        license_code="Apache-2.0",
        license_weights="AGPL-3.0",
        source="CASIA-IVA-Lab FastSAM, published by Ultralytics" if fast else "Ultralytics YOLOv8",
        family="fastsam" if fast else "yolo",
    )


MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        _BUILTIN_CARD,
        *(_sam2_card(version, size, data) for (version, size), data in _SAM2_FILES.items()),
        _EDGETAM_CARD,
        *(_efficienttam_card(size, end) for size in _EFFICIENTTAM_FILES for end in ("", "_1", "_2", "_512x512")),
        *(_vit_card(size, *rest) for size, rest in _SAM1_FILES.items()),
        _MOBILE_CARD,
        *(_yolo_card(name, parameters) for name, parameters in _YOLO_PARAMETERS.items()),
    )
}


def get_card(name: str) -> ModelCard:
    """Return the card of a model by any of its names, with or without `.pt`, in upper or lower case.

    Example:
        >>> get_card("facebook/sam2-hiera-tiny").file
        'sam2_hiera_tiny.pt'

    Raises:
        UnknownModelError: if no model has this name; it lists all names and suggests the nearest one.
    """
    by_name = {_normalize_name(alias): card for card in MODELS.values() for alias in (card.name, *card.aliases)}
    if _normalize_name(name) in by_name:
        return by_name[_normalize_name(name)]
    near = difflib.get_close_matches(_normalize_name(name.rpartition("/")[2]), list(by_name), n=1, cutoff=0.5)
    is_path = "/" in name or "\\" in name or name.lower().endswith(_SUFFIXES)
    what = "neither a file that exists nor a known model" if is_path else "not a known model"
    spelled = [key.replace("_", "-") if "/" in key else key for key in near]  # the hub's names have dashes
    hint = f" Did you mean {spelled[0]!r}?" if spelled else ""
    rows = []
    for card in MODELS.values():
        if card.is_builtin:
            names = "inside the package"
        elif card.family in ("yolo", "fastsam"):
            names = f"{card.file}, by masklet.{'YOLO' if card.family == 'yolo' else 'FastSAM'}"
        else:
            hub = [alias.replace("_", "-") for alias in card.aliases if "/" in alias]
            names = ", ".join(dict.fromkeys([card.short_name, card.file, *hub]))
        rows.append(f"  {card.name:<24} {names}")
    message = f"{name!r} is {what}.{hint} Give the path of a file or one of these names:"
    raise UnknownModelError("\n".join([message, *rows]))


def locate(card: ModelCard, progress: Progress | None = None) -> Path:
    """Return the file of a card: in the current folder, else in the cache, else downloaded into the cache.

    `progress` is called with (bytes so far, total bytes) during a download.

    Raises:
        DownloadError: if the download fails; it says what to download, from where, and where to put it.
        CheckpointError: if the installation lost the file of the built-in model.
    """
    if card.url is None:
        path = _builtin_path(card)
        if path.is_file():
            return path
        raise CheckpointError(
            f"{path} is missing: this installation of masklet lost its built-in model. "
            "Install masklet again, or name a model: SAM('sam2.1_t.pt')."
        )
    here = Path(card.file)
    if here.is_file():
        return here.absolute()
    return download(card.url, cache_dir() / card.file, size=card.size, sha256=card.sha256, progress=progress)


def resolve(name: str | PathLike[str], progress: Progress | None = None) -> Path:
    """Return the weight file for a path or a known name; an existing file takes precedence.

    Example:
        >>> resolve("runs/mine.safetensors")  # doctest: +SKIP
        PosixPath('runs/mine.safetensors')

    Raises:
        UnknownModelError: if it is neither; further errors as in `locate`.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    return locate(get_card(str(name)), progress)


def is_downloaded(card: ModelCard) -> bool:
    """Return whether the card's file is on this machine, so that `locate` needs no network."""
    if card.is_builtin:
        return _builtin_path(card).is_file()
    cached = cache_dir() / card.file
    complete = cached.is_file() and card.size in {None, cached.stat().st_size}
    return complete or Path(card.file).is_file()


def _normalize_name(name: str) -> str:
    key = name.strip().lower().replace("\\", "/")
    for suffix in _SUFFIXES:
        key = key.removesuffix(suffix)
    return key.replace("-", "_").replace(" ", "_")


def _builtin_path(card: ModelCard) -> Path:
    return Path(__file__).parent / "builtin" / card.file
