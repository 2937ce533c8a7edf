"""What detectors return and the options they take, validated when they are made."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from masklet.detect import Detections, DetectOptions, Detector, filter_detections, resolve_class_ids
from masklet.detect.detector import clip_to_image
from masklet.errors import InputError
from masklet.masks.rle import encode

NAMES = {0: "person", 16: "dog", 17: "horse"}


def found() -> Detections:
    xyxy = [[0, 0, 10, 10], [5, 5, 20, 30], [1, 1, 2, 2]]
    return Detections(xyxy, [0.3, 0.9, 0.1], [0, 16, 17], NAMES)  # type: ignore[arg-type]


def test_lists_become_arrays_of_the_promised_types() -> None:
    one = found()
    assert (one.xyxy.dtype, one.scores.dtype, one.classes.dtype) == (np.float32, np.float32, np.int32)
    assert one.xyxy.shape == (3, 4)
    assert [one.class_name(i) for i in range(3)] == ["person", "dog", "horse"]


def test_nothing_found_may_be_empty_lists() -> None:
    nothing = Detections([], [], [])  # type: ignore[arg-type]
    assert nothing.xyxy.shape == (0, 4)
    assert len(Detections.empty(NAMES)) == 0


def test_rows_are_picked_with_their_masks() -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[1] = True
    one = found()
    both = Detections(one.xyxy, one.scores, one.classes, NAMES, masks)
    assert both[1].masks is not None
    assert both[1].masks.all()
    assert both[[2, 0]].classes.tolist() == [17, 0]
    assert both[both.scores > 0.2].classes.tolist() == [0, 16]
    assert len(both[[]]) == 0


def test_masks_may_be_run_length_codes() -> None:
    masks = np.zeros((3, 4, 5), bool)
    masks[0, 1:, 2:], masks[2] = True, True
    codes = [encode(mask) for mask in masks]
    one = found()
    compact = Detections(one.xyxy, one.scores, one.classes, NAMES, codes)
    assert compact.masks is not None
    assert (compact.masks == masks).all()
    assert compact.rles == tuple(codes)
    assert compact[[2, 0]].rles == (codes[2], codes[0])
    assert clip_to_image(compact, (2, 2)).rles == (codes[0], codes[2])
    again = pickle.loads(pickle.dumps(compact))
    assert (again.masks == masks).all()
    full = Detections(one.xyxy, one.scores, one.classes, NAMES, masks)
    assert full.rles == tuple(codes)
    assert one.rles is one.masks is one[0].masks is None
    assert repr(one) == "Detections(3: person 0.30, dog 0.90, horse 0.10)"
    with pytest.raises(InputError, match="3 box"):
        Detections(one.xyxy, one.scores, one.classes, NAMES, codes[:2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([[0, 0, 1]], [1], [0]), "must be (N, 4)"),
        (([[5, 0, 1, 1]], [1], [0]), "inside out"),
        (([[0, 0, 1, np.nan]], [1], [0]), "finite"),
        (([[0, 0, 1, 1]], [1, 2], [0]), "1 box(es) and scores"),
        (([[0, 0, 1, 1]], [1], []), "1 box(es) and classes"),
        (([[0, 0, 1, 1]], [1], [0.5]), "whole numbers"),
        (([[0, 0, 1, 1]], [1], [-1]), "whole numbers"),
        (([["a", 0, 1, 1]], [1], [0]), "must be numbers"),
        (([[0, 0, 1, 1]], [1], [0], {}, np.zeros((1, 4, 4))), "must be (1, H, W) bool"),
        (([[0, 0, 1, 1]], [1], [0], {}, np.zeros((2, 4, 4), bool)), "must be (1, H, W) bool"),
    ],
)
def test_what_cannot_be_a_detection_is_named(given: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        Detections(*given)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_detector_is_whatever_has_names_and_detect() -> None:
    class Nothing:
        names = NAMES

        def detect(self, images: object) -> list[Detections]:
            return []

    assert isinstance(Nothing(), Detector)
    assert not isinstance(len, Detector)


def test_options_take_lists_and_single_classes() -> None:
    assert DetectOptions(classes=["dog", np.int64(3)]).classes == ("dog", 3)  # type: ignore[arg-type]
    assert DetectOptions(classes="dog").classes == ("dog",)  # type: ignore[arg-type]
    assert DetectOptions() == DetectOptions(0.25, 0.45, 640, 300, None, None)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"conf": 25}, "conf 25"),
        ({"iou": float("nan")}, "iou nan"),
        ({"imgsz": 10}, "imgsz 10"),
        ({"max_det": 0}, "max_det 0"),
        ({"classes": []}, "classes is empty"),
        ({"classes": [True]}, "class True"),
        ({"classes": [1.5]}, "class 1.5"),
        ({"text": " . "}, "names nothing"),
    ],
)
def test_invalid_options_are_named(how: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        DetectOptions(**how)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_classes_are_wanted_by_number_or_name() -> None:
    assert resolve_class_ids(None, NAMES) is None
    assert resolve_class_ids(["Dog", 0], NAMES) == {0, 16}
    assert resolve_class_ids([7], {}) == {7}


@pytest.mark.parametrize(("wanted", "message"), [("dgo", "Did you mean 'dog'"), ("lamp", "16 dog"), (5, "class 5 is")])
def test_an_unknown_class_lists_those_there_are(wanted: int | str, message: str) -> None:
    with pytest.raises(InputError) as error:
        resolve_class_ids([wanted], NAMES)
    assert message in str(error.value)
    assert "17 horse" in str(error.value)


def test_a_long_list_of_classes_is_cut() -> None:
    with pytest.raises(InputError, match="and 60 more"):
        resolve_class_ids(["lamp"], {i: f"thing {i}" for i in range(80)})


def test_selection_is_by_score_and_class_best_first() -> None:
    assert filter_detections(found(), DetectOptions(conf=0.2)).classes.tolist() == [16, 0]
    assert filter_detections(found(), DetectOptions(conf=0, classes=("horse", 0))).classes.tolist() == [0, 17]
    assert filter_detections(found(), DetectOptions(conf=0, max_det=1)).classes.tolist() == [16]


def test_of_two_boxes_of_a_class_in_one_place_the_better_stays() -> None:
    xyxy = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [4, 0, 14, 10]]
    near = Detections(xyxy, [0.5, 0.9, 0.6, 0.7], [1, 1, 0, 1], {})  # type: ignore[arg-type]
    assert filter_detections(near, DetectOptions(), apply_nms=True).scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert len(filter_detections(near, DetectOptions(iou=1.0), apply_nms=True)) == 4
    assert filter_detections(near, DetectOptions(max_det=2), apply_nms=True).classes.tolist() == [1, 1]
