"""State dicts of YOLOv8: the size of the network in a file, and the network built from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from masklet.models.yolo.config import CONFIGS, YOLOConfig
from masklet.models.yolo.model import YOLOv8
from masklet.nn.meta_init import network_from_state, network_shapes

__all__ = ["build", "config_name", "expected_shapes", "infer_config"]

Shapes = Mapping[str, tuple[int, ...]]
HEAD_PREFIX = "model.22."


expected_shapes = partial(network_shapes, YOLOv8)
"""The name and shape of every tensor of a network, by its `YOLOConfig`."""


def infer_config(shapes: Shapes) -> YOLOConfig | None:
    """Infer the config of these tensors, with any number of classes; None if they are not a YOLOv8."""
    widths = [shapes.get(f"model.{layer}.conv.weight", ()) for layer in (0, 1, 3, 5, 7)]
    heads = [
        shapes.get(f"{HEAD_PREFIX}{name}.weight", ())
        for name in ("cv2.0.0.conv", "cv3.0.0.conv", "cv3.0.2", "dfl.conv")
    ]
    if any(len(shape) != 4 for shape in (*widths, *heads)):
        return None
    c2, c4, c8, c16, c32 = (shape[0] for shape in widths)
    d4, d8, d16, d32, neck = (
        sum(bool(re.fullmatch(rf"model\.{layer}\.m\.\d+\.cv1\.conv\.weight", name)) for name in shapes)
        for layer in (2, 4, 6, 8, 12)
    )
    box, classes, scores, bins = heads
    config = YOLOConfig(
        (c2, c4, c8, c16, c32),
        (d4, d8, d16, d32),
        neck,
        classes=scores[0],
        box_channels=box[0],
        class_channels=classes[0],
        bins=bins[1],
    )
    branch, out, proto = (
        shapes.get(f"{HEAD_PREFIX}{name}.weight", ()) for name in ("cv4.0.0.conv", "cv4.0.2", "proto.cv1.conv")
    )
    if not len(branch) == len(out) == len(proto) == 4:
        return config
    return replace(config, mask_channels=branch[0], prototypes=out[0], prototype_channels=proto[0])


def config_name(config: YOLOConfig) -> str:
    """Return the canonical name of a published network, else its size and number of classes.

    Example:
        >>> config_name(CONFIGS["yolov8n-seg"])
        'yolov8n-seg'
    """
    known = next((name for name, published in CONFIGS.items() if published == config), None)
    if known:
        return known
    size = (config.channels, config.depths, config.neck_depth)
    sizes = (name for name, other in CONFIGS.items() if (other.channels, other.depths, other.neck_depth) == size)
    kind = f"{'' if config.mask_channels is None else '-seg'} with {config.classes} classes"
    return next(sizes, f"yolov8 of width {config.channels[0]}").removesuffix("-seg") + kind


def build(config: YOLOConfig, state: Mapping[str, Tensor], *, fold: bool = True) -> YOLOv8:
    """Build an fp32 network in evaluation mode from `state`, whose names and shapes must match exactly.

    With `fold`, batch normalizations are folded into the convolutions, which is faster and as exact.
    """
    model = network_from_state(YOLOv8, config, state)
    if fold:
        model.fold().requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on processors
    return model
