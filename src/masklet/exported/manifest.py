"""Read the manifest of an exported folder, and check every file that it names, before a runtime opens one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError
from masklet.models.sam2.config import MatchingConfig

__all__ = ["FORMAT_VERSION", "MANIFEST_FILE", "FolderManifest", "VideoInput", "read_manifest"]

MANIFEST_FILE, CONSTANTS_FILE = "manifest.json", "constants.npz"
FORMAT_VERSION = 1
"""The newest version that is read."""
LAYOUT = "masklet"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
"""Formats that run here, and the suffix of their graphs."""
IMAGE_PARTS = ("image_encoder", "prompt_decoder")
REMEDY = "export the model again, or take a fresh copy of the folder"
BLOCK = 1 << 20

Constants = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class VideoInput:
    """How frames become the input of the network."""

    size: tuple[int, int] | None
    """Height and width that frames are resized to; None: they keep their shape."""
    pixels: int | None
    """About this many pixels where frames keep their shape."""
    slots: Mapping[int, int]
    """Memory slots of each memory attention, and its object pointers."""
    memory_channels: int
    memory_size: tuple[int, int] | None
    """Rows and columns of a memory; None: those of the map at stride 16."""


@dataclass(frozen=True)
class FolderManifest:
    """What an exported folder holds and how it is used; all its files are complete."""

    folder: Path
    format: str
    """The runtime's format: "onnx", "openvino" or "torch"."""
    precision: str
    graphs: Mapping[str, Path]
    """By part."""
    name: str
    title: str
    family: str
    """"sam1" or "sam2"."""
    has_finer_maps: bool
    """Whether masks are decoded with maps of strides 4 and 8 too."""
    score_family: str
    parameters: int | None
    """Number of values in all tensors of the network that was exported."""
    width: int
    """Channels of a map at stride 16, and of an object pointer."""
    opset: int | None
    still_image_size: int
    keeps_aspect_ratio: bool
    stability_threshold: float
    edge_radius: int | None
    clamps_logits: bool
    matching: MatchingConfig | None
    video: VideoInput | None
    """None: for images only."""
    license_code: str
    license_weights: str
    constants: Constants
    fingerprint: str
    """Hash of the hashes of all files."""

    @property
    def bytes(self) -> int:
        """Size of all graphs, with the weights that a runtime stores beside them."""
        stems = {path.stem for path in self.graphs.values()}
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.name.partition(".")[0] in stems)


def read_manifest(folder: Path) -> FolderManifest:
    """Read and check an exported folder.

    Raises:
        CheckpointError: if it is no such folder, is of a newer version or another layout, lacks a file or a part, or if
            a file has another size or content than the manifest says.
    """
    path = folder / MANIFEST_FILE
    try:
        doc = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is no exported model: it has no {MANIFEST_FILE}; give a folder that `masklet export MODEL --out "
            "DIR` wrote, or a .pt or .safetensors file"
        ) from None
    except decoder_errors() as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}): {REMEDY}") from error
    with _report_damage(path):
        version, layout = doc["format_version"], doc["layout"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f"{path} has format_version {version!r:.40}, which must be a number from 1: {REMEDY}")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {version}, and this masklet reads up to {FORMAT_VERSION}: install masklet "
            f"{str(doc.get('masklet_version', 'of that version'))[:20]}, or export the model with the installed one"
        )
    if layout != LAYOUT:
        raise CheckpointError(
            f"{folder} has the layout {layout!r:.40}, which is for another program; masklet runs the layout "
            f"{LAYOUT!r}: export the model with --layout {LAYOUT}"
        )
    if doc.get("format") not in SUFFIXES:
        raise CheckpointError(
            f"{folder} has the format {doc.get('format')!r:.40}, and masklet runs {', '.join(SUFFIXES)}: export the "
            "model with --format onnx"
        )
    with _report_damage(path):
        files = {str(each["name"]): (int(each["bytes"]), str(each["sha256"])) for each in doc["files"]}
        parts = [str(part) for part in doc["parts"]]
    for name, (size, digest) in files.items():
        _check_file(folder, name, size, digest)
    graphs = {part: folder / f"{part}{SUFFIXES[doc['format']]}" for part in parts}
    for part in (*IMAGE_PARTS, *parts):
        if part not in parts or graphs[part].name not in files:
            raise CheckpointError(f"{path} lists no file for the part {part}, which every image needs: {REMEDY}")
    digests = "".join(digest for _, digest in sorted(files.values()))
    with _report_damage(path):
        return _to_manifest(doc, folder, graphs, hashlib.sha256(digests.encode()).hexdigest())


