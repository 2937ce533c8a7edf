"""Photographs and things that are drawn, so that scenes can be made without any file."""

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
from masklet.synthetic.sources import SourceImage

__all__ = ["ProceduralSource"]

ImageArray = npt.NDArray[np.uint8]
Random = np.random.Generator

SHORTER_SIDE = 448
"""Pixels of the shorter side of a photograph."""
ALPHA_THRESHOLD = 128


@dataclass(frozen=True)
class ProceduralSource:
    """Material without any file: what is drawn depends on the generator alone.

    A photograph is a landscape, a room or one surface, with two to five things in it.

    Example:
        >>> photograph = Drawn().photograph(np.random.default_rng(0))
        >>> photograph.rgb.shape[2], len(photograph.masks) >= 1
        (3, True)
    """

    def sample_image(self, random: Random) -> SourceImage:
        """A scene with the visible part of each of its things."""
        width = round(SHORTER_SIDE * random.uniform(1.0, 1.6))
        rgb = apply_lighting(random, _background(random, SHORTER_SIDE, width))
        return _add_objects(random, rgb)

    def sample_cutout(self, random: Random) -> Cutout:
        """One thing in seven is thin."""
        return procedural_cutout(random, THIN_SHAPES if random.random() < 1 / 7 else SOLID_SHAPES)


def _background(random: Random, height: int, width: int) -> ImageArray:
    """One surface, or an upper and a lower part: outside or in a room."""
    lot = random.random()
    first, second = (TEXTURES[int(i)] for i in random.integers(len(TEXTURES), size=2))
    if lot < 0.35:
        return first(random, height, width)
    horizon = int(height * random.uniform(0.3, 0.65))
    floor = perspective_floor(random, first, height - horizon, width)
    if lot < 0.65:
        return np.concatenate([second(random, horizon, width), floor])
    return np.concatenate([_hills(random, sky(random, horizon, width)), floor])


def _hills(random: Random, rgb: ImageArray) -> ImageArray:
    """A sky with some ridges before it, the nearer the darker."""
    height, width = rgb.shape[:2]
    pixels = rgb.astype(np.float32)
    rows = np.arange(height)[:, None]
    for share in np.sort(random.uniform(0.15, 0.7, random.integers(1, 4)))[::-1]:
        ridge = height * (1 - share * (0.5 + fractal_noise(random, 2, width, cells=random.uniform(2, 8))[0]))
        cover = apply_colormap(
            natural_palette(random, 3, (30, 110)), fractal_noise(random, height, width, cells=24, slope=0.5)
        )
        haze = 0.6 * share
        below = rows > ridge
        pixels[below] = ((1 - haze) * cover + haze * pixels)[below]
    return np.asarray(pixels, np.uint8)


def _add_objects(random: Random, rgb: ImageArray) -> SourceImage:
    """With things put into it, the lower ones in front."""
    height, width = rgb.shape[:2]
    feet = np.sort(random.uniform(0.4, 1.0, random.integers(2, 6)))
    rgb, masks = rgb.copy(), np.zeros((len(feet), height, width), bool)
    for i, foot in enumerate(feet):
        piece = _resize_with_margin(
            procedural_cutout(random, THIN_SHAPES if random.random() < 0.15 else SOLID_SHAPES),
            random.uniform(0.15, 0.5) * height,
        )
        high, wide = piece.alpha.shape
        top, left = int(foot * height) - high, int(random.uniform(0, 1) * width - wide / 2)
        inside = slice(max(top, 0), top + high), slice(max(left, 0), left + wide)
        own = slice(max(-top, 0), height - top), slice(max(-left, 0), width - left)
        _paste_with_shadow(rgb[inside], piece.rgb[own], piece.alpha[own], reach=max(high, wide))
        masks[(slice(0, i), *inside)] &= piece.alpha[own] < ALPHA_THRESHOLD
        masks[(i, *inside)] = piece.alpha[own] >= ALPHA_THRESHOLD
    return SourceImage(rgb, {i + 1: mask for i, mask in enumerate(masks) if mask.any()})


def _resize_with_margin(cutout: Cutout, longer: float) -> Cutout:
    """With room for a shadow at the right and below, and a longer side of so many pixels."""
    scale = longer / max(cutout.alpha.shape)
    size = tuple(max(round(scale * side), 4) for side in cutout.alpha.shape[::-1])
    room = round(0.15 * longer)
    rgb, alpha = (np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA)) for p in (cutout.rgb, cutout.alpha))
    return Cutout(np.pad(rgb, ((0, room), (0, room), (0, 0))), np.pad(alpha, ((0, room), (0, room))))


def _paste_with_shadow(below: ImageArray, rgb: ImageArray, alpha: ImageArray, *, reach: int) -> None:
    """Over a part of the image, with a shadow."""
    shadow = np.roll(alpha, (round(0.04 * reach), round(0.06 * reach)), (0, 1)).astype(np.float32)
    dark = below * (1 - 0.45 / 255 * cv2.GaussianBlur(shadow, (0, 0), max(0.03 * reach, 0.5)))[..., None]
    share = alpha[..., None].astype(np.float32) / 255
    below[:] = dark + (rgb - dark) * share + 0.5
