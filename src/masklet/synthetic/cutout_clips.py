"""Training clips from photographs: a moving camera, cutouts that cross the view, occluders.

Half of the clips track objects of the photograph itself, the other half the cutouts. Objects pass in front of one
another, leave the frame and come back, have look-alikes, and are hidden for a while. A clip depends on the seed and its
number alone. Shapes: T frames, N objects, R regions, H and W of an image, of a frame or of a photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.synthetic.compositing import (
    HIDDEN_AREA_FRACTION,
    Clip,
    Deformation,
    Layer,
    render_frame,
    resize_to_render_size,
)
from masklet.synthetic.cutouts import Cutout, jitter_color, random_patch
from masklet.synthetic.motion import Pose, affine_matrices, drift, out_and_back, random_walk, sample_speed
from masklet.synthetic.sources import AssetSource

__all__ = ["MIN_AREA_FRACTION", "CutoutClipGenerator"]

ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

PHOTO_OBJECTS_PROB = 0.5
"""Fraction of the clips in which objects of the photograph are tracked."""
MIN_AREA_FRACTION, MAX_AREA_FRACTION = 3e-3, 0.6
"""Fraction of the first frame that a tracked object covers."""
MIN_VISIBLE_FRACTION = 0.4
"""Visible fraction of a tracked object in the first frame."""
MAX_TRIES = 500
MAX_REGIONS = 6
"""Objects of a photograph that may be tracked."""


@dataclass(frozen=True)
class CutoutClipGenerator:
    """Make clips of `frames` square frames of `size` pixels with up to `objects` objects.

    Example:
        >>> from masklet.synthetic import ProceduralSource
        >>> clip = CutoutClipGenerator(ProceduralSource(), size=64, frames=4, objects=2).clip(seed=0, number=0)
        >>> clip.frames_THW3.shape
        (4, 64, 64, 3)
    """

    assets: AssetSource
    size: int
    frames: int
    objects: int

    def clip(self, seed: int, number: int) -> Clip:
        """Make clip `number` of a seed; the same on every machine.

        Raises:
            SourceError: if an image cannot be read, or no scene has an object of suitable size.
        """
        rng, size = np.random.default_rng((seed, number)), (self.size, self.size)
        for _ in range(MAX_TRIES):
            layers = self._select_tracked(rng, self._build_layers(rng))
            if layers is not None:
                rendered = [render_frame(layers, size, t) for t in range(self.frames)]
                images = np.stack([image for image, _ in rendered])
                masks = np.stack([masks for _, masks in rendered])
                masks[masks.mean((2, 3)) < HIDDEN_AREA_FRACTION] = False
                return Clip(_apply_lens_effects(rng, images), masks)
        raise SourceError(
            f"in {MAX_TRIES} scenes made of these images nothing covered {MIN_AREA_FRACTION:.1%} to "
            f"{MAX_AREA_FRACTION:.0%} of the first frame; images need masks of complete objects: check the data"
        )

    def _build_layers(self, rng: Random) -> list[Layer]:
        natural = rng.random() < PHOTO_OBJECTS_PROB
        layers = [self._background_layer(rng, natural)]
        count = rng.choice(3, p=(0.4, 0.4, 0.2)) if natural else rng.choice((1, 2, 3, 4), p=(0.2, 0.4, 0.25, 0.15))
        for _ in range(count):
            cutout = self.assets.sample_cutout(rng)
            for _ in range(2 if rng.random() < 0.25 else 1):  # a twin
                layers.append(self._cutout_layer(rng, cutout, tracked=rng.random() < (0.3 if natural else 0.85)))
                cutout = Cutout(jitter_color(rng, cutout.rgb), cutout.alpha)
        order = [0, *(1 + rng.permutation(len(layers) - 1))]
        layers = [layers[i] for i in order]
        for _ in range(rng.choice(3, p=(0.4, 0.4, 0.2))):
            layers.append(self._occluder_layer(rng, layers))
        if self.frames >= 4 and rng.random() < 0.08:  # another scene for a few frames, without any tracked object
            start = int(rng.integers(1, self.frames - 1))
            stop = int(rng.integers(start + 1, min(start + 4, self.frames) + 1))
            shown = np.zeros(self.frames, bool)
            shown[start:stop] = True
            layers.append(replace(self._background_layer(rng, tracked=False), visible_T=shown))
        return layers

    def _select_tracked(self, rng: Random, layers: list[Layer]) -> list[Layer] | None:
        """Keep the regions that the first frame shows well, at most `objects`; None if there are none."""
        size = self.size, self.size
        area = render_frame(layers, size, 0)[1].mean((1, 2))
        alone = np.concatenate([render_frame([layer], size, 0)[1].mean((1, 2)) for layer in layers])
        fit = np.flatnonzero(
            (area > MIN_AREA_FRACTION) & (area < MAX_AREA_FRACTION) & (area > MIN_VISIBLE_FRACTION * alone)
        )
        if not len(fit):
            return None
        keep = np.zeros(len(area), bool)
        keep[rng.permutation(fit)[: self.objects]] = True
        ends = np.cumsum([len(layer.regions) for layer in layers])
        parts = np.split(keep, ends[:-1])
        return [replace(layer, regions=layer.regions[part]) for layer, part in zip(layers, parts, strict=True)]

    def _background_layer(self, rng: Random, tracked: bool) -> Layer:
        """A moving view of a photograph, which may deform a little."""
        photo = self.assets.sample_image(rng)
        regions = np.zeros((0, *photo.rgb.shape[:2]), np.uint8)
        if tracked:
            numbers = sorted(photo.masks)
            masks = [photo.masks[numbers[i]] for i in rng.permutation(len(numbers))[:MAX_REGIONS]]
            planes = [mask.astype(np.uint8) * 255 for mask in masks if mask.any()]
            regions = np.array(planes, np.uint8).reshape(-1, *photo.rgb.shape[:2])
        pose = self._camera_path(rng, photo.rgb.shape[1], photo.rgb.shape[0], regions)
        view = self.size / float(np.abs(pose.scale_T2[0]).max())
        softness = rng.uniform(0, 0.015) * view if rng.random() < 0.6 else 0.0
        return self._make_layer(rng, jitter_color(rng, photo.rgb), None, regions, pose, softness)

    def _camera_path(self, rng: Random, width: int, height: int, regions: ImageArray) -> Pose:
        """A path that stays inside the photograph, near its first region if it has one."""
        full = np.array([width, height], float)
        middle, side = rng.uniform(0.3, 0.7, 2) * full, float(np.sqrt(width * height)) * rng.uniform(0.4, 0.95)
        if len(regions):
            left, top, wide, tall = cv2.boundingRect(regions[0])
            middle = np.array([left + (wide - 1) / 2, top + (tall - 1) / 2])
            side = max(wide, tall) / rng.uniform(0.15, 0.75)
        shape = np.exp(rng.uniform(-0.25, 0.5) * np.array([0.5, -0.5]))
        crop = np.minimum(np.maximum(side, 112) * shape, 0.97 * full)
        zoom = np.exp(drift(rng, self.frames, 0.01 if rng.random() < 0.7 else 0.03))
        crop_T2 = np.minimum(crop * zoom[:, None], 0.99 * full)
        start = middle + rng.uniform(-0.3, 0.3, 2) * crop
        lot = rng.random()  # the camera rests, moves out and back, or walks at random
        if lot < 0.1:
            pan_T2 = random_walk(rng, self.frames, 0.001)
        elif lot < 0.25:
            heading = rng.uniform(0, 2 * np.pi)
            away = rng.uniform(0.4, 1.2) * np.array([np.cos(heading), np.sin(heading)])
            pan_T2 = out_and_back(rng, self.frames)[:, None] * away
        else:
            pan_T2 = random_walk(rng, self.frames, sample_speed(rng, 0.006, 0.06))
        center_T2 = (start + pan_T2 * crop).clip(crop_T2 / 2, full - crop_T2 / 2)
        mirror = np.array([rng.choice((-1.0, 1.0)), 1.0])
        angle = rng.normal(0, 0.04) + drift(rng, self.frames, 0.008)
        position = np.full((self.frames, 2), self.size / 2)
        return Pose(center_T2, position, mirror * self.size / crop_T2, angle)

    def _cutout_layer(self, rng: Random, cutout: Cutout, tracked: bool) -> Layer:
        """An object on a random path; a third of them leave the frame and come back."""
        relative_size = np.exp(rng.uniform(np.log(0.12), np.log(0.5)))
        step = sample_speed(rng)
        pose = self._cutout_path(rng, cutout, relative_size, step)
        if step > 0.025 and rng.random() < 0.5:
            cutout = _motion_blur(cutout, pose, 0.5 * step * self.size)
        regions = cutout.alpha[None] if tracked else cutout.alpha[:0].reshape(0, *cutout.alpha.shape)
        softness = rng.uniform(0, 0.035) * max(cutout.alpha.shape) if rng.random() < 0.7 else 0.0
        return self._make_layer(rng, cutout.rgb, cutout.alpha, regions, pose, softness)

    def _cutout_path(self, rng: Random, cutout: Cutout, relative_size: float, step: float) -> Pose:
        height, width = cutout.alpha.shape
        scale = min(relative_size * self.size / np.sqrt(height * width), 1.6)
        home = rng.uniform(0.12, 0.88, 2) * self.size
        lot = rng.random()
        if lot < 0.35:
            borders = np.array([[-home[0], 0], [self.size - home[0], 0], [0, -home[1]], [0, self.size - home[1]]])
            nearest = borders[np.abs(borders).sum(1).argmin()]
            exit_offset = nearest + np.sign(nearest) * 0.6 * (scale * max(height, width))
            position = home + out_and_back(rng, self.frames)[:, None] * exit_offset
        else:
            position = home + random_walk(rng, self.frames, 0.002 if lot < 0.45 else step) * self.size
        stretch = np.exp(rng.normal(0, 0.1) * np.array([0.5, -0.5])) * np.array([rng.choice((-1.0, 1.0)), 1.0])
        growth = np.exp(drift(rng, self.frames, 0.012))
        angle = rng.uniform(-0.3, 0.3) + drift(rng, self.frames, 0.03)
        middle = np.full((self.frames, 2), (width / 2, height / 2))
        return Pose(middle, position, scale * growth[:, None] * stretch, angle)

    def _occluder_layer(self, rng: Random, layers: list[Layer]) -> Layer:
        """An untracked occluder that passes in front of a tracked object."""
        if rng.random() < 0.5:
            cutout = self.assets.sample_cutout(rng)
        else:
            cutout = random_patch(rng, self.assets.sample_image(rng).rgb)
        shown = [layer for layer in layers if len(layer.regions)] or layers
        target = shown[rng.integers(len(shown))]
        moment = int(rng.integers(1, self.frames)) if self.frames > 1 else 0
        middle = np.array(target.rgb.shape[1::-1]) / 2
        if len(target.regions):
            left, top, wide, tall = cv2.boundingRect(target.regions[0])
            middle = np.array([left + (wide - 1) / 2, top + (tall - 1) / 2])
        pose = self._cutout_path(rng, cutout, rng.uniform(0.25, 0.9), 0.0)
        meeting = target.matrices[moment] @ np.array([*middle, 1.0])
        heading = rng.uniform(0, 2 * np.pi)
        move = sample_speed(rng, 0.02, 0.2) * self.size * np.array([np.cos(heading), np.sin(heading)])
        position = meeting + (np.arange(self.frames) - moment)[:, None] * move
        nothing = cutout.alpha[:0].reshape(0, *cutout.alpha.shape)
        return self._make_layer(rng, cutout.rgb, cutout.alpha, nothing, replace(pose, position_T2=position), 0.0)

    def _make_layer(
        self,
        rng: Random,
        rgb: ImageArray,
        alpha: ImageArray | None,
        regions: ImageArray,
        pose: Pose,
        softness: float,
    ) -> Layer:
        """Make a layer; `softness` is the amplitude of its deformation in its pixels."""
        deformation = Deformation(
            (rng.normal(0, 1, (2, 4, 4, 2)) * softness / 2).astype(np.float32), rng.uniform(0.1, 0.8)
        )
        light = np.exp(np.stack([drift(rng, self.frames, 0.01)] * 3, -1))
        return resize_to_render_size(
            Layer(rgb, alpha, regions, affine_matrices(pose), deformation, light, np.ones(self.frames, bool))
        )


def _motion_blur(cutout: Cutout, pose: Pose, length: float) -> Cutout:
    """Blur a cutout along its path, by `length` pixels of the frame."""
    way = pose.position_T2[-1] - pose.position_T2[0]
    own = way / (np.linalg.norm(way) + 1e-6) * length / pose.scale_T2[0]
    reach = int(min(np.abs(own).max() / 2, 8))
    if reach == 0:
        return cutout
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half = own / np.abs(own).max() * reach
    start, stop = (tuple(int(v) for v in np.round(reach + sign * half)) for sign in (-1, 1))
    cv2.line(kernel, start, stop, 1.0)
    kernel /= kernel.sum()
    return Cutout(*(np.asarray(cv2.filter2D(plane, -1, kernel), np.uint8) for plane in (cutout.rgb, cutout.alpha)))


def _apply_lens_effects(rng: Random, frames_THW3: ImageArray) -> ImageArray:
    """Apply effects of a camera: flicker, changing focus, compression."""
    frames = [np.ascontiguousarray(frame) for frame in frames_THW3]
    if rng.random() < 0.4:
        light = np.exp(drift(rng, len(frames), 0.02))
        frames = [cv2.convertScaleAbs(frame, alpha=float(gain)) for frame, gain in zip(frames, light, strict=True)]
    if rng.random() < 0.25:
        widths = rng.uniform(0.4, 1.2) * (1 + np.abs(drift(rng, len(frames), 0.1)))
        frames = [
            cv2.GaussianBlur(frame, (0, 0), float(min(width, 2))) for frame, width in zip(frames, widths, strict=True)
        ]
    if rng.random() < 0.4:
        quality = int(rng.integers(20, 80))
        codes = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames]
        frames = [np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8) for code in codes]
    return np.stack([np.asarray(frame, np.uint8) for frame in frames])
