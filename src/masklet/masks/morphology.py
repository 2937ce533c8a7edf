"""Clean up a mask: fill small holes, remove small islands; by pixels, or relative to the object."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["clean_edges", "fill_holes", "remove_islands"]

Bools = npt.NDArray[np.bool_]
MIN_ISLAND_SHARE = 0.05
"""Parts of a mask below this share of its largest part are specks."""
MIN_HOLE_SHARE = 0.02
"""Holes below this share of the object are pinholes."""


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


def clean_edges(mask: Bools, inside: npt.ArrayLike = (), outside: npt.ArrayLike = ()) -> Bools:
    """Remove specks and fill pinholes of a (H, W) mask, relative to its object; returns a mask, maybe the same one.

    A speck is under 5 % of the largest part, a pinhole under 2 % of all parts that stay. A part with one of the points
    `inside` (N, 2), x and y in pixels, stays, and so does a hole with one of the points `outside`.

    Example:
        >>> mask = np.zeros((40, 40), bool)
        >>> mask[5:35, 5:35], mask[20, 20], mask[0, 0] = True, False, True
        >>> int(clean_edges(mask).sum()), int(clean_edges(mask, inside=[[0, 0]], outside=[[20, 20]]).sum())
        (900, 900)
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    contours, tree = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(contours) < 2:
        return mask
    # A contour runs through pixels of the mask, so by Pick's theorem its area and length give the number of pixels.
    parents = tree[0, :, 3]
    signs = np.where(parents < 0, 1, -1)
    areas = np.array([cv2.contourArea(one) for one in contours]) + signs * [len(one) / 2 for one in contours] + 1
    holes = np.flatnonzero(parents >= 0)
    part_areas = np.where(parents < 0, areas, 0) - np.bincount(parents[holes], areas[holes], len(areas))
    is_speck = (parents < 0) & (part_areas < MIN_ISLAND_SHARE * part_areas.max())
    cleaned = pixels.copy()
    inside_xy = np.floor(np.asarray(inside, np.float64).reshape(-1, 2)).astype(int)
    outside_xy = np.floor(np.asarray(outside, np.float64).reshape(-1, 2))
    for i in np.flatnonzero(is_speck).tolist():
        left, top, width, height = cv2.boundingRect(contours[i])
        if not any(left <= x < left + width and top <= y < top + height for x, y in inside_xy.tolist()):
            cv2.drawContours(cleaned, [contours[i]], -1, 0, cv2.FILLED)  # with what lies in its holes, which is smaller
            continue
        labels = cv2.connectedComponents(pixels[top : top + height, left : left + width], connectivity=8)[1]
        first_x, first_y = contours[i][0, 0] - (left, top)
        speck = labels == labels[first_y, first_x]
        x, y = (inside_xy - (left, top)).T
        near = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        if speck[y[near], x[near]].any():
            is_speck[i] = False
        else:
            cleaned[top : top + height, left : left + width][speck] = 0
    limit = MIN_HOLE_SHARE * part_areas[(parents < 0) & ~is_speck].sum()
    for i in np.flatnonzero((parents >= 0) & (areas < limit) & ~is_speck[parents]).tolist():
        if all(cv2.pointPolygonTest(contours[i], xy, False) <= 0 for xy in outside_xy.tolist()):
            cv2.drawContours(cleaned, [contours[i]], -1, 1, cv2.FILLED)
    return cleaned.view(bool)


def _connected_components(mask: Bools) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the label image (0 outside the mask) and the area of each label."""
    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    label_image = np.asarray(labels, np.int32)
    return label_image, np.bincount(label_image.ravel(), minlength=count).astype(np.int64)
