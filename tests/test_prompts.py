"""Prompts as callers write them: how they are parsed, and the message for those that are malformed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from masklet.errors import PromptError
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points, parse_prompts

SIZE = (480, 640)
NAN, INF = float("nan"), float("inf")


def marked() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[100:200, 50:90] = True
    return mask


def parsed(**arguments: Any) -> list[tuple[Any, Any, Any]]:
    """Points, labels and box of each object, as plain lists."""
    return [
        (
            one.points and one.points.xy.tolist(),
            one.points and one.points.labels.tolist(),
            one.box and one.box.xyxy.tolist(),
        )
        for one in parse_prompts(**arguments, size=SIZE)
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"points": [5, 6]}, [([[5, 6]], [1], None)]),
        ({"points": (5, 6), "labels": 1}, [([[5, 6]], [1], None)]),
        ({"points": [5, 6], "labels": [1]}, [([[5, 6]], [1], None)]),
        ({"points": [[5, 6]], "labels": [True]}, [([[5, 6]], [1], None)]),
        ({"points": np.array([5.5, 6])}, [([[5.5, 6]], [1], None)]),
        ({"points": [[5, 6], [7, 8]], "labels": [1, 1]}, [([[5, 6]], [1], None), ([[7, 8]], [1], None)]),
        ({"points": [[[5, 6], [7, 8]]], "labels": [[1, 0]]}, [([[5, 6], [7, 8]], [1, 0], None)]),
        ({"points": [[[5, 6], [7, 8]], [[1, 2]]]}, [([[5, 6], [7, 8]], [1, 1], None), ([[1, 2]], [1], None)]),
        ({"points": [[5, 6], [7, 8]], "labels": [[1], [1]]}, [([[5, 6]], [1], None), ([[7, 8]], [1], None)]),
        ({"bboxes": [1, 2, 30, 40]}, [(None, None, [1, 2, 30, 40])]),
        ({"bboxes": np.array([[1, 2, 30, 40], [5, 5, 9, 9]])},
         [(None, None, [1, 2, 30, 40]), (None, None, [5, 5, 9, 9])]),
        ({"bboxes": [1, 2, 30, 40], "points": [7, 8], "labels": [0]}, [([[7, 8]], [0], [1, 2, 30, 40])]),
        ({"bboxes": [[1, 2, 30, 40], [5, 5, 9, 9]], "points": [[7, 8], [6, 6]], "labels": [0, 1]},
         [([[7, 8]], [0], [1, 2, 30, 40]), ([[6, 6]], [1], [5, 5, 9, 9])]),
        ({"bboxes": [-0.5, 0, 640.9, 480]}, [(None, None, [0, 0, 640, 480])]),
        ({"points": [0, 0]}, [([[0, 0]], [1], None)]),
        ({"points": [639.9, 479.9]}, [([[np.float32(639.9), np.float32(479.9)]], [1], None)]),
    ],
)  # fmt: skip
def test_spellings(arguments: dict[str, Any], expected: Any) -> None:
    assert parsed(**arguments) == expected


@pytest.mark.parametrize("scale", [1, 255])
def test_masks_of_numbers(scale: int) -> None:
    prompts = parse_prompts(masks=np.stack([marked(), ~marked()]).astype(np.uint8) * scale, size=SIZE)
    assert [one.mask is not None and one.mask.mask.sum() for one in prompts] == [4000, 480 * 640 - 4000]


def test_a_mask_with_points_and_box_is_one_object() -> None:
    [one] = parse_prompts(points=[60, 150], bboxes=[50, 100, 90, 200], masks=marked(), size=SIZE)
    assert one.points is not None
    assert one.box is not None
    assert one.mask is not None


BAD: list[tuple[dict[str, Any], list[str]]] = [
    # the arguments, and what the message must hold: the value, the rule, the remedy
    ({}, ["None", "give one", "points=[x, y]"]),
    ({"labels": [1]}, ["labels [1]", "without points", "give points"]),
    ({"points": []}, ["points []", "empty list", "leave points out"]),
    ({"points": [[5, 6], []]}, ["[[5, 6], []]", "empty list"]),
    ({"points": 5}, ["points 5", "must be a list", "use [x, y]"]),
    ({"points": "5,6"}, ["'5,6'", "must be a list", "use [x, y]"]),
    ({"points": ["a", "b"]}, ["'a'", "must be numbers", "pixels"]),
    ({"points": [None, 6]}, ["finite", "drop"]),
    ({"points": [5, 6, 1]}, ["[5, 6, 1]", "3 numbers", "labels=[...]"]),
    ({"points": [5, 6, 70, 80]}, ["[5, 6, 70, 80]", "4 numbers", "bboxes=[x1, y1, x2, y2]"]),
    ({"points": [[5, 6], 7]}, ["[[5, 6], 7]", "unevenly", "[[x, y], ...]"]),
    ({"points": [[[[5, 6]]]]}, ["[[[[5, 6]]]]", "too deep", "[[[x, y], ...], ...]"]),
    ({"points": [NAN, 6]}, ["nan", "finite", "drop NaN"]),
    ({"points": [5, INF]}, ["inf", "finite", "drop"]),
    ({"points": [10**400, 6]}, ["numbers", "pixels"]),
    ({"points": [700, 20]}, ["[700, 20]", "640 wide and 480 high", "[639, 20]"]),
    ({"points": [-1, 20]}, ["[-1, 20]", "outside", "[0, 20]"]),
    ({"points": [640, 20]}, ["[640, 20]", "outside", "[639, 20]"]),
    ({"points": [300, 500]}, ["[300, 500]", "outside", "did you mean [500, 300]", "then y"]),
    ({"points": [[5, 6], [7, 8]], "labels": [1, 0]},
     ["labels=[1, 0]", "label 0 alone",
      "points=[[[5, 6], [7, 8]]], labels=[[1, 0]]", "one object with 2 points"]),
    ({"points": [5, 6], "labels": [0]}, ["[[5, 6]]", "labels [0]", "add a point on it"]),
    ({"points": [[[5, 6], [7, 8]]], "labels": [[0, 0]]}, ["labels [0, 0]", "add a point on it", "box"]),
    ({"points": [5, 6], "labels": [2]}, ["labels [2]", "must be 1", "bboxes="]),
    ({"points": [5, 6], "labels": [-1]}, ["labels [-1]", "must be 1"]),
    ({"points": [5, 6], "labels": [0.5]}, ["labels [0.5]", "must be 1"]),
    ({"points": [5, 6], "labels": ["cat"]}, ["'cat'", "must be numbers", "1 on the object"]),
    ({"points": [5, 6], "labels": [1, 1]}, ["labels [1, 1]", "one label a point", "labels=[1]"]),
    ({"points": [[5, 6], [7, 8]], "labels": 1}, ["labels 1", "nested", "labels=[1, 1]"]),
    ({"points": [[5, 6], [7, 8]], "labels": [[1, 0]]},
     ["labels [[1, 0]]", "one object", "points=[[[5, 6], [7, 8]]], labels=[[1, 0]]"]),
    ({"points": [[[5, 6], [7, 8]]], "labels": [1, 0]}, ["labels [1, 0]", "nested", "labels=[[1, 0]]"]),
    ({"points": [[[5, 6], [7, 8]]], "labels": [[1]]},
     ["labels [[1]]", "one label a point", "labels=[[1, 1]]"]),
    ({"points": [5, 6], "labels": [[[1]]]}, ["[[[1]]]", "too deep"]),
    ({"bboxes": [300, 200, 100, 120]},
     ["[300, 200, 100, 120]", "x2 <= x1", "[100, 120, 300, 200]", "[300, 200, 400, 320]"]),
    ({"bboxes": [10, 200, 100, 120]}, ["[10, 200, 100, 120]", "y2 <= y1", "[10, 120, 100, 200]"]),
    ({"bboxes": [5, 5, 5, 9]}, ["[5, 5, 5, 9]", "x2 <= x1", "x, y, width, height"]),
    ({"bboxes": [5, 5, 5, 0]}, ["[5, 5, 5, 0]", "x2 <= x1", "give it some width"]),
    ({"bboxes": [1, 2, 3]}, ["[1, 2, 3]", "four numbers", "[x1, y1, x2, y2]"]),
    ({"bboxes": 7}, ["box 7", "four numbers"]),
    ({"bboxes": []}, ["bboxes []", "empty list", "leave bboxes out"]),
    ({"bboxes": [[[1, 2, 3, 4]]]}, ["[[[1, 2, 3, 4]]]", "too deep", "[[x1, y1, x2, y2], ...]"]),
    ({"bboxes": [1, 2, NAN, 4]}, ["nan", "finite", "drop"]),
    ({"bboxes": [0.1, 0.1, 0.5, 0.5]}, ["[0.1, 0.1, 0.5, 0.5]", "fractions", "[64, 48, 320, 240]"]),
    ({"bboxes": [700, 0, 900, 80]}, ["[700, 0, 900, 80]", "outside", "640 wide"]),
    ({"bboxes": [-20, 0, 90, 80]}, ["[-20, 0, 90, 80]", "leaves the image", "[0, 0, 90, 80]"]),
    ({"bboxes": [20, 300, 90, 600]},
     ["[20, 300, 90, 600]", "leaves", "[20, 300, 90, 480]", "[300, 20, 600, 90]"]),
    ({"bboxes": [1, 1, 9, 9], "points": [[5, 6], [7, 8]]},
     ["points for 2", "bboxes for 1", "did you mean points=[[[5, 6], [7, 8]]]"]),
    ({"bboxes": [[1, 1, 9, 9], [2, 2, 8, 8]], "points": [5, 6]},
     ["points for 1", "bboxes for 2", "same number"]),
    ({"masks": np.zeros(SIZE, bool)}, ["(480, 640)", "marks nothing", "leave the mask out"]),
    ({"masks": np.zeros((0, 480, 640))}, ["(0, 480, 640)", "(N, height, width)"]),
    ({"masks": marked().T}, ["(640, 480)", "does not fit", "pass mask.T"]),
    ({"masks": marked()[:100, :60] | True}, ["(100, 60)", "does not fit", "resize"]),
    ({"masks": marked()[..., None]}, ["(480, 640, 1)", "channels last", "mask[..., 0]"]),
    ({"masks": marked()[None, None]}, ["(1, 1, 480, 640)", "batch dimension"]),
    ({"masks": marked() * 0.3}, ["0.3", "0/255", "threshold it"]),
    ({"masks": marked() * NAN}, ["nan", "0/255", "threshold it"]),
    ({"masks": [marked(), marked()[:9]]}, ["different sizes", "size of the image"]),
    ({"masks": [["a"]]}, ["type <U1", "0/1 or 0/255", "number array"]),
    ({"masks": marked(), "bboxes": [[1, 1, 9, 9], [2, 2, 8, 8]]}, ["masks for 1", "bboxes for 2"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "needed"), BAD, ids=lambda value: str(value)[:60] if isinstance(value, list) else ""
)
def test_bad_input_is_answered_with_value_rule_and_remedy(arguments: dict[str, Any], needed: list[str]) -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompts(**arguments, size=SIZE)
    message = str(caught.value)
    assert [part for part in needed if part not in message] == [], message
    assert "\n" not in message
    assert len(message) < 420


def test_every_suggested_spelling_is_accepted() -> None:
    assert len(parsed(points=[[[5, 6], [7, 8]]], labels=[[1, 0]])) == 1
    assert len(parsed(bboxes=[1, 1, 9, 9], points=[[[5, 6], [7, 8]]])) == 1
    assert len(parsed(bboxes=[0, 0, 90, 80])) == 1
    assert len(parsed(bboxes=[64, 48, 320, 240])) == 1


def test_a_tensor_is_read_like_an_array() -> None:
    torch = pytest.importorskip("torch")
    assert parsed(points=torch.tensor([5.0, 6.0], requires_grad=True)) == parsed(points=[5, 6])
    assert len(parse_prompts(masks=torch.from_numpy(marked()), size=SIZE)) == 1


def test_long_values_are_truncated_in_messages() -> None:
    points = [[[float(i), 1.0] for i in range(1000)]]
    with pytest.raises(PromptError) as caught:
        parse_prompts(points=points, labels=[[1]], size=SIZE)
    assert len(str(caught.value)) < 600


def test_prompts_are_read_only() -> None:
    given = np.array([[1.0, 2.0]], np.float32)
    points = Points(given, np.array([1], np.int32))
    given[:] = 99
    assert points.xy.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        points.xy[0] = 7
    with pytest.raises(AttributeError):
        Box(0, 0, 1, 1).x1 = 5.0  # type: ignore[misc]


def test_a_mask_prompt_is_a_copy() -> None:
    given = marked()
    prompt = MaskPrompt(given)
    given[:] = False
    assert prompt.mask.sum() == 4000


def test_an_object_needs_something_positive() -> None:
    with pytest.raises(PromptError, match="give points, a box or a mask"):
        ObjectPrompt()
    with pytest.raises(PromptError, match="label 1"):
        ObjectPrompt(points=Points(np.ones((1, 2), np.float32), np.zeros(1, np.int32)))


@pytest.mark.parametrize(("xy", "labels"), [([1, 2], [1]), ([], []), ([[1, 2]], [[1]]), ([[1, 2, 3]], [1])])
def test_points_are_validated_when_created(xy: Any, labels: Any) -> None:
    with pytest.raises(PromptError):
        Points(xy, labels)
