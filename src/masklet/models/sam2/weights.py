"""Which network a file holds, read from its tensors, and the network filled from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from masklet.models.sam2.config import CONFIGS, SAM2Config
from masklet.models.sam2.model import SAM2

__all__ = ["build", "config_of", "shapes_of"]

Shapes = Mapping[str, tuple[int, ...]]


@cache
def shapes_of(config: SAM2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network, without building it."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in SAM2(config).state_dict().items()}


def config_of(found: Shapes) -> tuple[str, SAM2Config] | None:
    """Name and config of the published network (or the built-in one) that these tensors are closest to.

    None when they are no SAM 2 at all. The trunk's width and depth tell the size; two tensors tell 2.1 from 2.0.
    """
    if not any(name.startswith("image_encoder.trunk.") for name in found):
        return None
    return max(CONFIGS.items(), key=lambda item: _agreement(shapes_of(item[1]), found))


def _agreement(expected: Shapes, found: Shapes) -> float:
    """Share of tensors, of both sides together, that agree in name and shape."""
    same = sum(found.get(name) == shape for name, shape in expected.items())
    return same / (len(expected) + len(found) - same)


def build(config: SAM2Config, state: Mapping[str, Tensor]) -> SAM2:
    """An fp32 network in evaluation mode, filled from `state`; names and shapes must fit exactly."""
    with torch.device("meta"):
        model = SAM2(config)
    floats = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    model.load_state_dict(floats, strict=True, assign=True)
    return model.eval().requires_grad_(False)
