"""Match detections that are new, known, or parts of tracks, on synthetic masks."""

from __future__ import annotations

import numpy as np
import pytest

from masklet.errors import InputError
from masklet.masks import rle
from masklet.video import AutoTrackOptions, Detection
from masklet.video.association import GRID_SIZE, Match, TrackAssociator, candidates

SIZE = (60, 80)
NEW, PART = Match(new=True), Match(new=False)


def box(x1: int, y1: int, x2: int, y2: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def associator(**options: object) -> TrackAssociator:
    made = TrackAssociator(AutoTrackOptions(**options))  # type: ignore[arg-type]
    made.add(3, box(10, 10, 30, 30), class_id=0)
    made.add(5, box(50, 10, 70, 30), class_id=0)
    return made


@pytest.mark.parametrize(
    ("mask", "verdict"),
    [
        (box(10, 10, 30, 30), Match(new=False, id=3)),
        (box(52, 10, 72, 30), Match(new=False, id=5)),  # IoU 18 / 22
        (box(12, 12, 20, 20), PART),
        (box(10, 40, 30, 55), NEW),
        (box(24, 10, 44, 30), NEW),  # 6 of 20 columns are shared
        (box(5, 5, 75, 35), NEW),  # both, and as much again that is neither
        (box(10, 10, 70, 30), NEW),  # 40 of 60 columns are explained
        (box(14, 10, 66, 30), NEW),  # 32 of 52 columns
    ],
)
def test_a_detection_is_a_track_a_part_or_new(mask: np.ndarray, verdict: Match) -> None:
    assert associator().match_mask(mask, 0) == verdict


def test_a_detection_covered_by_several_tracks_is_a_part() -> None:
    assert associator(part_overlap=0.65).match_mask(box(10, 10, 70, 30), 0) == PART


def test_match_iou_and_part_overlap_are_options() -> None:
    half = box(10, 10, 30, 20)
    assert associator().match_mask(half, 0) == Match(new=False, id=3)
    assert associator(match_iou=0.51).match_mask(half, 0) == PART
    assert associator(match_iou=0.51, parts=True).match_mask(half, 0) == NEW


def test_the_track_with_the_highest_iou_matches() -> None:
    made = associator()
    made.add(7, box(12, 10, 32, 30), class_id=0)
    assert made.match_mask(box(13, 10, 33, 30), 0).id == 7
    assert made.match_mask(box(9, 10, 29, 30), 0).id == 3
    assert made.match_mask(box(10, 10, 30, 25), 0).iou == 0.75


def test_a_part_has_the_class_of_its_track_but_a_match_may_differ() -> None:
    made = associator()
    assert made.match_mask(box(12, 12, 20, 20), 1) == NEW
    assert made.match_mask(box(10, 10, 30, 29), 1) == Match(new=False, id=3)


def test_a_background_has_no_parts_and_contains_no_tracks() -> None:
    made = TrackAssociator(AutoTrackOptions())
    made.add(1, box(0, 0, 80, 40), class_id=0)
    assert made.match_mask(box(10, 10, 20, 20), 0) == NEW
    made.add(2, box(10, 10, 20, 20), class_id=0)
    assert made.match_mask(box(10, 10, 15, 15), 0) == PART
    assert made.contained_tracks(box(9, 9, 25, 25), 0) == [2]
    assert made.contained_tracks(box(0, 0, 80, 60), 0) == []


def test_an_object_out_of_sight_covers_nothing() -> None:
    made = TrackAssociator(AutoTrackOptions())
    made.add(1, np.zeros(SIZE, bool), class_id=0)
    assert made.match_mask(box(0, 0, 20, 20), 0) == NEW
    assert made.duplicates() == frozenset()


def test_a_removed_track_matches_nothing() -> None:
    made = associator()
    made.remove(3)
    assert made.match_mask(box(10, 10, 30, 30), 1) == NEW


def test_boxes_match_by_class_and_each_track_once() -> None:
    made = associator()
    near = np.array([10, 10, 32, 32], np.float32)
    assert made.match_box(near, 0, ()) == Match(new=False, id=3)
    assert made.match_box(near, 1, ()) == NEW
    assert made.match_box(near, 0, {3}) == NEW
    assert made.match_box(np.array([0, 40, 10, 50], np.float32), 0, ()) == NEW


def test_duplicates_are_pairs_with_the_same_mask() -> None:
    made = associator()
    made.add(9, box(10, 10, 30, 28), class_id=2)
    assert made.duplicates() == {(3, 9)}


def test_a_large_frame_is_compared_on_a_grid_with_the_same_outcome() -> None:
    size = (3 * GRID_SIZE // 2, 3 * GRID_SIZE)
    made = TrackAssociator(AutoTrackOptions())
    made.add(1, box(300, 300, 600, 600, size), class_id=0)
    assert made.match_mask(box(310, 300, 600, 600, size), 0) == Match(new=False, id=1)
    assert made.match_mask(box(310, 310, 400, 400, size), 0) == PART
    assert made.match_mask(box(700, 300, 900, 600, size), 0) == NEW


def test_candidates_come_by_score_or_by_area_and_specks_do_not_come() -> None:
    small, large, speck = box(0, 0, 10, 10), box(20, 20, 60, 50), box(70, 50, 71, 51)
    detections = [Detection(0.5, mask=large), Detection(0.9, mask=rle.encode(small)), Detection(0.99, mask=speck)]
    detections.append(Detection(0.7, box=(0, 0, 5, 5)))
    options = AutoTrackOptions(min_area=2 / 4800)
    assert [c.detection.score for c in candidates(detections, SIZE, options)] == [0.9, 0.7, 0.5]
    by_area = candidates(detections, SIZE, AutoTrackOptions(sort_by="area", min_area=2 / 4800))
    assert [c.detection.score for c in by_area] == [0.5, 0.9, 0.7]
    assert [round(c.area * 4800) for c in by_area] == [1200, 100, 25]
    assert by_area[1].box.tolist() == [0, 0, 10, 10]
    assert [c.detection.score for c in candidates(detections, SIZE, AutoTrackOptions(min_area=0))] == [
        0.99,
        0.9,
        0.7,
        0.5,
    ]


def test_a_box_is_clipped_to_the_frame_and_one_outside_it_is_dropped() -> None:
    inside, outside = Detection(0.9, box=(-10, -5, 30, 20)), Detection(0.9, box=(90, 10, 120, 30))
    assert inside.clipped_box(SIZE).tolist() == [0, 0, 30, 20]
    assert len(candidates([inside, outside], SIZE, AutoTrackOptions(min_area=0))) == 1


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
def test_a_malformed_detection_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Detection(**wrong)  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="masks are as large as the frame"):
        candidates([Detection(0.5, mask=np.ones((4, 4), bool))], SIZE, AutoTrackOptions())


@pytest.mark.parametrize(
    "wrong",
    [
        {"detect_every": 0}, {"detect_every": True}, {"max_objects": 0}, {"max_missing_frames": 0},
        {"max_undetected": 0},
        {"detect_every": None}, {"max_objects": None}, {"max_missing_frames": None},
        {"match_iou": 1.5}, {"part_overlap": -1}, {"sort_by": "age"},
    ],
)  # fmt: skip
def test_options_outside_their_range(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        AutoTrackOptions(**wrong)  # type: ignore[arg-type]
