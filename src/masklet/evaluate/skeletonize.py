"""Find the middle lines of a region: the few strokes that a person would draw through it.

A line is as long as the region allows, and smooth. The steps are those of the robot of DAVIS interactive (Caelles et
al. 2018), each a standard one: an opening with a disc, the medial axis (pixels are removed in the order of their depth,
as long as the rest stays connected), a spanning tree, the longest path of the tree, and the Bezier curve of that path.
All are deterministic.

Shapes: H height, W width, N points of a path, x before y.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["bezier_curve", "binary_opening", "longest_paths", "medial_axis"]

Mask = npt.NDArray[np.bool_]
PathPoints = npt.NDArray[np.float64]

DISC_SHRINK_FACTOR = 0.9
"""A disc that leaves nothing shrinks by this factor."""
NEIGHBOR_OFFSETS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Rows and columns to the eight neighbors of a pixel."""


def binary_opening(mask: Mask, radius: float) -> Mask:
    """Remove from a region (H, W) what a disc of that radius does not fit into; the disc shrinks until something stays.

    A disc of radius 1 or less changes nothing. Beyond the image everything fits.

    Example:
        >>> binary_opening(np.ones((3, 3), bool), 0.5).all()
        True
    """
    opened, pixels = mask, mask.astype(np.uint8)
    while radius > 1:
        step = np.arange(-radius, radius + 1)  # a fractional radius gives a slightly lopsided disc, as the challenge's
        disc = (step[:, None] ** 2 + step**2 <= radius**2).astype(np.uint8)
        within = cv2.dilate(np.ones_like(pixels), disc)  # a small lopsided disc may lie entirely outside the image
        opened = cv2.dilate(np.minimum(cv2.erode(pixels, disc), within), disc).astype(bool)
        if opened.any():
            break
        radius *= DISC_SHRINK_FACTOR
    return opened


def medial_axis(mask: Mask) -> Mask:
    """Return the lines (H, W) in the middle of a region, about one pixel wide; the image border bounds the region.

    Pixels are visited from the outermost to the deepest, equally deep ones by their number of neighbors, most first,
    and then in an order that is shuffled with a fixed seed. A pixel is removed unless its neighbors would disconnect,
    or it is the end of a line.

    Example:
        >>> medial_axis(np.ones((3, 7), bool))[1]
        array([False,  True,  True,  True,  True,  True, False])
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    axis = np.zeros_like(mask)
    if not len(rows):
        return axis
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    region = np.pad(mask[part], 1).astype(np.uint8)  # with an empty border
    depth = cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    around = cv2.boxFilter(region, cv2.CV_16S, (3, 3), normalize=False)
    inside = np.flatnonzero(region)
    shuffled = np.random.RandomState(0).permutation(len(inside))  # row by row would erode the ends of some branches
    order = inside[np.lexsort((shuffled, -around.ravel()[inside], depth.ravel()[inside]))]
    pixels, stays = bytearray(region.tobytes()), _pixels_to_keep()
    a, b, c, d, e, f, g, h = (row * region.shape[1] + column for row, column in NEIGHBOR_OFFSETS)
    for at in order.tolist():  # plain numbers: this loop dominates the time
        code = (
            pixels[at + a]
            | pixels[at + b] << 1
            | pixels[at + c] << 2
            | pixels[at + d] << 3
            | pixels[at + e] << 4
            | pixels[at + f] << 5
            | pixels[at + g] << 6
            | pixels[at + h] << 7
        )
        pixels[at] = stays[code]
    axis[part] = np.frombuffer(bytes(pixels), np.uint8).reshape(region.shape)[1:-1, 1:-1]
    return axis


@cache
def _pixels_to_keep() -> bytes:
    """Return, by which neighbors exist (a bit each, as in `NEIGHBOR_OFFSETS`), 1 if a pixel must stay."""
    stays = []
    for code in range(256):
        window = np.zeros((3, 3), np.uint8)
        for bit, (row, column) in enumerate(NEIGHBOR_OFFSETS):
            window[1 + row, 1 + column] = code >> bit & 1
        parts = cv2.connectedComponents(window, connectivity=8)[0] - 1  # one is the background
        stays.append(window.sum() < 2 or parts != 1)  # the end of a line, or what connects the neighbors
    return bytes(map(int, stays))


def longest_paths(lines: Mask, min_pixels: int) -> list[PathPoints]:
    """Return the longest path (N, 2) through each connected part of lines (H, W) with at least `min_pixels` pixels.

    A part with loops becomes a tree of its shorter links; length is the number of pixels.

    Example:
        >>> longest_paths(np.ones((1, 4), bool), min_pixels=4)[0].tolist()
        [[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    pixels = [(int(row), int(column)) for row, column in np.argwhere(lines)]
    links, paths, seen = _spanning_tree(pixels), [], set[int]()
    for start in range(len(pixels)):
        if start in seen:
            continue
        reached = _breadth_first(links, start)
        seen.update(reached)
        if len(reached) >= min_pixels:
            # the pixel farthest from any pixel is an end of the tree's longest path, the farthest from that the other
            end = next(reversed(reached))
            parent = _breadth_first(links, end)
            path = [next(reversed(parent))]
            while path[-1] != end:
                path.append(parent[path[-1]])
            paths.append(np.array([pixels[n][::-1] for n in path], float))
    return paths


def _spanning_tree(pixels: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return, by pixel, its links without loops: straight links first, diagonal ones where needed."""
    number = {pixel: n for n, pixel in enumerate(pixels)}
    owner, links = list(range(len(pixels))), [list[int]() for _ in pixels]

    def root(n: int) -> int:
        while owner[n] != n:
            owner[n] = owner[owner[n]]
            n = owner[n]
        return n

    for steps in (((0, 1), (1, 0)), ((1, -1), (1, 1))):
        for n, (row, column) in enumerate(pixels):
            for down, right in steps:
                other = number.get((row + down, column + right))
                if other is None:
                    continue
                first, second = root(n), root(other)
                if first != second:
                    owner[second] = first
                    links[n].append(other)
                    links[other].append(n)
    return links


def _breadth_first(links: Sequence[Sequence[int]], start: int) -> dict[int, int]:
    """Return the parent of each pixel that is reached, the nearest first."""
    parent, waiting = {start: start}, deque([start])
    while waiting:
        at = waiting.popleft()
        for other in links[at]:
            if other not in parent:
                parent[other] = at
                waiting.append(other)
    return parent


def bezier_curve(path: PathPoints, points: int) -> PathPoints:
    """Return the Bezier curve (points, 2) with the points of a path (N, 2) as controls; a longer path is unchanged.

    Example:
        >>> bezier_curve(np.array([[0.0, 0.0], [4.0, 8.0]]), points=3).tolist()
        [[0.0, 0.0], [2.0, 4.0], [4.0, 8.0]]
    """
    if len(path) > points:
        return path
    n = len(path) - 1
    t = np.linspace(0, 1, points)[:, None]
    k = np.arange(n + 1)
    binomials = np.array([math.comb(n, int(i)) for i in k], float)
    return np.asarray((binomials * t**k * (1 - t) ** (n - k)) @ path)
