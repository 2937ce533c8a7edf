"""A function of an image as a detector: what it may return, and how an invalid return value is reported."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.detect.adapters import CallableDetector
from masklet.detect.detector import Detections, DetectOptions
from masklet.errors import InputError

RGB = np.zeros((48, 64, 3), np.uint8)


def answering(*answer: object, **how: object) -> CallableDetector:
    return CallableDetector(lambda rgb: answer, **how)  # type: ignore[arg-type]


def test_lists_arrays_and_tensors_are_read() -> None:
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0], [3, 4, 20, 20]], requires_grad=True)
    found = answering(boxes, [0.5, 0.9], np.array([1, 0])).detect([RGB, RGB])
    assert len(found) == 2
    assert found[1].xyxy.tolist() == [[3, 4, 20, 20], [1, 2, 30, 40]]
    assert found[1].classes.tolist() == [0, 1]


def test_the_function_may_carry_names() -> None:
    def middle(rgb: object) -> object:
        return [[1, 1, 9, 9]], [1.0], [4]

    middle.names = {4: "middle"}  # type: ignore[attr-defined]
    assert CallableDetector(middle).detect([RGB])[0].class_name(0) == "middle"
    assert CallableDetector(middle, names={4: "centre"}).detect([RGB])[0].class_name(0) == "centre"
    assert CallableDetector(middle, DetectOptions(classes=("middle",))).names == {4: "middle"}
    with pytest.raises(InputError, match="'dog' is unknown"):
        CallableDetector(middle, DetectOptions(classes=("dog",)))


def test_boxes_are_cut_to_the_image_and_those_outside_left_out() -> None:
    boxes = [[-5, -5, 10, 100], [64, 0, 90, 20], [10, 10, 10, 20]]
    found = answering(boxes, [0.5, 0.9, 0.9], [0, 0, 0]).detect([RGB])[0]
    assert found.xyxy.tolist() == [[0, 0, 10, 48]]


def test_options_hold() -> None:
    boxes = [[i, 0, i + 9, 9] for i in range(5)]
    detector = answering(
        boxes, [0.1, 0.6, 0.7, 0.8, 0.9], [0, 1, 1, 1, 2], options=DetectOptions(conf=0.5, classes=(1, 0), max_det=2)
    )
    assert detector.detect([RGB])[0].scores.tolist() == pytest.approx([0.8, 0.7])


def test_nothing_found_and_ready_detections() -> None:
    assert len(answering([], [], []).detect([RGB])[0]) == 0
    ready = Detections(np.array([[0, 0, 5, 5]]), np.ones(1), np.zeros(1), {0: "corner"}, np.ones((1, 48, 64), bool))
    found = CallableDetector(lambda rgb: ready).detect([RGB])[0]
    assert found.masks is not None
    assert found.class_name(0) == "corner"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (([[1, 1, 5, 5]], [1.0]), "answered 2 values; it must return"),
        (([[1, 1, 5, float("nan")]], [1.0], [0]), "without NaN"),
        (([[30, 30, 5, 5]], [1.0], [0]), "inside out"),
        (([[1, 1, 5, 5]], [1.0, 1.0], [0]), "scores of shape (2,)"),
        (([[1, 1, 5, 5]], [1.0], ["dog"]), "classes ['dog'] must be numbers"),
        (([[0.1, 0.1, 0.5, 0.9]], [1.0], [0]), "fractions of the image"),
    ],
)
def test_an_invalid_return_value_is_reported(answer: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        answering(*answer).detect([RGB])
    assert message in str(error.value)
    assert "the detector <lambda>" in str(error.value)


def test_an_answer_of_nothing_is_named() -> None:
    with pytest.raises(InputError, match="answered nothing; it must return"):
        CallableDetector(lambda rgb: None).detect([RGB])
