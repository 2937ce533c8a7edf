"""Things to paste: whole objects cut out of pictures along their masks, and plain patches to hide behind.

Shapes: H and W of the picture or of the piece.

Colours changed a little, so that one photograph is good for many scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Piece", "cut_out", "is_whole", "jitter_colour", "patch"]

Picture = npt.NDArray[np.uint8]
Random = np.random.Generator

PAD = 6
"""Pixels kept around a cut-out, so that its edge fades out inside."""


@dataclass(frozen=True)
class Piece:
    """A picture that is there only in part."""

    rgb: Picture
    """(H, W, 3)."""
    alpha: Picture
    """(H, W)."""


def is_whole(mask: npt.NDArray[np.bool_]) -> bool:
    """Of a fair size, in one part, compact, and not cut off by the border of its picture."""
    if not 0.004 < mask.mean() < 0.6:
        return False
    height, width = _box(mask)[2:]
    border = sum(int(line.sum()) for line in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    if min(height, width) < 24 or mask.sum() < 0.25 * height * width or border > 0.06 * (height + width):
        return False
    areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return bool(areas.max() > 0.85 * areas.sum())


def cut_out(rgb: Picture, mask: npt.NDArray[np.bool_]) -> Piece:
    """The part of a picture under a mask, with an edge that lies a little inside and fades."""
    top, left, height, width = _box(mask)
    rows = slice(max(top - PAD, 0), top + height + PAD)
    columns = slice(max(left - PAD, 0), left + width + PAD)
    inner = cv2.erode(mask.astype(np.uint8) * 255, np.ones((3, 3), np.uint8), borderValue=0)
    alpha = cv2.GaussianBlur(inner, (5, 5), 0.9)[rows, columns]
    return Piece(np.ascontiguousarray(rgb[rows, columns]), np.ascontiguousarray(alpha))


def patch(random: Random, rgb: Picture) -> Piece:
    """A rectangle, an ellipse or a bar of a picture, or of one colour: something to pass in front."""
    side = min(rgb.shape[:2])
    height, width = (int(side * random.uniform(0.2, 0.6)) for _ in range(2))
    top, left = random.integers(rgb.shape[0] - height + 1), random.integers(rgb.shape[1] - width + 1)
    piece = rgb[top : top + height, left : left + width]
    if random.random() < 0.3:
        piece = np.broadcast_to(piece[height // 2, width // 2], piece.shape)
    alpha = np.zeros((height, width), np.uint8)
    if random.random() < 0.4:
        cv2.ellipse(alpha, (width // 2, height // 2), (width // 2 - 2, height // 2 - 2), 0, 0, 360, 255, -1)
    else:
        alpha[2:-2, 2:-2] = 255
    return Piece(np.ascontiguousarray(piece), np.asarray(cv2.GaussianBlur(alpha, (3, 3), 0.7), np.uint8))


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, left, height, width of what is inside; the mask is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


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
