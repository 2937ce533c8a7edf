"""The parts that all scenarios share: a camera, paths, object layers with shadows, the rendered clip.

A scene is built in a `SceneContext`. Positions are fractions of the frame's width and height, x before y; time is in
frames. With K exposure samples each frame is the mean of K moments, and its masks are those of the middle one.
Shapes: T frames, M moments (T times K), N objects, H and W of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.synthetic.compositing import (
    HIDDEN_AREA_FRACTION,
    Clip,
    Deformation,
    Layer,
    render_frame,
    resize_to_render_size,
)
from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.sources import AssetSource

__all__ = [
    "SceneContext",
    "apply_lens_effects",
    "make_transparent",
    "occluder_panel",
    "render_clip",
    "render_first_frame",
    "roaming_path",
    "smooth_oscillation",
    "smoothstep",
]

ImageArray = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Random = np.random.Generator

SHUTTER_OPEN_FRACTION = 0.55
"""Fraction of a frame's time for which the shutter is open."""


@dataclass(frozen=True)
class SceneContext:
    """The random generator, frame size and assets of one attempt at a scene."""

    rng: Random
    size: tuple[int, int]
    """Height and width of the frame."""
    frames: int
    assets: AssetSource
    exposure_samples: int = 1
    """K, odd."""

    @property
    def times(self) -> Floats:
        """The time (M,) of each moment, in frames."""
        inside = SHUTTER_OPEN_FRACTION * ((np.arange(self.exposure_samples) + 0.5) / self.exposure_samples - 0.5)
        return np.asarray((np.arange(self.frames)[:, None] + inside).ravel())

    @property
    def progress(self) -> Floats:
        """The time (M,) of each moment, 0 in the first frame and 1 in the last."""
        return np.asarray((self.times / (self.frames - 1)).clip(0, 1))

    def camera_path(self, *, amplitude: float = 0.03, zoom: float = 0.03, pan_M2: Floats | None = None) -> Floats:
        """Sample a handheld camera: maps (M, 3, 3) from pixels of the first frame to those of each moment.

        `amplitude` of the shake and `pan_M2`, an additional path, are fractions of the frame.
        """
        pan_M2, frame_wh = np.zeros((1, 2)) if pan_M2 is None else pan_M2, np.array(self.size[::-1], float)
        shift_M2 = (smooth_oscillation(self, 2) * amplitude + pan_M2) * frame_wh
        turn_M = 0.5 * amplitude * smooth_oscillation(self, 1)[:, 0]
        scale_M = np.exp(zoom * smooth_oscillation(self, 1)[:, 0])
        cos, sin = scale_M * np.cos(turn_M), scale_M * np.sin(turn_M)
        middle = frame_wh / 2
        map_M33 = np.zeros((len(turn_M), 3, 3))
        map_M33[:, 0, 0], map_M33[:, 0, 1] = cos, -sin
        map_M33[:, 1, 0], map_M33[:, 1, 1] = sin, cos
        map_M33[:, :2, 2] = middle + shift_M2 - map_M33[:, :2, :2] @ middle
        map_M33[:, 2, 2] = 1
        return map_M33

    def background_layer(self, camera_M33: Floats) -> Layer:
        """Sample a photograph that fills the frame; beyond its edge it is mirrored."""
        rgb = self.assets.sample_image(self.rng).rgb
        height, width = rgb.shape[:2]
        scale = max(self.size[0] / height, self.size[1] / width) * self.rng.uniform(1.05, 1.5)
        room = np.array([width, height]) * scale - np.array(self.size[::-1], float)
        corner = -room * self.rng.uniform(0.2, 0.8, 2)
        own = np.array([[scale, 0, corner[0]], [0, scale, corner[1]], [0, 0, 1.0]])
        return self.make_layer(rgb, None, camera_M33 @ own)

    def object_layers(
        self,
        cutout: Cutout,
        position_M2: Floats,
        relative_size: float | Floats,
        camera_M33: Floats,
        *,
        angle_M: float | Floats = 0.0,
        tracked: bool = True,
        softness: float = 0.02,
    ) -> list[Layer]:
        """Make the layers of an object: its shadow, and the cutout with its center at `position_M2`.

        `relative_size` is the longer side in heights of the frame, `angle_M` in radians, `softness` the amplitude of
        the deformation in longer sides.
        """
        height, width = cutout.alpha.shape
        scale = np.broadcast_to(np.asarray(relative_size) * self.size[0] / max(height, width), len(self.times))
        mirror = self.rng.choice((-1.0, 1.0))
        cos, sin = np.cos(angle_M) * scale, np.sin(angle_M) * scale
        own = np.zeros((len(self.times), 3, 3))
        own[:, 0, 0], own[:, 0, 1] = cos * mirror, -sin
        own[:, 1, 0], own[:, 1, 1] = sin * mirror, cos
        frame_wh = np.array(self.size[::-1], float)
        own[:, :2, 2] = position_M2 * frame_wh - own[:, :2, :2] @ (np.array([width, height]) / 2)
        own[:, 2, 2] = 1
        matrix_M33 = camera_M33 @ own
        layer = self.make_layer(cutout.rgb, cutout.alpha, matrix_M33, tracked=tracked, softness=softness)
        return [self._shadow_layer(cutout, matrix_M33, layer.deformation), layer]

    def _shadow_layer(self, cutout: Cutout, matrix_M33: Floats, deformation: Deformation) -> Layer:
        """A shadow, too light to count as an object on top."""
        reach = max(int(0.05 * max(cutout.alpha.shape)), 1)
        alpha = cv2.GaussianBlur(np.pad(cutout.alpha, 3 * reach), (0, 0), reach) * 0.38
        shift = np.array([[1, 0, -3 * reach], [0, 1, -3 * reach], [0, 0, 1.0]])
        moved = matrix_M33 @ shift
        moved[:, :2, 2] += (
            0.035 * np.sqrt(np.abs(np.linalg.det(matrix_M33[:, :2, :2])))[:, None] * max(cutout.alpha.shape)
        )
        layer = self.make_layer(
            np.zeros((*alpha.shape, 3), np.uint8), np.asarray(alpha, np.uint8), moved, tracked=False
        )
        return Layer(layer.rgb, layer.alpha, layer.regions, layer.matrices, deformation, layer.gain_T3, layer.visible_T)

    def make_layer(
        self,
        rgb: ImageArray,
        alpha: ImageArray | None,
        matrix_M33: Floats,
        *,
        tracked: bool = False,
        softness: float = 0.0,
    ) -> Layer:
        """Make a layer; its alpha is the tracked region."""
        moments = len(self.times)
        regions = alpha[None] if tracked and alpha is not None else np.zeros((0, *rgb.shape[:2]), np.uint8)
        bend = self.rng.normal(0, 0.5 * softness * max(rgb.shape[:2]), (2, 4, 4, 2)).astype(np.float32)
        deformation = Deformation(bend, float(self.rng.uniform(0.1, 0.4)) / self.exposure_samples)
        light = np.ones((moments, 3))
        return resize_to_render_size(
            Layer(rgb, alpha, regions, matrix_M33[:, :2], deformation, light, np.ones(moments, bool))
        )


