"""Outlines of masks that lose nothing: holes and separate parts are kept.

An outline runs along the edges of pixels (not through their centers), so its area is the number of pixels,
and filling it again gives the same mask. Outer rings turn clockwise on the screen, holes the other way round.
Formats that know one ring only get it from `join` and `one_ring` (edges) or `contour_ring` (pixel centers);
`loss` and `contour_loss` say how well the outcome still agrees with the mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.masks.ops import iou, masks_to_boxes

__all__ = [
    "Polygon",
    "bridge_holes",
    "contour_ring",
    "contour_roundtrip_iou",
    "mask_to_polygons",
    "merge_to_ring",
    "polygons_to_mask",
    "roundtrip_iou",
]

Bools = npt.NDArray[np.bool_]
Ring = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask: an outer ring (K, 2) and its holes, xy in original pixels, float32.

    Example:
        >>> Polygon(np.array([[0, 0], [4, 0], [4, 3], [0, 3]], np.float32)).area
        12.0
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def area(self) -> float:
        """Enclosed area in square pixels, holes taken off."""
        return abs(_signed_area(self.outer)) - sum(abs(_signed_area(hole)) for hole in self.holes)


def mask_to_polygons(mask: Bools) -> list[Polygon]:
    """The outlines of a (H, W) mask, one `Polygon` a connected part (also diagonally), largest first.

    Lossless: `to_mask(from_mask(mask), mask.shape)` equals `mask`. An empty mask has no outline.

    Example:
        >>> [polygon] = from_mask(mask)
        >>> polygon.outer
        array([[1., 2.], [7., 2.], [7., 4.], [1., 4.]], dtype=float32)
    """
    left, top, right, bottom = masks_to_boxes(mask[None])[0].astype(int)
    crop = mask[top:bottom, left:right]
    if not crop.size:
        return []
    labels = cv2.connectedComponents(np.ascontiguousarray(crop).view(np.uint8), connectivity=8)[1]
    origin = np.array([left, top])
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for ring in _trace_rings(crop):
        column, row = ring[0]
        shifted = (ring + origin).astype(np.float32)
        if crop[row, column]:
            outer[int(labels[row, column])] = shifted
        else:
            holes.setdefault(int(labels[row - 1, column]), []).append(_reversed(shifted))
    parts = [Polygon(ring, tuple(holes.get(label, ()))) for label, ring in outer.items()]
    return sorted(parts, key=lambda part: -part.area)


def polygons_to_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> Bools:
    """The (H, W) mask of all pixels whose center lies in one of the polygons; `size` is (height, width).

    Example:
        >>> to_mask([Polygon(ring)], size=(480, 640)).sum()
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        _fill((polygon.outer, *polygon.holes), mask)
    return mask


def bridge_holes(polygon: Polygon) -> Ring:
    """One ring (K, 2) for a polygon with holes: each hole hangs on the outer ring by a bridge of no width.

    Example:
        >>> join(polygon).shape
        (10, 2)
    """
    ring = polygon.outer
    for hole in polygon.holes:
        ring = _bridge_rings(ring, hole)
    return ring


def merge_to_ring(polygons: Sequence[Polygon]) -> Ring:
    """One ring (K, 2) for a whole mask: holes and further parts hang on the first by bridges of no width.

    Filling it (even-odd or nonzero) gives the mask back; drawing it also shows the bridges.
    No polygons give a (0, 2) ring.

    Example:
        >>> ring = one_ring(from_mask(mask))
    """
    return _merge_rings([bridge_holes(polygon) for polygon in polygons])


def roundtrip_iou(mask: Bools, polygons: Sequence[Polygon]) -> float:
    """How much of the mask the polygons keep: the IoU of their mask with `mask` (1.0 = nothing lost).

    Example:
        >>> loss(mask, from_mask(mask))
        1.0
    """
    height, width = mask.shape
    return iou(polygons_to_mask(polygons, (height, width)), mask)


