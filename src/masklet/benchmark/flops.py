"""What a question to a network costs at the very least: operations of its products, and bytes that have to be moved.

Operations are counted while masklet answers, fused operators with the rest: a product and a sum are two. They can be
fewer than those of the network as it is published (values of memories that stay narrow, prompts that share an image).
Bytes are a bound from below: every weight that is used is read once, and what goes in and comes out is read or written
once; whatever else a program moves comes on top.
Shapes: O and I a layer's outputs and inputs, k the side of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from masklet.benchmark.roofline import Work
from masklet.image.amg_candidates import CandidateSampler
from masklet.image.amg_options import preset
from masklet.image.predictor import ImagePredictor, Prediction
from masklet.models.fast_cpu.encoder import Encoder, fast_encoder
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.fast_cpu.shared_prompts import make_shared_context
from masklet.models.sam2 import SAM2
from masklet.models.types import MemoryContext, PromptableModel
from masklet.video.memory_selection import RecentFrames

__all__ = [
    "count_flops",
    "encoding_work",
    "frame_work",
    "frame_work_by_objects",
    "mask_generation_work",
    "prompts_work",
]

ENCODER_PREFIXES = ("image_encoder.", "sam_mask_decoder.conv_s")
"""How weights are called that an image needs before there is a prompt."""
PROMPT_ENCODER_PREFIXES = ("sam_prompt_encoder.", "prompt_encoder.")
HEAD_PREFIXES = (*PROMPT_ENCODER_PREFIXES, "sam_mask_decoder.", "mask_decoder.")
Shape: TypeAlias = tuple[int, ...]
MEMORY_STRIDE = 16
"""Pixels of the input by places of a memory."""
MEMORY_BYTES_PER_VALUE = 2
"""Bytes of a value in a memory of an earlier frame."""


def count_flops(function: Callable[[], object]) -> int:
    """Operations of the products that a call makes in this thread.

    Example:
        >>> operations_of(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
        48
    """
    with FlopCounterMode(display=False, custom_mapping=_flop_formulas()) as counter:
        function()
    return int(counter.get_total_flops())


def encoding_work(predictor: ImagePredictor, encode: Encoder | None = None) -> Work:
    """Of encoding the image that the predictor holds; `encode` is asked in place of its own encoder.

    Example:
        >>> encoding_work(predictor).operations / 1e9
        11.8
    """
    network = predictor.model
    pixels = torch.zeros(1, 3, network.still_image_size, network.still_image_size, device=predictor.device)
    with torch.inference_mode():
        operations = count_flops(lambda: (encode or predictor.encode)(pixels))
    weights = _count_weights(network, lambda name: name.startswith(ENCODER_PREFIXES))
    return Work(operations, weights + _count_features(predictor), 3 * prod(predictor.size))


def prompts_work(predictor: ImagePredictor, prompts: int = 1, *, multimask: bool = False) -> Work:
    """Of as many prompts about the image that the predictor holds, with one mask each or, `multimask`, three.

    Every prompt costs the same, so that one is counted.

    Example:
        >>> prompts_work(predictor, 64).operations / 1e9
        17.0
    """
    height, width = predictor.size
    predictor._shared_context()  # made once an image, and not with every prompt
    one: list[Prediction] = []
    operations = count_flops(
        lambda: one.append(predictor.predict(point_coords=[width // 2, height // 2], multimask_output=multimask))
    )
    written = one[0].masks.nbytes + one[0].logits.nbytes
    return Work(
        prompts * operations, _count_features(predictor) + _count_head_weights(predictor.model), prompts * written
    )


def mask_generation_work(predictor: ImagePredictor, points_per_side: int) -> Work:
    """Of a grid of points a side on the image that the predictor holds: encoding included, making masks not.

    Every point costs the same, so that one is counted; how many masks are made depends on what is found.

    Example:
        >>> everything_work(predictor, 32).operations / 1e9
        87.4
    """
    height, width = predictor.size
    # Hardly an answer is surer than this, so that no mask is made.
    options = replace(preset(predictor.model), pred_iou_thresh=1.0)
    middle = np.array([[width / 2, height / 2]], np.float32)
    assert predictor.features is not None
    with torch.inference_mode():
        shared = count_flops(partial(make_shared_context, predictor.model, predictor.features, predictor.device))
        point = count_flops(partial(CandidateSampler(predictor, options).sample, middle))
    encoding = encoding_work(predictor)
    operations = encoding.flops + shared + points_per_side**2 * point
    return Work(operations, encoding.elements + _count_head_weights(predictor.model), encoding.bytes)


def frame_work(network: SAM2, track_frame: Callable[[], object], frame_size: tuple[int, int], num_objects: int) -> Work:
    """Of a frame of (height, width) on which so many objects are followed, all memories full; `step` does one.

    Example:
        >>> frame_work(network, lambda: view.step(rgb), (480, 854), objects=1).operations / 1e9
        4.9
    """
    return _frame_work(network, count_flops(track_frame), frame_size, num_objects)


def frame_work_by_objects(network: SAM2, frame_size: tuple[int, int], object_counts: Sequence[int]) -> list[Work]:
    """As `frame_work`, for each of these numbers of objects, without a video.

    Every object costs the same, so that one and two are counted, by memories of nothing.

    Example:
        >>> frame_works(load("builtin").network, (480, 854), [1])[0].operations / 1e9
        4.9
    """
    step = _make_step(network)
    step(1)  # what is laid out once is not of every frame
    one, two = (count_flops(partial(step, count)) for count in (1, 2))
    return [_frame_work(network, one + (count - 1) * (two - one), frame_size, count) for count in object_counts]


def _frame_work(network: SAM2, flops: int, frame_size: tuple[int, int], objects: int) -> Work:
    """An object's memories are read and one is written; so is its mask, at the video's size."""
    memory = network.config.memory
    assert memory is not None
    each = MEMORY_BYTES_PER_VALUE * (memory.slots + 1) * memory.channels * (
        network.image_size // MEMORY_STRIDE
    ) ** 2 + prod(frame_size)
    weights = _count_weights(network, lambda name: not name.startswith(PROMPT_ENCODER_PREFIXES))
    return Work(flops, weights, 3 * prod(frame_size) + objects * each)


def _make_step(network: SAM2) -> Callable[[int], None]:
    """A frame without what is outside the network: encode, look back, decode and remember, for so many objects."""
    device, side = next(network.parameters()).device, network.image_size
    encode, fast = fast_encoder(network, None), FastSAM2(network)
    pixels_13SS = torch.zeros(1, 3, side, side, device=device)

    def step(count: int) -> None:
        with torch.inference_mode():
            features = encode(pixels_13SS)
            seen = fast.condition_on_memory(features, _empty_memory_context(network, count, device))
            fast.encode_memory(features, network.select_mask(fast.decode(seen), multimask=True))

    return step


def _empty_memory_context(network: SAM2, count: int, device: torch.device) -> MemoryContext:
    """As many as the usual rule looks back at, with nothing in them."""
    memory, rule = network.config.memory, RecentFrames()
    assert memory is not None
    side = network.image_size // MEMORY_STRIDE
    spatial = torch.zeros(count, memory.channels, side, side, device=device)
    pointer = torch.zeros(count, network.config.width, device=device)
    ages, offsets = tuple(range(rule.memories, -1, -1)), tuple(range(1, rule.pointers + 1))
    return MemoryContext((spatial,) * len(ages), ages, (pointer,) * len(offsets), offsets, rule.pointers)


def _count_features(predictor: ImagePredictor) -> int:
    assert predictor.features is not None, "the predictor holds an image"
    return sum(part.numel() for part in (predictor.features.embed_BCHW, *predictor.features.high_res_features))


def _count_weights(network: PromptableModel, include: Callable[[str], bool]) -> int:
    assert isinstance(network, nn.Module)
    return sum(value.numel() for name, value in network.named_parameters() if include(name))


def _count_head_weights(network: PromptableModel) -> int:
    return _count_weights(
        network, lambda name: name.startswith(HEAD_PREFIXES) and not name.startswith(ENCODER_PREFIXES)
    )


def _flop_formulas() -> dict[object, Callable[..., int]]:
    """How operators are counted that PyTorch's counter does not know: those of oneDNN, and attention on processors."""
    known: dict[object, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        known[torch.ops.mkldnn._linear_pointwise] = _linear_flops
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        known[torch.ops.mkldnn._convolution_pointwise] = _convolution_flops
    return known


def _attention_flops(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _linear_flops(x: Shape, *_: object, out_shape: Shape, **__: object) -> int:
    return 2 * prod(out_shape) * x[-1]


def _convolution_flops(x: Shape, first: Shape, second: Shape | None, *_: object, out_shape: Shape, **__: object) -> int:
    """A weight is (O, I / groups, k, k); what is added to the outcome may stand before it."""
    weight = second if second is not None and len(second) == 4 else first
    return 2 * prod(out_shape) * prod(weight[1:])
