"""What every director of a scene does alike: a camera, paths, actors with their shadows, a film of it.

A director works on a `Take`, in which positions are shares of the frame's width and height, x before y, and time is
in frames. With a shutter of K each frame is the mean of K moments of its exposure, and the truth is that of the middle.
Shapes: T frames, M moments (T times K), N objects, H and W of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.synthetic.compositing import SPECK, Clip, Layer, Sway, draw, fitted
from masklet.synthetic.cutouts import Piece
from masklet.synthetic.sources import Material

__all__ = ["Take", "eased", "filmed", "first_masks", "panel", "roaming", "swinging", "through_lens", "veiled"]

Picture = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

OPEN = 0.55
"""Share of a frame's time for which the shutter is open."""


@dataclass(frozen=True)
class Take:
    """One attempt at a scene."""

    random: Random
    size: tuple[int, int]
    """Height and width of the frame."""
    frames: int
    material: Material
    shutter: int = 1
    """K, moments of an exposure; odd."""

    @property
    def clock(self) -> Floats:
        """The time (M,) of each moment, in frames."""
        inside = OPEN * ((np.arange(self.shutter) + 0.5) / self.shutter - 0.5)
        return np.asarray((np.arange(self.frames)[:, None] + inside).ravel())

    @property
    def share(self) -> Floats:
        """The time (M,) of each moment, 0 in the first frame and 1 in the last."""
        return np.asarray((self.clock / (self.frames - 1)).clip(0, 1))

    @property
    def across(self) -> Floats:
        """Width and height."""
        return np.array(self.size[::-1], float)

    def camera(self, *, reach: float = 0.03, zoom: float = 0.03, pan_M2: Floats | None = None) -> Floats:
        """Maps (M, 3, 3) from the first frame's pixels to each moment's: a hand that shakes and drifts a little.

        `reach` is how far it goes, `pan_M2` a way of its own, both in shares of the frame.
        """
        pan_M2 = np.zeros((1, 2)) if pan_M2 is None else pan_M2
        shift_M2 = (swinging(self, 2) * reach + pan_M2) * self.across
        turn_M, scale_M = 0.5 * reach * swinging(self, 1)[:, 0], np.exp(zoom * swinging(self, 1)[:, 0])
        cos, sin = scale_M * np.cos(turn_M), scale_M * np.sin(turn_M)
        middle = self.across / 2
        map_M33 = np.zeros((len(turn_M), 3, 3))
        map_M33[:, 0, 0], map_M33[:, 0, 1] = cos, -sin
        map_M33[:, 1, 0], map_M33[:, 1, 1] = sin, cos
        map_M33[:, :2, 2] = middle + shift_M2 - map_M33[:, :2, :2] @ middle
        map_M33[:, 2, 2] = 1
        return map_M33

    def backdrop(self, camera_M33: Floats) -> Layer:
        """A photograph that fills the frame; beyond its edge it is mirrored."""
        rgb = self.material.photograph(self.random).rgb
        height, width = rgb.shape[:2]
        scale = max(self.size[0] / height, self.size[1] / width) * self.random.uniform(1.05, 1.5)
        room = np.array([width, height]) * scale - self.across
        corner = -room * self.random.uniform(0.2, 0.8, 2)
        own = np.array([[scale, 0, corner[0]], [0, scale, corner[1]], [0, 0, 1.0]])
        return self.layer(rgb, None, camera_M33 @ own)

    def actor(
        self,
        piece: Piece,
        place_M2: Floats,
        tall: float | Floats,
        camera_M33: Floats,
        *,
        angle_M: float | Floats = 0.0,
        followed: bool = True,
        soft: float = 0.02,
    ) -> list[Layer]:
        """A thing with its middle at `place_M2` and its longer side `tall` heights of the frame, and its shadow.

        `angle_M` in radians; `soft` is how far it gives way, in its own longer sides. The shadow lies below.
        """
        height, width = piece.alpha.shape
        scale = np.broadcast_to(np.asarray(tall) * self.size[0] / max(height, width), len(self.clock))
        mirror = self.random.choice((-1.0, 1.0))
        cos, sin = np.cos(angle_M) * scale, np.sin(angle_M) * scale
        own = np.zeros((len(self.clock), 3, 3))
        own[:, 0, 0], own[:, 0, 1] = cos * mirror, -sin
        own[:, 1, 0], own[:, 1, 1] = sin * mirror, cos
        own[:, :2, 2] = place_M2 * self.across - own[:, :2, :2] @ (np.array([width, height]) / 2)
        own[:, 2, 2] = 1
        matrix_M33 = camera_M33 @ own
        actor = self.layer(piece.rgb, piece.alpha, matrix_M33, followed=followed, soft=soft)
        return [self._shadow(piece, matrix_M33, actor.sway), actor]

    def _shadow(self, piece: Piece, matrix_M33: Floats, sway: Sway) -> Layer:
        """Never dark enough to count as something on top."""
        reach = max(int(0.05 * max(piece.alpha.shape)), 1)
        alpha = cv2.GaussianBlur(np.pad(piece.alpha, 3 * reach), (0, 0), reach) * 0.38
        shift = np.array([[1, 0, -3 * reach], [0, 1, -3 * reach], [0, 0, 1.0]])
        moved = matrix_M33 @ shift
        moved[:, :2, 2] += (
            0.035 * np.sqrt(np.abs(np.linalg.det(matrix_M33[:, :2, :2])))[:, None] * max(piece.alpha.shape)
        )
        layer = self.layer(np.zeros((*alpha.shape, 3), np.uint8), np.asarray(alpha, np.uint8), moved, followed=False)
        return Layer(layer.rgb, layer.alpha, layer.regions, layer.matrices, sway, layer.gain_T3, layer.shown_T)

    def layer(
        self, rgb: Picture, alpha: Picture | None, matrix_M33: Floats, *, followed: bool = False, soft: float = 0.0
    ) -> Layer:
        """A layer as `draw` wants it; what is followed is its alpha."""
        moments = len(self.clock)
        regions = alpha[None] if followed and alpha is not None else np.zeros((0, *rgb.shape[:2]), np.uint8)
        bend = self.random.normal(0, 0.5 * soft * max(rgb.shape[:2]), (2, 4, 4, 2)).astype(np.float32)
        sway = Sway(bend, float(self.random.uniform(0.1, 0.4)) / self.shutter)
        light = np.ones((moments, 3))
        return fitted(Layer(rgb, alpha, regions, matrix_M33[:, :2], sway, light, np.ones(moments, bool)))


