"""Count the least work of a task: operations of its products, and bytes that must be moved.

Operations are counted while masklet runs, fused operators included: a product and a sum are two. They can be fewer than
those of the published network (values of memories stay narrow, prompts share an image). Bytes are a lower bound: every
weight that is used is read once, and inputs and outputs are read or written once.
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
    "frame_work_by_objects",
    "mask_generation_work",
    "prompts_work",
]

ENCODER_PREFIXES = ("image_encoder.", "sam_mask_decoder.conv_s")
"""Weights that are used before there is a prompt."""
PROMPT_ENCODER_PREFIXES = ("sam_prompt_encoder.", "prompt_encoder.")
HEAD_PREFIXES = (*PROMPT_ENCODER_PREFIXES, "sam_mask_decoder.", "mask_decoder.")
Shape: TypeAlias = tuple[int, ...]
MEMORY_BYTES_PER_VALUE = 2
"""Bytes per value in the memory of an earlier frame."""


def count_flops(function: Callable[[], object]) -> int:
    """Count the operations of the products in a call, in this thread.

    Example:
        >>> count_flops(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
        48
    """
    # operators that PyTorch's counter does not know: attention on CPUs, and those of oneDNN
    formulas: dict[object, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: (
            2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
        ),
    }
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        formulas[torch.ops.mkldnn._linear_pointwise] = lambda x, *_, out_shape, **__: 2 * prod(out_shape) * x[-1]
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        formulas[torch.ops.mkldnn._convolution_pointwise] = _convolution_flops
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        function()
    return int(counter.get_total_flops())


def encoding_work(predictor: ImagePredictor, encode: Encoder | None = None) -> Work:
    """Count the work of encoding the predictor's image; `encode` replaces its encoder.

    Example:
        >>> encoding_work(predictor).flops / 1e9
        11.8
    """
    network = predictor.model
    pixels = torch.zeros(1, 3, network.still_image_size, network.still_image_size, device=predictor.device)
    with torch.inference_mode():
        flops = count_flops(lambda: (encode or predictor.encode)(pixels))
    weights = _count_weights(network, ENCODER_PREFIXES)
    return Work(flops, weights + _count_features(predictor), 3 * prod(predictor.size))


def prompts_work(predictor: ImagePredictor, prompts: int = 1, *, multimask: bool = False) -> Work:
    """Count the work of prompts on the predictor's image, with one mask each or, with `multimask`, three.

    Every prompt costs the same, so one is counted.

    Example:
        >>> prompts_work(predictor, 64).flops / 1e9
        17.0
    """
    height, width = predictor.size
    predictor._shared_context()  # made once per image, not per prompt
    predictions: list[Prediction] = []
    center = [width // 2, height // 2]
    flops = count_flops(lambda: predictions.append(predictor.predict(point_coords=center, multimask_output=multimask)))
    written = predictions[0].masks.nbytes + predictions[0].logits.nbytes
    weights = _count_weights(predictor.model, HEAD_PREFIXES, exclude=ENCODER_PREFIXES)
    return Work(prompts * flops, _count_features(predictor) + weights, prompts * written)


def mask_generation_work(predictor: ImagePredictor, points_per_side: int) -> Work:
    """Count the work of a grid of points on the predictor's image: encoding included, making masks not.

    Every point costs the same, so one is counted. The number of masks depends on the image.

    Example:
        >>> mask_generation_work(predictor, 32).flops / 1e9
        87.4
    """
    height, width = predictor.size
    # Almost no mask reaches this threshold, so that none is made.
    options = replace(preset(predictor.model), pred_iou_thresh=1.0)
    center = np.array([[width / 2, height / 2]], np.float32)
    assert predictor.features is not None
    with torch.inference_mode():
        shared = count_flops(partial(make_shared_context, predictor.model, predictor.features, predictor.device))
        point = count_flops(partial(CandidateSampler(predictor, options).sample, center))
    encoding = encoding_work(predictor)
    flops = encoding.flops + shared + points_per_side**2 * point
    weights = _count_weights(predictor.model, HEAD_PREFIXES, exclude=ENCODER_PREFIXES)
    return Work(flops, encoding.elements + weights, encoding.bytes)


def frame_work_by_objects(
    network: SAM2, frame_size: tuple[int, int], object_counts: Sequence[int], rule: RecentFrames | None = None
) -> list[Work]:
    """Count the work of a frame for several numbers of objects, without a video.

    Every object costs the same, so one and two are counted, with empty memories. `rule` selects the frames that are
    attended to (None: as by default), one of them prompted.

    Example:
        >>> frame_work_by_objects(load("builtin").network, (480, 854), [1])[0].flops / 1e9
        4.9
    """
    device, (height, width) = next(network.parameters()).device, network.frame_input_size(frame_size)
    memory, rule = network.config.memory, rule or RecentFrames()
    assert memory is not None
    _, *grid = network.memory_shape((height, width))
    encode, fast = fast_encoder(network, None), FastSAM2(network)
    pixels_13HW = torch.zeros(1, 3, height, width, device=device)
    ages, offsets = tuple(range(rule.memories, -1, -1)), tuple(range(1, rule.pointers + 1))

    def step(count: int) -> None:
        """Encode, attend to memories, decode and encode a memory, without anything outside the network."""
        spatial = torch.zeros(count, memory.channels, *grid, device=device)
        pointer = torch.zeros(count, network.config.width, device=device)
        context = MemoryContext((spatial,) * len(ages), ages, (pointer,) * len(offsets), offsets, rule.pointers)
        with torch.inference_mode():
            features = encode(pixels_13HW)
            conditioned = fast.condition_on_memory(features, context)
            masks = network.select_mask(fast.decode(conditioned), multimask=True)
            if network.config.matching is not None:  # copying labels is not counted: it depends on where objects are
                fast.matching_keys(features)
                fast.decode_prior(conditioned, torch.zeros(count, 1, height // 8, width // 8, device=device))
            fast.encode_memory(features, masks)

    step(1)  # weights are laid out once, not per frame
    one, two = (count_flops(partial(step, count)) for count in (1, 2))
    # the memories of an object are read and one is written; so is its mask, at the size of the video
    memory_values = (len(ages) + 1) * memory.channels * prod(grid)
    object_bytes = MEMORY_BYTES_PER_VALUE * memory_values + prod(frame_size)
    weights = _count_weights(network, ("",), exclude=PROMPT_ENCODER_PREFIXES)
    return [
        Work(one + (count - 1) * (two - one), weights, 3 * prod(frame_size) + count * object_bytes)
        for count in object_counts
    ]


def _count_features(predictor: ImagePredictor) -> int:
    assert predictor.features is not None, "the predictor holds an image"
    return sum(part.numel() for part in (predictor.features.embed_BCHW, *predictor.features.high_res_features))


def _count_weights(network: PromptableModel, prefixes: tuple[str, ...], exclude: tuple[str, ...] = ()) -> int:
    """Count the weights whose names start with one of `prefixes`, and with none of `exclude`."""
    assert isinstance(network, nn.Module)
    names = network.named_parameters()
    return sum(value.numel() for name, value in names if name.startswith(prefixes) and not name.startswith(exclude))


def _convolution_flops(x: Shape, first: Shape, second: Shape | None, *_: object, out_shape: Shape, **__: object) -> int:
    """The weight is (O, I / groups, k, k); a tensor that is added to the output may come before it."""
    weight = second if second is not None and len(second) == 4 else first
    return 2 * prod(out_shape) * prod(weight[1:])
