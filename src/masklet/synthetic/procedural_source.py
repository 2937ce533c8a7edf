"""Procedural photographs and cutouts, so that scenes need no files."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.procedural_shapes import SOLID_SHAPES, THIN_SHAPES, procedural_cutout
from masklet.synthetic.procedural_textures import (
    TEXTURES,
    apply_colormap,
    apply_lighting,
    fractal_noise,
    natural_palette,
    perspective_floor,
    sky,
)
from masklet.synthetic.sources import Photograph

__all__ = ["ProceduralSource"]

ImageArray = npt.NDArray[np.uint8]
Random = np.random.Generator

SHORTER_SIDE = 448
"""Shorter side of a photograph in pixels."""
ALPHA_THRESHOLD = 128


@dataclass(frozen=True)
class ProceduralSource:
    """Draw photographs and cutouts without any file.

    A photograph is a landscape, a room or one surface, with two to five objects.

    Example:
        >>> photograph = ProceduralSource().sample_image(np.random.default_rng(0))
        >>> photograph.rgb.shape[2], len(photograph.masks) >= 1
        (3, True)
    """

    def sample_image(self, rng: Random) -> Photograph:
        """Draw a photograph, with the visible parts of its objects as masks."""
        height, width = SHORTER_SIDE, round(SHORTER_SIDE * rng.uniform(1.0, 1.6))
        kind = rng.random()
        first, second = (TEXTURES[int(i)] for i in rng.integers(len(TEXTURES), size=2))
        if kind < 0.35:
            background = first(rng, height, width)
        else:
            horizon = int(height * rng.uniform(0.3, 0.65))
            floor = perspective_floor(rng, first, height - horizon, width)
            above = second(rng, horizon, width) if kind < 0.65 else _hills(rng, sky(rng, horizon, width))
            background = np.concatenate([above, floor])
        return _add_objects(rng, apply_lighting(rng, background))

    def sample_cutout(self, rng: Random) -> Cutout:
        """Draw an object; one in seven is thin."""
        return procedural_cutout(rng, THIN_SHAPES if rng.random() < 1 / 7 else SOLID_SHAPES)


def _hills(rng: Random, rgb: ImageArray) -> ImageArray:
    """Draw ridges in front of a sky, the nearer the darker."""
    height, width = rgb.shape[:2]
    pixels = rgb.astype(np.float32)
    rows = np.arange(height)[:, None]
    for distance in np.sort(rng.uniform(0.15, 0.7, rng.integers(1, 4)))[::-1]:
        ridge = height * (1 - distance * (0.5 + fractal_noise(rng, 2, width, cells=rng.uniform(2, 8))[0]))
        cover = apply_colormap(
            natural_palette(rng, 3, (30, 110)), fractal_noise(rng, height, width, cells=24, slope=0.5)
        )
        haze = 0.6 * distance
        below = rows > ridge
        pixels[below] = ((1 - haze) * cover + haze * pixels)[below]
    return np.asarray(pixels, np.uint8)


def _add_objects(rng: Random, rgb: ImageArray) -> Photograph:
    """Paste two to five objects with shadows, the lower ones in front."""
    height, width = rgb.shape[:2]
    feet = np.sort(rng.uniform(0.4, 1.0, rng.integers(2, 6)))
    rgb, masks = rgb.copy(), np.zeros((len(feet), height, width), bool)
    for i, foot in enumerate(feet):
        cutout = procedural_cutout(rng, THIN_SHAPES if rng.random() < 0.15 else SOLID_SHAPES)
        longer = rng.uniform(0.15, 0.5) * height
        scale, margin = longer / max(cutout.alpha.shape), round(0.15 * longer)  # the shadow lies in the margin
        size = tuple(max(round(scale * side), 4) for side in cutout.alpha.shape[::-1])
        small = (
            np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in (cutout.rgb, cutout.alpha)
        )
        cutout = Cutout(*(np.pad(p, ((0, margin), (0, margin), (0, 0))[: p.ndim]) for p in small))
        high, wide = cutout.alpha.shape
        top, left = int(foot * height) - high, int(rng.uniform(0, 1) * width - wide / 2)
        inside = slice(max(top, 0), top + high), slice(max(left, 0), left + wide)
        visible = slice(max(-top, 0), height - top), slice(max(-left, 0), width - left)
        below, alpha, reach = rgb[inside], cutout.alpha[visible], max(high, wide)
        shadow = np.roll(alpha, (round(0.04 * reach), round(0.06 * reach)), (0, 1)).astype(np.float32)
        soft_shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.03 * reach, 0.5))
        dark = below * (1 - 0.45 / 255 * soft_shadow)[..., None]
        opacity = alpha[..., None].astype(np.float32) / 255
        below[:] = dark + (cutout.rgb[visible] - dark) * opacity + 0.5
        masks[(slice(0, i), *inside)] &= alpha < ALPHA_THRESHOLD
        masks[(i, *inside)] = alpha >= ALPHA_THRESHOLD
    return Photograph(rgb, {i + 1: mask for i, mask in enumerate(masks) if mask.any()})
