"""Cutouts to paste into scenes: objects cut out of images along their masks, and plain patches as occluders.

Shapes: H and W of the image or of the cutout.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Cutout", "cut_out", "is_usable_mask", "jitter_color", "random_patch"]

ImageArray = npt.NDArray[np.uint8]
Random = np.random.Generator

EDGE_PADDING = 6
"""Pixels around a cutout, so that its edge fades out inside."""


@dataclass(frozen=True)
class Cutout:
    """An image with an alpha channel."""

    rgb: ImageArray
    """(H, W, 3)."""
    alpha: ImageArray
    """(H, W)."""


def is_usable_mask(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a mask is of medium size, connected, compact, and not cut off by the image border."""
    if not 0.004 < mask.mean() < 0.6:
        return False
    _, _, width, height = cv2.boundingRect(mask.astype(np.uint8))
    border = sum(int(line.sum()) for line in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    if min(height, width) < 24 or mask.sum() < 0.25 * height * width or border > 0.06 * (height + width):
        return False
    areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
    return bool(areas.max() > 0.85 * areas.sum())


def cut_out(rgb: ImageArray, mask: npt.NDArray[np.bool_]) -> Cutout:
    """Cut an object out of an image, with a soft edge slightly inside its mask."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows = slice(max(top - EDGE_PADDING, 0), top + height + EDGE_PADDING)
    columns = slice(max(left - EDGE_PADDING, 0), left + width + EDGE_PADDING)
    inner = cv2.erode(mask.astype(np.uint8) * 255, np.ones((3, 3), np.uint8), borderValue=0)
    alpha = cv2.GaussianBlur(inner, (5, 5), 0.9)[rows, columns]
    return Cutout(np.ascontiguousarray(rgb[rows, columns]), np.ascontiguousarray(alpha))


def random_patch(rng: Random, rgb: ImageArray) -> Cutout:
    """Draw a rectangle or an ellipse, of an image or of one color, as an occluder."""
    side = min(rgb.shape[:2])
    height, width = (int(side * rng.uniform(0.2, 0.6)) for _ in range(2))
    top, left = rng.integers(rgb.shape[0] - height + 1), rng.integers(rgb.shape[1] - width + 1)
    crop = rgb[top : top + height, left : left + width]
    if rng.random() < 0.3:
        crop = np.broadcast_to(crop[height // 2, width // 2], crop.shape)
    alpha = np.zeros((height, width), np.uint8)
    if rng.random() < 0.4:
        cv2.ellipse(alpha, (width // 2, height // 2), (width // 2 - 2, height // 2 - 2), 0, 0, 360, 255, -1)
    else:
        alpha[2:-2, 2:-2] = 255
    return Cutout(np.ascontiguousarray(crop), np.asarray(cv2.GaussianBlur(alpha, (3, 3), 0.7), np.uint8))


def jitter_color(rng: np.random.Generator, rgb: ImageArray) -> ImageArray:
    """Change brightness, contrast and color balance of an image (H, W, 3); a few become gray.

    Example:
        >>> jitter_color(np.random.default_rng(0), np.full((2, 3, 3), 90, np.uint8)).shape
        (2, 3, 3)
    """
    if rng.random() < 0.05:
        rgb = np.repeat(rgb.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    if rng.random() < 0.3:
        return rgb
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3)
    shift = rng.uniform(-20, 20)
    table = np.arange(256)[:, None] * gain + shift
    lut = table.clip(0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(rgb, lut), np.uint8)
