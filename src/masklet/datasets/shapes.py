"""Rings of numbers, as label files hold outlines, checked and in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets.base import DataError, Size
from masklet.masks.polygons import Ring
from masklet.media.pictures import said_size

__all__ = ["ring_of"]

MOST = 1e9
SLACK = 0.1
"""Outlines may run over the border of the picture by this share of its side; what is outside is cut off."""


def ring_of(numbers: Sequence[object], scale: tuple[float, float], size: Size, file: Path, what: str) -> Ring:
    """x, y, x, y ... as (K, 2) float32 in pixels; `scale` is what x and y are multiplied by.

    Raises:
        DataError: fewer than three points, an odd count, something that is no number, or points far outside.

    Example:
        >>> ring_of([0, 0, 4, 0, 4, 3], (1, 1), (480, 640), Path("a.json"), "annotation 1").shape
        (3, 2)
    """
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError.of(
            file,
            f"({what}) has an outline of {len(numbers)} numbers; x and y of three points or more are an even "
            "number, six at least: mend or remove this object",
        )
    wrong = [n for n in numbers if not isinstance(n, (int, float)) or not abs(n) < MOST]  # NaN is not less either
    if wrong:
        raise DataError.of(
            file, f"({what}) has {wrong[0]!r:.40} in its outline; coordinates are numbers: mend or remove this object"
        )
    ring: npt.NDArray[np.float64] = np.array(numbers, np.float64).reshape(-1, 2) * scale
    _check_inside(ring, size, file, what)
    return ring.astype(np.float32)


def _check_inside(ring: npt.NDArray[np.float64], size: Size, file: Path, what: str) -> None:
    sides = np.array(size[::-1], np.float64)
    low, high = ring.min(axis=0), ring.max(axis=0)
    beyond = (low < -SLACK * sides).any() or (high > (1 + SLACK) * sides).any()
    if beyond or (high <= 0).any() or (low >= sides).any():
        raise DataError.of(
            file,
            f"({what}) lies outside its picture: x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to {high[1]:.1f} in a "
            f"picture of {said_size(size)}; coordinates count its pixels (or, in YOLO files, are shares of 0 to "
            "1): is it the right picture, and of the right size?",
        )
