"""What callers hand in, as plain numbers, and as they would have typed it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import PromptError

__all__ = ["flatten", "numbers", "plain", "show"]

UNITS = {
    "points": "x, y in pixels of the original picture",
    "labels": "1 on the object, 0 off it",
    "box": "x1, y1, x2, y2 in pixels of the original picture",
}


def numbers(value: Any, what: str) -> npt.NDArray[np.float64]:
    """`value` as finite float64 numbers."""
    try:
        array = np.asarray(plain(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what} {show(value)} must be numbers: {UNITS[what]}") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{what} {show(value)} must be finite: drop NaN and infinite values first")
    return array


def plain(value: Any) -> Any:
    """Arrays and tensors as nested lists, tuples as lists; everything else as it is."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def flatten(value: Any) -> list[Any]:
    """What lies in nested lists, in order, in one list."""
    return [leaf for item in value for leaf in flatten(item)] if isinstance(value, list) else [value]


def show(value: Any) -> str:
    """A value as the caller would type it: whole numbers without a point, long lists cut."""
    text = repr(_tidy(plain(value)))
    return text if len(text) <= 160 else text[:157] + "..."


def _tidy(value: Any) -> Any:
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, float) and np.isfinite(value):
        return int(value) if value == int(value) else round(value, 2)
    return value
