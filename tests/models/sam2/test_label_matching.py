"""Labels follow what they were given to, and blocks copy them as the plain comparison of all cells does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from masklet.models.fast_cpu.label_matching_blocks import match_labels_in_blocks
from masklet.models.sam2 import CONFIGS, SAM2, MatchingConfig, infer_config
from masklet.models.sam2.label_matching import label_from_mask, match_labels, search_regions
from masklet.models.sam2.state_dict import IOU_CALIBRATION, expected_shapes
from masklet.models.types import input_size_by_area

CONFIG = MatchingConfig(channels=8, radius=3, reach=3, neighbors=4)


def scene(size: tuple[int, int], frames: int, objects: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random keys of a frame and of those before it, and a rectangle of each object on them."""
    generator = torch.Generator().manual_seed(seed)
    keys = normalize(torch.randn(frames + 1, *size, CONFIG.channels, generator=generator), dim=-1)
    labels = torch.zeros(objects, frames, *size)
    for number in range(objects):
        top, left = number % max(size[0] - 2, 1), 2 * number % max(size[1] - 2, 1)
        labels[number, :, top : top + 3, left : left + 4] = torch.rand(frames, 1, 1, generator=generator)
    return keys[0], keys[1:], labels


@pytest.mark.parametrize("size", [(4, 4), (8, 21), (30, 9), (23, 24)])
@pytest.mark.parametrize(("frames", "objects"), [(1, 1), (3, 2), (6, 4)])
def test_blocks_copy_what_the_plain_comparison_copies(size: tuple[int, int], frames: int, objects: int) -> None:
    query, keys, labels = scene(size, frames, objects)
    labels[0, -2:] = 0  # this object is out of sight
    expected = match_labels(query, keys, labels, CONFIG)
    torch.testing.assert_close(match_labels_in_blocks(query, keys, labels, CONFIG), expected, atol=1e-6, rtol=1e-5)
    assert expected.shape == (objects, 1, *size)
    assert not expected[0].any()
    assert objects == 1 or expected[1].any()


def test_several_objects_get_what_each_gets_alone() -> None:
    query, keys, labels = scene((23, 24), 4, 5)
    together = match_labels_in_blocks(query, keys, labels, CONFIG)
    for number in range(5):
        alone = match_labels_in_blocks(query, keys, labels[number : number + 1], CONFIG)
        torch.testing.assert_close(together[number : number + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("shift", "reached"), [((0, 0), True), ((2, -3), True), ((0, -4), False)])
def test_a_label_moves_with_its_cells_up_to_the_radius(shift: tuple[int, int], reached: bool) -> None:
    """Every cell has a key that no other cell has; those that came in at the border have none in reach."""
    before = torch.eye(144).view(12, 12, 144)
    label = torch.zeros(1, 1, 12, 12)
    label[..., 4:7, 5:9] = 1
    config = MatchingConfig(channels=144, radius=3, neighbors=1)
    prior = match_labels(before.roll(shift, dims=(0, 1)), before[None], label, config)
    moved = label.roll(shift, dims=(2, 3))
    assert torch.equal(prior[..., 2:, :8], moved[..., 2:, :8]) == reached


def test_an_object_is_searched_around_its_last_two_labels() -> None:
    labels = torch.zeros(2, 3, 10, 20)
    labels[0, 0, 9, 19] = 1  # too long ago
    labels[0, 1, 2, 6] = 1
    labels[0, 2, 3, 8] = 0.06
    labels[1, 2, 9, 0] = 0.04  # too faint
    assert search_regions(labels, CONFIG) == [(0, 3, 7, 12), None]
    query, keys, _ = scene((10, 20), 3, 1)
    prior = match_labels_in_blocks(query, keys, labels, CONFIG)
    assert not prior[0, 0, 7:].any()
    assert not prior[1].any()


def test_a_label_is_the_mean_of_mask_and_prior_or_the_mask_alone() -> None:
    logits = torch.tensor([[0.0, 9.0, -1.0, -1.0], [0.0, 9.0, -1.0, 3.0]])[None, None]
    assert label_from_mask(logits).tolist() == [[[[0.5, 0.25]]]]
    mean = label_from_mask(torch.zeros(1, 1, 2, 4), torch.tensor([[[[1.0, 0.0]]]]))
    assert mean.tolist() == [[[[0.75, 0.25]]]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1080, 1920), (256, 448)), ((1920, 1080), (448, 256)), ((480, 640), (288, 384)), ((1, 10000), (32, 3584))],
)
def test_frames_keep_their_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert input_size_by_area(size, 448 * 256) == expected


def test_a_builtin_file_without_a_projection_has_memory_only() -> None:
    shapes = dict(expected_shapes(CONFIGS["builtin"]))
    assert infer_config(shapes) == ("builtin", CONFIGS["builtin"])
    calibrated = {**shapes, IOU_CALIBRATION: (2, 2, 5)}
    assert infer_config(calibrated) == ("builtin", replace(CONFIGS["builtin"], iou_knots=5))
    assert expected_shapes(replace(CONFIGS["builtin"], iou_knots=5)) == calibrated
    assert infer_config({**shapes, IOU_CALIBRATION: ()}) == ("builtin", CONFIGS["builtin"])  # a foreign tensor
    images_only = SAM2(replace(CONFIGS["builtin"], memory=None)).state_dict()
    assert images_only["matching_projection"].diagonal().tolist() == [1.0] * 64
    del shapes["matching_projection"]
    name, config = infer_config(shapes) or ("", None)
    assert name == "builtin"
    assert config is not None
    assert config.matching is None
    assert expected_shapes(config) == shapes
