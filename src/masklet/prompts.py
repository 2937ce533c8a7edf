"""What the caller points at: points, boxes and masks, in original-image pixels, checked when they are made.

    Points        clicks on (label 1) and off (label 0) an object
    Box           the corners of a box around it
    MaskPrompt    a rough mask of it
    ObjectPrompt  everything said about one object

`parse_prompts` reads the spellings people use and answers what cannot be meant with the spelling that
probably was. x runs to the right, y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError

__all__ = ["Box", "MaskPrompt", "ObjectPrompt", "Points", "parse_prompts"]

T = TypeVar("T")
Size = tuple[int, int]

ROUNDING = 1.0
"""A box may stick out of the picture by this many pixels, which is how far rounding goes; it is then cut."""


@dataclass(frozen=True, eq=False)
class Points:
    """Clicks on one object: `xy` (N, 2) float32 original pixels, `labels` (N,) int32, 1 on it and 0 off it.

    Example:
        >>> Points([[150, 120], [40, 40]], [1, 0])

    Raises:
        PromptError: no point, not finite, not pairs, labels other than 1 and 0, or not one label a point.
    """

    xy: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        xy = _numbers(self.xy, "points")
        if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
            raise PromptError(f"points {_show(self.xy)} must be [x, y] pairs: write [[x, y], ...]")
        labels = _numbers(self.labels, "labels")
        if labels.shape != (len(xy),):
            raise PromptError(
                f"{len(xy)} point(s) and labels {_show(self.labels)} do not match: give one label a point, "
                f"for example {[1] * len(xy)}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(
                f"labels {_show(self.labels)} must be 1 (on the object) or 0 (not on it); "
                "for a box write bboxes=[x1, y1, x2, y2]"
            )
        _freeze(self, "xy", xy.astype(np.float32))
        _freeze(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        return len(self.xy)

    def fit(self, size: Size) -> Points:
        """These points, when all lie in a picture of (height, width).

        Raises:
            PromptError: a point outside, with x and y swapped where that was probably meant.
        """
        for x, y in self.xy.tolist():
            if not _inside(x, y, size):
                raise PromptError(_outside_message(x, y, size))
        return self


@dataclass(frozen=True)
class Box:
    """Two corners, x1 < x2 and y1 < y2, in original pixels.

    Example:
        >>> Box(100, 120, 200, 240)

    Raises:
        PromptError: not finite, or corners that enclose nothing.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        corners = _numbers([self.x1, self.y1, self.x2, self.y2], "box")
        for name, value in zip(("x1", "y1", "x2", "y2"), corners.tolist(), strict=True):
            object.__setattr__(self, name, value)
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise PromptError(_flat_box_message(corners.tolist()))

    @property
    def xyxy(self) -> npt.NDArray[np.float32]:
        """The corners x1, y1, x2, y2 as (4,) float32."""
        return np.array([self.x1, self.y1, self.x2, self.y2], np.float32)

    def fit(self, size: Size) -> Box:
        """This box in a picture of (height, width), cut to it where it sticks out by a pixel or less.

        Raises:
            PromptError: the box misses the picture or leaves it by more, with the cut box to use instead; or
                it is smaller than a pixel, as boxes in fractions of the picture are.
        """
        height, width = size
        given = [self.x1, self.y1, self.x2, self.y2]
        _refuse_fractions(given, size)
        cut = [max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, float(width)), min(self.y2, float(height))]
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            raise PromptError(
                f"box {_show(given)} lies outside the picture, which is {_extent(size)}; "
                "boxes are x1, y1, x2, y2 in pixels of the original picture"
            )
        if max(abs(a - b) for a, b in zip(given, cut, strict=True)) > ROUNDING:
            raise PromptError(
                f"box {_show(given)} leaves the picture, which is {_extent(size)}; cut to the picture it is "
                f"{_show(cut)}{_corner_hint(given, size)}"
            )
        return Box(*cut)


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A rough mask of one object: (H, W) of the picture's size, boolean, 0/1 or 0/255.

    Example:
        >>> MaskPrompt(np.eye(4, dtype=bool))

    Raises:
        PromptError: not two-dimensional, other values, or nothing marked.
    """

    mask: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype.kind not in "biuf":
            raise PromptError(f"a mask of type {mask.dtype} must be boolean, 0/1 or 0/255: pass a number array")
        if mask.ndim != 2 or not mask.size:
            raise PromptError(f"a mask of shape {mask.shape} must be (height, width): one channel, one object")
        if mask.dtype != bool and not _two_valued(mask):
            raise PromptError(
                f"mask values from {mask.min()} to {mask.max()} must be True/False, 0/1 or 0/255: "
                "threshold it first, for example mask > 0"
            )
        if not mask.any():
            raise PromptError(
                f"the mask of shape {mask.shape} marks nothing: all its values are 0; "
                "set the object's pixels to 1, or leave the mask out"
            )
        _freeze(self, "mask", mask.astype(bool))

    def fit(self, size: Size) -> MaskPrompt:
        """This mask, when it has the (height, width) of the picture.

        Raises:
            PromptError: another size.
        """
        if self.mask.shape != size:
            turned = "; it looks turned: pass mask.T" if self.mask.shape == size[::-1] else ""
            raise PromptError(
                f"mask of (height, width) {self.mask.shape} does not fit the picture of {size}: "
                f"resize it to the original picture{turned}"
            )
        return self


@dataclass(frozen=True, eq=False)
class ObjectPrompt:
    """Everything said about one object: at least a box, a mask or a positive point.

    `refine`: a mask of the object is there already, so that a point off it may stand alone.

    Example:
        >>> ObjectPrompt(points=Points([[10, 20]], [0]), box=Box(0, 0, 50, 50))

    Raises:
        PromptError: nothing said, or only what the object is not.
    """

    points: Points | None = None
    box: Box | None = None
    mask: MaskPrompt | None = None
    refine: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.box is not None or self.mask is not None or (self.refine and self.points is not None):
            return
        if self.points is None:
            raise PromptError("an object prompt of None says nothing: give points, a box or a mask")
        if not self.points.labels.any():
            raise PromptError(
                f"points {_show(self.points.xy)} with labels {self.points.labels.tolist()} say only what the "
                "object is not: add a point on it (label 1), a box or a mask"
            )

    def fit(self, size: Size) -> ObjectPrompt:
        """This prompt in a picture of (height, width); see `fit` of points, box and mask.

        Raises:
            PromptError: some part of it lies outside.
        """
        return replace(
            self,
            points=self.points and self.points.fit(size),
            box=self.box and self.box.fit(size),
            mask=self.mask and self.mask.fit(size),
        )


def parse_prompts(
    points: Any = None, labels: Any = None, bboxes: Any = None, masks: Any = None, *, size: Size
) -> tuple[ObjectPrompt, ...]:
    """One `ObjectPrompt` an object, from the spellings people use; `size` is (height, width) of the picture.

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
        raise PromptError(f"labels {_show(labels)} came without points: give points=[...] of the same nesting")
    clicks = None if points is None else _parse_points(points, labels, alone=bboxes is None and masks is None)
    boxes = None if bboxes is None else _parse_boxes(bboxes)
    rough = None if masks is None else _parse_masks(masks, size)
    count = _common_count(clicks, boxes, rough, points)
    objects = zip(_padded(clicks, count), _padded(boxes, count), _padded(rough, count), strict=True)
    return tuple(ObjectPrompt(*cues).fit(size) for cues in objects)


