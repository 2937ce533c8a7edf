"""Clips from stills: a photograph under a moving camera, cut-outs that cross it, things that hide them.

Half of the clips follow what is in the photograph itself, the other half the cut-outs. Objects pass in front of one
another, leave the image and come back, have twins, are hidden for a while. A clip depends on the seed and its number.
Shapes: T frames, N objects, R regions, H and W of an image, of a frame or of a photograph.
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
from masklet.synthetic.sources import AssetSource, SourceImage

__all__ = ["MIN_AREA_FRACTION", "CutoutClipGenerator"]

ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

PHOTO_OBJECTS_PROB = 0.5
"""Share of the clips in which a still's own objects are followed."""
MIN_AREA_FRACTION, MAX_AREA_FRACTION = 3e-3, 0.6
"""Share of the first frame that an object has to cover to be followed."""
MIN_VISIBLE_FRACTION = 0.4
"""Share of the object itself that the first frame has to show."""
MAX_TRIES = 500
MAX_REGIONS = 6
"""Objects of a still that are looked at."""


@dataclass(frozen=True)
class CutoutClipGenerator:
    """Makes clips of `frames` squares of `size` pixels with up to `objects` objects.

    Example:
        >>> clip = Synthesizer(Drawn(), size=288, frames=8, objects=3).clip(seed=0, number=17)
        >>> clip.masks_TNHW.shape[0]
        8
    """

    assets: AssetSource
    size: int
    frames: int
    objects: int

    def clip(self, seed: int, number: int) -> Clip:
        """Clip `number` of a run; the same on every machine.

        Raises:
            SourceError: an image that cannot be read, or images without objects of a fair size.
        """
        random = np.random.default_rng((seed, number))
        for _ in range(MAX_TRIES):
            layers = self._select_tracked(random, self._build_layers(random))
            if layers is not None:
                return self._render_clip(random, layers)
        raise SourceError(
            f"in {MAX_TRIES} scenes made of these images nothing covered {MIN_AREA_FRACTION:.1%} to {MAX_AREA_FRACTION:.0%} of the "  # noqa: E501
            "first frame; allowed are images with masks of whole objects: check the data"
        )

    @property
    def _frame_size(self) -> tuple[int, int]:
        return self.size, self.size

    def _build_layers(self, random: Random) -> list[Layer]:
        natural = random.random() < PHOTO_OBJECTS_PROB
        layers = [self._background_layer(random, natural)]
        count = (
            random.choice(3, p=(0.4, 0.4, 0.2)) if natural else random.choice((1, 2, 3, 4), p=(0.2, 0.4, 0.25, 0.15))
        )
        for _ in range(count):
            piece = self.assets.sample_cutout(random)
            for _ in range(2 if random.random() < 0.25 else 1):  # a twin
                layers.append(self._cutout_layer(random, piece, tracked=random.random() < (0.3 if natural else 0.85)))
                piece = Cutout(jitter_color(random, piece.rgb), piece.alpha)
        order = [0, *(1 + random.permutation(len(layers) - 1))]
        layers = [layers[i] for i in order]
        for _ in range(random.choice(3, p=(0.4, 0.4, 0.2))):
            layers.append(self._occluder_layer(random, layers))
        if self.frames >= 4 and random.random() < 0.08:
            layers.append(self._cutaway_layer(random))
        return layers

    def _select_tracked(self, random: Random, layers: list[Layer]) -> list[Layer] | None:
        """The same layers with only such regions as the first frame shows well, `objects` at most."""
        area = render_frame(layers, self._frame_size, 0)[1].mean((1, 2))
        alone = np.concatenate([render_frame([layer], self._frame_size, 0)[1].mean((1, 2)) for layer in layers])
        fit = np.flatnonzero(
            (area > MIN_AREA_FRACTION) & (area < MAX_AREA_FRACTION) & (area > MIN_VISIBLE_FRACTION * alone)
        )
        if not len(fit):
            return None
        keep = np.zeros(len(area), bool)
        keep[random.permutation(fit)[: self.objects]] = True
        ends = np.cumsum([len(layer.regions) for layer in layers])
        parts = np.split(keep, ends[:-1])
        return [replace(layer, regions=layer.regions[part]) for layer, part in zip(layers, parts, strict=True)]

    def _render_clip(self, random: Random, layers: list[Layer]) -> Clip:
        drawn = [render_frame(layers, self._frame_size, t) for t in range(self.frames)]
        images = np.stack([image for image, _ in drawn])
        masks = np.stack([masks for _, masks in drawn])
        masks[masks.mean((2, 3)) < HIDDEN_AREA_FRACTION] = False
        return Clip(_apply_lens_effects(random, images), masks)

    def _background_layer(self, random: Random, tracked: bool) -> Layer:
        """A view into a still; the camera moves, what is soft sways a little."""
        still = self.assets.sample_image(random)
        regions = _object_regions(random, still) if tracked else np.zeros((0, *still.rgb.shape[:2]), np.uint8)
        pose = self._camera_path(random, still.rgb.shape[1], still.rgb.shape[0], regions)
        view = self.size / float(np.abs(pose.scale_T2[0]).max())
        soft = random.uniform(0, 0.015) * view if random.random() < 0.6 else 0.0
        return self._make_layer(random, jitter_color(random, still.rgb), None, regions, pose, soft)

    def _camera_path(self, random: Random, width: int, height: int, regions: ImageArray) -> Pose:
        """A path that stays inside the still, near its first region where it has one."""
        whole = np.array([width, height], float)
        middle, side = random.uniform(0.3, 0.7, 2) * whole, float(np.sqrt(width * height)) * random.uniform(0.4, 0.95)
        if len(regions):
            middle, extent = _center_and_size(regions[0])
            side = extent / random.uniform(0.15, 0.75)
        shape = np.exp(random.uniform(-0.25, 0.5) * np.array([0.5, -0.5]))
        crop = np.minimum(np.maximum(side, 112) * shape, 0.97 * whole)
        zoom = np.exp(drift(random, self.frames, 0.01 if random.random() < 0.7 else 0.03))
        crop_T2 = np.minimum(crop * zoom[:, None], 0.99 * whole)
        start = middle + random.uniform(-0.3, 0.3, 2) * crop
        center_T2 = (start + self._pan_offsets(random) * crop).clip(crop_T2 / 2, whole - crop_T2 / 2)
        mirror = np.array([random.choice((-1.0, 1.0)), 1.0])
        angle = random.normal(0, 0.04) + drift(random, self.frames, 0.008)
        place = np.full((self.frames, 2), self.size / 2)
        return Pose(center_T2, place, mirror * self.size / crop_T2, angle)

    def _pan_offsets(self, random: Random) -> Floats:
        """Offsets (T, 2) of the camera, in sides of the view: resting, wandering, or away and back."""
        lot = random.random()
        if lot < 0.1:
            return random_walk(random, self.frames, 0.001)
        if lot < 0.25:
            heading = random.uniform(0, 2 * np.pi)
            away = random.uniform(0.4, 1.2) * np.array([np.cos(heading), np.sin(heading)])
            return out_and_back(random, self.frames)[:, None] * away
        return random_walk(random, self.frames, sample_speed(random, 0.006, 0.06))

    def _cutout_layer(self, random: Random, cutout: Cutout, tracked: bool) -> Layer:
        """An object on a path of its own; a third of them leave the image and come back."""
        wanted = np.exp(random.uniform(np.log(0.12), np.log(0.5)))
        step = sample_speed(random)
        pose = self._cutout_path(random, cutout, wanted, step)
        if step > 0.025 and random.random() < 0.5:
            cutout = _motion_blur(cutout, pose, 0.5 * step * self.size)
        regions = cutout.alpha[None] if tracked else cutout.alpha[:0].reshape(0, *cutout.alpha.shape)
        soft = random.uniform(0, 0.035) * max(cutout.alpha.shape) if random.random() < 0.7 else 0.0
        return self._make_layer(random, cutout.rgb, cutout.alpha, regions, pose, soft)

    def _cutout_path(self, random: Random, cutout: Cutout, relative_size: float, step: float) -> Pose:
        height, width = cutout.alpha.shape
        scale = min(relative_size * self.size / np.sqrt(height * width), 1.6)
        home = random.uniform(0.12, 0.88, 2) * self.size
        lot = random.random()
        if lot < 0.35:
            place = home + out_and_back(random, self.frames)[:, None] * self._exit_offset(
                home, scale * max(height, width)
            )
        else:
            place = home + random_walk(random, self.frames, 0.002 if lot < 0.45 else step) * self.size
        stretch = np.exp(random.normal(0, 0.1) * np.array([0.5, -0.5])) * np.array([random.choice((-1.0, 1.0)), 1.0])
        growth = np.exp(drift(random, self.frames, 0.012))
        angle = random.uniform(-0.3, 0.3) + drift(random, self.frames, 0.03)
        middle = np.full((self.frames, 2), (width / 2, height / 2))
        return Pose(middle, place, scale * growth[:, None] * stretch, angle)

    def _exit_offset(self, home: Floats, extent: float) -> Floats:
        """The shortest move that takes a thing of that extent out of the image."""
        borders = np.array([[-home[0], 0], [self.size - home[0], 0], [0, -home[1]], [0, self.size - home[1]]])
        nearest = borders[np.abs(borders).sum(1).argmin()]
        return np.asarray(nearest + np.sign(nearest) * 0.6 * extent)

    def _occluder_layer(self, random: Random, layers: list[Layer]) -> Layer:
        """Something nobody asked for that passes in front of something followed."""
        piece = self.assets.sample_cutout(random) if random.random() < 0.5 else self._random_patch(random)
        shown = [layer for layer in layers if len(layer.regions)] or layers
        target = shown[random.integers(len(shown))]
        moment = int(random.integers(1, self.frames)) if self.frames > 1 else 0
        middle = (
            _center_and_size(target.regions[0])[0] if len(target.regions) else np.array(target.rgb.shape[1::-1]) / 2
        )
        pose = self._cutout_path(random, piece, random.uniform(0.25, 0.9), 0.0)
        meeting = target.matrices[moment] @ np.array([*middle, 1.0])
        heading = random.uniform(0, 2 * np.pi)
        move = sample_speed(random, 0.02, 0.2) * self.size * np.array([np.cos(heading), np.sin(heading)])
        place = meeting + (np.arange(self.frames) - moment)[:, None] * move
        nothing = piece.alpha[:0].reshape(0, *piece.alpha.shape)
        return self._make_layer(random, piece.rgb, piece.alpha, nothing, replace(pose, position_T2=place), 0.0)

    def _random_patch(self, random: Random) -> Cutout:
        return random_patch(random, self.assets.sample_image(random).rgb)

    def _cutaway_layer(self, random: Random) -> Layer:
        """Another scene for a few frames, in which nothing that is followed is to be seen."""
        start = int(random.integers(1, self.frames - 1))
        stop = int(random.integers(start + 1, min(start + 4, self.frames) + 1))
        shown = np.zeros(self.frames, bool)
        shown[start:stop] = True
        return replace(self._background_layer(random, tracked=False), visible_T=shown)

    def _make_layer(
        self,
        random: Random,
        rgb: ImageArray,
        alpha: ImageArray | None,
        regions: ImageArray,
        pose: Pose,
        softness: float,
    ) -> Layer:
        """`soft`: how far it gives way, in its own pixels."""
        sway = Deformation(
            (random.normal(0, 1, (2, 4, 4, 2)) * softness / 2).astype(np.float32), random.uniform(0.1, 0.8)
        )
        light = np.exp(np.stack([drift(random, self.frames, 0.01)] * 3, -1))
        return resize_to_render_size(
            Layer(rgb, alpha, regions, affine_matrices(pose), sway, light, np.ones(self.frames, bool))
        )


