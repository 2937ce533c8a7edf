"""Clean up a mask: fill small holes, remove small islands."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["fill_holes", "remove_islands"]

Bools = npt.NDArray[np.bool_]


def fill_holes(mask: Bools, area: int) -> Bools:
    """Fill the holes of a (H, W) mask that have at most `area` pixels; returns a new mask.

    A hole is an 8-connected part of the background that does not reach the edge of the image.

    Example:
        >>> ring = np.pad(np.zeros((1, 1), bool), 1, constant_values=True)
        >>> bool(fill_holes(ring, area=1).all())
        True
    """
    labels, areas = _connected_components(~mask)
    small = areas <= area
    small[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    small[0] = False
    return mask | small[labels]


def remove_islands(mask: Bools, area: int) -> Bools:
    """Remove the 8-connected parts of a (H, W) mask that have at most `area` pixels; returns a new mask.

    If every part is that small, the largest one stays: the object is never lost.

    Example:
        >>> remove_islands(np.array([[True, False, True, True]]), area=1).tolist()
        [[False, False, True, True]]
    """
    labels, areas = _connected_components(mask)
    keep = areas > area
    keep[0] = False
    if len(areas) > 1 and not keep.any():
        keep[1 + int(areas[1:].argmax())] = True
    return keep[labels]


def _connected_components(mask: Bools) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the label image (0 outside the mask) and the area of each label."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    label_image = np.asarray(labels, np.int32)
    return label_image, np.bincount(label_image.ravel(), minlength=count).astype(np.int64)
