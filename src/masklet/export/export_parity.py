"""Run every graph beside the network it came from, on the same inputs, and compare.

Each graph gets the network's own outputs of the part before it, so that a deviation belongs to one part. Masks are
those that the network makes of the graph's outputs.
Shapes: N objects, K candidates, C channels, h and w of the stride-16 map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from masklet.errors import OutputError
from masklet.export.graph_parts import MEMORY_SLOTS, pointer_slots
from masklet.masks.ops import masks_to_boxes
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import (
    FrameMemory,
    ImageFeatures,
    MaskPrediction,
    MemoryContext,
    PromptTensors,
    SelectedMasks,
    empty_prompt,
)
from masklet.transforms import ImageTransform, preprocess_frame
from masklet.video.memory_selection import AvailableMemory, RecentFrames

__all__ = ["BOUNDS", "Graph", "ParityBounds", "ParityMeter", "PartParity", "compare_images", "compare_video"]

Graph = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]
"""Runs a graph: arrays by name to arrays by name."""
Network = SAM2 | SAM1
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ParityBounds:
    """What every graph must hold."""

    mask_iou: float
    """Least mean IoU of masks with those of the network."""
    relative_error: float | None
    """Largest difference of an output, as a fraction of the largest value of it; None: not bounded."""


BOUNDS = {
    "fp32": ParityBounds(0.999, 1e-3),
    "fp16": ParityBounds(0.98, None),
    "bf16": ParityBounds(0.98, None),
    "int8": ParityBounds(0.9, None),
}
"""By precision. Rounded weights move logits, and what counts then is the masks."""


@dataclass
class PartParity:
    """Deviations of one graph."""

    errors: dict[str, float] = field(default_factory=dict)
    """Largest difference of each output, as a fraction of the largest value of it."""
    ious: list[float] = field(default_factory=list)
    """IoU of each compared mask."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of the manifest."""
        ious = self.ious or [float("nan")]
        return {
            "relative_error": {name: float(f"{error:.3g}") for name, error in self.errors.items()},
            "mask_iou_mean": round(float(np.mean(ious)), 5),
            "mask_iou_min": round(float(np.min(ious)), 5),
            "masks": len(self.ious),
        }


