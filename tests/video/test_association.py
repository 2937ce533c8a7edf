"""What is new, what is known, and what is a part, on made masks."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.errors import InputError
from masklet.masks import rle
from masklet.video import FollowOptions, Found
from masklet.video.association import GRID, Ground, Verdict, candidates

SIZE = (60, 80)
NEW, PART = Verdict(new=True), Verdict(new=False)


def box(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def ground(**options: object) -> Ground:
    made = Ground(FollowOptions(**options))  # type: ignore[arg-type]
    made.put(3, box(10, 10, 30, 30), class_id=0)
    made.put(5, box(50, 10, 70, 30), class_id=0)
    return made


@pytest.mark.parametrize(
    ("mask", "verdict"),
    [
        (box(10, 10, 30, 30), Verdict(new=False, id=3)),
        (box(52, 10, 72, 30), Verdict(new=False, id=5)),  # IoU 18 / 22
        (box(12, 12, 20, 20), PART),
        (box(10, 40, 30, 55), NEW),
        (box(24, 10, 44, 30), NEW),  # 6 of 20 columns are shared
        (box(5, 5, 75, 35), NEW),  # both, and as much again that is neither
        (box(10, 10, 70, 30), NEW),  # 40 of 60 columns are explained
        (box(14, 10, 66, 30), NEW),  # 32 of 52 columns
    ],
)
def test_a_find_is_the_same_a_part_or_new(mask: np.ndarray, verdict: Verdict) -> None:
    assert ground().judge(mask, 0) == verdict


def test_what_several_explain_together_is_a_part_too() -> None:
    assert ground(inside=0.65).judge(box(10, 10, 70, 30), 0) == PART


def test_how_alike_and_how_far_inside_are_options() -> None:
    half = box(10, 10, 30, 20)
    assert ground().judge(half, 0) == Verdict(new=False, id=3)
    assert ground(same_iou=0.51).judge(half, 0) == PART
    assert ground(same_iou=0.51, parts=True).judge(half, 0) == NEW


def test_of_two_that_are_alike_the_more_alike_is_meant() -> None:
    made = ground()
    made.put(7, box(12, 10, 32, 30), class_id=0)
    assert made.judge(box(13, 10, 33, 30), 0).id == 7
    assert made.judge(box(9, 10, 29, 30), 0).id == 3
    assert made.judge(box(10, 10, 30, 25), 0).alike == 0.75


def test_a_part_of_another_class_is_no_part_but_the_same_is_the_same() -> None:
    made = ground()
    assert made.judge(box(12, 12, 20, 20), 1) == NEW
    assert made.judge(box(10, 10, 30, 29), 1) == Verdict(new=False, id=3)


def test_a_background_has_no_parts_and_swallows_nothing() -> None:
    made = Ground(FollowOptions())
    made.put(1, box(0, 0, 80, 40), class_id=0)
    assert made.judge(box(10, 10, 20, 20), 0) == NEW
    made.put(2, box(10, 10, 20, 20), class_id=0)
    assert made.judge(box(10, 10, 15, 15), 0) == PART
    assert made.swallowed(box(9, 9, 25, 25), 0) == [2]
    assert made.swallowed(box(0, 0, 80, 60), 0) == []


def test_an_object_that_is_out_of_sight_explains_nothing() -> None:
    made = Ground(FollowOptions())
    made.put(1, np.zeros(SIZE, bool), class_id=0)
    assert made.judge(box(0, 0, 20, 20), 0) == NEW
    assert made.twins() == frozenset()


def test_what_is_dropped_is_nobody() -> None:
    made = ground()
    made.drop(3)
    assert made.judge(box(10, 10, 30, 30), 1) == NEW


def test_boxes_are_told_apart_by_class_and_each_object_is_met_once() -> None:
    made = ground()
    near = np.array([10, 10, 32, 32], np.float32)
    assert made.framed(near, 0, ()) == Verdict(new=False, id=3)
    assert made.framed(near, 1, ()) == NEW
    assert made.framed(near, 0, {3}) == NEW
    assert made.framed(np.array([0, 40, 10, 50], np.float32), 0, ()) == NEW


def test_twins_are_pairs_that_are_one_and_the_same() -> None:
    made = ground()
    made.put(9, box(10, 10, 30, 28), class_id=2)
    assert made.twins() == {(3, 9)}


def test_a_large_frame_is_compared_on_a_grid_with_the_same_outcome() -> None:
    size = (3 * GRID // 2, 3 * GRID)
    made = Ground(FollowOptions())
    made.put(1, box(300, 300, 600, 600, size), class_id=0)
    assert made.judge(box(310, 300, 600, 600, size), 0) == Verdict(new=False, id=1)
    assert made.judge(box(310, 310, 400, 400, size), 0) == PART
    assert made.judge(box(700, 300, 900, 600, size), 0) == NEW


def test_candidates_come_by_score_or_by_area_and_specks_do_not_come() -> None:
    small, large, speck = box(0, 0, 10, 10), box(20, 20, 60, 50), box(70, 50, 71, 51)
    finds = [Found(0.5, mask=large), Found(0.9, mask=rle.encode(small)), Found(0.99, mask=speck)]
    finds.append(Found(0.7, box=(0, 0, 5, 5)))
    options = FollowOptions(smallest=2 / 4800)
    assert [c.found.score for c in candidates(finds, SIZE, options)] == [0.9, 0.7, 0.5]
    by_area = candidates(finds, SIZE, FollowOptions(first="area", smallest=2 / 4800))
    assert [c.found.score for c in by_area] == [0.5, 0.9, 0.7]
    assert [round(c.area * 4800) for c in by_area] == [1200, 100, 25]
    assert by_area[1].box.tolist() == [0, 0, 10, 10]
    assert [c.found.score for c in candidates(finds, SIZE, FollowOptions(smallest=0))] == [0.99, 0.9, 0.7, 0.5]


def test_a_box_is_cut_to_the_frame_and_one_beside_it_is_nothing() -> None:
    inside, beside = Found(0.9, box=(-10, -5, 30, 20)), Found(0.9, box=(90, 10, 120, 30))
    assert inside.corners(SIZE).tolist() == [0, 0, 30, 20]
    assert len(candidates([inside, beside], SIZE, FollowOptions(smallest=0))) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": 0.5},
        {"score": float("nan"), "mask": box(0, 0, 9, 9)},
        {"score": 0.5, "box": (1, 2, 3)},
        {"score": 0.5, "box": (1, 2, 3, float("inf"))},
        {"score": 0.5, "box": (1, 2, 3, 4), "class_id": -1},
        {"score": 0.5, "box": (1, 2, 3, 4), "class_id": 0.5},
    ],
)
def test_a_find_that_cannot_be_meant(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Found(**wrong)  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="masks are as large as the frame"):
        candidates([Found(0.5, mask=np.ones((4, 4), bool))], SIZE, FollowOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        {"every": 0}, {"every": True}, {"max_objects": 0}, {"forget_after": 0}, {"unfound_after": 0},
        {"every": None}, {"max_objects": None}, {"forget_after": None},
        {"same_iou": 1.5}, {"inside": -1}, {"first": "age"},
    ],
)  # fmt: skip
def test_options_outside_their_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        FollowOptions(**wrong)  # type: ignore[arg-type]
