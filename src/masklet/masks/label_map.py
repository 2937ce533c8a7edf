"""The colors of label maps: the palette of PASCAL VOC and DAVIS, which tools expect in indexed PNG files."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["davis_palette"]


def davis_palette() -> npt.NDArray[np.uint8]:
    """256 RGB colors, (256, 3): bits of the label, three at a time, become high bits of red, green and blue.

    Example:
        >>> davis_palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    labels = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for triple in range(3):
        for channel in range(3):
            bit = (labels >> (3 * triple + channel)) & 1
            colors[:, channel] |= (bit << (7 - triple)).astype(np.uint8)
    return colors
