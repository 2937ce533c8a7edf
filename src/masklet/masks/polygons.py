"""Convert masks to polygons and back without loss: holes and separate parts are preserved.

An outline runs along the edges of pixels (not through their centers), so its area is the number of pixels, and filling
it again gives the same mask. Outer rings turn clockwise on the screen, holes the other way.
Formats with a single ring get it from `bridge_holes` and `merge_to_ring` (edges) or `contour_ring` (pixel centers);
`contour_roundtrip_iou` measures what is lost.
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
        """Enclosed area in square pixels, without the holes."""
        areas = []
        for ring in (self.outer, *self.holes):
            x, y = (ring - ring[:1]).astype(np.float64).T
            areas.append(abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)))
        return areas[0] - sum(areas[1:])


def mask_to_polygons(mask: Bools) -> list[Polygon]:
    """Trace a (H, W) mask: one `Polygon` per 8-connected part, largest first.

    Lossless: `polygons_to_mask(mask_to_polygons(mask), mask.shape)` equals `mask`. An empty mask has no polygon.

    Example:
        >>> mask = np.zeros((5, 8), bool)
        >>> mask[2:4, 1:7] = True
        >>> [polygon] = mask_to_polygons(mask)
        >>> polygon.outer.tolist()
        [[1.0, 2.0], [7.0, 2.0], [7.0, 4.0], [1.0, 4.0]]
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
            holes.setdefault(int(labels[row - 1, column]), []).append(np.ascontiguousarray(shifted[::-1]))
    parts = [Polygon(ring, tuple(holes.get(label, ()))) for label, ring in outer.items()]
    return sorted(parts, key=lambda part: -part.area)


def polygons_to_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> Bools:
    """Fill polygons: return the (H, W) mask of the pixels whose center lies in one of them; `size` is (height, width).

    Example:
        >>> triangle = Polygon(np.array([[0, 0], [4, 0], [0, 4]], np.float32))
        >>> int(polygons_to_mask([triangle], size=(6, 6)).sum())
        6
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        # set the pixels whose centers have an odd number of ring edges to their left
        rings = (polygon.outer, *polygon.holes)
        points = np.concatenate(rings).astype(np.float64)
        if not len(points):
            continue
        left, top = np.clip(np.floor(points.min(axis=0)), 0, size[::-1]).astype(int)
        right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, size[::-1]).astype(int)
        window = mask[top:bottom, left:right]
        if not window.size:
            continue
        height, width = window.shape
        start = points - (left, top)
        end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings]).astype(np.float64) - (left, top)
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
        crossed_rows = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64) - first
        edge = np.repeat(np.arange(len(start)), crossed_rows)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed_rows) - crossed_rows, crossed_rows) + first[edge]
        slope = (end[edge, 0] - start[edge, 0]) / (end[edge, 1] - start[edge, 1])
        x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1))
        window |= (np.cumsum(toggles.reshape(height, width + 1), axis=1)[:, :width] & 1).astype(bool)
    return mask


def bridge_holes(polygon: Polygon) -> Ring:
    """Merge a polygon with holes into one ring (K, 2): each hole is joined to the outer ring by a zero-width bridge.

    Example:
        >>> square = np.array([[0, 0], [6, 0], [6, 6], [0, 6]], np.float32)
        >>> bridge_holes(Polygon(square, (square[::-1] / 3 + 2,))).shape
        (10, 2)
    """
    ring = polygon.outer
    for hole in polygon.holes:
        ring = _bridge_rings(ring, hole)
    return ring


def merge_to_ring(polygons: Sequence[Polygon]) -> Ring:
    """Merge all parts and holes of a mask into one ring (K, 2), joined by zero-width bridges.

    Filling it (even-odd or nonzero) gives the mask back; drawing it also shows the bridges.
    No polygons give a (0, 2) ring.

    Example:
        >>> merge_to_ring(mask_to_polygons(np.array([[True, False, True]]))).shape
        (10, 2)
    """
    rings = [bridge_holes(polygon) for polygon in polygons]
    merged = rings[0] if rings else np.zeros((0, 2), np.float32)
    for ring in rings[1:]:
        merged = _bridge_rings(merged, ring)
    return merged


def contour_ring(mask: Bools) -> Ring:
    """Trace one ring (K, 2), K >= 3 or 0, through the centers of a mask's border pixels, for YOLO text files.

    Readers of those files truncate each coordinate to a whole pixel and fill the ring including its edge; through
    pixel centers nothing grows by this. They fill the bridges between parts too: measure the loss with
    `contour_roundtrip_iou`.

    Example:
        >>> ring = contour_ring(np.ones((3, 4), bool)) / (4, 3)  # fractions of width and height, as in the file
        >>> ring[0].tolist()
        [0.125, 0.16666666666666666]
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
    """Measure the IoU of the mask with what a reader of YOLO text fills for `ring` (whole pixels, edge included).

    Example:
        >>> mask = np.pad(np.ones((3, 4), bool), 1)
        >>> contour_roundtrip_iou(mask, contour_ring(mask))
        1.0
    """
    canvas = np.zeros(mask.shape, np.uint8)
    if len(ring):
        cv2.fillPoly(canvas, [np.floor(ring).astype(np.int32)], 1)
    return iou(canvas.view(bool), mask)


def _trace_rings(mask: Bools) -> Iterator[Index]:
    """Trace closed rings of (column, row) corners around every part and hole; each starts at its top left corner.

    Every corner has one neighbor in its row and one in its column: sorted along the line, corners pair up.
    Where four pixels meet as on a chessboard there are two corners at one position, paired so that the two
    object pixels stay connected.
    """
    field = np.pad(mask, 1)
    a, b, c, d = field[:-1, :-1], field[:-1, 1:], field[1:, :-1], field[1:, 1:]
    chess = (a == d) & (b == c) & (a != b)
    rows, columns = np.nonzero((a ^ b ^ c ^ d) | chess)  # in reading order
    times = 1 + chess[rows, columns]
    falling = np.repeat(chess[rows, columns] & a[rows, columns], times)  # object pixels meet as in a backslash
    rows, columns = np.repeat(rows, times), np.repeat(columns, times)

    second = np.zeros(len(rows), bool)
    second[1:] = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    order = np.lexsort((second ^ falling, rows, columns))
    vertical = np.empty(len(rows), np.intp)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]

    points = np.stack([columns, rows], axis=1)
    column_neighbor: list[int] = vertical.tolist()
    visited = bytearray(len(points))
    for start in range(0, len(points), 2):
        if visited[start]:
            continue
        cycle, corner = [], start
        while not visited[corner]:
            row_neighbor = corner ^ 1
            visited[corner] = visited[row_neighbor] = 1
            cycle += [corner, row_neighbor]
            corner = column_neighbor[row_neighbor]
        yield points[cycle]


def _bridge_rings(ring: Ring, other: Ring) -> Ring:
    """Return `ring` with a bridge to `other`, around it, and back."""
    across, down = (ring - other[0]).T
    near = int((across * across + down * down).argmin())
    across, down = (other - ring[near]).T
    entry = int((across * across + down * down).argmin())
    tour = np.concatenate([other[entry:], other[: entry + 1]])
    return np.concatenate([ring[: near + 1], tour, ring[near:]])