def swinging(take: Take, count: int) -> Floats:
    """Smooth ways (M, `count`) from 0, mostly within -1 to 1."""
    time_M = take.clock[:, None]
    total = np.zeros((len(time_M), count))
    for weight, rate in ((0.6, (0.02, 0.07)), (0.25, (0.07, 0.2)), (0.05, (0.4, 1.2))):
        pace, phase = take.random.uniform(*rate, count), take.random.uniform(0, 2 * np.pi, count)
        total += weight * (np.sin(pace * time_M + phase) - np.sin(phase))
    return total


def roaming(take: Take, home: Sequence[float], reach: float) -> Floats:
    """Places (M, 2) around `home`, which is where the first frame has it."""
    return np.asarray((np.array(home) + reach * swinging(take, 2)).clip(0.02, 0.98))


def eased(share_M: Floats, start: float, stop: float) -> Floats:
    """From 0 before `start` to 1 after `stop`, without a jerk."""
    part = ((share_M - start) / (stop - start)).clip(0, 1)
    return np.asarray(part * part * (3 - 2 * part))


def panel(random: Random, rgb: Picture, height: int, width: int) -> Piece:
    """Something of a photograph's surface to go behind: a wall, a trunk with a wavy edge, a post."""
    top, left = (
        int(random.integers(max(side - want, 0) + 1)) for side, want in zip(rgb.shape, (height, width), strict=False)
    )
    crop = rgb[top : top + height, left : left + width]
    crop = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    bulge = 1 + (random.uniform(0.03, 0.12) if random.random() < 0.5 else 0.0) * np.sin(
        np.linspace(0, random.uniform(4, 14), height) + random.uniform(0, 7)
    )
    x = np.abs(np.linspace(-1, 1, width))[None]
    alpha = np.where(x * bulge[:, None] < 0.9, 255, 0).astype(np.uint8)
    shade = 1.1 - 0.5 * np.linspace(0, 1, width) ** 1.5 * random.uniform(0.3, 1)
    rgb = np.asarray((crop * shade[None, :, None]).clip(0, 255), np.uint8)
    return Piece(rgb, np.asarray(cv2.GaussianBlur(alpha, (3, 3), 0.7), np.uint8))