def _object_regions(random: Random, source_image: SourceImage) -> ImageArray:
    """Masks (R, H, W) of a few of the objects of a photograph."""
    numbers = sorted(source_image.masks)
    masks = [source_image.masks[numbers[i]] for i in random.permutation(len(numbers))[:MAX_REGIONS]]
    shown = [mask.astype(np.uint8) * 255 for mask in masks if mask.any()]
    return np.array(shown, np.uint8).reshape(-1, *source_image.rgb.shape[:2])


def _center_and_size(region: ImageArray) -> tuple[Floats, float]:
    """Middle (x, y) of what is inside, and the longer side of its box; the region is not empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    x, y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    return np.array([x, y]), float(max(columns[-1] - columns[0], rows[-1] - rows[0]) + 1)


def _motion_blur(cutout: Cutout, pose: Pose, length: float) -> Cutout:
    """Blurred along its way, by `length` pixels of the frame."""
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


def _apply_lens_effects(random: Random, frames_THW3: ImageArray) -> ImageArray:
    """What a camera does to a video: light that changes, focus that wanders, compression."""
    frames = [np.ascontiguousarray(frame) for frame in frames_THW3]
    if random.random() < 0.4:
        light = np.exp(drift(random, len(frames), 0.02))
        frames = [cv2.convertScaleAbs(frame, alpha=float(gain)) for frame, gain in zip(frames, light, strict=True)]
    if random.random() < 0.25:
        widths = random.uniform(0.4, 1.2) * (1 + np.abs(drift(random, len(frames), 0.1)))
        frames = [
            cv2.GaussianBlur(frame, (0, 0), float(min(width, 2))) for frame, width in zip(frames, widths, strict=True)
        ]
    if random.random() < 0.4:
        quality = int(random.integers(20, 80))
        frames = [_jpeg_roundtrip(frame, quality) for frame in frames]
    return np.stack([np.asarray(frame, np.uint8) for frame in frames])


def _jpeg_roundtrip(frame: ImageArray, quality: int) -> ImageArray:
    code = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
