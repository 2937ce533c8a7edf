"""Still composites for training: cutouts pasted on a photograph, with soft shadows, and the exact visible masks.

A composite depends on the seed and its number alone. Shapes: H and W of a cutout or of an image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from masklet.synthetic.compositing import Layer, render_frame, resize_to_render_size
from masklet.synthetic.cutout_clips import CutoutClipGenerator
from masklet.synthetic.cutouts import Cutout, jitter_color
from masklet.synthetic.motion import Pose

__all__ = ["CompositeGenerator"]

ImageArray = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

MIN_CUTOUTS, MAX_CUTOUTS = 3, 8
MIN_SIZE, MAX_SIZE = 0.08, 0.6
"""Square root of a cutout's bounding box, as a fraction of the side; uniform on a log scale."""
MAX_ENLARGEMENT = 1.6
"""Largest scale of a cutout, so that it is not blurred beside its background."""
TWIN_PROB = 0.2
"""Fraction of the cutouts that are pasted twice, in other colors."""
OCCLUSION_PROB = 0.5
"""Fraction of the cutouts that are placed beside an earlier one, so that one covers a part of the other."""
SHADOW_KINDS, SHADOW_PROBS = ("none", "wall", "floor"), (0.3, 0.25, 0.45)
MAX_SHADOW_OPACITY = 0.45
"""Below one half: a shadow belongs to no mask and hides none."""


@dataclass(frozen=True)
class CompositeGenerator(CutoutClipGenerator):
    """Make composites, square clips of one frame, that show up to `objects` objects.

    Three to eight cutouts lie on a photograph, whose own objects count too where they remain visible. Their light is
    matched to what is around them, their edges are soft, and some cover others.

    Example:
        >>> from masklet.synthetic import ProceduralSource
        >>> clip = CompositeGenerator(ProceduralSource(), size=64, objects=6).clip(seed=0, number=0)
        >>> clip.frames_THW3.shape
        (1, 64, 64, 3)
    """

    frames: int = field(default=1, init=False)

    def _build_layers(self, rng: Random) -> list[Layer]:
        size = self.size, self.size
        background = self._background_layer(rng, tracked=True)
        plain = render_frame([background], size, 0)[0]
        surroundings = np.asarray(cv2.GaussianBlur(plain, (0, 0), 0.08 * self.size), np.uint8)
        cutouts: list[Cutout] = []
        count = int(rng.integers(MIN_CUTOUTS, MAX_CUTOUTS + 1))
        while len(cutouts) < count:
            cutouts.append(self.assets.sample_cutout(rng))
            if rng.random() < TWIN_PROB:
                cutouts.append(Cutout(jitter_color(rng, cutouts[-1].rgb), cutouts[-1].alpha))
        pasted: list[Layer] = []
        for cutout in cutouts[:count]:
            pasted.append(self._pasted_layer(rng, cutout, surroundings, pasted))
        if rng.random() < 0.5:  # as on a floor: what reaches lower is in front
            pasted.sort(key=_lowest_row)
        layers, kind = [background], str(rng.choice(SHADOW_KINDS, p=SHADOW_PROBS))
        opacity, softness = rng.uniform(0.15, MAX_SHADOW_OPACITY), rng.uniform(0.02, 0.07)
        slant, height = rng.uniform(-0.9, 0.9), rng.uniform(0.2, 0.5)
        shift = rng.uniform(-0.05, 0.05, 2) * self.size
        for layer in pasted:
            if kind == "floor":  # turned down about the lowest row
                low = _lowest_row(layer)
                cast = np.array([[1.0, -slant, slant * low], [0.0, height, low * (1 - height)]])
            else:
                cast = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
            layers += [layer] if kind == "none" else [_cast_shadow(layer, cast, opacity, softness), layer]
        return layers

    def _camera_path(self, rng: Random, width: int, height: int, regions: ImageArray) -> Pose:
        """All of the photograph, or a crop of it: a composite shows the objects of the photograph at their size."""
        full = np.array([width, height], float)
        shape = np.exp(rng.uniform(-0.2, 0.2) * np.array([1.0, -1.0]))
        crop = np.minimum(full * np.sqrt(rng.uniform(0.4, 1.0)) * shape, 0.99 * full)
        center = crop / 2 + rng.random(2) * (full - crop)
        mirror = np.array([rng.choice((-1.0, 1.0)), 1.0])
        middle = np.full((1, 2), self.size / 2)
        return Pose(center[None], middle, (mirror * self.size / crop)[None], np.zeros(1))

    def _pasted_layer(self, rng: Random, cutout: Cutout, surroundings: ImageArray, earlier: list[Layer]) -> Layer:
        """Place a cutout somewhere or beside an earlier one; match its light to the surroundings there."""
        height, width = cutout.alpha.shape
        relative_size = np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE)))
        scale = min(relative_size * self.size / np.sqrt(height * width), MAX_ENLARGEMENT)
        home = rng.uniform(0.05, 0.95, 2) * self.size
        if earlier and rng.random() < OCCLUSION_PROB:
            other = earlier[int(rng.integers(len(earlier)))]
            reach = np.sqrt(abs(np.linalg.det(other.matrices[0, :, :2]))) * max(other.rgb.shape[:2])
            heading = rng.uniform(0, 2 * np.pi)
            distance = rng.uniform(0.25, 0.6) * (reach + scale * max(height, width)) / 2
            center = other.matrices[0] @ np.array([other.rgb.shape[1] / 2, other.rgb.shape[0] / 2, 1.0])
            home = center + distance * np.array([np.cos(heading), np.sin(heading)])
            home = home.clip(0.02 * self.size, 0.98 * self.size)
        stretch = np.exp(rng.normal(0, 0.1) * np.array([0.5, -0.5])) * np.array([rng.choice((-1.0, 1.0)), 1.0])
        angle = rng.normal(0, 0.15) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
        pose = Pose(np.array([[width / 2, height / 2]]), home[None], (scale * stretch)[None], np.array([angle]))
        alpha = cutout.alpha
        if rng.random() < 0.3:
            alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.5, 1.5) / min(scale, 1.0)), np.uint8)
        column, row = home.astype(int).clip(0, self.size - 1)
        local = surroundings[row, column].astype(float)
        own = np.average(cutout.rgb.reshape(-1, 3), axis=0, weights=cutout.alpha.ravel().astype(float) + 1e-3)
        light = ((local + 20) / (own + 20)).clip(0.5, 2.0) ** rng.uniform(0, 0.45)
        layer = self._make_layer(rng, cutout.rgb, alpha, alpha[None], pose, 0.0)
        return replace(layer, gain_T3=light[None])


