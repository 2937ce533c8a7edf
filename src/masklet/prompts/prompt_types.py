"""Points, boxes and masks in original-image pixels, checked when they are made, and what is said of one object.

x runs to the right, y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).

What callers hand in, as plain numbers, and as they would have typed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError

__all__ = [
    "Box",
    "MaskPrompt",
    "ObjectPrompt",
    "Points",
    "Size",
    "flatten",
    "format_value",
    "to_float_array",
    "to_nested_list",
]

EXPECTED_VALUES = {
    "points": "x, y in pixels of the original image",
    "labels": "1 on the object, 0 off it",
    "box": "x1, y1, x2, y2 in pixels of the original image",
}


def to_float_array(value: Any, name: str) -> npt.NDArray[np.float64]:
    """`value` as finite float64 numbers."""
    try:
        array = np.asarray(to_nested_list(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{name} {format_value(value)} must be numbers: {EXPECTED_VALUES[name]}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{name} {format_value(value)} must be finite: drop NaN and infinite values first")
    return array


def to_nested_list(value: Any) -> Any:
    """Arrays and tensors as nested lists, tuples as lists; everything else as it is."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_nested_list(item) for item in value]
    return value


def flatten(value: Any) -> list[Any]:
    """What lies in nested lists, in order, in one list."""
    return [leaf for item in value for leaf in flatten(item)] if isinstance(value, list) else [value]


def format_value(value: Any) -> str:
    """A value as the caller would type it: whole numbers without a point, long lists cut."""
    text = repr(_round_floats(to_nested_list(value)))
    return text if len(text) <= 160 else text[:157] + "..."


def _round_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_round_floats(item) for item in value]
    if isinstance(value, float) and np.isfinite(value):
        return int(value) if value == int(value) else round(value, 2)
    return value


