"""Crops, turns, mirrors and colors. A view is one affine map, applied to an image and to its masks alike.

Shapes: T frames, N objects, H and W of the original, S side of what the network sees.
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
"""What lies outside the image: the mean that the networks take off."""


@dataclass(frozen=True)
class AffineView:
    """From original pixels to a square of `size` pixels."""

    matrix: FloatArray
    """(2, 3)."""
    size: int

    def warp_image(self, rgb: ImageArray) -> ImageArray:
        """RGB (S, S, 3) of (H, W, 3); what lies outside is gray."""
        rgb, matrix = self._downscale(rgb)
        warped = cv2.warpAffine(rgb, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR, borderValue=PAD_COLOR)
        return np.asarray(warped, np.uint8)

    def warp_mask(self, mask: Mask) -> Mask:
        """(S, S) of (H, W); nothing lies outside."""
        soft, matrix = self._downscale(mask.astype(np.uint8) * 255)
        warped = cv2.warpAffine(soft, matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
        return np.asarray(warped > 127)

    def _downscale(self, pixels: ImageArray) -> tuple[ImageArray, FloatArray]:
        """Pixels halved as often as the view shrinks them by two, since warping alone would alias; and the map from
        there.

        A view that enlarges gets a rim of one pixel: else half of the border would be made of what lies outside.
        """
        shrink = 1 / float(np.sqrt(max(abs(np.linalg.det(self.matrix[:, :2])), 1e-12)))
        steps = max(0, int(np.log2(shrink + 1e-9) + 0.25))
        if not steps and shrink < 1 - 1e-9:
            rimmed = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
            return np.asarray(rimmed, np.uint8), self.matrix @ np.array([[1.0, 0, -1], [0, 1, -1], [0, 0, 1]])
        if not steps:
            return pixels, self.matrix
        height, width = pixels.shape[:2]
        small_h, small_w = max(height >> steps, 1), max(width >> steps, 1)
        small = cv2.resize(pixels, (small_w, small_h), interpolation=cv2.INTER_AREA)
        back = np.array(
            [[width / small_w, 0, width / small_w / 2 - 0.5], [0, height / small_h, height / small_h / 2 - 0.5]]
        )
        return np.asarray(small, np.uint8), self.matrix @ np.vstack([back, [0, 0, 1]])


def sample_view(rng: Rng, height: int, width: int, size: int, config: AugmentConfig) -> AffineView:
    """A view of an image of that size: all of it or a crop, stretched to the square, perhaps mirrored and turned."""
    crop_h, crop_w, top, left = _sample_crop(rng, height, width, config)
    x, y = size / crop_w, size / crop_h
    matrix = np.array([[x, 0, 0.5 * (x - 1) - left * x], [0, y, 0.5 * (y - 1) - top * y]])
    if rng.random() < config.flip_prob:
        matrix[0] = [-matrix[0, 0], 0, size - 1 - matrix[0, 2]]
    if rng.random() < config.affine_prob:
        matrix = _rotate_and_shear(rng, matrix, size, config)
    return AffineView(matrix, size)


def _sample_crop(rng: Rng, height: int, width: int, config: AugmentConfig) -> tuple[float, float, float, float]:
    """Height, width, top and left of what is shown."""
    if rng.random() < config.full_image_prob:
        return float(height), float(width), 0.0, 0.0
    share, stretch = (
        rng.uniform(config.min_crop_area, 1.0),
        np.exp(rng.uniform(-config.aspect_jitter, config.aspect_jitter)),
    )
    crop_h = float(min(height * np.sqrt(share) * stretch, height))
    crop_w = float(min(width * np.sqrt(share) / stretch, width))
    return crop_h, crop_w, rng.uniform(0, height - crop_h + 1e-6), rng.uniform(0, width - crop_w + 1e-6)


def _rotate_and_shear(rng: Rng, matrix: FloatArray, size: int, config: AugmentConfig) -> FloatArray:
    """Turned and sheared about the middle of the view."""
    angle, slant = (
        np.deg2rad(rng.uniform(-config.degrees, config.degrees)),
        np.deg2rad(rng.uniform(-config.shear, config.shear)),
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    map_22 = turn @ np.array([[1, np.tan(slant)], [0, 1]])
    middle = np.full(2, (size - 1) / 2)
    whole = np.hstack([map_22, (middle - map_22 @ middle)[:, None]])
    return np.asarray(whole @ np.vstack([matrix, [0, 0, 1]]))


@dataclass(frozen=True)
class ColorJitter:
    """A change of colors: factors of light, contrast and saturation, 1 where nothing changes."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def sample_color_jitter(rng: Rng, brightness: float, contrast: float, saturation: float) -> ColorJitter:
    """Factors that differ from 1 by these at most; saturation 0 now and then is the caller's to set."""
    return ColorJitter(*(1 + rng.uniform(-most, most) for most in (brightness, contrast, saturation)))


def apply_color_jitter(rgb: ImageArray, *jitters: ColorJitter) -> ImageArray:
    """An image (H, W, 3) through the changes, one after the other."""
    for change in jitters:
        if change == ColorJitter():
            continue
        pixels = rgb.astype(np.float32) * change.brightness
        gray_HW = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
        pixels = (pixels - gray_HW.mean()) * change.contrast + gray_HW.mean()
        gray_HW1 = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        rgb = (gray_HW1 + (pixels - gray_HW1) * change.saturation).round().clip(0, 255).astype(np.uint8)
    return rgb
