"""The tight box of a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["from_masks"]


def from_masks(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The tight box of each (N, H, W) mask as (N, 4) float32 xyxy, original pixels.

    Right and bottom are exclusive (last column + 1, last row + 1), so x2 - x1 counts the columns.
    An empty mask has the box [0, 0, 0, 0].

    Example:
        >>> mask = np.zeros((1, 6, 8), bool)
        >>> mask[0, 2:4, 1:7] = True
        >>> from_masks(mask)
        array([[1., 2., 7., 4.]], dtype=float32)
    """
    assert masks.ndim == 3, f"masks are (N, H, W), got {masks.shape}"
    if masks.size == 0:
        return np.zeros((len(masks), 4), np.float32)
    left, right = _extent(np.asarray(masks.any(axis=1)))
    top, bottom = _extent(np.asarray(masks.any(axis=2)))
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def _extent(hit: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and last + 1 true index of each (N, L) row; 0 and 0 where there is none."""
    first = hit.argmax(axis=1)
    end = (hit.shape[1] - hit[:, ::-1].argmax(axis=1)) * hit.any(axis=1)
    return first, end