class ParityMeter:
    """Collect the deviations of all graphs."""

    def __init__(self, graphs: Mapping[str, Graph], *, with_keys: bool = True) -> None:
        self.graphs, self.with_keys = graphs, with_keys
        self.parts: dict[str, PartParity] = {}

    def run(self, name: str, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph, record how far its outputs are from those expected, and return them.

        What is expected comes back where the folder has no such graph.
        """
        if name not in self.graphs:
            return dict(expected)
        part = self.parts.setdefault(name, PartParity())
        outputs = self.graphs[name]({key: value.numpy() for key, value in inputs.items()})
        found = {key: torch.from_numpy(np.asarray(outputs[key])) for key in expected}
        for key, value in expected.items():
            error = float((found[key] - value).abs().max() / value.abs().max().clamp(min=1e-6))
            if not np.isfinite(error) or found[key].shape != value.shape:
                error = float("inf")
            part.errors[key] = max(part.errors.get(key, 0.0), error)
        return found

    def add_masks(self, name: str, found_NKHW: Tensor, expected_NKHW: Tensor) -> None:
        """Record the IoU of all masks of logits above 0; two empty masks agree."""
        if name not in self.graphs:
            return
        inside, expected = (logits.flatten(0, 1).flatten(1) > 0 for logits in (found_NKHW, expected_NKHW))
        union = (inside | expected).sum(1)
        iou = torch.where(union > 0, (inside & expected).sum(1) / union.clamp(min=1), 1.0)
        self.parts[name].ious += iou.tolist()

    def report(self) -> dict[str, Any]:
        """Return the numbers of all graphs by name."""
        return {name: part.to_dict() for name, part in self.parts.items()}

    def check(self, bounds: Mapping[str, ParityBounds]) -> None:
        """Check every graph against its bounds.

        Raises:
            OutputError: if one misses them; the message names it.
        """
        for name, part in self.parts.items():
            bound = bounds[name]
            worst = max(part.errors, key=part.errors.__getitem__, default="")
            if bound.relative_error is not None and not part.errors.get(worst, 0.0) <= bound.relative_error:
                raise OutputError(
                    f"{name}: its output {worst} deviates from the model's by {part.errors[worst]:.2g} of the largest "
                    f"value, {bound.relative_error:g} allowed; nothing was written: choose another precision or format"
                )
            if part.ious and not float(np.mean(part.ious)) >= bound.mask_iou:
                raise OutputError(
                    f"{name}: its masks have a mean IoU of {np.mean(part.ious):.4f} with the model's, at least "
                    f"{bound.mask_iou:g} required; nothing was written: choose another precision, give images like "
                    "yours for calibration, or allow less"
                )


def probe_prompts(side: int) -> Iterator[tuple[PromptTensors, bool]]:
    """Yield batches of prompts for an input of `side` pixels, and whether they refine the mask before.

    Single points, pairs of points on and off the object, boxes, and points with a mask.
    """
    spots = [(0.3, 0.3), (0.7, 0.35), (0.5, 0.6), (0.25, 0.75)]
    grid_N2 = torch.tensor(spots) * side
    ones_N1 = torch.ones(len(grid_N2), 1)
    yield PromptTensors(grid_N2[:, None], ones_N1), False
    pairs_N22 = torch.stack([grid_N2, grid_N2.roll(1, 0)], dim=1)
    yield PromptTensors(pairs_N22, torch.cat([ones_N1, 0 * ones_N1], dim=1)), False
    corners_N22 = torch.stack([(grid_N2 - 0.2 * side).clamp(min=0), grid_N2 + 0.2 * side], dim=1)
    yield PromptTensors(corners_N22, torch.cat([2 * ones_N1, 3 * ones_N1], dim=1)), False
    yield PromptTensors(grid_N2[:, None], ones_N1), True


def decoder_inputs(features: ImageFeatures, prompts: PromptTensors, *, pads: bool) -> dict[str, Tensor]:
    """Return the inputs of the graph of the prompt decoder; with `pads`, points without a box get a padding point."""
    points, labels = prompts.points_BN2.float(), prompts.labels_BN.float()
    if pads and not bool((labels >= 2).any()):
        points = torch.cat([points, points.new_zeros(len(points), 1, 2)], dim=1)
        labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
    height, width = (4 * side for side in features.embed_BCHW.shape[-2:])
    mask = prompts.mask_B1HW
    inputs = {"image_embeddings": features.embed_BCHW}
    if features.high_res_features:
        inputs["high_res_features_0"] = features.high_res_features[1][:1]
        inputs["high_res_features_1"] = features.high_res_features[0][:1]
    return {
        **inputs,
        "point_coords": points,
        "point_labels": labels,
        "mask_input": torch.zeros(len(points), 1, height, width) if mask is None else mask,
        "has_mask_input": torch.full((len(points),), 0.0 if mask is None else 1.0),
    }


def decode(network: Network, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
    """Decode prompts on the features of one image, with the network."""
    return network.decode(expand(features, len(prompts.points_BN2)), prompts)


def expand(features: ImageFeatures, count: int) -> ImageFeatures:
    """Repeat the features of one image for `count` objects, without a copy."""
    return features.index_select(torch.zeros(count, dtype=torch.long))


def compare_encoder(meter: ParityMeter, network: Network, pixels_13HW: Tensor) -> tuple[ImageFeatures, ImageFeatures]:
    """Run the graph of the image encoder on an input; return the network's features, and those of the graph."""
    features = network.encode_image(pixels_13HW)
    expected = {"image_embeddings": features.embed_BCHW}
    if features.high_res_features:
        expected |= dict(zip(("high_res_features_1", "high_res_features_0"), features.high_res_features, strict=True))
    if meter.with_keys and features.stride8_BCHW is not None and isinstance(network, SAM2):
        expected["matching_keys"] = network.matching_keys(features)
    found = meter.run("image_encoder", {"pixels": pixels_13HW}, expected)
    finer = tuple(found[name] for name in ("high_res_features_1", "high_res_features_0") if name in found)
    return features, ImageFeatures(found["image_embeddings"], finer)


@torch.no_grad()
def compare_images(meter: ParityMeter, network: Network, images: Iterable[Rgb]) -> None:
    """Compare the image encoder and the prompt decoder on images (H, W, 3)."""
    for rgb in images:
        size = (int(rgb.shape[0]), int(rgb.shape[1]))
        transform = ImageTransform(size, network.still_image_size, network.keeps_aspect_ratio)
        plain, encoded = (
            network.add_no_memory_embedding(features)
            for features in compare_encoder(meter, network, transform.preprocess(rgb))
        )
        before: Tensor | None = None
        for prompts, refines in probe_prompts(network.still_image_size):
            if refines and before is not None:
                prompts = PromptTensors(prompts.points_BN2, prompts.labels_BN, before.clamp(-32, 32))
            expected = decode(network, plain, prompts)
            before = expected.logits_BKHW[:, :1]
            meter.add_masks("image_encoder", decode(network, encoded, prompts).logits_BKHW, expected.logits_BKHW)
            compare_decoder(meter, network, plain, prompts, expected)


def compare_decoder(
    meter: ParityMeter, network: Network, features: ImageFeatures, prompts: PromptTensors, expected: MaskPrediction
) -> None:
    """Run the graph of the prompt decoder on features of one image, or of one each."""
    pointers, outputs = expected.tokens_BKC, {"masks": expected.logits_BKHW, "iou_scores": expected.iou_BK}
    if isinstance(network, SAM2):
        outputs["object_scores"] = expected.object_score_B1
        pointers = network.obj_ptr_proj(pointers) if network.config.memory is not None else pointers
    inputs = decoder_inputs(features, prompts, pads=isinstance(network, SAM1))
    found = meter.run("prompt_decoder", inputs, {**outputs, "pointers": pointers})
    meter.add_masks("prompt_decoder", found["masks"], expected.logits_BKHW)


@torch.no_grad()
def compare_video(meter: ParityMeter, network: SAM2, frames_THW3: Rgb, masks_NHW: npt.NDArray[np.bool_]) -> None:
    """Compare all graphs while the network tracks objects, from their boxes on the first frame, by memory alone."""
    size = (int(frames_THW3.shape[1]), int(frames_THW3.shape[2]))
    input_size = network.frame_input_size(size)
    corners = ImageTransform(size, input_size).transform_coords(masks_to_boxes(masks_NHW).reshape(-1, 2, 2))
    count = len(masks_NHW)
    boxes = PromptTensors(torch.from_numpy(corners).float(), torch.tensor([[2.0, 3.0]]).expand(count, -1))
    memories: list[FrameMemory] = []
    for index, rgb in enumerate(frames_THW3):
        features, _ = compare_encoder(
            meter, network, preprocess_frame(rgb, input_size, exact=network.config.matching is None)
        )
        if index == 0:
            plain = network.add_no_memory_embedding(features)
            prediction = decode(network, plain, boxes)
            compare_decoder(meter, network, plain, boxes, prediction)
        else:
            available = AvailableMemory((0,), range(1, index))
            selected = RecentFrames().select(index, available, reverse=False, length=len(frames_THW3))
            context = MemoryContext(
                tuple(memories[frame].spatial_BMHW for frame, _ in selected.spatial),
                tuple(age for _, age in selected.spatial),
                tuple(memories[frame].pointer_BC for frame, _ in selected.pointers),
                tuple(offset for _, offset in selected.pointers),
                selected.max_pointers,
            )
            conditioned = network.condition_on_memory(expand(features, count), context)
            unprompted = empty_prompt(count, torch.device("cpu"))
            prediction = network.decode(conditioned, unprompted)
            name, inputs = attention_inputs(features, context)
            found = meter.run(name, inputs, {"conditioned": conditioned.embed_BCHW})
            by_graph = ImageFeatures(found["conditioned"], conditioned.high_res_features)
            meter.add_masks(name, network.decode(by_graph, unprompted).logits_BKHW, prediction.logits_BKHW)
            compare_decoder(meter, network, conditioned, unprompted, prediction)
        masks = network.select_mask(prediction, multimask=index > 0)
        memories.append(compare_memory_encoder(meter, network, features, masks, prompted=index == 0))


def attention_inputs(features: ImageFeatures, context: MemoryContext) -> tuple[str, dict[str, Tensor]]:
    """Return the name and the inputs of the graph of memory attention that has room for the memories of a context."""
    slots = min(slots for slots in MEMORY_SLOTS if slots >= len(context.spatial))
    free, free_pointers = slots - len(context.spatial), pointer_slots(slots) - len(context.pointers)
    memories_NKMHW = torch.stack(context.spatial, dim=1)
    pointers_NQC = torch.stack(context.pointers, dim=1)
    offsets_Q = torch.tensor(context.pointer_offsets).float() / max(context.max_pointers - 1, 1)
    return f"memory_attention_{slots}", {
        "image_embeddings": features.embed_BCHW[:1],
        "memories": pad(memories_NKMHW, (0, 0) * 3 + (0, free)),
        "ages": pad(torch.tensor(context.temporal_positions), (0, free)),
        "memory_valid": pad(torch.ones(len(context.spatial)), (0, free)),
        "pointers": pad(pointers_NQC, (0, 0, 0, free_pointers)),
        "pointer_offsets": pad(offsets_Q, (0, free_pointers)),
        "pointer_valid": pad(torch.ones(len(context.pointers)), (0, free_pointers)),
    }


def compare_memory_encoder(
    meter: ParityMeter, network: SAM2, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool
) -> FrameMemory:
    """Run the graph of the memory encoder; return the network's memory.

    The masks that are compared are those of the same frame, conditioned on its own memory alone.
    """
    memory = network.encode_memory(features, masks, prompted=prompted)
    inputs = {
        "image_embeddings": features.embed_BCHW,
        "masks": masks.logits_B1HW,
        "object_scores": masks.object_score_B1,
        "prompted": torch.tensor([float(prompted)]),
    }
    found = meter.run("memory_encoder", inputs, {"memory": memory.spatial_BMHW})
    if not prompted:  # once is enough: attention takes most of the time
        return memory
    count = len(memory.pointer_BC)
    decoded = []
    for spatial in (found["memory"], memory.spatial_BMHW):
        context = MemoryContext((spatial,), (1,), (memory.pointer_BC,), (1,))
        conditioned = network.condition_on_memory(expand(features, count), context)
        decoded.append(network.decode(conditioned, empty_prompt(count, torch.device("cpu"))).logits_BKHW)
    meter.add_masks("memory_encoder", *decoded)
    return memory
