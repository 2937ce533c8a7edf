"""Clips from stills: a photograph under a moving camera, cut-outs that cross it, things that hide them.

Half of the clips follow what is in the photograph itself, the other half the cut-outs. Objects pass in front of one
another, leave the picture and come back, have twins, are hidden for a while. A clip depends on the seed and its number.
Shapes: T frames, N objects, R regions, H and W of a picture, of a frame or of a photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.synthetic.compositing import SPECK, Clip, Layer, Sway, draw, fitted
from masklet.synthetic.cutouts import Piece, jitter_colour, patch
from masklet.synthetic.motion import Pose, drift, excursion, matrices, speed, wander
from masklet.synthetic.sources import Material, Photograph

__all__ = ["SMALLEST", "Synthesiser"]

Picture = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

NATURAL = 0.5
"""Share of the clips in which a still's own objects are followed."""
SMALLEST, LARGEST = 3e-3, 0.6
"""Share of the first frame that an object has to cover to be followed."""
IN_SIGHT = 0.4
"""Share of the object itself that the first frame has to show."""
TRIES = 500
REGIONS = 6
"""Objects of a still that are looked at."""


@dataclass(frozen=True)
class Synthesiser:
    """Makes clips of `frames` squares of `size` pixels with up to `objects` objects.

    Example:
        >>> clip = Synthesiser(Drawn(), size=288, frames=8, objects=3).clip(seed=0, number=17)
        >>> clip.masks_TNHW.shape[0]
        8
    """

    material: Material
    size: int
    frames: int
    objects: int

    def clip(self, seed: int, number: int) -> Clip:
        """Clip `number` of a run; the same on every machine.

        Raises:
            SourceError: a picture that cannot be read, or pictures without objects of a fair size.
        """
        random = np.random.default_rng((seed, number))
        for _ in range(TRIES):
            layers = self._followed(random, self._scene(random))
            if layers is not None:
                return self._filmed(random, layers)
        raise SourceError(
            f"in {TRIES} scenes made of these pictures nothing covered {SMALLEST:.1%} to {LARGEST:.0%} of the "
            "first frame; allowed are pictures with masks of whole objects: check the data"
        )

    @property
    def _frame(self) -> tuple[int, int]:
        return self.size, self.size

    def _scene(self, random: Random) -> list[Layer]:
        natural = random.random() < NATURAL
        layers = [self._photograph(random, natural)]
        count = (
            random.choice(3, p=(0.4, 0.4, 0.2)) if natural else random.choice((1, 2, 3, 4), p=(0.2, 0.4, 0.25, 0.15))
        )
        for _ in range(count):
            piece = self.material.piece(random)
            for _ in range(2 if random.random() < 0.25 else 1):  # a twin
                layers.append(self._cutout(random, piece, followed=random.random() < (0.3 if natural else 0.85)))
                piece = Piece(jitter_colour(random, piece.rgb), piece.alpha)
        order = [0, *(1 + random.permutation(len(layers) - 1))]
        layers = [layers[i] for i in order]
        for _ in range(random.choice(3, p=(0.4, 0.4, 0.2))):
            layers.append(self._passer(random, layers))
        if self.frames >= 4 and random.random() < 0.08:
            layers.append(self._interruption(random))
        return layers

    def _followed(self, random: Random, layers: list[Layer]) -> list[Layer] | None:
        """The same layers with only such regions as the first frame shows well, `objects` at most."""
        area = draw(layers, self._frame, 0)[1].mean((1, 2))
        alone = np.concatenate([draw([layer], self._frame, 0)[1].mean((1, 2)) for layer in layers])
        fit = np.flatnonzero((area > SMALLEST) & (area < LARGEST) & (area > IN_SIGHT * alone))
        if not len(fit):
            return None
        keep = np.zeros(len(area), bool)
        keep[random.permutation(fit)[: self.objects]] = True
        ends = np.cumsum([len(layer.regions) for layer in layers])
        parts = np.split(keep, ends[:-1])
        return [replace(layer, regions=layer.regions[part]) for layer, part in zip(layers, parts, strict=True)]

    def _filmed(self, random: Random, layers: list[Layer]) -> Clip:
        drawn = [draw(layers, self._frame, t) for t in range(self.frames)]
        pictures = np.stack([picture for picture, _ in drawn])
        masks = np.stack([masks for _, masks in drawn])
        masks[masks.mean((2, 3)) < SPECK] = False
        return Clip(_through_lens(random, pictures), masks)

    def _photograph(self, random: Random, followed: bool) -> Layer:
        """A view into a still; the camera moves, what is soft sways a little."""
        still = self.material.photograph(random)
        regions = _regions(random, still) if followed else np.zeros((0, *still.rgb.shape[:2]), np.uint8)
        pose = self._camera(random, still.rgb.shape[1], still.rgb.shape[0], regions)
        view = self.size / float(np.abs(pose.scale_T2[0]).max())
        soft = random.uniform(0, 0.015) * view if random.random() < 0.6 else 0.0
        return self._layer(random, jitter_colour(random, still.rgb), None, regions, pose, soft)

    def _camera(self, random: Random, width: int, height: int, regions: Picture) -> Pose:
        """A path that stays inside the still, near its first region where it has one."""
        whole = np.array([width, height], float)
        middle, side = random.uniform(0.3, 0.7, 2) * whole, float(np.sqrt(width * height)) * random.uniform(0.4, 0.95)
        if len(regions):
            middle, extent = _extent(regions[0])
            side = extent / random.uniform(0.15, 0.75)
        shape = np.exp(random.uniform(-0.25, 0.5) * np.array([0.5, -0.5]))
        crop = np.minimum(np.maximum(side, 112) * shape, 0.97 * whole)
        zoom = np.exp(drift(random, self.frames, 0.01 if random.random() < 0.7 else 0.03))
        crop_T2 = np.minimum(crop * zoom[:, None], 0.99 * whole)
        start = middle + random.uniform(-0.3, 0.3, 2) * crop
        centre_T2 = (start + self._pan(random) * crop).clip(crop_T2 / 2, whole - crop_T2 / 2)
        mirror = np.array([random.choice((-1.0, 1.0)), 1.0])
        angle = random.normal(0, 0.04) + drift(random, self.frames, 0.008)
        place = np.full((self.frames, 2), self.size / 2)
        return Pose(centre_T2, place, mirror * self.size / crop_T2, angle)

    def _pan(self, random: Random) -> Floats:
        """Offsets (T, 2) of the camera, in sides of the view: resting, wandering, or away and back."""
        lot = random.random()
        if lot < 0.1:
            return wander(random, self.frames, 0.001)
        if lot < 0.25:
            heading = random.uniform(0, 2 * np.pi)
            away = random.uniform(0.4, 1.2) * np.array([np.cos(heading), np.sin(heading)])
            return excursion(random, self.frames)[:, None] * away
        return wander(random, self.frames, speed(random, 0.006, 0.06))

    def _cutout(self, random: Random, piece: Piece, followed: bool) -> Layer:
        """An object on a path of its own; a third of them leave the picture and come back."""
        wanted = np.exp(random.uniform(np.log(0.12), np.log(0.5)))
        step = speed(random)
        pose = self._flight(random, piece, wanted, step)
        if step > 0.025 and random.random() < 0.5:
            piece = _smeared(piece, pose, 0.5 * step * self.size)
        regions = piece.alpha[None] if followed else piece.alpha[:0].reshape(0, *piece.alpha.shape)
        soft = random.uniform(0, 0.035) * max(piece.alpha.shape) if random.random() < 0.7 else 0.0
        return self._layer(random, piece.rgb, piece.alpha, regions, pose, soft)

    def _flight(self, random: Random, piece: Piece, wanted: float, step: float) -> Pose:
        height, width = piece.alpha.shape
        scale = min(wanted * self.size / np.sqrt(height * width), 1.6)
        home = random.uniform(0.12, 0.88, 2) * self.size
        lot = random.random()
        if lot < 0.35:
            place = home + excursion(random, self.frames)[:, None] * self._way_out(home, scale * max(height, width))
        else:
            place = home + wander(random, self.frames, 0.002 if lot < 0.45 else step) * self.size
        stretch = np.exp(random.normal(0, 0.1) * np.array([0.5, -0.5])) * np.array([random.choice((-1.0, 1.0)), 1.0])
        growth = np.exp(drift(random, self.frames, 0.012))
        angle = random.uniform(-0.3, 0.3) + drift(random, self.frames, 0.03)
        middle = np.full((self.frames, 2), (width / 2, height / 2))
        return Pose(middle, place, scale * growth[:, None] * stretch, angle)

    def _way_out(self, home: Floats, extent: float) -> Floats:
        """The shortest move that takes a thing of that extent out of the picture."""
        borders = np.array([[-home[0], 0], [self.size - home[0], 0], [0, -home[1]], [0, self.size - home[1]]])
        nearest = borders[np.abs(borders).sum(1).argmin()]
        return np.asarray(nearest + np.sign(nearest) * 0.6 * extent)

    def _passer(self, random: Random, layers: list[Layer]) -> Layer:
        """Something nobody asked for that passes in front of something followed."""
        piece = self.material.piece(random) if random.random() < 0.5 else self._patch(random)
        shown = [layer for layer in layers if len(layer.regions)] or layers
        target = shown[random.integers(len(shown))]
        moment = int(random.integers(1, self.frames)) if self.frames > 1 else 0
        middle = _extent(target.regions[0])[0] if len(target.regions) else np.array(target.rgb.shape[1::-1]) / 2
        pose = self._flight(random, piece, random.uniform(0.25, 0.9), 0.0)
        meeting = target.matrices[moment] @ np.array([*middle, 1.0])
        heading = random.uniform(0, 2 * np.pi)
        move = speed(random, 0.02, 0.2) * self.size * np.array([np.cos(heading), np.sin(heading)])
        place = meeting + (np.arange(self.frames) - moment)[:, None] * move
        nothing = piece.alpha[:0].reshape(0, *piece.alpha.shape)
        return self._layer(random, piece.rgb, piece.alpha, nothing, replace(pose, place_T2=place), 0.0)

    def _patch(self, random: Random) -> Piece:
        return patch(random, self.material.photograph(random).rgb)

    def _interruption(self, random: Random) -> Layer:
        """Another scene for a few frames, in which nothing that is followed is to be seen."""
        start = int(random.integers(1, self.frames - 1))
        stop = int(random.integers(start + 1, min(start + 4, self.frames) + 1))
        shown = np.zeros(self.frames, bool)
        shown[start:stop] = True
        return replace(self._photograph(random, followed=False), shown_T=shown)

    def _layer(
        self, random: Random, rgb: Picture, alpha: Picture | None, regions: Picture, pose: Pose, soft: float
    ) -> Layer:
        """`soft`: how far it gives way, in its own pixels."""
        sway = Sway((random.normal(0, 1, (2, 4, 4, 2)) * soft / 2).astype(np.float32), random.uniform(0.1, 0.8))
        light = np.exp(np.stack([drift(random, self.frames, 0.01)] * 3, -1))
        return fitted(Layer(rgb, alpha, regions, matrices(pose), sway, light, np.ones(self.frames, bool)))


