"""The parts of a network that become graphs: a module each, with example inputs, names and axes.

Axes: N objects, P points, B images (1 or N), h and w of the stride-16 map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masklet.export.image_graphs import (
    CoarsePromptDecoderGraph,
    ImageEncoderGraph,
    PromptDecoderGraph,
    SAM1PromptDecoderGraph,
)
from masklet.export.video_graphs import MemoryAttentionGraph, MemoryEncoderGraph
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2, ConvNetConfig

__all__ = [
    "MEMORY_SLOTS",
    "GraphPart",
    "has_dynamic_size",
    "has_finer_maps",
    "image_parts",
    "pointer_slots",
    "video_parts",
]

STRIDE = 16
"""Pixels of the input per cell of the map that h and w count."""
EXAMPLE_OBJECTS, EXAMPLE_POINTS = 3, 5
"""Sizes of the dynamic axes in example inputs: exporters take 1 for a constant."""
MEMORY_SLOTS = (1, 4, 7)
"""Numbers of memories that there is a graph of memory attention for; missing ones are masked."""
RECENT_POINTERS = 15
"""Pointers of frames that were not prompted, as `masklet.video.RecentFrames` selects them."""

Axes = Mapping[str, Mapping[int, str]]
"""Dynamic axes of each input, such as {"masks": {0: "N", 2: "4*h"}}."""


@dataclass(frozen=True)
class GraphPart:
    """One graph: the module that is traced, and the signature of the file."""

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Example inputs by name, in the order of the module's arguments."""
    outputs: tuple[str, ...]
    axes: Axes
    """Dynamic axes of the inputs; all others are fixed."""
    broadcast: tuple[str, ...] = ()
    """Inputs whose first axis is 1 in the example and may be N."""


def has_dynamic_size(network: SAM2 | SAM1) -> bool:
    """Whether one graph takes images of any size: transformers have tables and windows for one."""
    return isinstance(network, SAM2) and isinstance(network.config.trunk, ConvNetConfig)


def has_finer_maps(network: SAM2 | SAM1) -> bool:
    """Whether masks are decoded with maps of strides 4 and 8 too."""
    return isinstance(network, SAM2) and hasattr(network.sam_mask_decoder, "conv_s0")


