"""Compare a file's tensors with a network, and identify the network they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from masklet.errors import CheckpointError

__all__ = ["check_shapes", "identify_architecture"]

Shapes = Mapping[str, tuple[int, ...]]

_MAX_LISTED = 5
_SAM2_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_EFFICIENTTAM_SIZES = {192: "Ti", 384: "S"}
_SAM1_SIZES = {768: "ViT-B", 1024: "ViT-L", 1280: "ViT-H"}
_YOLO_SIZES = {16: "n", 32: "s", 48: "m", 64: "l", 80: "x"}
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.", "net.")
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
"""Prefixes of tensor names that only one family has, most specific first."""


def check_shapes(expected: Shapes, found: Shapes, *, path: str | PathLike[str], model_name: str) -> None:
    """Compare the names and shapes of a file with those of a network.

    Example:
        >>> check_shapes({"a": (2, 3)}, {"a": (2, 3)}, path="w.pt", model_name="sam2_hiera_tiny")
        >>> check_shapes({"a": (2, 3)}, {"a": (2, 4)}, path="w.pt", model_name="mine")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        masklet.errors.CheckpointError: w.pt does not hold mine: 0 of 1 tensors missing, 0 unexpected, 1 misshapen...

    Raises:
        CheckpointError: if they differ. Its first line is complete by itself; the next ones list the first five
            missing, unexpected and misshapen tensors; the last one says what the file looks like instead.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshapen = [name for name in expected if name in found and tuple(found[name]) != tuple(expected[name])]
    if not (missing or unexpected or misshapen):
        return
    lines = [
        f"{path} does not hold {model_name}: {len(missing)} of {len(expected)} tensors missing, "
        f"{len(unexpected)} unexpected, {len(misshapen)} misshapen.",
    ]
    shown, wanted = (
        {name: "x".join(map(str, shape)) or "scalar" for name, shape in shapes.items()} for shapes in (found, expected)
    )
    listed = {
        "missing": [f"{n} {wanted[n]}" for n in missing],
        "unexpected": [f"{n} {shown[n]}" for n in unexpected],
        "misshapen": [f"{n} {shown[n]}, not {wanted[n]}" for n in misshapen],
    }
    for title, entries in listed.items():
        if entries:
            lines += [f"  {title}:", *(f"    {entry}" for entry in entries[:_MAX_LISTED])]
        if len(entries) > _MAX_LISTED:
            lines.append(f"    and {len(entries) - _MAX_LISTED} more")
    known, shared = identify_architecture(found), len(expected) - len(missing)
    if known and known.startswith(("YOLO", "FastSAM")):
        hint = f"It looks like {known}. Open it with masklet.{'YOLO' if known.startswith('Y') else 'FastSAM'}."
    elif known:
        hint = f"It looks like {known}. Give a file of the model you want, or name the model of this file."
    elif shared:
        hint = f"It shares {shared} tensor names with the model, maybe a changed SAM 2. Give an unchanged one."
    else:
        families = "SAM, MobileSAM, SAM 2, SAM 2.1, EdgeTAM or EfficientTAM"
        hint = f"Its names belong to no network masklet knows. Give a checkpoint of {families}."
    raise CheckpointError("\n".join([*lines, hint]))


def identify_architecture(found: Shapes) -> str | None:
    """Describe the family and size of a network by the names and shapes of its tensors; None if unknown.

    Example:
        >>> identify_architecture({"image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3)})
        'MobileSAM'
    """
    for prefix in ("", *_PREFIXES):
        inner = {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}
        if len(inner) * 2 <= len(found):
            continue
        known = _identify_sam2(inner) or _identify_sam1(inner) or _identify_yolo(inner)
        known = known or next((family for start, family in _FAMILIES if _has(inner, start)), None)
        if known:
            return f"{known}, with {prefix!r} before its names" if prefix else known
    return None


def _identify_sam2(found: Shapes) -> str | None:
    patch = found.get("vision_encoder.backbone.patch_embed.projection.weight")
    if patch is not None:
        depth = _count(found, "vision_encoder.backbone.blocks.")
        named = _SAM2_SIZES.get((patch[0], depth), "of no published size")
        part = "" if _has(found, "memory_attention.") else ", without memory"
        version = "SAM 2.1" if "occlusion_spatial_embedding_parameter" in found else "SAM 2"
        return f"{version} {named} in the naming of transformers{part}"
    if not _has(found, "sam_mask_decoder."):
        has_trunk = _has(found, "image_encoder.trunk.")
        return "the image encoder of a SAM 2 or SAM 3, without its mask decoder" if has_trunk else None
    if _has(found, "image_encoder.trunk.body.stem."):
        return "EdgeTAM"
    patch = found.get("image_encoder.trunk.patch_embed.proj.weight")
    if patch is not None and "image_encoder.neck.convs.0.conv_3x3.weight" in found:
        return f"EfficientTAM {_EFFICIENTTAM_SIZES.get(patch[0], f'of width {patch[0]}')}"
    version = "SAM 2.1" if "no_obj_embed_spatial" in found else "SAM 2"
    if patch is None:
        return f"a {version} with a custom image encoder"
    size = _SAM2_SIZES.get((patch[0], _count(found, "image_encoder.trunk.blocks.")))
    return f"{version} {size}" if size else f"a {version} of no published size (width {patch[0]})"


def _identify_sam1(found: Shapes) -> str | None:
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


def _identify_yolo(found: Shapes) -> str | None:
    stem = found.get("model.0.conv.weight")
    if stem is None:
        return None
    classes = found.get("model.22.cv3.0.2.weight")
    if classes is None:
        return "a YOLO network, not a version 8 one"
    size = _YOLO_SIZES.get(stem[0], "")
    if not _has(found, "model.22.proto."):
        return f"YOLOv8{size}, a detector of {classes[0]} classes"
    return f"FastSAM-{size}" if classes[0] == 1 else f"YOLOv8{size}-seg with {classes[0]} classes"


def _has(found: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in found)


def _count(found: Shapes, prefix: str) -> int:
    """Count the numbered blocks under `prefix`."""
    return len({name[len(prefix) :].partition(".")[0] for name in found if name.startswith(prefix)})
