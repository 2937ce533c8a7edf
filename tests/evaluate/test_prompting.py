"""Clicks, boxes and masks out of the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.clicks import centre_click
from masklet.errors import InputError
from masklet.evaluate.prompting import checked_prompts, corrective_click, first_prompt, spread


def blobs(random: np.random.Generator) -> np.ndarray:
    """A ragged mask (90, 120), here and there at the border."""
    return np.kron(random.random((9, 12)) > 0.55, np.ones((10, 10))).astype(bool)


def test_clicks_are_those_of_training() -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        predicted, truth = blobs(random), blobs(random)
        truth[:, :7] = predicted[:, :7]
        for pair in ((predicted, truth), (np.zeros_like(truth), truth), (truth, truth), (truth | predicted, truth)):
            xy, label = centre_click(*(torch.from_numpy(mask)[None] for mask in pair))
            assert corrective_click(*pair) == (*xy[0].int().tolist(), int(label[0]))


def test_a_click_is_deepest_in_what_is_wrong() -> None:
    truth = np.zeros((40, 60), bool)
    truth[10:30, 10:50] = True
    assert corrective_click(np.zeros_like(truth), truth) == (19, 19, 1)
    found = truth.copy()
    found[10:30, 10:24] = False
    assert corrective_click(found, truth) == (16, 16, 1)
    found[:, 51:] = True
    found[30:, :] = True
    assert corrective_click(found, truth)[2] == 1
    found[2:30, 10:24] = truth[2:30, 10:24]
    assert corrective_click(found, truth)[2] == 0


def test_prompts_are_the_mask_its_tight_box_or_a_click() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:50] = True
    box, click, whole = (first_prompt(mask, kind) for kind in ("box", "click", "mask"))
    assert box.box is not None
    assert (box.box.x1, box.box.y1, box.box.x2, box.box.y2) == (10, 10, 50, 30)
    assert click.points is not None
    assert (click.points.xy.tolist(), click.points.labels.tolist()) == ([[19, 19]], [1])
    assert whole.mask is not None
    np.testing.assert_array_equal(whole.mask.mask, mask)


def test_prompts_are_checked_and_named_once() -> None:
    assert checked_prompts(("box", "mask", "box")) == ("box", "mask")
    assert checked_prompts("box") == ("box",)
    for wrong in (["boxes"], []):
        with pytest.raises(InputError, match="'mask', 'box', 'click'"):
            checked_prompts(wrong)


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(0, 3, []), (2, 3, [0, 1]), (10, 3, [0, 4, 9]), (10, 1, [0]), (5, 5, [0, 1, 2, 3, 4])],
)
def test_numbers_are_spread(count: int, most: int, expected: list[int]) -> None:
    assert spread(count, most) == expected
