"""Point grids and overlapping crops for the automatic mask generator.

Boxes are xyxy, original pixels, right and bottom exclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = ["Crop", "coarse_to_fine", "generate_crop_boxes", "layer_grids", "point_grid"]

Floats = npt.NDArray[np.float64]
EDGE_TOLERANCE = 20.0
"""Pixels within which a box touches an edge."""


def point_grid(side: int) -> Floats:
    """Return a grid of `side` x `side` points (side * side, 2), xy as fractions of width and height, row by row.

    Every point is the center of its cell.

    Example:
        >>> point_grid(2)
        array([[0.25, 0.25],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.75, 0.75]])
    """
    assert side >= 1, f"a grid of {side} points per side"
    along = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(along, along)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def layer_grids(side: int, layers: int, downscale: int) -> list[Floats]:
    """Return the grid of the full image, then that of a crop in each layer, each `downscale` times as coarse.

    Example:
        >>> [len(grid) for grid in layer_grids(8, 2, 2)]
        [64, 16, 4]
    """
    return [point_grid(max(1, int(side / downscale**layer))) for layer in range(layers + 1)]


def coarse_to_fine(count: int) -> list[npt.NDArray[np.intp]]:
    """Split the indices of a square grid into rounds: every fourth point along each side, every second, the rest.

    Example:
        >>> [len(indices) for indices in coarse_to_fine(64)]
        [4, 12, 48]
    """
    side = round(count**0.5)
    assert side * side == count, f"{count} points are no square grid"
    row, column = np.divmod(np.arange(count), side)
    remaining, rounds = np.ones(count, bool), []
    for step in (4, 2, 1):
        selected = remaining & ((row - 2) % step == 0) & ((column - 2) % step == 0)
        remaining &= ~selected
        rounds.append(np.flatnonzero(selected))
    return rounds


@dataclass(frozen=True)
class Crop:
    """A crop of an image of `size` (height, width); layer 0 is the full image.

    Example:
        >>> Crop(0, (0, 0, 640, 480), (480, 640)).shape
        (480, 640)
    """

    layer: int
    xyxy: tuple[int, int, int, int]
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the crop."""
        left, top, right, bottom = self.xyxy
        return bottom - top, right - left

    def touches_crop_edge(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return (N,): whether a box, in pixels of the image, touches an edge of the crop inside the image."""
        height, width = self.size
        at_crop = np.abs(xyxy - np.array(self.xyxy, np.float32)) <= EDGE_TOLERANCE
        at_image = np.abs(xyxy - np.array([0, 0, width, height], np.float32)) <= EDGE_TOLERANCE
        return np.asarray((at_crop & ~at_image).any(axis=1))


def generate_crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """Return the full image of `size` (height, width), then 2 x 2 crops, 4 x 4 and so on, for `layers` layers.

    Neighbors overlap by `overlap_ratio` of the shorter side in the first layer, by half as much in the next.

    Example:
        >>> [crop.xyxy for crop in generate_crop_boxes((100, 100), 1, 0.2)][1:3]
        [(0, 0, 60, 60), (0, 40, 60, 100)]
    """
    height, width = size
    crops = [Crop(0, (0, 0, width, height), size)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        wide, high = (math.ceil((overlap * (count - 1) + length) / count) for length in (width, height))
        lefts, tops = ([(length - overlap) * i for i in range(count)] for length in (wide, high))
        for x, y in product(lefts, tops):
            if x < width and y < height:  # an image of a few pixels does not divide further
                crops.append(Crop(layer, (x, y, min(x + wide, width), min(y + high, height)), size))
    return crops