def _parse_points(points: Any, labels: Any, *, alone: bool) -> list[Points]:
    nested = _plain(points)
    depth = _depth(nested, "points")
    if depth == 0:
        raise PromptError(f"points {_show(points)} must be a list: {NESTING['points']}")
    objects = [[nested]] if depth == 1 else [[point] for point in nested] if depth == 2 else nested
    for point in (point for one in objects for point in one):
        if len(point) != 2:
            raise PromptError(
                f"point {_show(point)} has {len(point)} numbers, a point is [x, y]"
                + ("; for a box write bboxes=[x1, y1, x2, y2]" if len(point) == 4 else "; labels go in labels=[...]")
            )
    given = _labels_by_object(labels, objects, depth)
    if alone and depth == 2:
        _refuse_flat_negative(objects, given)
    return [Points(one, own) for one, own in zip(objects, given, strict=True)]


def _labels_by_object(labels: Any, objects: list[Any], depth: int) -> list[Any]:
    """Labels as one list an object; the message shows them nested as the points are."""
    if labels is None:
        return [[1] * len(one) for one in objects]
    nested = _plain(labels)
    level = _depth(nested, "labels")
    if level == 0 and depth == 1:
        nested, level = [nested], 1
    rows = nested if level == 2 else [[label] for label in nested] if level == 1 and depth < 3 else None
    if rows is None or [len(row) for row in rows] != [len(one) for one in objects]:
        raise PromptError(_label_message(nested, objects, depth))
    return list(rows)


