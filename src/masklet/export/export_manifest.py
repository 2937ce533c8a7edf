"""The manifest of an exported folder: its files, and everything a runtime needs to know that is in no graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from masklet.export.graph_parts import has_finer_maps
from masklet.load_model import LoadedModel
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.sam2.output_masks import MEMORY_MASK_BIAS, MEMORY_MASK_SCALE, NO_OBJECT_LOGIT
from masklet.models.types import PIXEL_MEAN, PIXEL_STD, SIDE_MULTIPLE
from masklet.transforms import LOGIT_LIMIT, MASK_PROMPT_LOGIT

__all__ = ["CONSTANTS_FILE", "FORMAT_VERSION", "MANIFEST_FILE", "describe_file", "describe_model", "network_arrays"]

MANIFEST_FILE, CONSTANTS_FILE = "manifest.json", "constants.npz"
FORMAT_VERSION = 1
"""Raised when a runtime of an earlier version could not read the folder."""


def describe_file(path: Path, role: str, folder: Path) -> dict[str, Any]:
    """Describe a file of `folder`: name below the folder, role, size and hash."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return {
        "name": path.relative_to(folder).as_posix(),
        "role": role,
        "bytes": path.stat().st_size,
        "sha256": hasher.hexdigest(),
    }


def network_arrays(network: SAM2 | SAM1) -> dict[str, Any]:
    """Return learned constants that are used outside of the graphs, by their name in `constants.npz`."""
    if not isinstance(network, SAM2):
        return {"no_memory_embedding": np.zeros(network.config.width, np.float32)}
    tensors = {"no_memory_embedding": network.no_mem_embed.flatten()}
    if network.config.memory is not None:
        tensors["no_object_pointer"] = network.no_obj_ptr.flatten()
        tensors["mask_downsample_weight"] = network.mask_downsample.weight
        assert network.mask_downsample.bias is not None
        tensors["mask_downsample_bias"] = network.mask_downsample.bias
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}


def describe_model(loaded: LoadedModel, slots: Mapping[int, int]) -> dict[str, Any]:
    """Describe the network for a runtime: name, preprocessing, constants and licenses.

    `slots` maps the number of memories of each memory attention graph to its number of pointers.
    """
    network, card = loaded.network, loaded.card
    is_sam2 = isinstance(network, SAM2)
    video: dict[str, Any] | None = None
    memory_size: list[int] | None = None
    if isinstance(network, SAM2) and network.supports_video:
        size = None if network.video_pixels else [network.image_size, network.image_size]
        memory_size = list(network.memory_shape((size[0], size[1]))[1:]) if size else None
        video = {
            "size": size,
            "pixels": network.video_pixels,
            "resize": "bicubic, antialiased, on bytes",
            "exact": network.config.matching is None,
        }
    matching = network.config.matching if isinstance(network, SAM2) else None
    return {
        "model": {
            "name": loaded.name,
            "title": card.title if card else loaded.name,
            "family": "sam2" if is_sam2 else "sam1",
            "high_res_features": has_finer_maps(network),
            "parameters": loaded.parameters,
            "width": network.config.width,
            "memory_channels": network.config.memory.channels
            if isinstance(network, SAM2) and network.config.memory
            else None,
            "memory_size": memory_size,
        },
        "preprocessing": {
            "mean": list(PIXEL_MEAN),
            "std": list(PIXEL_STD),
            "channels": "rgb",
            "still_image_size": network.still_image_size,
            "keeps_aspect_ratio": network.keeps_aspect_ratio,
            "still_resize": "bilinear, antialiased, on bytes"
            if network.keeps_aspect_ratio
            else "bilinear, antialiased, on floats",
            "video": video,
            "size_multiple": SIDE_MULTIPLE,
        },
        "constants": {
            "stability_threshold": network.stability_threshold,
            "stability_delta": 0.05,
            "score_family": network.score_family,
            "edge_radius": network.edge_radius,
            "clamps_logits": network.clamps_logits,
            "logit_limit": LOGIT_LIMIT,
            "mask_threshold": 0.0,
            "mask_prompt_logit": MASK_PROMPT_LOGIT,
            "no_object_logit": NO_OBJECT_LOGIT,
            "memory_mask_scale": MEMORY_MASK_SCALE,
            "memory_mask_bias": MEMORY_MASK_BIAS,
            "padding_point": "in the graph" if is_sam2 else "by the caller, to points without a box",
            "multimask": "candidates 1 to 3; for a single mask candidate 0, or the best of 1 to 3 if it is unstable",
            "memory_slots": list(slots),
            "pointers": {str(memories): pointers for memories, pointers in slots.items()},
            "matching": asdict(matching) if matching is not None else None,
        },
        "license": {
            "code": card.license_code if card else "unknown",
            "weights": card.license_weights if card else "unknown",
            "source": card.source if card else "unknown",
        },
    }
