"""Augment images and masks: crops, flips, rotations, shears and color jitter.

A view is one affine map, applied to an image and to its masks alike.
Shapes: H and W of the original, S side of the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.train.config import AugmentConfig

__all__ = ["AffineView", "ColorJitter", "apply_color_jitter", "sample_color_jitter", "sample_view"]

ImageArray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Rng = np.random.Generator

PAD_COLOR = (124, 116, 104)
"""Color outside the image: the mean that the networks subtract."""


@dataclass(frozen=True)
class AffineView:
    """An affine map from original pixels to a square of `size` pixels."""

    matrix: FloatArray
    """(2, 3)."""
    size: int

    def warp_image(self, rgb: ImageArray) -> ImageArray:
        """Map RGB (H, W, 3) to (S, S, 3), with gray outside the image."""
        rgb, matrix = self._downscale(rgb)
        warped = cv2.warpAffine(rgb, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderValue=PAD_COLOR)
        return np.asarray(warped, np.uint8)

    def warp_mask(self, mask: Mask) -> Mask:
        """Map a mask (H, W) to (S, S), empty outside the image."""
        soft, matrix = self._downscale(mask.astype(np.uint8) * 255)
        warped = cv2.warpAffine(soft, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
        return np.asarray(warped > 127)

    def _downscale(self, pixels: ImageArray) -> tuple[ImageArray, FloatArray]:
        """Halve the pixels as often as the view halves them, since warping alone would alias; also return the rest map.

        A view that enlarges pads the image by one pixel; otherwise half of the border would blend with the outside.
        """
        shrink = 1 / float(np.sqrt(max(abs(np.linalg.det(self.matrix[:, :2])), 1e-12)))
        halvings = max(0, int(np.log2(shrink + 1e-9) + 0.25))
        if not halvings and shrink < 1 - 1e-9:
            padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
            return np.asarray(padded, np.uint8), self.matrix @ np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
        if not halvings:
            return pixels, self.matrix
        height, width = pixels.shape[:2]
        small_h, small_w = max(height >> halvings, 1), max(width >> halvings, 1)
        small = cv2.resize(pixels, (small_w, small_h), interpolation=cv2.INTER_AREA)
        back = np.array(
            [[width / small_w, 0, width / small_w / 2 - 0.5], [0, height / small_h, height / small_h / 2 - 0.5]]
        )
        return np.asarray(small, np.uint8), self.matrix @ np.vstack([back, [0, 0, 1]])


def sample_view(rng: Rng, height: int, width: int, size: int, config: AugmentConfig) -> AffineView:
    """Sample a view of an H x W image: all of it or a crop, stretched to a square, maybe flipped, rotated, sheared."""
    crop_h, crop_w, top, left = float(height), float(width), 0.0, 0.0
    if rng.random() >= config.full_image_prob:
        area = rng.uniform(config.min_crop_area, 1.0)
        stretch = np.exp(rng.uniform(-config.aspect_jitter, config.aspect_jitter))
        crop_h = float(min(height * np.sqrt(area) * stretch, height))
        crop_w = float(min(width * np.sqrt(area) / stretch, width))
        top, left = rng.uniform(0, height - crop_h + 1e-6), rng.uniform(0, width - crop_w + 1e-6)
    x, y = size / crop_w, size / crop_h
    matrix = np.array([[x, 0, 0.5 * (x - 1) - left * x], [0, y, 0.5 * (y - 1) - top * y]])
    if rng.random() < config.flip_prob:
        matrix[0] = [-matrix[0, 0], 0, size - 1 - matrix[0, 2]]
    if rng.random() < config.affine_prob:
        angle = np.deg2rad(rng.uniform(-config.degrees, config.degrees))
        slant = np.deg2rad(rng.uniform(-config.shear, config.shear))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = rotation @ np.array([[1, np.tan(slant)], [0, 1]])
        center = np.full(2, (size - 1) / 2)
        about_center = np.hstack([linear, (center - linear @ center)[:, None]])
        matrix = np.asarray(about_center @ np.vstack([matrix, [0, 0, 1]]))
    return AffineView(matrix, size)


@dataclass(frozen=True)
class ColorJitter:
    """Factors of brightness, contrast and saturation; 1 changes nothing."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def sample_color_jitter(rng: Rng, brightness: float, contrast: float, saturation: float) -> ColorJitter:
    """Sample factors that differ from 1 by at most these values."""
    return ColorJitter(*(1 + rng.uniform(-limit, limit) for limit in (brightness, contrast, saturation)))


def apply_color_jitter(rgb: ImageArray, *jitters: ColorJitter) -> ImageArray:
    """Apply color changes to an image (H, W, 3), one after the other."""
    for jitter in jitters:
        if jitter == ColorJitter():
            continue
        pixels = rgb.astype(np.float32) * jitter.brightness
        gray_HW = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = (pixels - gray_HW.mean()) * jitter.contrast + gray_HW.mean()
        gray_HW1 = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        rgb = (gray_HW1 + (pixels - gray_HW1) * jitter.saturation).round().clip(0, 255).astype(np.uint8)
    return rgb