def _label_message(labels: Any, objects: list[Any], depth: int) -> str:
    """What to say about labels that are not nested as the points are."""
    sizes = [len(one) for one in objects]
    flat = _flatten(labels)
    if depth == 2 and isinstance(labels, list) and len(labels) == 1 and len(flat) == len(objects):
        return (
            f"labels {_show(labels)} are of one object, points {_show([o[0] for o in objects])} of "
            f"{len(objects)}; did you mean points={_show([[o[0] for o in objects]])}, labels={_show(labels)} "
            f"(one object with {len(objects)} points)?"
        )
    values = flat if len(flat) == sum(sizes) else [1] * sum(sizes)
    source = iter(values)
    wanted = [[next(source) for _ in range(n)] for n in sizes]
    shown: Any = wanted if depth == 3 else [row[0] for row in wanted]
    return (
        f"labels {_show(labels)} must be nested as the points are, one label a point, which are "
        f"{sum(sizes)} on {len(sizes)} object(s); did you mean labels={_show(shown)}?"
    )


def _refuse_flat_negative(objects: list[Any], labels: list[Any]) -> None:
    """Flat points are one object each: a negative one among them was meant for its neighbour."""
    flat = [row[0] for row in labels]
    if 0 in flat and 1 in flat:
        points = [one[0] for one in objects]
        raise PromptError(
            f"points={_show(points)}, labels={_show(flat)} are {len(points)} objects of one point each, "
            "and a point with label 0 alone is no object; did you mean "
            f"points={_show([points])}, labels={_show([flat])} (one object with {len(points)} points)?"
        )


def _parse_boxes(bboxes: Any) -> list[Box]:
    nested = _plain(bboxes)
    depth = _depth(nested, "bboxes")
    rows = nested if depth == 2 else [nested] if depth == 1 else []
    for row in rows or [nested]:
        if not isinstance(row, list) or len(row) != 4:
            raise PromptError(
                f"box {_show(row)} must be four numbers: bboxes=[x1, y1, x2, y2] for one, "
                "[[x1, y1, x2, y2], ...] for several"
            )
    return [Box(*_numbers(row, "box").tolist()) for row in rows]


