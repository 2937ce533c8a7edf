"""Try a network in fp32 and in bf16 on a procedural image: how long each takes, and how alike their masks are.

Shapes: N objects, H and W of a mask at stride 4 of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from masklet.cpu_threads import adaptive_threads
from masklet.evaluate.prompts_from_masks import prompt_from_mask
from masklet.masks.ops import iou
from masklet.models.fast_cpu.encoder import fast_encoder
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import MaskPrediction, MemoryContext
from masklet.runtime import standard_torch
from masklet.synthetic import ProceduralSource
from masklet.transforms import ImageTransform, binary_mask, prompt_tensors

__all__ = ["Bf16Comparison", "Bf16Trial", "try_bf16"]

MAX_TIME_RATIO = 0.95
"""bf16 must save more than a measurement varies."""
MIN_MASK_IOU = 0.99
DTYPES = (None, torch.bfloat16)
MAX_OBJECTS = 2
PROMPTS = ("box", "click")
AGES, OFFSETS = (0, 6, 5, 4, 3, 2, 1), (7, 6, 5, 4, 3, 2, 1)
"""A full memory: a prompted frame, and the six before this one; and the distances of their object pointers."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Bf16Comparison:
    """bf16 beside fp32."""

    time_ratio: float
    """Processor time of bf16 as a fraction of that of fp32."""
    mask_iou: float
    """Mean IoU of the masks of both."""

    @property
    def wins(self) -> bool:
        """Whether bf16 is faster and its masks are the same but for details of their edges."""
        return self.time_ratio <= MAX_TIME_RATIO and self.mask_iou >= MIN_MASK_IOU

    def __str__(self) -> str:
        return f"bf16 takes {100 * self.time_ratio:.0f} % of the time of fp32, masks with an IoU of {self.mask_iou:.4f}"


@dataclass(frozen=True)
class Bf16Trial:
    """What was measured of one network."""

    image: Bf16Comparison
    """Of encoding an image."""
    attention: Bf16Comparison | None
    """Of attention to a full memory, after the faster encoder; None: the network has no memory."""


@standard_torch()
@adaptive_threads()
@torch.inference_mode()
def try_bf16(network: SAM1 | SAM2) -> Bf16Trial:
    """Run a network on the CPU in both precisions; this takes as long as about five images.

    Images are compared by a box and a click on each of two objects, frames of videos by their masks from memory.

    Example:
        >>> str(try_bf16(network).image)  # doctest: +SKIP
        'bf16 takes 55 % of the time of fp32, masks with an IoU of 0.9973'
    """
    photograph = ProceduralSource().sample_image(np.random.default_rng(0))
    masks = sorted(photograph.masks.values(), key=lambda mask: int(mask.sum()))[-MAX_OBJECTS:]
    size = (photograph.rgb.shape[0], photograph.rgb.shape[1])
    transform = ImageTransform(size, network.still_image_size, network.keeps_aspect_ratio)
    encoders = [fast_encoder(network, dtype) for dtype in DTYPES]
    pixels_13SS = transform.preprocess(photograph.rgb)
    features, encode_s = _run_timed(encoders, [pixels_13SS, pixels_13SS])

    rows = torch.zeros(len(masks), dtype=torch.long)
    plain = [network.add_no_memory_embedding(each).index_select(rows) for each in features]
    prompts = [prompt_tensors([prompt_from_mask(mask, kind) for mask in masks], transform) for kind in PROMPTS]
    answers = [torch.cat([_best_logits(network.decode(each, one)) for one in prompts]) for each in plain]
    image = Bf16Comparison(encode_s[1] / encode_s[0], _mean_iou(*answers))
    if not isinstance(network, SAM2) or network.config.memory is None:
        return Bf16Trial(image, None)

    trackers = [FastSAM2(network, dtype, encode) for dtype, encode in zip(DTYPES, encoders, strict=True)]
    side = network.still_image_size
    mask_N1HW = torch.cat([binary_mask(mask, (side, side)) for mask in masks])
    memory = trackers[0].encode_memory(features[0], network.use_mask_as_output(plain[0], mask_N1HW), prompted=True)
    count = len(AGES)
    context = MemoryContext((memory.spatial_BMHW,) * count, AGES, (memory.pointer_BC,) * count, OFFSETS)
    attend = [partial(tracker.condition_on_memory, memory_context=context) for tracker in trackers]
    conditioned, attend_s = _run_timed(attend, [features[0], features[1 if image.wins else 0]])
    tracked = [_best_logits(tracker.decode(each)) for tracker, each in zip(trackers, conditioned, strict=True)]
    return Bf16Trial(image, Bf16Comparison(attend_s[1] / attend_s[0], _mean_iou(*tracked)))


def _run_timed(functions: Sequence[Callable[[T], R]], arguments: Sequence[T]) -> tuple[list[R], list[float]]:
    """Call each function with its argument; return the results, and seconds of processor time.

    Time that other programs take does not count. The last one runs first, so that bf16 pays for whatever is done once.
    """
    results, seconds = [], []
    for function, argument in reversed(list(zip(functions, arguments, strict=True))):
        began = process_time()
        results.append(function(argument))
        seconds.append(process_time() - began)
    return results[::-1], seconds[::-1]


def _best_logits(prediction: MaskPrediction) -> Tensor:
    """Return the logits (N, H, W) of the best of each object's three candidates."""
    return prediction.select_candidates(1 + prediction.iou_BK[:, 1:].argmax(1)).logits_BKHW[:, 0]


def _mean_iou(logits_NHW: Tensor, others_NHW: Tensor) -> float:
    inside, others = (each_NHW.float().numpy() > 0 for each_NHW in (logits_NHW, others_NHW))
    return float(np.mean([iou(mask, other) for mask, other in zip(inside, others, strict=True)]))
