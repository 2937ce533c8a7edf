"""Which network a file holds, read from its tensors, and the network filled from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from torch import Tensor

from masklet.models.sam2.config import CONFIGS, HieraConfig, SAM2Config
from masklet.models.sam2.model import SAM2
from masklet.nn.blank import blank

__all__ = ["build", "config_of", "shapes_of"]

Shapes = Mapping[str, tuple[int, ...]]


@cache
def shapes_of(config: SAM2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network, without building it."""
    with blank():
        return {name: tuple(t.shape) for name, t in SAM2(config).state_dict().items()}


def config_of(found: Shapes) -> tuple[str, SAM2Config] | None:
    """Name and config of the published network (or the built-in one) that these tensors are, or come closest to.

    None when they are no SAM 2 at all. The trunk's width and depth tell the size; two tensors tell 2.1 from 2.0.
    """
    if "image_encoder.trunk.stem.weight" in found:
        return "builtin", CONFIGS["builtin"]
    patches = found.get("image_encoder.trunk.patch_embed.proj.weight")
    if patches is None:
        return None
    blocks = sum(bool(re.fullmatch(r"image_encoder\.trunk\.blocks\.\d+\.norm1\.weight", name)) for name in found)
    second = "no_obj_embed_spatial" in found or "obj_ptr_tpos_proj.weight" in found
    version = [(name, c) for name, c in CONFIGS.items() if name.startswith("sam2.1_" if second else "sam2_")]
    return min(version, key=lambda item: _distance(item[1], patches[0], blocks))


def _distance(config: SAM2Config, width: int, blocks: int) -> tuple[int, int]:
    """How far a Hiera trunk is from one with so many channels and blocks."""
    assert isinstance(config.trunk, HieraConfig)
    return abs(config.trunk.width - width), abs(sum(config.trunk.depths) - blocks)


def build(config: SAM2Config, state: Mapping[str, Tensor]) -> SAM2:
    """An fp32 network in evaluation mode, filled from `state`; names and shapes must fit exactly."""
    with blank():
        model = SAM2(config)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)
