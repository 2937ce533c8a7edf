"""The robot of DAVIS interactive: strokes through what is wrong with an answer, as a person would draw them.

On the frame whose J&F, mean over objects, is lowest among those it has not drawn on yet, it goes through the
background (0) and the objects in the order of their ids. What the truth gives to one of them and the answer does not is
its region. An opening takes away what is thin (a disc of a tenth of the side of a square as large, at most 16 pixels),
the medial axis is drawn, and each part of it with at least 4 pixels becomes one stroke: its longest path, smoothed as
the Bezier curve of all its pixels (1000 points). So a pixel in excess is told by a stroke of what it should be, the
background or another object, and a missed one by a stroke of the object.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from masklet.evaluate.scribble_data import Scribble
from masklet.evaluate.skeleton import bezier, longest_paths, medial_axis, opened

__all__ = ["draw", "frame_to_begin", "frame_to_correct"]

Labels = npt.NDArray[np.uint8]

DISC = 0.2
"""The diameter of the disc, in sides of a square as large as the region."""
LARGEST = 16.0
"""Its radius at most, pixels."""
FEWEST = 4
"""Pixels of a line that is drawn."""
POINTS = 1000
"""Of a stroke."""


def frame_to_correct(jf: Sequence[float], used: Collection[int]) -> int:
    """The frame with the lowest J&F that is not in `used`, or of all where each is; of equals the earliest.

    Example:
        >>> frame_to_correct([0.9, 0.2, 0.2], used={1})
        2
    """
    left = [t for t in range(len(jf)) if t not in used] or range(len(jf))
    return min(left, key=lambda t: jf[t])


def frame_to_begin(truth_THW: Labels, objects: int) -> int:
    """The frame that shows the most of the objects 1 to `objects`; of several the one nearest to the middle.

    Example:
        >>> frame_to_begin(np.ones((5, 2, 2), np.uint8), 1)
        2
    """
    shown = [np.isin(np.arange(1, objects + 1), labels).sum() for labels in truth_THW]
    return min(range(len(shown)), key=lambda t: (-shown[t], abs(t - len(shown) // 2)))


def draw(shown_HW: Labels, truth_HW: Labels, objects: int) -> tuple[Scribble, ...]:
    """Strokes through what an answer has wrong on a frame; both are label maps, the objects 1 to `objects`.

    Example:
        >>> draw(np.zeros_like(truth), truth, objects=1)  # nothing is shown yet
        (Scribble(id=1, ...),)
    """
    strokes: list[Scribble] = []
    for id in range(objects + 1):
        wrong = (truth_HW == id) & (shown_HW != id)
        strokes += [Scribble(id, path) for path in _through(wrong)] if wrong.any() else []
    return tuple(strokes)


def _through(region: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    radius = min(DISC * float(np.sqrt(region.sum())) / 2, LARGEST)
    lines = longest_paths(medial_axis(opened(region, radius)), FEWEST)
    return [bezier(line, POINTS) / region.shape[::-1] for line in lines]
