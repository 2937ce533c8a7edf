"""Automatic prompts: point grids, crops, points that found masks cover already, and which of several boxes is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.image.amg_candidates import CoveredRegion
from masklet.image.amg_grid import Crop, coarse_to_fine, generate_crop_boxes, layer_grids, point_grid
from masklet.masks.ops import nms
from masklet.transforms import ImageTransform


def test_points_are_in_the_middle_of_their_cells() -> None:
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    grid = point_grid(4)
    assert grid[0].tolist() == [0.125, 0.125]
    assert grid[1].tolist() == [0.375, 0.125]
    assert grid[-1].tolist() == [0.875, 0.875]


def test_layers_become_coarser_and_never_empty() -> None:
    assert [len(grid) for grid in layer_grids(8, 2, 4)] == [64, 4, 1]


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 32])
def test_every_point_is_in_one_round(side: int) -> None:
    rounds = coarse_to_fine(side * side)
    assert sorted(np.concatenate(rounds).tolist()) == list(range(side * side))
    assert side < 8 or len(rounds[0]) == (side // 4) ** 2


def test_crops_cover_the_image_and_overlap() -> None:
    crops = generate_crop_boxes((100, 160), 2, 512 / 1500)
    assert [crop.layer for crop in crops] == [0] + [1] * 4 + [2] * 16
    for layer in (1, 2):
        covered = np.zeros((100, 160), int)
        for crop in crops:
            if crop.layer == layer:
                left, top, right, bottom = crop.xyxy
                covered[top:bottom, left:right] += 1
        assert covered.min() == 1
        assert covered.max() == 4
    assert crops[1].xyxy == (0, 0, 97, 67)  # ceil((34 + 160) / 2), ceil((34 + 100) / 2)


def test_an_image_of_one_pixel_has_crops_with_something_in_them() -> None:
    assert all(min(crop.shape) >= 1 for crop in generate_crop_boxes((1, 1), 3, 0.3))
    assert all(min(crop.shape) >= 1 for crop in generate_crop_boxes((2, 900), 3, 0.3))


def test_a_box_is_cut_by_the_crop_but_not_by_the_image() -> None:
    crop = Crop(1, (0, 0, 200, 200), (400, 400))
    boxes = np.array([[2, 2, 90, 90], [50, 50, 195, 90], [50, 50, 179, 179]], np.float32)
    assert crop.touches_crop_edge(boxes).tolist() == [False, True, False]


def test_the_best_of_boxes_that_are_the_same_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9], [0, 0, 10, 8]], np.float32)
    scores = np.array([0.8, 0.9, 0.7, 0.1])
    assert nms(boxes, scores, 0.7).tolist() == [1, 2]
    assert nms(boxes, scores, 0.85).tolist() == [1, 2]  # the fourth goes for the second, at 8 / 9
    assert nms(boxes, scores, 0.95).tolist() == [1, 0, 2, 3]
    assert nms(boxes, scores, 1.0).tolist() == [1, 0, 2, 3]


def test_a_box_that_was_dropped_drops_no_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]


def test_of_equal_scores_the_first_stays_and_boxes_without_area_all_do() -> None:
    same = np.tile(np.array([[3, 3, 9, 9]], np.float32), (3, 1))
    assert nms(same, np.ones(3), 0.5).tolist() == [0]
    assert nms(np.zeros((3, 4), np.float32), np.ones(3), 0.5).tolist() == [0, 1, 2]
    assert nms(np.zeros((0, 4), np.float32), np.ones(0), 0.5).tolist() == []


def test_only_points_outside_of_what_was_found_are_open() -> None:
    explained = CoveredRegion(ImageTransform((100, 200), 64), threshold=0.0)
    points = np.array([[10, 10], [190, 90]], np.float32)
    assert explained.uncovered(points).tolist() == [True, True]
    logits = torch.full((2, 16, 16), -1.0)
    logits[0, :4, :4] = 1
    logits[1] = 1  # the whole image explains nothing
    explained.add(logits)
    assert explained.uncovered(points).tolist() == [False, True]
