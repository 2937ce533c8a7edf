"""Parse the prompts that callers write as lists, arrays or tensors into one `ObjectPrompt` per object.

A malformed prompt is answered with the spelling that was probably intended.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import numpy as np

from masklet.errors import PromptError
from masklet.prompts.prompt_types import (
    Box,
    BoxesLike,
    LabelsLike,
    MaskPrompt,
    MasksLike,
    ObjectPrompt,
    Points,
    PointsLike,
    Size,
    flatten,
    format_value,
    to_float_array,
    to_nested_list,
)

__all__ = ["parse_object_prompt", "parse_prompts"]

EMPTY_LIST = -1
MAX_DEPTH = {"points": 3, "labels": 2, "bboxes": 2}
NESTING_HINTS = {
    "points": "use [x, y], [[x, y], ...] (one point an object) or [[[x, y], ...], ...] (several an object)",
    "labels": "use one label a point, nested as the points are, such as [1] or [[1, 0]]",
    "bboxes": "use [x1, y1, x2, y2] or [[x1, y1, x2, y2], ...]",
}


def parse_prompts(
    points: PointsLike | None = None,
    labels: LabelsLike | None = None,
    bboxes: BoxesLike | None = None,
    masks: MasksLike | None = None,
    *,
    size: Size,
) -> tuple[ObjectPrompt, ...]:
    """Parse prompts in original-image pixels into one `ObjectPrompt` per object.

    Arrays and tensors are read like lists. Points, boxes and masks given together are matched in order: object i gets
    points i, box i and mask i.

    Args:
        points: [x, y] for one object; [[x, y], [x, y]] for two objects; [[[x, y], [x, y]]] for one object with two
            points.
        labels: nested as the points are, 1 on the object and 0 off it; None: all 1.
        bboxes: [x1, y1, x2, y2] or a list of such.
        masks: (H, W) or (N, H, W), boolean, 0/1 or 0/255.
        size: (height, width) of the image.

    Example:
        >>> [cat] = parse_prompts(points=[[[150, 150], [30, 40]]], labels=[[1, 0]], size=(480, 640))
        >>> cat.points.labels
        array([1, 0], dtype=int32)

    Raises:
        PromptError: if a prompt is malformed or outside the image; the message has the value, the rule, and the
            spelling that was probably intended.
    """
    if points is None and labels is not None:
        raise PromptError(f"labels {format_value(labels)} came without points: give points=[...] of the same nesting")
    clicks = None if points is None else _parse_points(points, labels, points_only=bboxes is None and masks is None)
    boxes = None if bboxes is None else _parse_boxes(bboxes)
    rough_masks = None if masks is None else _parse_masks(masks, size)
    given = {"points": clicks, "bboxes": boxes, "masks": rough_masks}
    counts = {name: len(parsed) for name, parsed in given.items() if parsed is not None}
    if not counts:
        raise PromptError("points, bboxes and masks are all None: give one, such as points=[x, y]")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} for {count} object(s)" for name, count in counts.items())
        hint, nested = "", to_nested_list(points)
        others = {count for name, count in counts.items() if name != "points"}
        if counts.get("points", 0) > 1 and others == {1} and _nesting_depth(nested, "points") == 2:
            hint = f"; did you mean points={format_value([nested])} (one object with {len(nested)} points)?"
        raise PromptError(
            f"counts differ: {listed}; object i takes entry i of each, so give every one the same number of "
            f"objects{hint}"
        )
    absent = [None] * max(counts.values())
    objects = zip(clicks or absent, boxes or absent, rough_masks or absent, strict=True)
    return tuple(ObjectPrompt(*parts).fit_to_image(size) for parts in objects)


def _parse_points(points: PointsLike, labels: LabelsLike | None, *, points_only: bool) -> list[Points]:
    nested = to_nested_list(points)
    depth = _nesting_depth(nested, "points")
    if depth == 0:
        raise PromptError(f"points {format_value(points)} must be a list: {NESTING_HINTS['points']}")
    objects = [[nested]] if depth == 1 else [[point] for point in nested] if depth == 2 else nested
    for point in (point for points_of_one in objects for point in points_of_one):
        if len(point) != 2:
            raise PromptError(
                f"point {format_value(point)} has {len(point)} numbers, a point is [x, y]"
                + ("; for a box write bboxes=[x1, y1, x2, y2]" if len(point) == 4 else "; labels go in labels=[...]")
            )
    rows = [[1] * len(one) for one in objects] if labels is None else _parse_labels(labels, objects, depth)
    flat = [row[0] for row in rows]
    if points_only and depth == 2 and 0 in flat and 1 in flat:
        # flat points are one object each: a negative one among them was intended for its neighbor
        raise PromptError(
            f"points={format_value(nested)}, labels={format_value(flat)} are {len(nested)} objects of one point each, "
            "and a point with label 0 alone is no object; did you mean "
            f"points={format_value([nested])}, labels={format_value([flat])} (one object with {len(nested)} points)?"
        )
    return [Points(one, own_labels) for one, own_labels in zip(objects, rows, strict=True)]


def _parse_labels(labels: LabelsLike, objects: list[Any], depth: int) -> list[Any]:
    """Return one list of labels per object; `depth` is the nesting of the points as they were written."""
    nested = to_nested_list(labels)
    level = _nesting_depth(nested, "labels")
    if level == 0 and depth == 1:
        nested, level = [nested], 1
    rows = nested if level == 2 else [[label] for label in nested] if level == 1 and depth < 3 else None
    sizes = [len(one) for one in objects]
    if rows is not None and [len(row) for row in rows] == sizes:
        return list(rows)
    values = flatten(nested)
    if depth == 2 and isinstance(nested, list) and len(nested) == 1 and len(values) == len(objects):
        flat_points = [one[0] for one in objects]
        raise PromptError(
            f"labels {format_value(nested)} are of one object, points {format_value(flat_points)} of {len(objects)}; "
            f"did you mean points={format_value([flat_points])}, labels={format_value(nested)} "
            f"(one object with {len(objects)} points)?"
        )
    source = iter(values if len(values) == sum(sizes) else [1] * sum(sizes))
    by_object = [[next(source) for _ in range(n)] for n in sizes]
    suggested: list[Any] = by_object if depth == 3 else [row[0] for row in by_object]
    raise PromptError(
        f"labels {format_value(nested)} must be nested as the points are, one label a point, which are "
        f"{sum(sizes)} on {len(sizes)} object(s); did you mean labels={format_value(suggested)}?"
    )


def _parse_boxes(bboxes: BoxesLike) -> list[Box]:
    nested = to_nested_list(bboxes)
    depth = _nesting_depth(nested, "bboxes")
    rows = nested if depth == 2 else [nested]
    for row in rows:
        if not isinstance(row, list) or len(row) != 4:
            raise PromptError(
                f"box {format_value(row)} must be four numbers: bboxes=[x1, y1, x2, y2] for one, "
                "[[x1, y1, x2, y2], ...] for several"
            )
    return [Box(*to_float_array(row, "box").tolist()) for row in rows]


def _parse_masks(masks: Any, size: Size) -> list[MaskPrompt]:
    if hasattr(masks, "detach"):  # a tensor on any device
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


def _nesting_depth(value: object, name: str) -> int:
    """Return how deep lists are nested: the same depth everywhere, no list empty, none deeper than allowed."""

    def depths_of(value: object) -> set[int]:
        if not isinstance(value, list):
            return {0}
        below = {depth for item in value for depth in depths_of(item)} or {EMPTY_LIST}
        return {depth if depth == EMPTY_LIST else depth + 1 for depth in below}

    depths = depths_of(value)
    if EMPTY_LIST in depths:
        raise PromptError(
            f"{name} {format_value(value)} holds an empty list: {NESTING_HINTS[name]}, or leave {name} out"
        )
    if len(depths) > 1 or max(depths) > MAX_DEPTH[name]:
        raise PromptError(f"{name} {format_value(value)} is nested unevenly or too deep: {NESTING_HINTS[name]}")
    return depths.pop()


def parse_object_prompt(
    points: PointsLike | None,
    labels: LabelsLike | None,
    box: BoxesLike | None,
    mask: MasksLike | None,
    *,
    size: Size,
    refine: bool,
) -> ObjectPrompt:
    """Check the prompt of one object on one frame of `size` (height, width).

    `refine`: a mask exists already, so that a point off the object may stand alone.

    Raises:
        PromptError: if nothing is given, or something is malformed or outside the frame.
    """
    if points is None and labels is not None:
        raise PromptError(f"labels {labels!r} came without points: give points=[x, y] or [[x, y], ...] with them")
    if points is None and box is None and mask is None:
        raise PromptError("points, box and mask are all None: give one, such as points=[x, y]")
    clicks = None
    if points is not None:
        nested: Any = points
        with suppress(ValueError):  # lists of different lengths: Points names the error
            nested = [points] if np.ndim(nested) == 1 else points
        given: Any = [1] * len(nested) if labels is None else labels
        clicks = Points(nested, np.atleast_1d(given))
    corners = None
    if box is not None:
        numbers = np.asarray(box, dtype=object)
        if numbers.shape != (4,):
            raise PromptError(f"box {box!r} must be four numbers, x1, y1, x2, y2 in pixels of the frame")
        corners = Box(*numbers.tolist())
    rough = None if mask is None else MaskPrompt(cast(Any, mask))
    return ObjectPrompt(clicks, corners, rough, refine=refine).fit_to_image(size)
