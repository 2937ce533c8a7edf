"""Operations are counted for every operator, and bytes are those that must be moved."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from helpers.networks import CONVNET, HIERA, PLAIN_VIT, REPVIT, Trunk, small_network
from masklet import SAM
from masklet.benchmark.flops import (
    count_flops,
    encoding_work,
    frame_work_by_objects,
    mask_generation_work,
    prompts_work,
)
from masklet.benchmark.sample_video import object_centers, sample_video
from masklet.errors import MaskletWarning
from masklet.image.automatic_mask_generator import generate_masks_for_set_image, preset
from masklet.image.predictor import ImagePredictor
from masklet.models.fast_cpu.encoder import EagerEncoder
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import SAM2
from masklet.nn.fused_ops import FusedConvolution, FusedLinear, has_fused_operators

SIZE = (60, 90)
fused = pytest.mark.skipif(not has_fused_operators(torch.zeros(1)), reason="no oneDNN")


@pytest.fixture
def predictor() -> ImagePredictor:
    predictor = ImagePredictor(small_network().requires_grad_(False))
    predictor.set_image(np.zeros((*SIZE, 3), np.uint8))
    return predictor


@fused
def test_fused_operators_count_like_plain_ones() -> None:
    x_NI, x_BCHW = torch.zeros(300, 8), torch.zeros(1, 4, 16, 16)
    layer = FusedLinear.from_layer(nn.Linear(8, 16))
    assert count_flops(lambda: layer(x_NI)) == 2 * 300 * 8 * 16
    assert count_flops(lambda: layer.add_to(x_NI, torch.zeros(300, 16))) == 2 * 300 * 8 * 16
    convolution = FusedConvolution(nn.Conv2d(4, 4, 3, padding=1, groups=2), x_BCHW.shape)
    assert count_flops(lambda: convolution(x_BCHW)) == 2 * 16 * 16 * 4 * 2 * 9
    assert count_flops(lambda: convolution.add_to(x_BCHW, x_BCHW)) == 2 * 16 * 16 * 4 * 2 * 9


def test_attention_counts_both_of_its_products() -> None:
    query, key = torch.zeros(1, 2, 10, 8), torch.zeros(1, 2, 30, 8)
    with torch.inference_mode():
        assert count_flops(lambda: scaled_dot_product_attention(query, key, key)) == 2 * 2 * 10 * 30 * (8 + 8)


@pytest.mark.parametrize("trunk", [HIERA, CONVNET, REPVIT, PLAIN_VIT])
def test_the_fast_encoder_makes_no_more_operations_than_the_plain_one(trunk: Trunk) -> None:
    predictor = ImagePredictor(small_network(trunk).requires_grad_(False))
    predictor.set_image(np.zeros((*SIZE, 3), np.uint8))
    plain = encoding_work(predictor, EagerEncoder(predictor.model, None))
    fast = encoding_work(predictor)
    assert 0.5 * plain.flops < fast.flops <= plain.flops
    assert (fast.elements, fast.bytes) == (plain.elements, plain.bytes)


def test_every_weight_is_read_by_one_of_encoder_and_heads(predictor: ImagePredictor) -> None:
    network = predictor.model
    assert isinstance(network, SAM2)
    features = predictor.features
    assert features is not None
    num_features = sum(part.numel() for part in (features.embed_BCHW, *features.high_res_features))
    encoder, heads = encoding_work(predictor).elements - num_features, prompts_work(predictor).elements - num_features
    memory = ("memory_", "obj_ptr", "no_", "maskmem", "mask_downsample")
    rest = [value for name, value in network.named_parameters() if not name.startswith(memory)]
    assert encoder + heads == sum(value.numel() for value in rest)


def test_the_work_of_prompts_is_that_of_predicting_them(predictor: ImagePredictor) -> None:
    points = [[10, 10], [40, 30], [80, 50]]
    predictor._shared_context()  # the shared part belongs to the image
    counted = count_flops(lambda: predictor.predict(point_coords=points, multimask_output=False))
    assert prompts_work(predictor, 3).flops == pytest.approx(counted, rel=0.01)  # positions are shared
    masks = prod(SIZE) + 4 * (predictor.model.still_image_size // 4) ** 2
    assert prompts_work(predictor, 3).bytes == 3 * masks
    assert prompts_work(predictor, 1, multimask=True).bytes == 3 * masks


def test_the_work_of_mask_generation_is_without_the_masks(predictor: ImagePredictor) -> None:
    options = replace(preset(predictor.model), points_per_side=4, pred_iou_thresh=1.0, stability_score_thresh=0.0)
    rgb = np.zeros((*SIZE, 3), np.uint8)
    with pytest.warns(MaskletWarning, match="nothing was found"):
        counted = count_flops(lambda: generate_masks_for_set_image(predictor, rgb, options))
    found = mask_generation_work(predictor, 4)
    assert found.flops == pytest.approx(counted + encoding_work(predictor).flops, rel=0.01)
    assert mask_generation_work(predictor, 8).flops > 2 * found.flops


@pytest.mark.slow
def test_the_work_of_a_frame_is_that_of_tracking_it(tracking_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = SAM(tracking_file)  # its own, which encodes every frame
    tracker.predictor.model.set_image_size(96)  # type: ignore[attr-defined]
    # labels are matched besides, whose work depends on where objects are: it is counted apart and left out
    matching: list[int] = []

    def matched(self: FastSAM2, *arguments: Any) -> Any:
        found: list[Any] = []
        matching.append(count_flops(lambda: found.append(usual(self, *arguments))))
        return found[0]

    usual = FastSAM2.match_labels
    monkeypatch.setattr(FastSAM2, "match_labels", matched)
    # with tiles of bf16, values have columns of zeros, which are no work
    monkeypatch.setattr("masklet.models.fast_cpu.memory_attention.has_bfloat16_tiles", lambda: False)
    network, size, counts = tracker.predictor.model, (48, 64), [1, 3]
    assert isinstance(network, SAM2)
    found = frame_work_by_objects(network, size, counts)
    for count, work in zip(counts, found, strict=True):
        view, video = tracker.live(), sample_video(size, count)
        for number, (x, y) in enumerate(object_centers(size, count, 0), start=1):
            view.add_prompt(number, points=[x, y])
        for _ in range(17):  # until all pointers are stored too
            view.step(next(video))
        rgb = next(video)
        matching.clear()
        counted = count_flops(partial(view.step, rgb))
        assert matching, "the built-in model copies labels"
        assert work.flops == pytest.approx(counted - sum(matching), rel=0.01)
    assert found[0].elements == found[1].elements
    assert found[1].bytes - found[0].bytes == 2 * (found[0].bytes - 3 * prod(size))
