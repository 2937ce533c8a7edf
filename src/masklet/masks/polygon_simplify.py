"""Simplify outlines: as few points as possible while the mask that a reader fills keeps a given IoU.

Two kinds of reader are checked: one that fills the pixels whose center lies inside (as `masklet.masks.polygons` does),
and the COCO tools, which draw edges on a grid five times finer. The IoU holds for both.
Shapes: K points of a ring, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.masks.ops import iou, masks_to_boxes
from masklet.masks.polygons import Polygon, Ring, bridge_holes, mask_to_polygons, polygons_to_mask

__all__ = ["SimplifiedMask", "rasterize_like_pycocotools", "simplify_mask", "tight_crop"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
COCO_UPSAMPLING = 5
"""The COCO tools draw edges on a grid this many times finer than pixels."""
MAX_TOLERANCE_FRACTION = 0.1
"""The first tolerance tried, as a fraction of the square root of the object's area."""
MIN_TOLERANCE = 0.5
"""In pixels; below it only points on straight lines are dropped."""


@dataclass(frozen=True, eq=False)
class SimplifiedMask:
    """Rings (K, 2) of float32 xy in pixels, one per connected part with its holes on bridges, and the IoU they keep."""

    rings: tuple[Ring, ...]
    iou: float


def simplify_mask(mask: BoolArray, min_iou: float) -> SimplifiedMask | None:
    """Find the simplest outline of a (H, W) mask that keeps `min_iou`; None if no outline does, as for an empty mask.

    Example:
        >>> outline = simplify_mask(np.pad(np.ones((8, 9), bool), 3), 0.98)
        >>> outline.iou >= 0.98, [len(ring) for ring in outline.rings]
        (True, [4])
    """
    left, top, crop = tight_crop(mask)
    if not crop.size:
        return None
    size = crop.shape[0], crop.shape[1]
    parts = mask_to_polygons(crop)
    tolerance = MAX_TOLERANCE_FRACTION * float(np.sqrt(np.count_nonzero(crop)))
    while True:
        rings = []
        for part in parts:
            holes = tuple(_simplify_ring(hole, tolerance) for hole in part.holes)
            ring = bridge_holes(Polygon(_simplify_ring(part.outer, tolerance), holes))
            rings.append(ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)])  # the COCO tools fail on empty edges
        by_center = iou(polygons_to_mask([Polygon(ring) for ring in rings], size), crop)
        achieved = min(by_center, iou(rasterize_like_pycocotools(rings, size), crop))
        if achieved >= min_iou:
            return SimplifiedMask(tuple(ring + np.array([left, top], np.float32) for ring in rings), achieved)
        if tolerance == 0:
            return None
        tolerance = tolerance / 2 if tolerance / 2 >= MIN_TOLERANCE else 0.0


def tight_crop(mask: BoolArray) -> tuple[int, int, BoolArray]:
    """Crop a (H, W) mask to its tight box: return left, top and the crop, which is empty for an empty mask.

    Example:
        >>> left, top, crop = tight_crop(np.eye(3, 5, k=2, dtype=bool))
        >>> left, top, crop.shape
        (2, 0, (3, 3))
    """
    left, top, right, bottom = (int(n) for n in masks_to_boxes(mask[None])[0])
    return left, top, mask[top:bottom, left:right]


def rasterize_like_pycocotools(rings: Sequence[Ring], size: tuple[int, int]) -> BoolArray:
    """Rasterize polygons to one (H, W) mask as the COCO tools do: fill each one alone, then join them.

    Filling is even-odd down the columns: an edge that crosses the middle of a column toggles the pixels below it.

    Example:
        >>> int(rasterize_like_pycocotools([np.array([[0, 0], [4, 0], [4, 3], [0, 3]], np.float32)], (5, 6)).sum())
        12
    """
    height, width = size
    mask = np.zeros(size, bool)
    for ring in rings:
        u, v = _edge_points(np.floor(COCO_UPSAMPLING * ring.astype(np.float64) + 0.5).astype(np.int64))
        steps = u[1:] != u[:-1]
        across = np.minimum(u[1:], u[:-1])[steps]
        down = np.minimum(v[1:], v[:-1])[steps]
        column = (across - COCO_UPSAMPLING // 2) // COCO_UPSAMPLING
        middle = (across % COCO_UPSAMPLING == COCO_UPSAMPLING // 2) & (column >= 0) & (column < width)
        first_below = -((COCO_UPSAMPLING // 2 - down) // COCO_UPSAMPLING)  # the first center that is not above
        row = np.clip(first_below, 0, height)
        toggles = np.bincount((column * (height + 1) + row)[middle], minlength=width * (height + 1))
        inside = np.cumsum(toggles.reshape(width, height + 1)[:, :height], axis=1) & 1
        mask |= inside.astype(bool).T
    return mask


def _simplify_ring(ring: Ring, tolerance: float) -> Ring:
    """Drop points of a ring; one that would collapse is returned unchanged, so that no part and no hole is lost."""
    if tolerance == 0:
        return ring
    simplified = cv2.approxPolyDP(ring[:, None], tolerance, closed=True)[:, 0].astype(np.float32)
    return simplified if len(simplified) >= 3 and abs(cv2.contourArea(simplified)) > 0 else ring


def _edge_points(corners: IntArray) -> tuple[IntArray, IntArray]:
    """Return x and y of every step along the closed line through `corners` (K, 2), by its longer direction."""
    start, end = corners, np.roll(corners, -1, axis=0)
    extent = np.abs(end - start)
    flat = extent[:, 0] >= extent[:, 1]
    back = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    first, last = np.where(back[:, None], end, start), np.where(back[:, None], start, end)
    length = extent.max(axis=1)
    slope = (last - first) / np.maximum(length, 1)[:, None]
    edge = np.repeat(np.arange(len(corners)), length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    step = np.where(back[edge], length[edge] - step, step)
    points = first[edge] + slope[edge] * step[:, None]
    along = first[edge] + step[:, None]
    u = np.where(flat[edge], along[:, 0], np.floor(points[:, 0] + 0.5)).astype(np.int64)
    v = np.where(flat[edge], np.floor(points[:, 1] + 0.5), along[:, 1]).astype(np.int64)
    return u, v