def veiled(piece: Piece, opacity: float) -> Piece:
    """A thing that one can see through, with a bright edge as glass has it."""
    depth = cv2.distanceTransform((piece.alpha > 127).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.exp(-depth / (0.03 * max(piece.alpha.shape)))[..., None] * 90
    rgb = np.asarray((piece.rgb + edge).clip(0, 255), np.uint8)
    return Piece(rgb, np.asarray(piece.alpha * opacity + 0.5, np.uint8))


def first_masks(take: Take, layers: list[Layer]) -> tuple[Picture, Masks, Floats]:
    """The first frame, its masks (N, H, W), and how much of itself each object shows in it, 0 to 1."""
    moment = take.shutter // 2
    picture, masks = draw(layers, take.size, moment)
    alone = np.concatenate([draw([layer], take.size, moment)[1] for layer in layers])
    return picture, masks, np.asarray(masks.sum((1, 2)) / np.maximum(alone.sum((1, 2)), 1))


def filmed(take: Take, layers: list[Layer], light_T3: Floats | None = None) -> Clip:
    """The film of a scene, through a lens: light that changes, focus, grain. `light_T3` is a change of its own."""
    frames, masks = [], []
    for t in range(take.frames):
        moments = [draw(layers, take.size, take.shutter * t + k) for k in range(take.shutter)]
        frames.append(_exposed([picture for picture, _ in moments]))
        masks.append(moments[take.shutter // 2][1])
    masks_TNHW = np.stack(masks)
    masks_TNHW[masks_TNHW.mean((2, 3)) < SPECK] = False
    return Clip(through_lens(take, frames, light_T3), masks_TNHW)


def _exposed(moments: list[Picture]) -> npt.NDArray[np.float32]:
    total = moments[0].astype(np.float32)
    for moment in moments[1:]:
        total += moment
    return np.asarray(total / len(moments), np.float32)


def through_lens(take: Take, frames: list[npt.NDArray[np.float32]], light_T3: Floats | None = None) -> Picture:
    """The frames (H, W, 3) as a camera has them: light that changes, focus, grain."""
    random, middle = take.random, slice(take.shutter // 2, None, take.shutter)
    flicker_T1 = np.exp(random.uniform(0.04, 0.12) * swinging(take, 1)[middle])
    gain_T3 = np.broadcast_to(1.0 if light_T3 is None else light_T3, (take.frames, 3)) * flicker_T1
    blur, grain = random.uniform(0.3, 0.7) * take.size[0] / 270, random.uniform(1.0, 4.0)
    shown = np.empty((take.frames, *take.size, 3), np.uint8)
    for t, frame in enumerate(frames):
        soft = cv2.GaussianBlur(frame, (0, 0), max(blur, 0.3))
        dust = random.standard_normal(frame.shape, np.float32)
        shown[t] = (soft * gain_T3[t].astype(np.float32) + grain * dust + 0.5).clip(0, 255)
    return shown
