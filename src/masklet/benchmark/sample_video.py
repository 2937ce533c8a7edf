"""Generate the benchmark video: endless, and the same in every run."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_VIDEO_SIZE", "object_centers", "object_radius", "sample_video"]

ImageArray = npt.NDArray[np.uint8]
SAMPLE_VIDEO_SIZE = (480, 854)
"""Height and width of the frames."""


def sample_video(size: tuple[int, int], objects: int) -> Iterator[ImageArray]:
    """Yield RGB frames (height, width, 3) without end: circling discs on a drifting background.

    Example:
        >>> next(sample_video((480, 854), 4)).shape
        (480, 854, 3)
    """
    background = np.random.default_rng(0).integers(60, 120, (*size, 3)).astype(np.uint8)
    frame, radius = 0, object_radius(size, objects)
    while True:
        rgb = np.roll(background, (frame // 3, frame // 2), axis=(0, 1))
        for number, (x, y) in enumerate(object_centers(size, objects, frame)):
            color = (60 + 45 * number % 196, 230 - 40 * number % 200, 90 * number % 256)
            cv2.circle(rgb, (round(x), round(y)), radius, color, cv2.FILLED)
        yield rgb
        frame += 1


def object_centers(size: tuple[int, int], objects: int, frame: int) -> list[tuple[float, float]]:
    """Return the xy centers of the objects on a frame; each circles in its own grid cell.

    Example:
        >>> object_centers((480, 854), 1, 0)
        [(512.4, 240.0)]
    """
    columns = math.ceil(math.sqrt(objects))
    height, width = size[0] / columns, size[1] / columns
    angles = [0.05 * frame + number for number in range(objects)]
    return [
        ((i % columns + 0.5 + 0.1 * math.cos(angle)) * width, (i // columns + 0.5 + 0.1 * math.sin(angle)) * height)
        for i, angle in enumerate(angles)
    ]


def object_radius(size: tuple[int, int], objects: int) -> int:
    """Return the radius of the discs, pixels.

    Example:
        >>> object_radius((480, 854), 1)
        120
    """
    return max(min(size) // (4 * math.ceil(math.sqrt(objects))), 1)