def _check_file(folder: Path, name: str, size: int, digest: str) -> None:
    """Raise CheckpointError unless a file of the folder has its size and hash."""
    path = folder / name
    if Path(name).name != name or name in ("", ".", ".."):
        raise CheckpointError(f"{folder / MANIFEST_FILE} names {name!r:.80}, which is no file of its folder: {REMEDY}")
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, and {MANIFEST_FILE} lists it: {REMEDY}")
    found = path.stat().st_size
    if found != size:
        raise CheckpointError(f"{path} has {found} bytes, and {MANIFEST_FILE} says {size}: {REMEDY}")
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hasher.update(block)
    if hasher.hexdigest() != digest:
        raise CheckpointError(
            f"{path} has the SHA-256 {hasher.hexdigest()[:12]}..., and {MANIFEST_FILE} says {digest[:12]}...: it was "
            f"changed or damaged; {REMEDY}"
        )


def _to_manifest(doc: Mapping[str, Any], folder: Path, graphs: Mapping[str, Path], fingerprint: str) -> FolderManifest:
    """Build the manifest from a document whose files are checked."""
    model, constants, preprocessing, license = (doc[key] for key in ("model", "constants", "preprocessing", "license"))
    matching = constants["matching"]
    if matching is not None:
        known = {field.name for field in fields(MatchingConfig)}
        _require(set(matching) == known, f"matching has the fields {', '.join(sorted(matching))}")
        matching = MatchingConfig(**matching)
    name, family = str(model["name"]), str(model["family"])
    _require(family in ("sam1", "sam2"), f"family is {family!r:.40}")
    video = None
    if "memory_encoder" in graphs:
        frames = preprocessing["video"]
        slots = {int(memories): int(pointers) for memories, pointers in constants["pointers"].items()}
        _require(bool(slots), "pointers is empty")
        for memories in slots:
            _require(f"memory_attention_{memories}" in graphs, f"memory_attention_{memories} is not in parts")
        memory_size = model.get("memory_size")
        memory_size = None if memory_size is None else (int(memory_size[0]), int(memory_size[1]))
        size = None if frames["size"] is None else (int(frames["size"][0]), int(frames["size"][1]))
        pixels = None if frames["pixels"] is None else int(frames["pixels"])
        _require((size is None) != (pixels is None), "video needs a size or pixels")
        video = VideoInput(size, pixels, dict(sorted(slots.items())), int(model["memory_channels"]), memory_size)
    width, threshold = int(model["width"]), float(constants["stability_threshold"])
    _require(math.isfinite(threshold), "stability_threshold is not finite")
    side, opset = int(preprocessing["still_image_size"]), doc.get("opset")
    _require(side > 0 and side % 32 == 0, f"still_image_size is {side}, no multiple of 32")
    guessed = "builtin" if matching is not None else family
    return FolderManifest(
        folder,
        str(doc["format"]),
        str(doc["precision"]),
        graphs,
        name,
        str(model["title"]),
        family,
        bool(model.get("high_res_features", family == "sam2")),
        str(constants.get("score_family", guessed)),
        None if model.get("parameters") is None else int(model["parameters"]),
        width,
        None if opset is None else int(opset),
        side,
        bool(preprocessing["keeps_aspect_ratio"]),
        threshold,
        None if constants["edge_radius"] is None else int(constants["edge_radius"]),
        bool(constants["clamps_logits"]),
        matching,
        video,
        str(license["code"]),
        str(license["weights"]),
        _read_constants(folder / CONSTANTS_FILE, width, video is not None),
        fingerprint,
    )


def _read_constants(path: Path, width: int, has_video: bool) -> Constants:
    """Read the arrays that are in no graph, and check their shapes."""
    shapes: dict[str, tuple[int, ...]] = {"no_memory_embedding": (width,)}
    if has_video:
        shapes |= {
            "no_object_pointer": (width,),
            "mask_downsample_weight": (1, 1, 4, 4),
            "mask_downsample_bias": (1,),
        }
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name], np.float32) for name in shapes}
    for name, shape in shapes.items():
        _require(arrays[name].shape == shape, f"{name} in {path.name} is {arrays[name].shape}, not {shape}")
        _require(bool(np.isfinite(arrays[name]).all()), f"{name} in {path.name} is not finite")
    return arrays


@contextmanager
def _report_damage(path: Path) -> Generator[None, None, None]:
    """Turn whatever error a damaged document causes into one clear error."""
    try:
        yield
    except decoder_errors() as error:
        if isinstance(error, KeyError):
            reason = f"it has no {error.args[0]!r:.60}"
        else:
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is invalid ({reason}): {REMEDY}") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
