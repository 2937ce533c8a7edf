"""`parse_prompts`: from the spellings people use to what is said of each object.

What cannot be meant is answered with the spelling that probably was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from masklet.errors import PromptError
from masklet.prompts.prompt_types import (
    Box,
    MaskPrompt,
    ObjectPrompt,
    Points,
    Size,
    flatten,
    format_value,
    to_float_array,
    to_nested_list,
)

__all__ = ["parse_prompts"]

T = TypeVar("T")
EMPTY_LIST = -1
MAX_DEPTH = {"points": 3, "labels": 2, "bboxes": 2}
NESTING_HINTS = {
    "points": "use [x, y], [[x, y], ...] (one point an object) or [[[x, y], ...], ...] (several an object)",
    "labels": "use one label a point, nested as the points are, such as [1] or [[1, 0]]",
    "bboxes": "use [x1, y1, x2, y2] or [[x1, y1, x2, y2], ...]",
}


def parse_prompts(
    points: Any = None, labels: Any = None, bboxes: Any = None, masks: Any = None, *, size: Size
) -> tuple[ObjectPrompt, ...]:
    """One `ObjectPrompt` an object, from the spellings people use; `size` is (height, width) of the image.

    points  [x, y] one object; [[x, y], [x, y]] two objects; [[[x, y], [x, y]]] one object with two points
    labels  nested as the points are, 1 on the object and 0 off it; None means all 1
    bboxes  [x1, y1, x2, y2] or a list of such
    masks   (H, W) or (N, H, W), boolean, 0/1 or 0/255

    Arrays and tensors are read like lists. What is given together belongs together in order: object i gets
    points i, box i and mask i.

    Example:
        >>> [cat] = parse_prompts(points=[[[150, 150], [30, 40]]], labels=[[1, 0]], size=(480, 640))
        >>> cat.points.labels
        array([1, 0], dtype=int32)

    Raises:
        PromptError: with the value, the rule, and the spelling that was probably meant.
    """
    if points is None and labels is not None:
        raise PromptError(f"labels {format_value(labels)} came without points: give points=[...] of the same nesting")
    clicks = None if points is None else _parse_points(points, labels, points_only=bboxes is None and masks is None)
    boxes = None if bboxes is None else _parse_boxes(bboxes)
    rough = None if masks is None else _parse_masks(masks, size)
    count = _common_count(clicks, boxes, rough, points)
    objects = zip(
        _pad_with_none(clicks, count), _pad_with_none(boxes, count), _pad_with_none(rough, count), strict=True
    )
    return tuple(ObjectPrompt(*cues).fit_to_image(size) for cues in objects)


def _parse_points(points: Any, labels: Any, *, points_only: bool) -> list[Points]:
    nested = to_nested_list(points)
    depth = _nesting_depth(nested, "points")
    if depth == 0:
        raise PromptError(f"points {format_value(points)} must be a list: {NESTING_HINTS['points']}")
    objects = [[nested]] if depth == 1 else [[point] for point in nested] if depth == 2 else nested
    for point in (point for one in objects for point in one):
        if len(point) != 2:
            raise PromptError(
                f"point {format_value(point)} has {len(point)} numbers, a point is [x, y]"
                + ("; for a box write bboxes=[x1, y1, x2, y2]" if len(point) == 4 else "; labels go in labels=[...]")
            )
    given = _labels_by_object(labels, objects, depth)
    if points_only and depth == 2:
        _refuse_flat_negative(objects, given)
    return [Points(one, own) for one, own in zip(objects, given, strict=True)]


def _labels_by_object(labels: Any, objects: list[Any], depth: int) -> list[Any]:
    """Labels as one list an object; the message shows them nested as the points are."""
    if labels is None:
        return [[1] * len(one) for one in objects]
    nested = to_nested_list(labels)
    level = _nesting_depth(nested, "labels")
    if level == 0 and depth == 1:
        nested, level = [nested], 1
    rows = nested if level == 2 else [[label] for label in nested] if level == 1 and depth < 3 else None
    if rows is None or [len(row) for row in rows] != [len(one) for one in objects]:
        raise PromptError(_label_message(nested, objects, depth))
    return list(rows)


def _label_message(labels: Any, objects: list[Any], depth: int) -> str:
    """What to say about labels that are not nested as the points are."""
    sizes = [len(one) for one in objects]
    flat = flatten(labels)
    if depth == 2 and isinstance(labels, list) and len(labels) == 1 and len(flat) == len(objects):
        return (
            f"labels {format_value(labels)} are of one object, points {format_value([o[0] for o in objects])} of "
            f"{len(objects)}; did you mean points={format_value([[o[0] for o in objects]])}, labels={format_value(labels)} "  # noqa: E501
            f"(one object with {len(objects)} points)?"
        )
    values = flat if len(flat) == sum(sizes) else [1] * sum(sizes)
    source = iter(values)
    wanted = [[next(source) for _ in range(n)] for n in sizes]
    shown: Any = wanted if depth == 3 else [row[0] for row in wanted]
    return (
        f"labels {format_value(labels)} must be nested as the points are, one label a point, which are "
        f"{sum(sizes)} on {len(sizes)} object(s); did you mean labels={format_value(shown)}?"
    )


def _refuse_flat_negative(objects: list[Any], labels: list[Any]) -> None:
    """Flat points are one object each: a negative one among them was meant for its neighbor."""
    flat = [row[0] for row in labels]
    if 0 in flat and 1 in flat:
        points = [one[0] for one in objects]
        raise PromptError(
            f"points={format_value(points)}, labels={format_value(flat)} are {len(points)} objects of one point each, "
            "and a point with label 0 alone is no object; did you mean "
            f"points={format_value([points])}, labels={format_value([flat])} (one object with {len(points)} points)?"
        )


def _parse_boxes(bboxes: Any) -> list[Box]:
    nested = to_nested_list(bboxes)
    depth = _nesting_depth(nested, "bboxes")
    rows = nested if depth == 2 else [nested] if depth == 1 else []
    for row in rows or [nested]:
        if not isinstance(row, list) or len(row) != 4:
            raise PromptError(
                f"box {format_value(row)} must be four numbers: bboxes=[x1, y1, x2, y2] for one, "
                "[[x1, y1, x2, y2], ...] for several"
            )
    return [Box(*to_float_array(row, "box").tolist()) for row in rows]


def _parse_masks(masks: Any, size: Size) -> list[MaskPrompt]:
    if hasattr(masks, "detach"):  # a tensor, wherever it lives
        masks = masks.detach().cpu()
    try:
        stack = np.asarray(masks)
    except ValueError as error:
        raise PromptError("masks of different sizes: every mask must have the size of the image") from error
    if stack.ndim not in (2, 3) or not stack.size:
        raise PromptError(
            f"masks of shape {stack.shape} must be (height, width) or (N, height, width); "
            "drop color channels and add no batch dimension"
        )
    if stack.ndim == 3 and stack.shape[:2] == size != stack.shape[1:]:
        raise PromptError(
            f"masks of shape {stack.shape} look like an image with channels last; "
            "masks must be (height, width) or (N, height, width): pass mask[..., 0]"
        )
    return [MaskPrompt(mask) for mask in (stack[None] if stack.ndim == 2 else stack)]


def _common_count(
    points: list[Points] | None, boxes: list[Box] | None, masks: list[MaskPrompt] | None, given: Any
) -> int:
    """How many objects are meant; all that is given must agree."""
    counts = {
        name: len(cues) for name, cues in (("points", points), ("bboxes", boxes), ("masks", masks)) if cues is not None
    }
    if not counts:
        raise PromptError("points, bboxes and masks are all None: give one, such as points=[x, y]")
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} for {count} object(s)" for name, count in counts.items())
        raise PromptError(
            f"counts differ: {said}; object i takes entry i of each, so give every one the same number of "
            f"objects{_one_object_hint(counts, given)}"
        )
    return next(iter(counts.values()))


def _one_object_hint(counts: dict[str, int], given: Any) -> str:
    nested = to_nested_list(given)
    others = [count for name, count in counts.items() if name != "points"]
    if counts.get("points", 0) > 1 and set(others) == {1} and _nesting_depth(nested, "points") == 2:
        return f"; did you mean points={format_value([nested])} (one object with {len(nested)} points)?"
    return ""


def _pad_with_none(cues: Sequence[T] | None, count: int) -> Sequence[T | None]:
    return [None] * count if cues is None else cues


def _nesting_depth(value: Any, name: str) -> int:
    """How many lists lie in one another: the same number everywhere, none empty, none deeper than allowed."""
    depths = _nesting_depths(value)
    if EMPTY_LIST in depths:
        raise PromptError(
            f"{name} {format_value(value)} holds an empty list: {NESTING_HINTS[name]}, or leave {name} out"
        )
    if len(depths) > 1 or max(depths) > MAX_DEPTH[name]:
        raise PromptError(f"{name} {format_value(value)} is nested unevenly or too deep: {NESTING_HINTS[name]}")
    return depths.pop()


def _nesting_depths(value: Any) -> set[int]:
    """The depth of every number in nested lists; `EMPTY` stands for a list without any."""
    if not isinstance(value, list):
        return {0}
    below = {depth for item in value for depth in _nesting_depths(item)} or {EMPTY_LIST}
    return {depth if depth == EMPTY_LIST else depth + 1 for depth in below}
