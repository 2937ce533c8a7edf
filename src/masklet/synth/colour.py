"""Colours changed a little, so that one photograph is good for many scenes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["jitter_colour"]

Picture = npt.NDArray[np.uint8]


def jitter_colour(random: np.random.Generator, rgb: Picture) -> Picture:
    """Brightness, contrast and colour balance of a picture (H, W, 3) changed; now and then it is made grey.

    Example:
        >>> jitter_colour(np.random.default_rng(0), picture).shape == picture.shape
        True
    """
    if random.random() < 0.05:
        rgb = np.repeat(rgb.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    if random.random() < 0.3:
        return rgb
    gain = random.uniform(0.75, 1.25) * random.uniform(0.93, 1.07, 3)
    shift = random.uniform(-20, 20)
    table = np.arange(256)[:, None] * gain + shift
    lut = table.clip(0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(rgb, lut), np.uint8)