def _parse_masks(masks: Any, size: Size) -> list[MaskPrompt]:
    if hasattr(masks, "detach"):  # a tensor, wherever it lives
        masks = masks.detach().cpu()
    try:
        stack = np.asarray(masks)
    except ValueError as error:
        raise PromptError("masks of different sizes: every mask must have the size of the picture") from error
    if stack.ndim not in (2, 3) or not stack.size:
        raise PromptError(
            f"masks of shape {stack.shape} must be (height, width) or (N, height, width); "
            "drop colour channels and add no batch dimension"
        )
    if stack.ndim == 3 and stack.shape[:2] == size != stack.shape[1:]:
        raise PromptError(
            f"masks of shape {stack.shape} look like a picture with channels last; "
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
    nested = _plain(given)
    others = [count for name, count in counts.items() if name != "points"]
    if counts.get("points", 0) > 1 and set(others) == {1} and _depth(nested, "points") == 2:
        return f"; did you mean points={_show([nested])} (one object with {len(nested)} points)?"
    return ""


def _padded(cues: Sequence[T] | None, count: int) -> Sequence[T | None]:
    return [None] * count if cues is None else cues


def _plain(value: Any) -> Any:
    """Arrays and tensors as nested lists, tuples as lists; everything else as it is."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _depth(value: Any, what: str) -> int:
    """How many lists lie in one another: the same number everywhere, none empty, none deeper than allowed."""
    depths = _depths(value)
    if EMPTY in depths:
        raise PromptError(f"{what} {_show(value)} holds an empty list: {NESTING[what]}, or leave {what} out")
    if len(depths) > 1 or max(depths) > DEEPEST[what]:
        raise PromptError(f"{what} {_show(value)} is nested unevenly or too deep: {NESTING[what]}")
    return depths.pop()


def _depths(value: Any) -> set[int]:
    """The depth of every number in nested lists; `EMPTY` stands for a list without any."""
    if not isinstance(value, list):
        return {0}
    below = {depth for item in value for depth in _depths(item)} or {EMPTY}
    return {depth if depth == EMPTY else depth + 1 for depth in below}


UNITS = {
    "points": "x, y in pixels of the original picture",
    "labels": "1 on the object, 0 off it",
    "box": "x1, y1, x2, y2 in pixels of the original picture",
}
EMPTY = -1
DEEPEST = {"points": 3, "labels": 2, "bboxes": 2}
NESTING = {
    "points": "use [x, y], [[x, y], ...] (one point an object) or [[[x, y], ...], ...] (several an object)",
    "labels": "use one label a point, nested as the points are, such as [1] or [[1, 0]]",
    "bboxes": "use [x1, y1, x2, y2] or [[x1, y1, x2, y2], ...]",
}


def _numbers(value: Any, what: str) -> npt.NDArray[np.float64]:
    """`value` as finite float64 numbers."""
    try:
        array = np.asarray(_plain(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} {_show(value)} must be numbers: {UNITS[what]}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} {_show(value)} must be finite: drop NaN and infinite values first")
    return array


def _freeze(owner: object, name: str, array: npt.NDArray[Any]) -> None:
    array.setflags(write=False)
    object.__setattr__(owner, name, array)


def _two_valued(mask: npt.NDArray[Any]) -> bool:
    return bool(((mask == 0) | (mask == 1)).all() or ((mask == 0) | (mask == 255)).all())


def _inside(x: float, y: float, size: Size) -> bool:
    return 0 <= x < size[1] and 0 <= y < size[0]


def _extent(size: Size) -> str:
    height, width = size
    return f"{width} wide and {height} high"


def _outside_message(x: float, y: float, size: Size) -> str:
    height, width = size
    near = [min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)]
    hint = (
        f"did you mean [{_show(y)}, {_show(x)}]? points are x (right), then y (down)"
        if _inside(y, x, size)
        else f"the nearest point in it is {_show(near)}; points are pixels of the original picture"
    )
    return f"point {_show([x, y])} lies outside the picture, which is {_extent(size)}; {hint}"


def _flat_box_message(corners: list[float]) -> str:
    x1, y1, x2, y2 = corners
    wrong = "x2 <= x1" if x2 <= x1 else "y2 <= y1"
    hints = []
    if x1 != x2 and y1 != y2:
        hints.append(f"corners in order, {_show([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])}")
    if x2 > 0 and y2 > 0:
        hints.append(f"x, y, width, height, which as corners is {_show([x1, y1, x1 + x2, y1 + y2])}")
    meant = f"; did you mean {' or '.join(hints)}?" if hints else "; give it some width and height"
    return f"box {_show(corners)} has {wrong}, but a box is x1, y1, x2, y2 with x1 < x2 and y1 < y2{meant}"


def _refuse_fractions(given: list[float], size: Size) -> None:
    height, width = size
    if max(given) <= 1 and min(given) >= 0 and min(width, height) > 1:
        pixels = [given[0] * width, given[1] * height, given[2] * width, given[3] * height]
        raise PromptError(
            f"box {_show(given)} is less than a pixel large and looks like fractions of the picture; "
            f"boxes are in pixels: did you mean {_show(pixels)}?"
        )


def _corner_hint(given: list[float], size: Size) -> str:
    """Some write y before x: say so where the box then fits."""
    height, width = size
    x, y, third, fourth = given
    if fourth <= width and third <= height and min(given) >= 0:
        return f"; or, if y was written before x, {_show([y, x, fourth, third])}"
    return ""


def _flatten(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flatten(item)] if isinstance(value, list) else [value]


def _show(value: Any) -> str:
    """A value as the caller would type it: whole numbers without a point, long lists cut."""
    text = repr(_tidy(_plain(value)))
    return text if len(text) <= 160 else text[:157] + "..."


def _tidy(value: Any) -> Any:
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, float) and np.isfinite(value):
        return int(value) if value == int(value) else round(value, 2)
    return value
