"""Where a picture is asked when nobody says where: points that are evenly spread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["coarse_to_fine", "layer_grids", "point_grid"]

Floats = npt.NDArray[np.float64]


def point_grid(side: int) -> Floats:
    """`side` x `side` points (side * side, 2), xy as shares of width and height, row by row.

    Every point is in the middle of its cell.

    Example:
        >>> point_grid(2)
        array([[0.25, 0.25],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.75, 0.75]])
    """
    assert side >= 1, f"a grid of {side} points a side"
    along = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(along, along)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def layer_grids(side: int, layers: int, downscale: int) -> list[Floats]:
    """The grid of the whole picture and of a crop in each of `layers` layers: each `downscale` times as coarse.

    Example:
        >>> [len(grid) for grid in layer_grids(8, 2, 2)]
        [64, 16, 4]
    """
    return [point_grid(max(1, int(side / downscale**layer))) for layer in range(layers + 1)]


def coarse_to_fine(count: int) -> list[npt.NDArray[np.intp]]:
    """The indices of a square grid of `count` points in rounds: every fourth along each side, every second, the rest.

    Example:
        >>> [len(some) for some in coarse_to_fine(64)]
        [4, 12, 48]
    """
    side = round(count**0.5)
    assert side * side == count, f"{count} points are no square grid"
    row, column = np.divmod(np.arange(count), side)
    left, rounds = np.ones(count, bool), []
    for step in (4, 2, 1):
        now = left & ((row - 2) % step == 0) & ((column - 2) % step == 0)
        left &= ~now
        rounds.append(np.flatnonzero(now))
    return rounds