def image_parts(network: SAM2 | SAM1, *, expands: bool = False, fixed_size: bool = False) -> Iterator[GraphPart]:
    """Yield the encoder and the prompt decoder.

    `expands` is for exporters that broadcast no first axis; `fixed_size` is for still images only, without what videos
    need.
    """
    dynamic, finer = has_dynamic_size(network) and not fixed_size, has_finer_maps(network)
    side = network.still_image_size
    # unequal sides, so that no axis is taken for another one
    height, width = (8 * STRIDE, 12 * STRIDE) if dynamic else (side, side)
    maps = ("image_embeddings", "high_res_features_0", "high_res_features_1") if finer else ("image_embeddings",)
    matches = isinstance(network, SAM2) and network.matching_projection is not None and not fixed_size
    yield GraphPart(
        "image_encoder",
        ImageEncoderGraph(network, with_keys=matches),
        {"pixels": torch.zeros(1, 3, height, width)},
        (*maps, "matching_keys") if matches else maps,
        {"pixels": {2: "32*H", 3: "32*W"}} if dynamic else {},
    )

    h, w, C = height // STRIDE, width // STRIDE, network.config.width
    features = {
        "image_embeddings": torch.zeros(EXAMPLE_OBJECTS if expands else 1, C, h, w),
        "high_res_features_0": torch.zeros(1, C // 8, 4 * h, 4 * w),
        "high_res_features_1": torch.zeros(1, C // 4, 2 * h, 2 * w),
    }
    inputs = {
        **{name: features[name] for name in maps},
        "point_coords": torch.zeros(EXAMPLE_OBJECTS, EXAMPLE_POINTS, 2),
        "point_labels": torch.ones(EXAMPLE_OBJECTS, EXAMPLE_POINTS),
        "mask_input": torch.zeros(EXAMPLE_OBJECTS, 1, 4 * h, 4 * w),
        "has_mask_input": torch.zeros(EXAMPLE_OBJECTS),
    }
    sizes = {
        "image_embeddings": {2: "h", 3: "w"},
        "high_res_features_0": {2: "4*h", 3: "4*w"},
        "high_res_features_1": {2: "2*h", 3: "2*w"},
        "mask_input": {2: "4*h", 3: "4*w"},
    }
    objects = {
        "point_coords": {0: "N", 1: "P"},
        "point_labels": {0: "N", 1: "P"},
        "mask_input": {0: "N"},
        "has_mask_input": {0: "N"},
    }
    if expands:
        objects["image_embeddings"] = {0: "B"}
    axes = {name: {**objects.get(name, {}), **(sizes.get(name, {}) if dynamic else {})} for name in inputs}
    coarse = CoarsePromptDecoderGraph if isinstance(network, SAM2) else SAM1PromptDecoderGraph
    decoder = PromptDecoderGraph if finer else coarse
    yield GraphPart(
        "prompt_decoder",
        decoder(network, expands=expands),  # type: ignore[arg-type]
        inputs,
        ("masks", "iou_scores", "object_scores", "pointers"),
        {name: axis for name, axis in axes.items() if axis},
        () if expands else ("image_embeddings",),
    )


def pointer_slots(memories: int) -> int:
    """Return the number of pointers of the graph for `memories` memories.

    A frame attends to the pointers of prompted frames, at most one for each memory, and of fifteen frames before it.

    Example:
        >>> pointer_slots(7)
        22
    """
    return memories + RECENT_POINTERS


def video_parts(network: SAM2) -> Iterator[GraphPart]:
    """Yield the memory encoder, and memory attention for each number of memories in `MEMORY_SLOTS`."""
    assert network.config.memory is not None
    dynamic = has_dynamic_size(network)
    C = network.config.width
    h, w = (8, 12) if dynamic else (network.image_size // STRIDE, network.image_size // STRIDE)
    M, rows, columns = network.memory_shape((STRIDE * h, STRIDE * w))
    count = EXAMPLE_OBJECTS

    def with_size(axes: dict[str, dict[int, str]], sizes: dict[str, dict[int, str]]) -> Axes:
        return {name: {**axes.get(name, {}), **sizes.get(name, {})} for name in axes | sizes} if dynamic else axes

    yield GraphPart(
        "memory_encoder",
        MemoryEncoderGraph(network),
        {
            "image_embeddings": torch.zeros(1, C, h, w),
            "masks": torch.zeros(count, 1, 4 * h, 4 * w),
            "object_scores": torch.zeros(count, 1),
            "prompted": torch.zeros(1),
        },
        ("memory",),
        with_size(
            {"masks": {0: "N"}, "object_scores": {0: "N"}},
            {"image_embeddings": {2: "h", 3: "w"}, "masks": {2: "4*h", 3: "4*w"}},
        ),
    )
    for memories in MEMORY_SLOTS:
        pointers = pointer_slots(memories)
        yield GraphPart(
            f"memory_attention_{memories}",
            MemoryAttentionGraph(network, (rows, columns)),
            {
                "image_embeddings": torch.zeros(1, C, h, w),
                "memories": torch.zeros(count, memories, M, rows, columns),
                "ages": torch.zeros(memories, dtype=torch.int64),
                "memory_valid": torch.ones(memories),
                "pointers": torch.zeros(count, pointers, C),
                "pointer_offsets": torch.zeros(pointers),
                "pointer_valid": torch.ones(pointers),
            },
            ("conditioned",),
            with_size(
                {"memories": {0: "N"}, "pointers": {0: "N"}},
                {"image_embeddings": {2: "h", 3: "w"}, "memories": {3: "h", 4: "w"}},
            ),
        )
