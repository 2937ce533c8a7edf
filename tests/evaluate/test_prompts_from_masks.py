"""Clicks, boxes and masks out of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.errors import InputError
from masklet.evaluate.prompts_from_masks import deepest_error_click, parse_prompt_types, prompt_from_mask, sample_evenly
from masklet.train.prompt_simulation import sample_click


def blobs(random: np.random.Generator) -> np.ndarray:
    """A ragged mask (36, 48), here and there at the border."""
    return np.kron(random.random((9, 12)) > 0.55, np.ones((4, 4))).astype(bool)


def deepest(mask: np.ndarray) -> tuple[int, int, int]:
    """x, y and squared depth of the first pixel that is farthest from every pixel outside, each pair counted."""
    padded = np.pad(mask, 1)
    inside, outside = np.argwhere(padded), np.argwhere(~padded)
    if not len(inside):
        return 0, 0, 0
    depth = ((inside[:, None] - outside[None]) ** 2).sum(-1).min(1)
    y, x = inside[depth.argmax()] - 1
    return int(x), int(y), int(depth.max())


def test_a_click_is_the_pixel_farthest_from_everything_outside() -> None:
    random = np.random.default_rng(0)
    for _ in range(12):
        predicted, truth = blobs(random), blobs(random)
        truth[:, :7] = predicted[:, :7]
        for shown, mask in (
            (predicted, truth),
            (np.zeros_like(truth), truth),
            (truth, truth),
            (truth | predicted, truth),
        ):
            missed = deepest(mask & ~shown if (mask ^ shown).any() else mask)
            excess = deepest(shown & ~mask)
            expected = (*missed[:2], 1) if missed[2] >= excess[2] else (*excess[:2], 0)
            assert deepest_error_click(shown, mask) == expected


def test_a_missed_part_an_excess_and_a_mask_that_is_right() -> None:
    truth = np.zeros((30, 30), bool)
    truth[5:16, 8:19] = True
    assert deepest_error_click(np.zeros_like(truth), truth) == (13, 10, 1)
    assert deepest_error_click(truth, truth) == (13, 10, 1)
    small = np.zeros_like(truth)
    small[2:5, 2:5] = True
    found = small.copy()
    found[10:21, 10:21] = True
    assert deepest_error_click(found, small) == (15, 15, 0)


@pytest.mark.parametrize("missed", [True, False])
def test_clicks_of_training_fall_around_those_of_evaluation(missed: bool) -> None:
    """The larger of two wrong regions is clicked by both: by one in its center, by the other around it."""
    rows, columns = np.mgrid[:64, :96]
    large, small = (columns - 60) ** 2 + (rows - 30) ** 2 < 20**2, (columns - 12) ** 2 + (rows - 50) ** 2 < 6**2
    truth, shown = (large, small) if missed else (small, large)
    x, y, label = deepest_error_click(shown, truth)
    many = [torch.from_numpy(mask).expand(400, -1, -1) for mask in (shown, truth)]
    xy, labels = sample_click(*many, torch.Generator().manual_seed(0))
    chosen = labels == label
    assert chosen.float().mean() > 0.9
    assert (xy[chosen].mean(0) - torch.tensor([x, y])).abs().max() < 2
    assert all(large[round(b), round(a)] for a, b in xy[chosen].tolist())


def test_a_click_is_deepest_in_what_is_wrong() -> None:
    truth = np.zeros((40, 60), bool)
    truth[10:30, 10:50] = True
    assert deepest_error_click(np.zeros_like(truth), truth) == (19, 19, 1)
    found = truth.copy()
    found[10:30, 10:24] = False
    assert deepest_error_click(found, truth) == (16, 16, 1)
    found[:, 51:] = True
    found[30:, :] = True
    assert deepest_error_click(found, truth)[2] == 1
    found[2:30, 10:24] = truth[2:30, 10:24]
    assert deepest_error_click(found, truth)[2] == 0


def test_prompts_are_the_mask_its_tight_box_or_a_click() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:50] = True
    box, click, whole = (prompt_from_mask(mask, kind) for kind in ("box", "click", "mask"))
    assert box.box is not None
    assert (box.box.x1, box.box.y1, box.box.x2, box.box.y2) == (10, 10, 50, 30)
    assert click.points is not None
    assert (click.points.xy.tolist(), click.points.labels.tolist()) == ([[19, 19]], [1])
    assert whole.mask is not None
    np.testing.assert_array_equal(whole.mask.mask, mask)


def test_prompts_are_checked_and_named_once() -> None:
    assert parse_prompt_types(("box", "mask", "box")) == ("box", "mask")
    assert parse_prompt_types("box") == ("box",)
    for wrong in (["boxes"], []):
        with pytest.raises(InputError, match="'mask', 'box', 'click'"):
            parse_prompt_types(wrong)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(0, 3, []), (2, 3, [0, 1]), (10, 3, [0, 4, 9]), (10, 1, [0]), (5, 5, [0, 1, 2, 3, 4])],
)
def test_numbers_are_spread(count: int, most: int, expected: list[int]) -> None:
    assert sample_evenly(count, most) == expected
