from __future__ import annotations

import numpy as np

from masklet.masks import morphology


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