def contour_ring(mask: Bools) -> Ring:
    """One ring (K, 2), K >= 3 or 0, through the centers of a mask's border pixels, for YOLO text files.

    Readers of those files cut each coordinate to a whole pixel and paint the ring with its edge; through
    centers nothing grows by this. Bridges between parts are painted too: measure it with `contour_loss`.

    Example:
        >>> contour_ring(mask) / (width, height)  # as the file holds it
    """
    contours, tree = cv2.findContours(
        np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    rings = [contour.reshape(-1, 2).astype(np.float32) + 0.5 for contour in contours]
    parents = np.asarray(tree).reshape(-1, 4)[:, 3].tolist() if rings else []
    holes: dict[int, list[Ring]] = {}
    for hole, parent in zip(rings, parents, strict=True):
        holes.setdefault(parent, []).append(hole)
    parts = [Polygon(ring, tuple(holes.get(i, ()))) for i, ring in enumerate(rings) if parents[i] < 0]
    ring = merge_to_ring(sorted(parts, key=lambda part: -part.area))
    return np.resize(ring, (4, 2)) if 0 < len(ring) < 3 else ring


def contour_roundtrip_iou(mask: Bools, ring: Ring) -> float:
    """IoU of the mask with what a reader of YOLO text paints for `ring` (whole pixels, edge included).

    Example:
        >>> contour_loss(mask, contour_ring(mask))
        0.998
    """
    canvas = np.zeros(mask.shape, np.uint8)
    if len(ring):
        cv2.fillPoly(canvas, [np.floor(ring).astype(np.int32)], 1)
    return iou(canvas.view(bool), mask)


def _trace_rings(mask: Bools) -> Iterator[Index]:
    """Closed rings of (column, row) corners around every part and hole; each starts at its top left corner.

    Every corner has one neighbor in its row and one in its column: sorted along the line, corners pair up.
    Where four pixels meet as on a chessboard there are two corners in one place, paired so that the two
    object pixels stay connected.
    """
    rows, columns, falling = _corners(mask)
    again = np.zeros(len(rows), bool)
    again[1:] = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    order = np.lexsort((again ^ falling, rows, columns))
    vertical = np.empty(len(rows), np.intp)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]
    points = np.stack([columns, rows], axis=1)
    for cycle in _cycles(vertical.tolist()):
        yield points[cycle]


def _corners(mask: Bools) -> tuple[Index, Index, Bools]:
    """Rows and columns of all corners in reading order, and whether object pixels meet there as in a '\\'."""
    field = np.pad(mask, 1)
    a, b, c, d = field[:-1, :-1], field[:-1, 1:], field[1:, :-1], field[1:, 1:]
    chess = (a == d) & (b == c) & (a != b)
    rows, columns = np.nonzero((a ^ b ^ c ^ d) | chess)
    times = 1 + chess[rows, columns]
    falling = chess[rows, columns] & a[rows, columns]
    return np.repeat(rows, times), np.repeat(columns, times), np.repeat(falling, times)


def _cycles(vertical: list[int]) -> Iterator[list[int]]:
    """Walk row neighbor (index xor 1), column neighbor, row neighbor ... until the walk closes."""
    seen = bytearray(len(vertical))
    for start in range(0, len(vertical), 2):
        if seen[start]:
            continue
        cycle, here = [], start
        while not seen[here]:
            there = here ^ 1
            seen[here] = seen[there] = 1
            cycle += [here, there]
            here = vertical[there]
        yield cycle


def _fill(rings: Sequence[Ring], mask: Bools) -> None:
    """Set the pixels of `mask` whose centers lie inside the rings (even-odd)."""
    height, width = mask.shape
    points = np.concatenate(rings).astype(np.float64)
    if not len(points):
        return
    left, top = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, (width, height)).astype(int)
    window = mask[top:bottom, left:right]
    if window.size:
        follow = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.float64)
        window |= _even_odd(points - (left, top), follow - (left, top), window.shape)


def _even_odd(start: npt.NDArray[np.float64], end: npt.NDArray[np.float64], size: tuple[int, ...]) -> Bools:
    """Pixels of a (height, width) window that have an odd number of edges to the left of their center."""
    height, width = size
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    crossed = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    turns = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
    return (np.cumsum(turns.reshape(height, width + 1), axis=1)[:, :width] & 1).astype(bool)


def _merge_rings(rings: Sequence[Ring]) -> Ring:
    joined = rings[0] if rings else np.zeros((0, 2), np.float32)
    for ring in rings[1:]:
        joined = _bridge_rings(joined, ring)
    return joined


def _bridge_rings(ring: Ring, other: Ring) -> Ring:
    """`ring` with a way to `other`, around it, and the same way back."""
    near = _nearest_index(ring, other[0])
    entry = _nearest_index(other, ring[near])
    tour = np.concatenate([other[entry:], other[: entry + 1]])
    return np.concatenate([ring[: near + 1], tour, ring[near:]])


def _nearest_index(ring: Ring, point: Ring) -> int:
    across, down = ring[:, 0] - point[0], ring[:, 1] - point[1]
    return int((across * across + down * down).argmin())


def _reversed(ring: Ring) -> Ring:
    return np.ascontiguousarray(ring[::-1])


def _signed_area(ring: Ring) -> float:
    x, y = (ring - ring[:1]).astype(np.float64).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)
