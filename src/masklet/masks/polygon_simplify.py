"""Outlines with as few points as a promise allows: the mask a reader paints keeps at least so much IoU.

Two kinds of reader are asked: one that takes the pixels whose center lies inside (as `masklet.masks.polygons` does),
and the one of the COCO tools, which draws edges on a grid five times finer. The promise holds for both.
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
"""The COCO tools draw edges on a grid so many times finer than pixels."""
MAX_TOLERANCE_FRACTION = 0.1
"""The first tolerance tried, as a share of the square root of the object's area."""
MIN_TOLERANCE = 0.5
"""In pixels: below it nothing is left out but points on straight lines."""


@dataclass(frozen=True, eq=False)
class SimplifiedMask:
    """Rings (K, 2) of float32 xy in pixels, one a connected part with its holes on bridges, and the IoU they keep."""

    rings: tuple[Ring, ...]
    iou: float


def simplify_mask(mask: BoolArray, min_iou: float) -> SimplifiedMask | None:
    """The simplest outline of a (H, W) mask that keeps `min_iou`; None where no outline does, as of an empty mask.

    Example:
        >>> outline = trace(mask, 0.98)
        >>> outline.iou >= 0.98, len(outline.rings)
        (True, 1)
    """
    left, top, crop = tight_crop(mask)
    if not crop.size:
        return None
    parts = mask_to_polygons(crop)
    tolerance = MAX_TOLERANCE_FRACTION * float(np.sqrt(np.count_nonzero(crop)))
    while True:
        rings = [_drop_repeated_points(bridge_holes(_simplify_polygon(part, tolerance))) for part in parts]
        kept = min(iou(polygons_to_mask([Polygon(ring) for ring in rings], _size(crop)), crop), _coco_iou(rings, crop))
        if kept >= min_iou:
            return SimplifiedMask(tuple(ring + np.array([left, top], np.float32) for ring in rings), kept)
        if tolerance == 0:
            return None
        tolerance = tolerance / 2 if tolerance / 2 >= MIN_TOLERANCE else 0.0


def tight_crop(mask: BoolArray) -> tuple[int, int, BoolArray]:
    """Left, top and content of the tight box of a (H, W) mask; of an empty one, nothing at 0, 0.

    Example:
        >>> left, top, crop = window_of(mask)
    """
    left, top, right, bottom = (int(n) for n in masks_to_boxes(mask[None])[0])
    return left, top, mask[top:bottom, left:right]


def rasterize_like_pycocotools(rings: Sequence[Ring], size: tuple[int, int]) -> BoolArray:
    """The (H, W) mask that the COCO tools make of polygons: each is filled by itself, and all are joined.

    Example:
        >>> painted_by_coco([np.array([[0, 0], [4, 0], [4, 3], [0, 3]], np.float32)], (5, 6)).sum()
        12
    """
    mask = np.zeros(size, bool)
    for ring in rings:
        mask |= _fill_ring(ring, size)
    return mask


def _coco_iou(rings: Sequence[Ring], crop: BoolArray) -> float:
    return iou(rasterize_like_pycocotools(rings, _size(crop)), crop)


def _size(crop: BoolArray) -> tuple[int, int]:
    return crop.shape[0], crop.shape[1]


def _simplify_polygon(part: Polygon, tolerance: float) -> Polygon:
    return Polygon(_simplify_ring(part.outer, tolerance), tuple(_simplify_ring(hole, tolerance) for hole in part.holes))


def _simplify_ring(ring: Ring, tolerance: float) -> Ring:
    """A ring with points left out; one that would collapse stays as it is, so that no part and no hole is lost."""
    if tolerance == 0:
        return ring
    found = cv2.approxPolyDP(ring[:, None], tolerance, closed=True)[:, 0].astype(np.float32)
    return found if len(found) >= 3 and abs(cv2.contourArea(found)) > 0 else ring


def _drop_repeated_points(ring: Ring) -> Ring:
    """Without points that repeat the one before: the COCO tools cannot draw an edge of no length."""
    tidy: Ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    return tidy


def _fill_ring(ring: Ring, size: tuple[int, int]) -> BoolArray:
    """Even-odd down the columns: an edge that crosses the middle of a column turns what is below it."""
    height, width = size
    u, v = _edge_points(np.floor(COCO_UPSAMPLING * ring.astype(np.float64) + 0.5).astype(np.int64))
    steps = u[1:] != u[:-1]
    across = np.minimum(u[1:], u[:-1])[steps]
    down = np.minimum(v[1:], v[:-1])[steps]
    column = (across - COCO_UPSAMPLING // 2) // COCO_UPSAMPLING
    middle = (across % COCO_UPSAMPLING == COCO_UPSAMPLING // 2) & (column >= 0) & (column < width)
    row = np.clip(
        -((COCO_UPSAMPLING // 2 - down) // COCO_UPSAMPLING), 0, height
    )  # the first pixel whose center is not above
    turns = np.bincount((column * (height + 1) + row)[middle], minlength=width * (height + 1))
    inside = np.cumsum(turns.reshape(width, height + 1)[:, :height], axis=1) & 1
    return inside.astype(bool).T


def _edge_points(corners: IntArray) -> tuple[IntArray, IntArray]:
    """x and y of every step along the closed line through `corners` (K, 2), by its longer direction."""
    start, end = corners, np.roll(corners, -1, axis=0)
    reach = np.abs(end - start)
    flat = reach[:, 0] >= reach[:, 1]
    back = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])
    first, last = np.where(back[:, None], end, start), np.where(back[:, None], start, end)
    length = reach.max(axis=1)
    slope = (last - first) / np.maximum(length, 1)[:, None]
    edge = np.repeat(np.arange(len(corners)), length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - length - 1, length + 1)
    step = np.where(back[edge], length[edge] - step, step)
    points = first[edge] + slope[edge] * step[:, None]
    along = first[edge] + step[:, None]
    u = np.where(flat[edge], along[:, 0], np.floor(points[:, 0] + 0.5)).astype(np.int64)
    v = np.where(flat[edge], np.floor(points[:, 1] + 0.5), along[:, 1]).astype(np.int64)
    return u, v
