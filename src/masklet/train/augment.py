"""Crops, flips and colours. A view is one affine map, applied to the picture and to its masks alike."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["View", "draw_view", "jitter_colour"]

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """From original pixels to a square of `size` pixels."""

    matrix: npt.NDArray[np.float64]
    """(2, 3)."""
    size: int
    shrinks: bool

    def picture(self, rgb: Picture) -> Picture:
        """RGB (S, S, 3); what lies outside is grey."""
        if self.shrinks:  # warping alone would alias
            rgb, matrix = _halved(rgb, self.matrix)
        else:
            matrix = self.matrix
        warped = cv2.warpAffine(
            rgb, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderValue=(124, 116, 104)
        )
        return np.asarray(warped, np.uint8)

    def mask(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(S, S); nothing lies outside."""
        warped = cv2.warpAffine(
            mask.astype(np.uint8) * 255, self.matrix, (self.size, self.size), flags=cv2.INTER_LINEAR
        )
        return np.asarray(warped > 127)


def _halved(rgb: Picture, matrix: npt.NDArray[np.float64]) -> tuple[Picture, npt.NDArray[np.float64]]:
    """The picture at half its size, and the map that starts from there."""
    half = cv2.resize(rgb, (rgb.shape[1] // 2, rgb.shape[0] // 2), interpolation=cv2.INTER_AREA)
    scaled = matrix.copy()
    scaled[:, :2] *= 2
    return np.asarray(half, np.uint8), scaled


def draw_view(random: np.random.Generator, height: int, width: int, size: int) -> View:
    """A crop of a third of the picture or more, sometimes all of it, stretched to a square; half are mirrored."""
    share = 1.0 if random.random() < 0.35 else random.uniform(0.33, 1.0)
    stretch = np.exp(random.uniform(-0.2, 0.2))
    crop_h = min(height * np.sqrt(share) * stretch, height)
    crop_w = min(width * np.sqrt(share) / stretch, width)
    top, left = random.uniform(0, height - crop_h + 1e-6), random.uniform(0, width - crop_w + 1e-6)
    x, y = size / crop_w, size / crop_h
    matrix = np.array([[x, 0, -left * x], [0, y, -top * y]])
    if random.random() < 0.5:
        matrix[0] = [-x, 0, size - 1 + left * x]
    if random.random() < 0.2:
        matrix = _turned(random, matrix, size)
    return View(matrix, size, shrinks=bool(x < 0.6 and y < 0.6))


def _turned(random: np.random.Generator, matrix: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Rotated by up to 25 degrees about the middle of the view."""
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(-25, 25), random.uniform(0.9, 1.2))
    whole = np.vstack([matrix, [0, 0, 1]])
    return np.asarray(np.asarray(turn) @ whole)


def jitter_colour(random: np.random.Generator, rgb: Picture) -> Picture:
    """Brightness, contrast, colour balance; now and then grey."""
    if random.random() < 0.05:
        rgb = np.repeat(rgb.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    if random.random() < 0.3:
        return rgb
    gain = random.uniform(0.75, 1.25) * random.uniform(0.93, 1.07, 3)
    shift = random.uniform(-20, 20)
    table = np.arange(256)[:, None] * gain + shift
    lut = table.clip(0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(rgb, lut), np.uint8)
