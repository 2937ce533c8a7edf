"""The prompts of one object, validated when they are created, and the types that callers may pass for them.

Coordinates are original-image pixels: x runs right, y down; pixel (row, column) covers
[column, column + 1) x [row, row + 1). A size is (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError

__all__ = [
    "ArrayLike",
    "Box",
    "BoxesLike",
    "LabelsLike",
    "MaskPrompt",
    "MasksLike",
    "ObjectPrompt",
    "Points",
    "PointsLike",
    "Size",
    "flatten",
    "format_value",
    "to_float_array",
    "to_nested_list",
]


class ArrayLike(Protocol):
    """A NumPy array, a torch tensor, or anything else with `tolist`."""

    def tolist(self) -> Any:
        """Return the numbers as nested lists."""


PointsLike: TypeAlias = (
    "ArrayLike | Sequence[float] | Sequence[Sequence[float] | ArrayLike] | Sequence[Sequence[Sequence[float]]]"
)
"""[x, y]; [[x, y], ...], one point per object; or [[[x, y], ...], ...], several points per object."""
LabelsLike: TypeAlias = "int | ArrayLike | Sequence[int] | Sequence[Sequence[int] | ArrayLike]"
"""1 on the object, 0 off it, nested as the points are."""
BoxesLike: TypeAlias = "ArrayLike | Sequence[float] | Sequence[Sequence[float] | ArrayLike]"
"""[x1, y1, x2, y2] or a list of such."""
MasksLike: TypeAlias = (
    "ArrayLike | Sequence[ArrayLike] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]"
)
"""(H, W) or (N, H, W) of the image's size; boolean, 0/1 or 0/255."""

Size: TypeAlias = "tuple[int, int]"
BOX_TOLERANCE = 1.0
"""A box may leave the image by this many pixels, the error of rounding; it is then clipped."""
EXPECTED_VALUES = {
    "points": "x, y in pixels of the original image",
    "labels": "1 on the object, 0 off it",
    "box": "x1, y1, x2, y2 in pixels of the original image",
}


