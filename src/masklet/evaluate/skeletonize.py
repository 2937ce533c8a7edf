"""The middle lines of a region: what a person would draw through it with a few strokes.

A line is as long as the region lets it be, and smooth. The steps are those by which the robot of DAVIS interactive
draws (Caelles et al. 2018), each a known one of its own: an opening with a disc, the medial axis (pixels are taken away
in order of their depth, as long as what is left hangs together), a tree that spans it, the longest path of the tree,
and the Bezier curve of that path. All are deterministic.

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
"""A disc that leaves nothing is made smaller by this."""
NEIGHBOR_OFFSETS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Rows and columns to the eight neighbors of a pixel."""


def binary_opening(mask: Mask, radius: float) -> Mask:
    """A region (H, W) without what a disc of that radius does not fit into; the disc shrinks while nothing is left.

    A disc of radius 1 or less changes nothing. Beyond the image everything fits.

    Example:
        >>> opened(np.ones((3, 3), bool), 0.5).all()
        True
    """
    left, pixels = mask, mask.astype(np.uint8)
    while radius > 1:
        disc = _disc(radius)
        within = cv2.dilate(np.ones_like(pixels), disc)  # a small lopsided disc may lie beyond the image altogether
        left = cv2.dilate(np.minimum(cv2.erode(pixels, disc), within), disc).astype(bool)
        if left.any():
            break
        radius *= DISC_SHRINK_FACTOR
    return left


def _disc(radius: float) -> npt.NDArray[np.uint8]:
    """Steps of one from -radius on: of a broken radius it is a little lopsided, as that of the challenge is."""
    step = np.arange(-radius, radius + 1)
    return (step[:, None] ** 2 + step**2 <= radius**2).astype(np.uint8)


def medial_axis(mask: Mask) -> Mask:
    """The lines (H, W) that lie in the middle of a region, about one pixel wide; the border of the image bounds it.

    Pixels are looked at from the outermost to the deepest, of equally deep ones those with most neighbors first, else
    in an order that is shuffled once and for all. One is taken away unless its neighbors would fall apart, or it is
    the end of a line.

    Example:
        >>> medial_axis(np.ones((3, 7), bool))[1]
        array([False,  True,  True,  True,  True,  True, False])
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    found = np.zeros_like(mask)
    if len(rows):
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found[part] = _thin(np.pad(mask[part], 1).astype(np.uint8))[1:-1, 1:-1]
    return found


def _thin(region: npt.NDArray[np.uint8]) -> Mask:
    """Of a region with an empty border."""
    depth = cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    around = cv2.boxFilter(region, cv2.CV_16S, (3, 3), normalize=False)
    there = np.flatnonzero(region)
    shuffled = np.random.RandomState(0).permutation(len(there))  # row by row would eat up the ends of some branches
    order = there[np.lexsort((shuffled, -around.ravel()[there], depth.ravel()[there]))]
    pixels, kept = bytearray(region.tobytes()), _keep_table()
    steps = [row * region.shape[1] + column for row, column in NEIGHBOR_OFFSETS]
    a, b, c, d, e, f, g, h = steps
    for at in order.tolist():  # plain numbers: this loop is the time of it
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
        pixels[at] = kept[code]
    return np.frombuffer(bytes(pixels), np.uint8).reshape(region.shape).astype(bool)


@cache
def _keep_table() -> bytes:
    """By which neighbors there are (a bit each, as in `ROUND`), 1 where a pixel must stay."""
    return bytes(int(_must_stay(code)) for code in range(256))


def _must_stay(code: int) -> bool:
    """Fewer than two neighbors: the end of a line. Else when they hang together only through the pixel."""
    window = np.zeros((3, 3), np.uint8)
    for bit, (row, column) in enumerate(NEIGHBOR_OFFSETS):
        window[1 + row, 1 + column] = code >> bit & 1
    return bool(window.sum() < 2 or cv2.connectedComponents(window, connectivity=8)[0] != 2)  # one is the background


def longest_paths(lines: Mask, min_pixels: int) -> list[PathPoints]:
    """Of each connected part of some lines (H, W) with at least `fewest` pixels, the longest path through it (N, 2).

    A part with loops becomes a tree that keeps the shorter links; a path is the longer the more pixels it has.

    Example:
        >>> longest_paths(np.ones((1, 4), bool), fewest=4)[0].tolist()
        [[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """
    pixels = [(int(row), int(column)) for row, column in np.argwhere(lines)]
    links, found, seen = _spanning_tree(pixels), [], set[int]()
    for start in range(len(pixels)):
        if start in seen:
            continue
        reached = _breadth_first(links, start)
        seen.update(reached)
        if len(reached) >= min_pixels:
            found.append(np.array([pixels[n][::-1] for n in _longest_path(links, reached)], float))
    return found


def _spanning_tree(pixels: Sequence[tuple[int, int]]) -> list[list[int]]:
    """By pixel, those it is linked with, without loops: straight links are made first, slanting ones where needed."""
    number = {pixel: n for n, pixel in enumerate(pixels)}
    owner, links = list(range(len(pixels))), [list[int]() for _ in pixels]
    for steps in (((0, 1), (1, 0)), ((1, -1), (1, 1))):
        for n, (row, column) in enumerate(pixels):
            for down, right in steps:
                other = number.get((row + down, column + right))
                if other is not None and _union(owner, n, other):
                    links[n].append(other)
                    links[other].append(n)
    return links


def _union(owner: list[int], one: int, other: int) -> bool:
    """Make one part of two; False: they were one."""
    first, second = _find_root(owner, one), _find_root(owner, other)
    owner[second] = first
    return first != second


def _find_root(owner: list[int], one: int) -> int:
    while owner[one] != one:
        owner[one] = owner[owner[one]]
        one = owner[one]
    return one


def _breadth_first(links: Sequence[Sequence[int]], start: int) -> dict[int, int]:
    """All that is reached from a pixel, the nearest first, with the one it was reached from."""
    came, waiting = {start: start}, deque([start])
    while waiting:
        at = waiting.popleft()
        for other in links[at]:
            if other not in came:
                came[other] = at
                waiting.append(other)
    return came


def _longest_path(links: Sequence[Sequence[int]], reached: dict[int, int]) -> list[int]:
    """The farthest pixel from any is an end of the longest path of a tree, the farthest from that the other one."""
    end = next(reversed(reached))
    came = _breadth_first(links, end)
    path = [next(reversed(came))]
    while path[-1] != end:
        path.append(came[path[-1]])
    return path


def bezier_curve(path: PathPoints, points: int) -> PathPoints:
    """The Bezier curve (points, 2) whose controls are the points of a path (N, 2); one of more than that stays.

    Example:
        >>> bezier(np.array([[0.0, 0.0], [4.0, 8.0]]), points=3).tolist()
        [[0.0, 0.0], [2.0, 4.0], [4.0, 8.0]]
    """
    if len(path) > points:
        return path
    n = len(path) - 1
    t = np.linspace(0, 1, points)[:, None]
    k = np.arange(n + 1)
    ways = np.array([math.comb(n, int(i)) for i in k], float)
    return np.asarray((ways * t**k * (1 - t) ** (n - k)) @ path)