def _regions(random: Random, still: Photograph) -> Picture:
    """Masks (R, H, W) of a few of the objects of a photograph."""
    numbers = sorted(still.masks)
    masks = [still.masks[numbers[i]] for i in random.permutation(len(numbers))[:REGIONS]]
    shown = [mask.astype(np.uint8) * 255 for mask in masks if mask.any()]
    return np.array(shown, np.uint8).reshape(-1, *still.rgb.shape[:2])


def _extent(region: Picture) -> tuple[Floats, float]:
    """Middle (x, y) of what is inside, and the longer side of its box; the region is not empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    x, y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    return np.array([x, y]), float(max(columns[-1] - columns[0], rows[-1] - rows[0]) + 1)


def _smeared(piece: Piece, pose: Pose, length: float) -> Piece:
    """Blurred along its way, by `length` pixels of the frame."""
    way = pose.place_T2[-1] - pose.place_T2[0]
    own = way / (np.linalg.norm(way) + 1e-6) * length / pose.scale_T2[0]
    reach = int(min(np.abs(own).max() / 2, 8))
    if reach == 0:
        return piece
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half = own / np.abs(own).max() * reach
    start, stop = (tuple(int(v) for v in np.round(reach + sign * half)) for sign in (-1, 1))
    cv2.line(kernel, start, stop, 1.0)
    kernel /= kernel.sum()
    return Piece(*(np.asarray(cv2.filter2D(plane, -1, kernel), np.uint8) for plane in (piece.rgb, piece.alpha)))


def _through_lens(random: Random, frames_THW3: Picture) -> Picture:
    """What a camera does to a film: light that changes, focus that wanders, compression."""
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
        frames = [_compressed(frame, quality) for frame in frames]
    return np.stack([np.asarray(frame, np.uint8) for frame in frames])


def _compressed(frame: Picture, quality: int) -> Picture:
    code = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