def smooth_oscillation(scene: SceneContext, num_channels: int) -> Floats:
    """Sample smooth curves (M, `num_channels`) from 0, mostly within -1 to 1."""
    time_M = scene.times[:, None]
    total = np.zeros((len(time_M), num_channels))
    for weight, rate in ((0.6, (0.02, 0.07)), (0.25, (0.07, 0.2)), (0.05, (0.4, 1.2))):
        pace, phase = scene.rng.uniform(*rate, num_channels), scene.rng.uniform(0, 2 * np.pi, num_channels)
        total += weight * (np.sin(pace * time_M + phase) - np.sin(phase))
    return total


def roaming_path(scene: SceneContext, center: Sequence[float], amplitude: float) -> Floats:
    """Sample positions (M, 2) around `center`, the position in the first frame."""
    return np.asarray((np.array(center) + amplitude * smooth_oscillation(scene, 2)).clip(0.02, 0.98))


def smoothstep(progress_M: Floats, start: float, stop: float) -> Floats:
    """Smooth step from 0 before `start` to 1 after `stop`."""
    part = ((progress_M - start) / (stop - start)).clip(0, 1)
    return np.asarray(part * part * (3 - 2 * part))


def occluder_panel(rng: Random, rgb: ImageArray, height: int, width: int) -> Cutout:
    """Make an occluder with the surface of a photograph: a wall, a post, or a trunk with a wavy edge."""
    top, left = (
        int(rng.integers(max(side - want, 0) + 1)) for side, want in zip(rgb.shape, (height, width), strict=False)
    )
    crop = rgb[top : top + height, left : left + width]
    crop = np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    bulge = 1 + (rng.uniform(0.03, 0.12) if rng.random() < 0.5 else 0.0) * np.sin(
        np.linspace(0, rng.uniform(4, 14), height) + rng.uniform(0, 7)
    )
    x = np.abs(np.linspace(-1, 1, width))[None]
    alpha = np.where(x * bulge[:, None] < 0.9, 255, 0).astype(np.uint8)
    shade = 1.1 - 0.5 * np.linspace(0, 1, width) ** 1.5 * rng.uniform(0.3, 1)
    rgb = np.asarray((crop * shade[None, :, None]).clip(0, 255), np.uint8)
    return Cutout(rgb, np.asarray(cv2.GaussianBlur(alpha, (3, 3), 0.7), np.uint8))


