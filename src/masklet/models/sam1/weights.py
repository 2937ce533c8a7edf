"""Which network a file holds, read from its tensors, and the network filled from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from torch import Tensor

from masklet.models.sam1.config import CONFIGS, SAM1Config, ViTConfig
from masklet.models.sam1.model import SAM1
from masklet.nn.blank import blank

__all__ = ["build", "config_of", "shapes_of"]

Shapes = Mapping[str, tuple[int, ...]]


@cache
def shapes_of(config: SAM1Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network, without building it."""
    with blank():
        return {name: tuple(t.shape) for name, t in SAM1(config).state_dict().items()}


def config_of(found: Shapes) -> tuple[str, SAM1Config] | None:
    """Name and config of the published network that these tensors are, or come closest to; None: no SAM 1 at all."""
    if "image_encoder.patch_embed.seq.0.c.weight" in found:
        return "mobile_sam", CONFIGS["mobile_sam"]
    patches = found.get("image_encoder.patch_embed.proj.weight")
    if patches is None:
        return None
    plain = [(name, c) for name, c in CONFIGS.items() if isinstance(c.trunk, ViTConfig)]
    return min(plain, key=lambda item: _distance(item[1], patches[0]))


def _distance(config: SAM1Config, width: int) -> int:
    assert isinstance(config.trunk, ViTConfig)
    return abs(config.trunk.width - width)


def build(config: SAM1Config, state: Mapping[str, Tensor]) -> SAM1:
    """An fp32 network in evaluation mode, filled from `state`; names and shapes must fit exactly."""
    with blank():
        model = SAM1(config)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)