@dataclass(frozen=True, eq=False)
class Points:
    """Clicks on one object: `xy` (N, 2) float32 original pixels, `labels` (N,) int32, 1 on the object and 0 off it.

    Example:
        >>> len(Points([[150, 120], [40, 40]], [1, 0]))
        2

    Raises:
        PromptError: if there is no point, a value is not finite, points are not pairs, a label is not 1 or 0, or
            the number of labels differs.
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
        for name, array in (("xy", xy.astype(np.float32)), ("labels", labels.astype(np.int32))):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.xy)

    def fit_to_image(self, size: Size) -> Points:
        """Return these points if all lie in an image of (height, width).

        Raises:
            PromptError: if a point lies outside; the message swaps x and y if that was probably intended.
        """
        height, width = size
        for x, y in self.xy.tolist():
            if 0 <= x < width and 0 <= y < height:
                continue
            nearest = [min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)]
            hint = (
                f"did you mean [{format_value(y)}, {format_value(x)}]? points are x (right), then y (down)"
                if 0 <= y < width and 0 <= x < height
                else f"the nearest point in it is {format_value(nearest)}; points are pixels of the original image"
            )
            raise PromptError(
                f"point {format_value([x, y])} lies outside the image, which is {width} wide and {height} high; {hint}"
            )
        return self


@dataclass(frozen=True)
class Box:
    """Two corners, x1 < x2 and y1 < y2, in original pixels.

    Example:
        >>> Box(100, 120, 200, 240).xyxy.tolist()
        [100.0, 120.0, 200.0, 240.0]

    Raises:
        PromptError: if a value is not finite or the corners enclose nothing.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        corners: list[float] = to_float_array([self.x1, self.y1, self.x2, self.y2], "box").tolist()
        for name, value in zip(("x1", "y1", "x2", "y2"), corners, strict=True):
            object.__setattr__(self, name, value)
        x1, y1, x2, y2 = corners
        if x2 > x1 and y2 > y1:
            return
        hints = []
        if x1 != x2 and y1 != y2:
            hints.append(f"corners in order, {format_value([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])}")
        if x2 > 0 and y2 > 0:
            hints.append(f"x, y, width, height, which as corners is {format_value([x1, y1, x1 + x2, y1 + y2])}")
        remedy = f"; did you mean {' or '.join(hints)}?" if hints else "; give it some width and height"
        wrong = "x2 <= x1" if x2 <= x1 else "y2 <= y1"
        raise PromptError(
            f"box {format_value(corners)} has {wrong}, but a box is x1, y1, x2, y2 with x1 < x2 and y1 < y2{remedy}"
        )

    @property
    def xyxy(self) -> npt.NDArray[np.float32]:
        """The corners x1, y1, x2, y2 as (4,) float32."""
        return np.array([self.x1, self.y1, self.x2, self.y2], np.float32)

    def fit_to_image(self, size: Size) -> Box:
        """Return this box in an image of (height, width), clipped if it leaves the image by a pixel or less.

        Raises:
            PromptError: if the box misses the image or leaves it by more (the message has the clipped box), or if it
                is smaller than a pixel, as boxes in fractions of the image are.
        """
        height, width = size
        x1, y1, x2, y2 = corners = [self.x1, self.y1, self.x2, self.y2]
        if max(corners) <= 1 and min(corners) >= 0 and min(size) > 1:
            raise PromptError(
                f"box {format_value(corners)} is less than a pixel large and looks like fractions of the image; boxes "
                f"are in pixels: did you mean {format_value([x1 * width, y1 * height, x2 * width, y2 * height])}?"
            )
        clipped = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
        if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            raise PromptError(
                f"box {format_value(corners)} lies outside the image, which is {width} wide and {height} high; "
                "boxes are x1, y1, x2, y2 in pixels of the original image"
            )
        if max(abs(a - b) for a, b in zip(corners, clipped, strict=True)) > BOX_TOLERANCE:
            swapped_fits = y2 <= width and x2 <= height and min(corners) >= 0
            hint = f"; or, if y was written before x, {format_value([y1, x1, y2, x2])}" if swapped_fits else ""
            raise PromptError(
                f"box {format_value(corners)} leaves the image, which is {width} wide and {height} high; "
                f"clipped to the image it is {format_value(clipped)}{hint}"
            )
        return Box(*clipped)


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A rough mask of one object: (H, W) of the image's size; boolean, 0/1 or 0/255.

    Example:
        >>> MaskPrompt(np.eye(4, dtype=np.uint8) * 255).mask.dtype
        dtype('bool')

    Raises:
        PromptError: if it is not two-dimensional, has other values, or is empty.
    """

    mask: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype.kind not in "biuf":
            raise PromptError(f"a mask of type {mask.dtype} must be boolean, 0/1 or 0/255: pass a number array")
        if mask.ndim != 2 or not mask.size:
            raise PromptError(f"a mask of shape {mask.shape} must be (height, width): one channel, one object")
        if mask.dtype != bool and not any(((mask == 0) | (mask == inside)).all() for inside in (1, 255)):
            raise PromptError(
                f"mask values from {mask.min()} to {mask.max()} must be True/False, 0/1 or 0/255: "
                "threshold it first, for example mask > 0"
            )
        if not mask.any():
            raise PromptError(
                f"the mask of shape {mask.shape} marks nothing: all its values are 0; "
                "set the object's pixels to 1, or leave the mask out"
            )
        mask = mask.astype(bool)
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)

    def fit_to_image(self, size: Size) -> MaskPrompt:
        """Return this mask if it has the (height, width) of the image.

        Raises:
            PromptError: if it has another size.
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
    """Everything that prompts one object: at least a box, a mask or a positive point.

    With `refine` the object has a mask already, so that a negative point may stand alone.

    Example:
        >>> ObjectPrompt(points=Points([[10, 20]], [0]), box=Box(0, 0, 50, 50)).mask is None
        True

    Raises:
        PromptError: if there is no prompt, or only negative points.
    """

    points: Points | None = None
    box: Box | None = None
    mask: MaskPrompt | None = None
    refine: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.box is not None or self.mask is not None or (self.refine and self.points is not None):
            return
        if self.points is None:
            raise PromptError("an object prompt of None is empty: give points, a box or a mask")
        if not self.points.labels.any():
            raise PromptError(
                f"points {format_value(self.points.xy)} with labels {self.points.labels.tolist()} mark only what the "
                "object is not: add a point on it (label 1), a box or a mask"
            )

    def fit_to_image(self, size: Size) -> ObjectPrompt:
        """Return this prompt in an image of (height, width); see `fit_to_image` of points, box and mask.

        Raises:
            PromptError: if a part of it lies outside.
        """
        return replace(
            self,
            points=self.points and self.points.fit_to_image(size),
            box=self.box and self.box.fit_to_image(size),
            mask=self.mask and self.mask.fit_to_image(size),
        )


def to_float_array(value: object, name: str) -> npt.NDArray[np.float64]:
    """Convert `value` to finite float64 numbers; `name` is points, labels or box, for the message.

    Raises:
        PromptError: if it holds anything but finite numbers.
    """
    try:
        array = np.asarray(to_nested_list(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{name} {format_value(value)} must be numbers: {EXPECTED_VALUES[name]}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{name} {format_value(value)} must be finite: drop NaN and infinite values first")
    return array


def to_nested_list(value: Any) -> Any:
    """Convert arrays, tensors and tuples to nested lists; other values are returned unchanged."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_nested_list(item) for item in value]
    return value


def flatten(value: object) -> list[Any]:
    """Return the items of nested lists, in order, as one list."""
    return [leaf for item in value for leaf in flatten(item)] if isinstance(value, list) else [value]


def format_value(value: object) -> str:
    """Format a value as the caller would type it: whole numbers without a point, long lists truncated.

    Example:
        >>> format_value(np.array([1.0, 2.345]))
        '[1, 2.35]'
    """
    text = repr(_round_floats(to_nested_list(value)))
    return text if len(text) <= 160 else text[:157] + "..."


def _round_floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_round_floats(item) for item in value]
    if isinstance(value, float) and np.isfinite(value):
        return int(value) if value == int(value) else round(value, 2)
    return value
