"""Clearing up a mask: small holes filled, small islands removed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["fill_holes", "remove_islands"]

Bools = npt.NDArray[np.bool_]


def fill_holes(mask: Bools, area: int) -> Bools:
    """Fill the holes of a (H, W) mask that are at most `area` pixels large; returns a new mask.

    A hole is background (joined also diagonally) that does not reach the edge of the image.

    Example:
        >>> fill_holes(mask, area=64)
    """
    labels, areas = _components(~mask)
    small = areas <= area
    small[_border_labels(labels)] = False
    small[0] = False
    return mask | small[labels]


def remove_islands(mask: Bools, area: int) -> Bools:
    """Remove the separate parts of a (H, W) mask that are at most `area` pixels large; returns a new mask.

    When every part is that small, the largest stays: clearing up never loses the object.

    Example:
        >>> remove_islands(mask, area=64)
    """
    labels, areas = _components(mask)
    keep = areas > area
    keep[0] = False
    if len(areas) > 1 and not keep.any():
        keep[1 + int(areas[1:].argmax())] = True
    return keep[labels]


def _components(mask: Bools) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Label image (0 = not in the mask) and the area of each label."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    found = np.asarray(labels, np.int32)
    return found, np.bincount(found.ravel(), minlength=count).astype(np.int64)


def _border_labels(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