def make_transparent(cutout: Cutout, opacity: float) -> Cutout:
    """Make a cutout transparent, with a bright edge like glass."""
    depth = cv2.distanceTransform((cutout.alpha > 127).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.exp(-depth / (0.03 * max(cutout.alpha.shape)))[..., None] * 90
    rgb = np.asarray((cutout.rgb + edge).clip(0, 255), np.uint8)
    return Cutout(rgb, np.asarray(cutout.alpha * opacity + 0.5, np.uint8))


def render_first_frame(scene: SceneContext, layers: list[Layer]) -> tuple[ImageArray, Masks, Floats]:
    """Render the first frame, its masks (N, H, W), and the visible fraction (N,) of each object."""
    moment = scene.exposure_samples // 2
    image, masks = render_frame(layers, scene.size, moment)
    alone = np.concatenate([render_frame([layer], scene.size, moment)[1] for layer in layers])
    return image, masks, np.asarray(masks.sum((1, 2)) / np.maximum(alone.sum((1, 2)), 1))


def render_clip(scene: SceneContext, layers: list[Layer], light_T3: Floats | None = None) -> Clip:
    """Render the clip of a scene with lens effects; `light_T3` is an additional gain of the light."""
    frames, masks = [], []
    for t in range(scene.frames):
        moments = [
            render_frame(layers, scene.size, scene.exposure_samples * t + k) for k in range(scene.exposure_samples)
        ]
        total = moments[0][0].astype(np.float32)
        for image, _ in moments[1:]:
            total += image
        frames.append(np.asarray(total / len(moments), np.float32))
        masks.append(moments[scene.exposure_samples // 2][1])
    masks_TNHW = np.stack(masks)
    masks_TNHW[masks_TNHW.mean((2, 3)) < HIDDEN_AREA_FRACTION] = False
    return Clip(apply_lens_effects(scene, frames, light_T3), masks_TNHW)


def apply_lens_effects(
    scene: SceneContext, frames: list[npt.NDArray[np.float32]], light_T3: Floats | None = None
) -> ImageArray:
    """Apply flicker, blur and grain to frames (H, W, 3)."""
    rng, middle = scene.rng, slice(scene.exposure_samples // 2, None, scene.exposure_samples)
    flicker_T1 = np.exp(rng.uniform(0.04, 0.12) * smooth_oscillation(scene, 1)[middle])
    gain_T3 = np.broadcast_to(1.0 if light_T3 is None else light_T3, (scene.frames, 3)) * flicker_T1
    blur, grain = rng.uniform(0.3, 0.7) * scene.size[0] / 270, rng.uniform(1.0, 4.0)
    shown = np.empty((scene.frames, *scene.size, 3), np.uint8)
    for t, frame in enumerate(frames):
        soft = cv2.GaussianBlur(frame, (0, 0), max(blur, 0.3))
        dust = rng.standard_normal(frame.shape, np.float32)
        shown[t] = (soft * gain_T3[t].astype(np.float32) + grain * dust + 0.5).clip(0, 255)
    return shown
