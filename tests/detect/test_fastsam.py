"""Of everything that was found, what is meant."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.detect import Detections
from masklet.detect.fastsam import crop_objects, select_by_prompts, select_by_text
from masklet.masks import rle
from masklet.prompts import parse_prompts

SIZE = (60, 100)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def found(*, codes: bool = False) -> Detections:
    """A head in a body, a ball apart, a background that all lie in, and nothing at all."""
    masks = np.stack(
        [rectangle(0, 0, 100, 60), rectangle(10, 10, 40, 50), rectangle(20, 10, 30, 20), rectangle(60, 30, 80, 50),
         rectangle(0, 0, 0, 0)]
    )  # fmt: skip
    xyxy = np.array([[0, 0, 100, 60], [10, 10, 40, 50], [20, 10, 30, 20], [60, 30, 80, 50], [0, 0, 1, 1]], np.float32)
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.95], np.float32)
    kept = [rle.encode(mask) for mask in masks] if codes else masks
    return Detections(xyxy, scores, np.zeros(5, np.int32), {0: "object"}, kept)


def rows(multimask: bool = False, codes: bool = False, **prompts: object) -> list[tuple[int, int]]:
    parsed = parse_prompts(
        prompts.get("points"), prompts.get("labels"), prompts.get("bboxes"), None, size=SIZE
    )  # fmt: skip
    return select_by_prompts(found(codes=codes), parsed, multimask=multimask)


@pytest.mark.parametrize("codes", [False, True])
def test_a_box_means_the_mask_that_overlaps_it_most(codes: bool) -> None:
    assert rows(bboxes=[9, 11, 41, 50], codes=codes) == [(0, 1)]
    assert rows(bboxes=[[58, 28, 80, 52], [19, 9, 31, 21]], codes=codes) == [(0, 3), (1, 2)]
    assert rows(bboxes=[0, 0, 100, 60], codes=codes) == [(0, 0)]
    assert rows(bboxes=[19, 9, 31, 21], multimask=True) == [(0, 2), (0, 1), (0, 0)]


def test_a_point_means_the_surest_mask_under_it() -> None:
    assert rows(points=[25, 15]) == [(0, 1)]
    assert rows(points=[[25, 15], [70, 40], [95, 5]]) == [(0, 1), (1, 3), (2, 0)]
    assert rows(points=[25, 15], multimask=True) == [(0, 1), (0, 2), (0, 0)]


def test_points_of_one_object_count_together() -> None:
    assert rows(points=[[[25, 15], [70, 40]]]) == [(0, 0)]  # only the background has both
    assert rows(points=[[[25, 15], [35, 45]]]) == [(0, 1)]


def test_negative_points_rule_out() -> None:
    assert rows(points=[[[25, 15], [35, 45]]], labels=[[1, 0]]) == [(0, 2)]
    assert rows(points=[[[25, 15], [26, 16]]], labels=[[1, 0]]) == []


def test_points_and_a_box_hold_both() -> None:
    assert rows(points=[[[35, 45]]], labels=[[0]], bboxes=[[10, 10, 40, 50]]) == [(0, 2)]
    assert rows(points=[[[95, 5]]], labels=[[1]], bboxes=[[60, 30, 80, 50]]) == [(0, 0)]


def test_a_point_is_in_the_pixel_that_holds_it() -> None:
    assert rows(points=[99.9, 59.9]) == [(0, 0)]
    assert rows(points=[39.9, 49.9]) == [(0, 1)]
    assert rows(points=[40, 49.9]) == [(0, 0)]
    assert rows(points=[0, 0]) == [(0, 0)]


def test_what_nothing_answers_has_no_row() -> None:
    nothing = Detections.empty({0: "object"})
    parsed = parse_prompts([25, 15], None, None, None, size=SIZE)
    assert select_by_prompts(nothing, parsed) == []
    few = found()[[1, 3]]
    assert select_by_prompts(few, parse_prompts([[5, 5], [70, 40]], None, None, None, size=SIZE)) == [(1, 1)]


@pytest.mark.parametrize("codes", [False, True])
def test_objects_are_cut_out_on_white(codes: bool) -> None:
    rgb = np.random.default_rng(0).integers(0, 200, (*SIZE, 3), np.uint8)
    masks = np.stack([rectangle(0, 0, 0, 0), rectangle(10, 10, 40, 50) & ~rectangle(20, 20, 30, 30)])
    kept = [rle.encode(mask) for mask in masks] if codes else masks
    some = Detections(np.zeros((2, 4)), np.ones(2), np.zeros(2), {}, kept)  # type: ignore[arg-type]
    numbers, (image,) = crop_objects(some, rgb)
    assert numbers == [1]
    assert image.shape == (40, 30, 3)
    assert (image[10:20, 10:20] == 255).all()
    assert np.array_equal(image[:10], rgb[10:20, 10:40])


def test_a_text_means_the_object_most_like_it() -> None:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[30:50, 60:80] = (255, 0, 0)
    rgb[10:20, 20:30] = (0, 255, 0)

    def like(images, texts):  # type: ignore[no-untyped-def]
        shares = np.array([[(p == 255).all(2).mean(), *(p.mean((0, 1)) / 255)] for p in images])
        return np.stack([shares[:, {"red": 1, "green": 2}[text]] - shares[:, 0] for text in texts], 1)

    assert select_by_text(found(), rgb, ["green", "red", "green"], like) == [(0, 2), (1, 3), (2, 2)]
    assert select_by_text(Detections.empty(), rgb, ["green"], like) == []
