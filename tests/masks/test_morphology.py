from __future__ import annotations

import numpy as np
import pytest

from masklet.masks import morphology
from masklet.masks.morphology import clean_edges


def disc_with_dirt() -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[2:18, 2:18] = True
    mask[5, 5] = False
    mask[8:11, 8:11] = False
    mask[0, 29] = True
    mask[10:12, 24:26] = True
    return mask


def test_small_holes_are_filled_and_large_ones_stay() -> None:
    mask = disc_with_dirt()
    filled = morphology.fill_holes(mask, 1)
    assert filled[5, 5]
    assert not filled[9, 9]
    assert morphology.fill_holes(mask, 9)[9, 9]


def test_background_at_the_edge_is_no_hole() -> None:
    mask = np.ones((4, 4), bool)
    mask[0, 0] = False
    np.testing.assert_array_equal(morphology.fill_holes(mask, 100), mask)


def test_small_islands_are_removed() -> None:
    mask = disc_with_dirt()
    cleared = morphology.remove_islands(mask, 1)
    assert not cleared[0, 29]
    assert cleared[10, 24]
    assert morphology.remove_islands(mask, 4).sum() == mask.sum() - 5


def test_the_largest_part_always_stays() -> None:
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[5:7, 5] = True
    assert np.argwhere(morphology.remove_islands(mask, 50)).tolist() == [[5, 5], [6, 5]]


def test_empty_and_full_masks_pass_unchanged() -> None:
    for mask in (np.zeros((3, 3), bool), np.ones((3, 3), bool)):
        np.testing.assert_array_equal(morphology.fill_holes(mask, 5), mask)
        np.testing.assert_array_equal(morphology.remove_islands(mask, 5), mask)


def test_the_mask_given_is_not_changed() -> None:
    mask = disc_with_dirt()
    before = mask.copy()
    morphology.fill_holes(mask, 9), morphology.remove_islands(mask, 9)
    np.testing.assert_array_equal(mask, before)


def test_specks_and_pinholes_go_relative_to_the_object() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:40] = True  # 900 pixels
    mask[20:24, 20:24] = False  # 16, under 2 % of what stays
    mask[30:35, 30:35] = False  # 25, above
    mask[50:55, 50:58] = True  # 40, under 5 % of the largest part
    mask[50:57, 65:73] = True  # 56, above
    cleaned = clean_edges(mask)
    expected = mask.copy()
    expected[20:24, 20:24], expected[50:55, 50:58] = True, False
    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(clean_edges(cleaned), cleaned)


def test_what_was_clicked_stays() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:40], mask[20:22, 20:22], mask[50, 50:53] = True, False, True
    np.testing.assert_array_equal(clean_edges(mask, inside=[[51.5, 50.5]], outside=[[20.5, 21.5]]), mask)
    assert clean_edges(mask, inside=[[15, 15]], outside=[[70, 5]]).sum() == 900


def test_a_notch_at_the_edge_is_no_hole_and_an_island_in_a_pinhole_is_filled_over() -> None:
    mask = np.ones((40, 40), bool)
    mask[0:3, 10:13] = False
    mask[20:25, 20:25] = False
    mask[22, 22] = True
    cleaned = clean_edges(mask)
    assert not cleaned[0:3, 10:13].any()
    assert cleaned[20:25, 20:25].all()


@pytest.mark.parametrize("mask", [np.zeros((5, 5), bool), np.ones((5, 5), bool), np.eye(6, dtype=bool)])
def test_clean_masks_stay_as_they_are(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(clean_edges(mask), mask)
