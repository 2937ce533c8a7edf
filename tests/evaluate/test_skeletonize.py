"""Middle lines of regions whose middle is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from masklet.evaluate.skeletonize import bezier_curve, binary_opening, longest_paths, medial_axis


def ring() -> np.ndarray:
    image = np.zeros((60, 60), np.uint8)
    cv2.circle(image, (30, 30), 20, 1, 5)
    return image.astype(bool)


def test_an_opening_takes_thin_parts_away_and_leaves_round_ones() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    mask[19:21, 30:55] = True
    found = binary_opening(mask, 4)
    assert not found[:, 33:].any()
    assert found[12:28, 12:28].all()
    assert not (found & ~mask).any()
    assert (binary_opening(mask, 1) == mask).all()


def test_a_disc_that_leaves_nothing_shrinks_down_to_one_pixel() -> None:
    bar = np.zeros((20, 60), bool)
    bar[8:13, 5:55] = True
    assert binary_opening(bar, 16).any()
    hair = np.zeros((20, 60), bool)
    hair[10, 5:55] = True
    assert not binary_opening(hair, 3).any()  # the smallest disc above 1 pixel does not fit either
    assert (binary_opening(hair, 0.9) == hair).all()


def test_the_border_bounds_the_axis_but_not_the_opening() -> None:
    mask = np.zeros((41, 30), bool)
    mask[:, :11] = True
    assert (binary_opening(mask, 5) == mask).all()
    axis = medial_axis(mask)
    assert axis[12:29].sum(1).tolist() == [1] * 17
    assert axis[12:29, 5].all()


@pytest.mark.parametrize("seed", range(4))
def test_the_axis_is_thin_and_hangs_together_as_its_region_does(seed: int) -> None:
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((80, 90)), (0, 0), 5)
    mask = field > np.quantile(field, 0.6)
    axis = medial_axis(mask)
    assert not (axis & ~mask).any()
    parts = [cv2.connectedComponents(m.astype(np.uint8), connectivity=8)[0] for m in (axis, mask)]
    assert parts[0] == parts[1]
    assert not cv2.erode(axis.astype(np.uint8), np.ones((3, 3), np.uint8)).any()
    assert axis.sum() < mask.sum() / 5
    assert (axis == medial_axis(mask)).all()


def test_an_axis_reaches_into_all_four_arms() -> None:
    mask = np.zeros((101, 101), bool)
    mask[40:61, 5:96] = True
    mask[5:96, 40:61] = True
    rows, columns = np.nonzero(medial_axis(mask))
    assert (rows.min(), columns.min()) <= (20, 20)
    assert (rows.max(), columns.max()) >= (80, 80)


def test_nothing_has_no_axis() -> None:
    assert not medial_axis(np.zeros((5, 5), bool)).any()
    assert longest_paths(np.zeros((5, 5), bool), 1) == []


def test_the_longest_path_goes_past_branches_and_small_parts_are_left_out() -> None:
    lines = np.zeros((20, 40), bool)
    lines[10, 2:32] = True
    lines[5:10, 15] = True  # a branch
    lines[18, 2:5] = True  # three pixels
    [path] = longest_paths(lines, min_pixels=4)
    assert sorted(map(tuple, path.tolist())) == [(float(x), 10.0) for x in range(2, 32)]
    assert len(longest_paths(lines, min_pixels=3)) == 2


def test_a_loop_is_cut_and_neighbors_follow_each_other() -> None:
    [path] = longest_paths(medial_axis(ring()), min_pixels=4)
    assert 80 < len(path) < 140
    assert np.abs(np.diff(path, axis=0)).max() == 1
    assert len(set(map(tuple, path.tolist()))) == len(path)
    assert np.allclose(np.hypot(*(path - 30).T), 20, atol=2)


def test_a_long_curve_keeps_its_ends_and_is_smooth() -> None:
    x = np.arange(900.0)
    path = np.stack([x, 5 * (x % 2)], 1)
    curve = bezier_curve(path, 1000)
    assert curve.shape == (1000, 2)
    assert np.isfinite(curve).all()
    assert curve[[0, -1]].tolist() == pytest.approx(path[[0, -1]])
    assert np.allclose(curve[300:700, 1], 2.5, atol=1e-6)
    assert np.allclose(curve[:, 0], np.linspace(0, 899, 1000))
    assert bezier_curve(path, 899) is path
