from __future__ import annotations

import cv2
import numpy as np
import pytest

from masklet.masks import iou, polygons
from masklet.masks.polygons import Polygon


def noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(rng.integers(1, 20, 2)) < rng.random()


def ring_with_island() -> np.ndarray:
    """A frame with a hole, an island in the hole, and a far part with a hole."""
    mask = np.zeros((40, 60), bool)
    mask[2:22, 2:22] = True
    mask[6:18, 6:18] = False
    mask[10:14, 10:14] = True
    mask[25:38, 40:58] = True
    mask[30, 45:50] = False
    return mask


@pytest.mark.parametrize("seed", range(60))
def test_filling_the_outline_gives_the_mask_back(seed: int) -> None:
    mask = noise(seed)
    parts = polygons.mask_to_polygons(mask)
    np.testing.assert_array_equal(polygons.polygons_to_mask(parts, mask.shape), mask)
    assert np.array_equal(polygons.polygons_to_mask(parts, mask.shape), mask)
    assert sum(part.area for part in parts) == mask.sum()
    assert len(parts) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1


@pytest.mark.parametrize("seed", range(60))
def test_one_ring_still_fills_to_the_mask(seed: int) -> None:
    mask = noise(seed)
    ring = polygons.merge_to_ring(polygons.mask_to_polygons(mask))
    assert ring.shape[1:] == (2,)
    assert ring.dtype == np.float32
    np.testing.assert_array_equal(
        polygons.polygons_to_mask([Polygon(ring)], mask.shape) if len(ring) else mask & False, mask
    )


def test_holes_and_parts_are_preserved() -> None:
    parts = polygons.mask_to_polygons(ring_with_island())
    assert [(part.area, len(part.holes)) for part in parts] == [(400 - 144, 1), (13 * 18 - 5, 1), (16, 0)]


def test_turning_directions_are_opposite() -> None:
    [part] = polygons.mask_to_polygons(np.pad(np.pad(np.zeros((2, 2), bool), 1, constant_values=True), 1))
    assert part.outer.tolist() == [[1, 1], [5, 1], [5, 5], [1, 5]]
    assert part.holes[0].tolist() == [[2, 4], [4, 4], [4, 2], [2, 2]]


def test_pixels_that_touch_at_a_corner_are_one_part() -> None:
    assert len(polygons.mask_to_polygons(np.eye(5, dtype=bool))) == 1
    assert len(polygons.mask_to_polygons(np.eye(5, dtype=bool)[::-1])) == 1


def test_bridging_holes_preserves_the_area() -> None:
    frame = polygons.mask_to_polygons(ring_with_island())[0]
    ring = polygons.bridge_holes(frame)
    assert Polygon(ring).area == frame.area
    assert len(ring) == 4 + 4 + 2


def test_fractional_corners_take_pixels_by_their_center() -> None:
    box = Polygon(np.array([[0.6, 0.4], [3.4, 0.4], [3.4, 1.6], [0.6, 1.6]], np.float32))
    np.testing.assert_array_equal(
        polygons.polygons_to_mask([box], (3, 5)), np.pad(np.ones((2, 2), bool), ((0, 1), (1, 2)))
    )


def test_polygons_outside_are_clipped_and_overlaps_stay_filled() -> None:
    big = Polygon(np.array([[-5, -5], [3, -5], [3, 9], [-5, 9]], np.float32))
    away = Polygon(np.array([[50, 50], [60, 50], [60, 60]], np.float32))
    assert polygons.polygons_to_mask([big, big, away], (4, 6)).sum() == 12


def test_nothing_in_nothing_out() -> None:
    assert polygons.mask_to_polygons(np.zeros((4, 5), bool)) == []
    assert polygons.merge_to_ring([]).shape == (0, 2)
    assert polygons.contour_ring(np.zeros((4, 5), bool)).shape == (0, 2)
    assert not polygons.polygons_to_mask([Polygon(np.zeros((0, 2), np.float32))], (4, 5)).any()


def test_loss_is_measured() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    half = Polygon(np.array([[2, 2], [4, 2], [4, 6], [2, 6]], np.float32))
    assert iou(polygons.polygons_to_mask([half], mask.shape), mask) == 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (9, 13)])
def test_a_text_ring_gives_a_plain_object_back(shape: tuple[int, int]) -> None:
    mask = np.pad(np.ones(shape, bool), 3)
    ring = polygons.contour_ring(mask)
    assert len(ring) >= 3
    assert polygons.contour_roundtrip_iou(mask, ring) == 1.0


def test_a_text_ring_loses_only_its_bridges() -> None:
    mask = ring_with_island()
    iou = polygons.contour_roundtrip_iou(mask, polygons.contour_ring(mask))
    assert 0.9 < iou < 1.0
