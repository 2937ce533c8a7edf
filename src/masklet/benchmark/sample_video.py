"""The video that everybody follows: made, the same in every run, without end."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_VIDEO_SIZE", "object_centers", "object_radius", "sample_video"]

ImageArray = npt.NDArray[np.uint8]
SAMPLE_VIDEO_SIZE = (480, 854)
"""Height and width of its frames."""


def sample_video(size: tuple[int, int], objects: int) -> Iterator[ImageArray]:
    """Frames (height, width, 3) without end: discs that circle, on a ground that drifts; the same in every run.

    Example:
        >>> next(made_video((480, 854), 4)).shape
        (480, 854, 3)
    """
    ground = np.random.default_rng(0).integers(60, 120, (*size, 3)).astype(np.uint8)
    frame, radius = 0, object_radius(size, objects)
    while True:
        rgb = np.roll(ground, (frame // 3, frame // 2), axis=(0, 1))
        for number, (x, y) in enumerate(object_centers(size, objects, frame)):
            color = (60 + 45 * number % 196, 230 - 40 * number % 200, 90 * number % 256)
            cv2.circle(rgb, (round(x), round(y)), radius, color, cv2.FILLED)
        yield rgb
        frame += 1


def object_centers(size: tuple[int, int], objects: int, frame: int) -> list[tuple[float, float]]:
    """Where the centers of the objects are on a frame, xy: each circles in a cell of its own.

    Example:
        >>> places((480, 854), 1, 0)
        [(512.4, 240.0)]
    """
    across = _grid_size(objects)
    height, width = size[0] / across, size[1] / across
    angles = [0.05 * frame + number for number in range(objects)]
    return [
        ((i % across + 0.5 + 0.1 * math.cos(angle)) * width, (i // across + 0.5 + 0.1 * math.sin(angle)) * height)
        for i, angle in enumerate(angles)
    ]


def object_radius(size: tuple[int, int], objects: int) -> int:
    """The radius of the discs.

    Example:
        >>> reach((480, 854), 1)
        120
    """
    return max(min(size) // (4 * _grid_size(objects)), 1)


def _grid_size(objects: int) -> int:
    return math.ceil(math.sqrt(objects))
