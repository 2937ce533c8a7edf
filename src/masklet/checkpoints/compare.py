"""Whether a file's tensors fit a network, and what the file looks like if they do not."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from masklet.errors import CheckpointError

__all__ = ["check_shapes", "identify_architecture"]

Shapes = Mapping[str, tuple[int, ...]]

_MAX_LISTED = 5
_SAM2_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_SAM1_SIZES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
_YOLO_SIZES = {16: "n", 32: "s", 48: "m", 64: "l", 80: "x"}
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.", "net.")
# Tensor names (or their beginnings) that only one family has, most telling first.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("detector.", "SAM 3"),
    ("mask_decoder.hf_token.", "HQ-SAM"),
    ("roi_heads.", "a torchvision detector (Mask R-CNN or kin)"),
    ("rpn.head.", "a torchvision detector (Faster R-CNN or kin)"),
    ("class_embed.", "a detector of the DETR family"),
    ("transformer.level_embed", "Grounding DINO"),
    ("text_model.", "a CLIP model"),
    ("visual.", "a CLIP model"),
    ("pixel_encoder.", "Cutie or XMem"),
    ("blocks.0.ls1.", "DINOv2"),
    ("layer1.0.conv1.", "a ResNet classifier"),
    ("optimizer.", "a training checkpoint (an optimizer's state)"),
)


def check_shapes(expected: Shapes, found: Shapes, *, path: str | PathLike[str], model_name: str) -> None:
    """Compare names and shapes; return if they are the same.

    The first line of the error stands alone; the lines after it list the first five missing, unexpected
    and misshapen tensors, and the last says what the file looks like instead.

    Example:
        >>> check_fit({"a": (2, 3)}, {"a": (2, 4)}, path="w.pt", model_name="sam2_hiera_tiny")
        Traceback (most recent call last):
            ...
        masklet.errors.CheckpointError: w.pt does not hold sam2_hiera_tiny: 0 tensors missing, ...

    Errors: CheckpointError.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [name for name in expected if name in found and tuple(found[name]) != tuple(expected[name])]
    if not (missing or unexpected or misshapen):
        return
    lines = [
        f"{path} does not hold {model_name}: {len(missing)} of {len(expected)} tensors missing, "
        f"{len(unexpected)} unexpected, {len(misshapen)} misshapen.",
        *_format_list("missing", [f"{name} {_shape(expected[name])}" for name in missing]),
        *_format_list("unexpected", [f"{name} {_shape(found[name])}" for name in unexpected]),
        *_format_list("misshapen", [f"{n} {_shape(found[n])}, not {_shape(expected[n])}" for n in misshapen]),
        _looks_like(found, len(expected) - len(missing)),
    ]
    raise CheckpointError("\n".join(lines))


def identify_architecture(found: Shapes) -> str | None:
    """The family and size that names and shapes give away, in words; None for an unknown one.

    Example:
        >>> recognize({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)})
        'MobileSAM'
    """
    direct = _identify(found)
    if direct or not found:
        return direct
    for prefix in _PREFIXES:
        inner = {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}
        known = _identify(inner) if len(inner) * 2 > len(found) else None
        if known:
            return f"{known}, with {prefix!r} before its names"
    return None


def _identify(found: Shapes) -> str | None:
    for reader in (_sam2, _sam2_transformers, _sam1, _yolo):
        name = reader(found)
        if name:
            return name
    return next((family for start, family in _FAMILIES if any(n.startswith(start) for n in found)), None)


def _sam2(found: Shapes) -> str | None:
    if not any(name.startswith("sam_mask_decoder.") for name in found):
        return _sam2_part(found)
    patch = found.get("image_encoder.trunk.patch_embed.proj.weight")
    version = "SAM 2.1" if "no_obj_embed_spatial" in found else "SAM 2"
    if patch is None:
        return f"a {version} with an image encoder of its own"
    size = _SAM2_SIZES.get((patch[0], _count(found, "image_encoder.trunk.blocks.")))
    return f"{version} {size}" if size else f"a {version} of no published size (width {patch[0]})"


def _sam2_part(found: Shapes) -> str | None:
    has_trunk = any(name.startswith("image_encoder.trunk.") for name in found)
    return "the image encoder of a SAM 2 or SAM 3, without its mask decoder" if has_trunk else None


def _sam2_transformers(found: Shapes) -> str | None:
    patch = found.get("vision_encoder.backbone.patch_embed.projection.weight")
    if patch is None:
        return None
    depth = _count(found, "vision_encoder.backbone.blocks.")
    size = _SAM2_SIZES.get((patch[0], depth), "of no published size")
    part = "" if any(name.startswith("memory_attention.") for name in found) else ", without memory"
    version = "SAM 2.1" if "occlusion_spatial_embedding_parameter" in found else "SAM 2"
    return f"{version} {size} in the naming of transformers{part}"


def _sam1(found: Shapes) -> str | None:
    if "mask_decoder.hf_token.weight" in found:
        return "HQ-SAM"
    if "image_encoder.patch_embed.seq.0.c.weight" in found:
        return "MobileSAM"
    position = found.get("image_encoder.pos_embed")
    if position:
        return f"SAM 1 {_SAM1_SIZES.get(position[-1], f'of width {position[-1]}')}"
    position = found.get("vision_encoder.pos_embed")
    if position:
        return f"SAM 1 {_SAM1_SIZES.get(position[-1], '')} in the naming of transformers"
    return None


def _yolo(found: Shapes) -> str | None:
    stem = found.get("model.0.conv.weight")
    if stem is None:
        return None
    classes = found.get("model.22.cv3.0.2.weight")
    if classes is None:
        return "a YOLO network, not a version 8 one"
    size = _YOLO_SIZES.get(stem[0], "")
    if not any(name.startswith("model.22.proto.") for name in found):
        return f"YOLOv8{size}, a detector of {classes[0]} classes"
    return f"FastSAM-{size}" if classes[0] == 1 else f"YOLOv8{size}-seg with {classes[0]} classes"


def _count(found: Shapes, prefix: str) -> int:
    """How many numbered blocks stand under `prefix`."""
    return len({name[len(prefix) :].partition(".")[0] for name in found if name.startswith(prefix)})


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _format_list(title: str, entries: list[str]) -> list[str]:
    rest = len(entries) - _MAX_LISTED
    more = [f"    and {rest} more"] if rest > 0 else []
    return [f"  {title}:", *(f"    {entry}" for entry in entries[:_MAX_LISTED]), *more] if entries else []


def _looks_like(found: Shapes, shared: int) -> str:
    known = identify_architecture(found)
    if known and known.startswith(("YOLO", "FastSAM")):
        return f"It looks like {known}. Open it with masklet.{'YOLO' if known.startswith('Y') else 'FastSAM'}."
    if known:
        return f"It looks like {known}. Give a file of the model you want, or ask for the one it holds."
    if shared:
        return f"It shares {shared} tensor names with the model, maybe a changed SAM 2. Give an unchanged one."
    return "Its names belong to no network masklet knows. Give a checkpoint of SAM, MobileSAM, SAM 2 or SAM 2.1."
