"""Non-maximum suppression: by hand, by definition and by OpenCV."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from masklet.masks import iou as mask_iou
from masklet.masks.ops import mask_nms, nms


def boxes(count: int, seed: int = 0, spread: float = 100.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    corner, side = generator.uniform(0, spread, (count, 2)), generator.uniform(5, 40, (count, 2))
    xyxy = np.concatenate([corner, corner + side], 1).astype(np.float32)
    return xyxy, (1 + generator.permutation(count).astype(np.float32)) / count, generator.integers(0, 3, count)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.7, 0.9])
@pytest.mark.parametrize("by_class", [False, True])
def test_a_box_is_suppressed_by_a_better_selected_one(threshold: float, by_class: bool) -> None:
    xyxy, scores, classes = boxes(150)
    selected: list[int] = []
    for i in np.argsort(-scores):
        if not any(iou(xyxy[i], xyxy[j]) > threshold and not (by_class and classes[i] != classes[j]) for j in selected):
            selected.append(i)
    result = nms(xyxy, scores, threshold, classes=classes if by_class else None)
    assert result.tolist() == selected
    assert nms(xyxy, scores, threshold, classes=classes if by_class else None, max_count=7).tolist() == selected[:7]


def test_opencv_selects_the_same() -> None:
    xyxy, scores, _ = boxes(300, seed=1)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], 1)
    assert nms(xyxy, scores, 0.5).tolist() == list(cv2.dnn.NMSBoxes(xywh.tolist(), scores.tolist(), 0.0, 0.5))


def test_edges() -> None:
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []
    same = np.array([[0, 0, 10, 10]] * 3, np.float32)
    assert nms(same, np.array([0.5, 0.5, 0.5]), 0.99).tolist() == [0]
    assert nms(same, np.array([0.5, 0.7, 0.6]), 1.0).tolist() == [1, 2, 0]
    flat = np.array([[5, 5, 5, 5]] * 2, np.float32)
    assert nms(flat, np.array([0.5, 0.6]), 0.5).tolist() == [1, 0]


def test_many_candidates_take_no_seconds() -> None:
    xyxy, scores, classes = boxes(8400, spread=600.0)
    started = time.process_time()
    nms(xyxy, scores, 0.7, classes=classes, max_count=300)
    assert time.process_time() - started < 3


def test_boxes_one_pixel_wide_are_compared_by_their_masks() -> None:
    thin = np.array([[3, 0, 3, 9], [3, 0, 3, 9], [3, 0, 3, 4], [0, 0, 9, 9]], np.float32)
    masks = [np.ones((10, 1), bool), np.ones((10, 1), bool), np.ones((5, 1), bool)]
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert nms(thin, scores, 0.7).tolist() == [0, 1, 2, 3]  # no area, no overlap
    assert nms(thin, scores, 0.7, thin_mask=masks.__getitem__).tolist() == [0, 3]  # the part lies in the whole
    masks[0][1:4] = False  # the whole has a gap where most of the part is
    assert nms(thin, scores, 0.7, thin_mask=masks.__getitem__).tolist() == [0, 2, 3]


def test_parts_of_one_line_that_share_nothing_stay() -> None:
    line = np.array([[0, 5, 9, 5], [3, 5, 6, 5], [6, 5, 12, 5]], np.float32)
    ends = np.array([[True, True, True, False, False, False, False, True, True, True]])
    masks = [ends, np.ones((1, 4), bool), np.ones((1, 7), bool)]
    assert nms(line, np.array([0.9, 0.8, 0.7]), 0.5, thin_mask=masks.__getitem__).tolist() == [0, 1, 2]
    assert nms(line, np.array([0.9, 0.8, 0.7]), 0.4, thin_mask=masks.__getitem__).tolist() == [0, 1]


def test_masks_without_a_pixel_are_one_and_hide_no_other() -> None:
    none = np.zeros((3, 4), np.float32)
    masks = [np.zeros((1, 1), bool), np.zeros((1, 1), bool), np.ones((1, 1), bool)]
    assert nms(none, np.array([0.9, 0.8, 0.7]), 0.5, thin_mask=masks.__getitem__).tolist() == [0, 2]


def test_boxes_with_an_area_are_compared_as_in_the_published_generator() -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 20, (60, 2))
    wide = np.concatenate([low, low + random.integers(1, 20, (60, 2))], axis=1).astype(np.float32)
    scores = random.random(60)

    def never(index: int) -> np.ndarray:
        raise AssertionError(f"the mask of box {index} is not needed")

    np.testing.assert_array_equal(nms(wide, scores, 0.5, thin_mask=never), nms(wide, scores, 0.5))


def test_masks_are_suppressed_by_the_pixels_that_they_share() -> None:
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:24, :32]
    disks = [
        np.hypot(rows - y, columns - x) < radius for y, x, radius in random.uniform((0, 0, 2), (24, 32, 9), (60, 3))
    ]
    masks, scores = np.array([*disks, np.zeros((24, 32), bool)]), random.integers(0, 20, 61) / 20  # some are equal
    for threshold in (0.0, 0.3, 0.75, 1.0):
        expected: list[int] = []
        for i in np.argsort(-scores, kind="stable").tolist():
            if all(mask_iou(masks[i], masks[j]) * (masks[i] & masks[j]).any() <= threshold for j in expected):
                expected.append(i)
        assert mask_nms(masks, scores, threshold).tolist() == expected
        assert mask_nms(masks, scores, threshold, max_count=3).tolist() == expected[:3]
    assert mask_nms(masks[:0], scores[:0], 0.5).tolist() == []