Size = tuple[int, int]
BOX_TOLERANCE = 1.0
"""A box may stick out of the image by this many pixels, which is how far rounding goes; it is then cut."""


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
        xy = to_float_array(self.xy, "points")
        if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
            raise PromptError(f"points {format_value(self.xy)} must be [x, y] pairs: write [[x, y], ...]")
        labels = to_float_array(self.labels, "labels")
        if labels.shape != (len(xy),):
            raise PromptError(
                f"{len(xy)} point(s) and labels {format_value(self.labels)} do not match: give one label a point, "
                f"for example {[1] * len(xy)}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise PromptError(
                f"labels {format_value(self.labels)} must be 1 (on the object) or 0 (not on it); "
                "for a box write bboxes=[x1, y1, x2, y2]"
            )
        _freeze(self, "xy", xy.astype(np.float32))
        _freeze(self, "labels", labels.astype(np.int32))

    def __len__(self) -> int:
        return len(self.xy)

    def fit_to_image(self, size: Size) -> Points:
        """These points, when all lie in an image of (height, width).

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
        corners = to_float_array([self.x1, self.y1, self.x2, self.y2], "box")
        for name, value in zip(("x1", "y1", "x2", "y2"), corners.tolist(), strict=True):
            object.__setattr__(self, name, value)
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise PromptError(_flat_box_message(corners.tolist()))

    @property
    def xyxy(self) -> npt.NDArray[np.float32]:
        """The corners x1, y1, x2, y2 as (4,) float32."""
        return np.array([self.x1, self.y1, self.x2, self.y2], np.float32)

    def fit_to_image(self, size: Size) -> Box:
        """This box in an image of (height, width), cut to it where it sticks out by a pixel or less.

        Raises:
            PromptError: the box misses the image or leaves it by more, with the cut box to use instead; or
                it is smaller than a pixel, as boxes in fractions of the image are.
        """
        height, width = size
        given = [self.x1, self.y1, self.x2, self.y2]
        _refuse_fractions(given, size)
        cut = [max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, float(width)), min(self.y2, float(height))]
        if cut[2] <= cut[0] or cut[3] <= cut[1]:
            raise PromptError(
                f"box {format_value(given)} lies outside the image, which is {_format_size(size)}; "
                "boxes are x1, y1, x2, y2 in pixels of the original image"
            )
        if max(abs(a - b) for a, b in zip(given, cut, strict=True)) > BOX_TOLERANCE:
            raise PromptError(
                f"box {format_value(given)} leaves the image, which is {_format_size(size)}; cut to the image it is "
                f"{format_value(cut)}{_corner_hint(given, size)}"
            )
        return Box(*cut)


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A rough mask of one object: (H, W) of the image's size, boolean, 0/1 or 0/255.

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

    def fit_to_image(self, size: Size) -> MaskPrompt:
        """This mask, when it has the (height, width) of the image.

        Raises:
            PromptError: another size.
        """
        if self.mask.shape != size:
            turned = "; it looks turned: pass mask.T" if self.mask.shape == size[::-1] else ""
            raise PromptError(
                f"mask of (height, width) {self.mask.shape} does not fit the image of {size}: "
                f"resize it to the original image{turned}"
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
                f"points {format_value(self.points.xy)} with labels {self.points.labels.tolist()} say only what the "
                "object is not: add a point on it (label 1), a box or a mask"
            )

    def fit_to_image(self, size: Size) -> ObjectPrompt:
        """This prompt in an image of (height, width); see `fit` of points, box and mask.

        Raises:
            PromptError: some part of it lies outside.
        """
        return replace(
            self,
            points=self.points and self.points.fit_to_image(size),
            box=self.box and self.box.fit_to_image(size),
            mask=self.mask and self.mask.fit_to_image(size),
        )


def _freeze(owner: object, name: str, array: npt.NDArray[Any]) -> None:
    array.setflags(write=False)
    object.__setattr__(owner, name, array)


def _two_valued(mask: npt.NDArray[Any]) -> bool:
    return bool(((mask == 0) | (mask == 1)).all() or ((mask == 0) | (mask == 255)).all())


def _inside(x: float, y: float, size: Size) -> bool:
    return 0 <= x < size[1] and 0 <= y < size[0]


def _format_size(size: Size) -> str:
    height, width = size
    return f"{width} wide and {height} high"


def _outside_message(x: float, y: float, size: Size) -> str:
    height, width = size
    near = [min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)]
    hint = (
        f"did you mean [{format_value(y)}, {format_value(x)}]? points are x (right), then y (down)"
        if _inside(y, x, size)
        else f"the nearest point in it is {format_value(near)}; points are pixels of the original image"
    )
    return f"point {format_value([x, y])} lies outside the image, which is {_format_size(size)}; {hint}"


def _flat_box_message(corners: list[float]) -> str:
    x1, y1, x2, y2 = corners
    wrong = "x2 <= x1" if x2 <= x1 else "y2 <= y1"
    hints = []
    if x1 != x2 and y1 != y2:
        hints.append(f"corners in order, {format_value([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])}")
    if x2 > 0 and y2 > 0:
        hints.append(f"x, y, width, height, which as corners is {format_value([x1, y1, x1 + x2, y1 + y2])}")
    meant = f"; did you mean {' or '.join(hints)}?" if hints else "; give it some width and height"
    return f"box {format_value(corners)} has {wrong}, but a box is x1, y1, x2, y2 with x1 < x2 and y1 < y2{meant}"


def _refuse_fractions(given: list[float], size: Size) -> None:
    height, width = size
    if max(given) <= 1 and min(given) >= 0 and min(width, height) > 1:
        pixels = [given[0] * width, given[1] * height, given[2] * width, given[3] * height]
        raise PromptError(
            f"box {format_value(given)} is less than a pixel large and looks like fractions of the image; "
            f"boxes are in pixels: did you mean {format_value(pixels)}?"
        )


def _corner_hint(given: list[float], size: Size) -> str:
    """Some write y before x: say so where the box then fits."""
    height, width = size
    x, y, third, fourth = given
    if fourth <= width and third <= height and min(given) >= 0:
        return f"; or, if y was written before x, {format_value([y, x, fourth, third])}"
    return ""
