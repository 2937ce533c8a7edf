"""How often each color is in an image, or under a mask of it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["LAB_BINS", "color_histogram"]

Floats = npt.NDArray[np.float32]
LAB_BINS = (4, 8, 8)
"""Lightness changes more than color does."""


def color_histogram(rgb: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Return the square roots of the shares of all colors in an image (H, W, 3), under a mask (H, W) if there is one.

    It has length 1, so that the product of two is their Bhattacharyya coefficient: 1 for the same colors, 0 for others.

    Example:
        >>> red, blue = (np.full((9, 16, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
        >>> float(color_histogram(red) @ color_histogram(red)), float(color_histogram(red) @ color_histogram(blue))
        (1.0, 0.0)
    """
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
    under = None if mask is None else mask.astype(np.uint8)
    counts = cv2.calcHist([lab], [0, 1, 2], under, LAB_BINS, [0, 256] * 3).ravel()
    histogram: Floats = np.sqrt(counts / counts.sum())
    return histogram