def _lowest_row(layer: Layer) -> float:
    """Return the row of the frame to which the opaque part of a layer reaches down."""
    assert layer.alpha is not None
    rows, columns = np.nonzero(layer.alpha > 127)
    points = np.stack([columns, rows, np.ones_like(rows)]) if len(rows) else np.array([[0.0], [0.0], [1.0]])
    return float((layer.matrices[0, 1] @ points).max())


def _cast_shadow(layer: Layer, cast: Floats, opacity: float, softness: float) -> Layer:
    """Return the soft shadow of a layer: its shape under the map `cast` (2, 3) of the frame, in black.

    `softness` is the blur's standard deviation as a fraction of the layer's longer side.
    """
    assert layer.alpha is not None
    sigma = softness * max(layer.alpha.shape)
    margin = int(3 * sigma) + 1
    padded = cv2.copyMakeBorder(layer.alpha, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    alpha = (cv2.GaussianBlur(padded, (0, 0), sigma) * opacity).astype(np.uint8)
    unpad = np.array([[1.0, 0, -margin], [0, 1, -margin], [0, 0, 1]])
    matrix = np.vstack([cast, [0, 0, 1]]) @ np.vstack([layer.matrices[0], [0, 0, 1]]) @ unpad
    nothing = np.zeros((0, *alpha.shape), np.uint8)
    black = np.zeros((*alpha.shape, 3), np.uint8)
    return resize_to_render_size(
        Layer(black, alpha, nothing, matrix[None, :2], layer.deformation, np.ones((1, 3)), layer.visible_T)
    )
