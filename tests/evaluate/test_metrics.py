"""J and F of made-up masks whose figures can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.evaluate.metrics import boundary_f_score, mask_boundary, region_similarity


def square(left: int = 30, top: int = 40, side: int = 20) -> np.ndarray:
    """In 100 x 100 pixels, where boundaries may lie 2 pixels apart (0.008 x 141.4, rounded up)."""
    mask = np.zeros((100, 100), bool)
    mask[top : top + side, left : left + side] = True
    return mask


NOTHING = np.zeros((100, 100), bool)


def test_the_truth_scores_one() -> None:
    assert region_similarity(square(), square()) == 1
    assert boundary_f_score(square(), square()) == 1


def test_nothing_found_scores_zero_and_so_does_something_found_where_nothing_is() -> None:
    for pair in ((NOTHING, square()), (square(), NOTHING)):
        assert region_similarity(*pair) == 0
        assert boundary_f_score(*pair) == 0


def test_nothing_found_where_nothing_is_scores_one() -> None:
    assert region_similarity(NOTHING, NOTHING) == 1
    assert boundary_f_score(NOTHING, NOTHING) == 1


def test_a_square_five_to_the_side() -> None:
    """The ring of 80 pixels keeps 18 of its top, 18 of its bottom, and 2 at each end of the side that is inside."""
    assert region_similarity(square(35), square()) == pytest.approx(15 / 25)
    assert boundary_f_score(square(35), square()) == pytest.approx(40 / 80)


@pytest.mark.parametrize(("moved", "expected"), [(2, True), (3, False)])
def test_boundaries_two_pixels_apart_agree_and_three_do_not(moved: int, expected: bool) -> None:
    assert (boundary_f_score(square(30 + moved), square()) == 1) is expected


def test_a_square_too_many_costs_precision_alone() -> None:
    assert boundary_f_score(square() | square(70), square()) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert boundary_f_score(square(), square() | square(70)) == pytest.approx(2 / 3)


def test_squares_that_are_far_apart_score_zero() -> None:
    assert boundary_f_score(square(5, 5), square(70, 70)) == 0


def test_the_boundary_is_the_ring_above_and_left_of_the_mask_and_none_at_the_edge_of_the_image() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 4:] = True
    ring = np.zeros((5, 6), bool)
    ring[0, 3:] = ring[2, 3:] = ring[1, 3] = True
    np.testing.assert_array_equal(mask_boundary(mask), ring)
    assert not mask_boundary(np.ones((5, 6), bool)).any()


def by_distances(predicted: np.ndarray, truth: np.ndarray, reach: float) -> float:
    """F, from the distance of every pixel of one boundary to every pixel of the other."""
    a, b = (np.argwhere(mask_boundary(mask)) for mask in (predicted, truth))
    near = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) <= reach + 1e-9
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return float(2 * precision * recall / (precision + recall))


def test_ragged_masks_agree_with_distances_counted_one_by_one() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        one, other = (np.kron(random.random((6, 8)) > 0.6, np.ones((25, 30))).astype(bool) for _ in range(2))
        other = np.roll(other | one, 2, axis=0)
        found = boundary_f_score(one, other)  # 150 x 240: 3 pixels
        assert 0.1 < found < 0.95
        assert found == pytest.approx(by_distances(one, other, 3))


def test_the_tolerance_grows_with_the_image() -> None:
    """480 x 854 allows 8 pixels: the figure of the benchmark's own images."""
    truth = np.zeros((480, 854), bool)
    truth[100:300, 100:400] = True
    assert boundary_f_score(np.roll(truth, 8, axis=1), truth) == 1
    assert boundary_f_score(np.roll(truth, 9, axis=1), truth) < 1
