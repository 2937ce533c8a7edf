"""Scenarios: scenes with one difficulty each, all easy for a person.

occlusion      objects are fully occluded and come back into view
twins          look-alikes cross each other
reentry        objects leave the frame and come back
fast           large motion between frames, with motion blur
small          objects of less than a hundredth of the frame
long           a slow change of position, size and light over many frames
thin           objects without any thick part
transparency   transparent objects; the truth is where they are at least half opaque

`SCENARIOS["twins"](seed, number, (270, 480), 24, ProceduralSource())` is a clip that has what the name says, the same
every time. Shapes: T frames, M moments, N objects, H and W of a frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import ops
from masklet.synthetic.compositing import Clip, Layer
from masklet.synthetic.cutouts import Cutout
from masklet.synthetic.procedural_shapes import THIN_SHAPES, procedural_cutout
from masklet.synthetic.scene_builder import (
    SceneContext,
    make_transparent,
    occluder_panel,
    render_clip,
    render_first_frame,
    roaming_path,
    smooth_oscillation,
    smoothstep,
)
from masklet.synthetic.sources import AssetSource

__all__ = ["SCENARIOS", "Scenario", "check_scene_size", "is_thin"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
SceneLayers = tuple[list[Layer], "Floats | None"]
"""Layers, the lowest first, and an additional gain of the light (T, 3)."""

MIN_FRAMES, MIN_SIDE = 8, 64
MAX_TRIES = 60
MAX_CUTOUT_TRIES = 10
MIN_VISIBLE_FRACTION = 0.92
"""Minimum visible fraction of an object in the first frame."""
MIN_AREA_FRACTION = 1e-3
"""Minimum fraction of the first frame that an object covers."""
MIN_EDGE_CONTRAST, CONTRAST_EDGE_FRACTION = 34, 0.65
"""Minimum RGB distance of the colors inside and outside an outline, and the fraction of it where that holds."""


@dataclass(frozen=True)
class Scenario:
    """A function that builds scenes, and a check that a clip shows the difficulty."""

    name: str
    build_layers: Callable[[SceneContext], SceneLayers]
    is_valid_clip: Callable[[Clip], bool]
    default_frames: int = 24
    exposure_samples: int = 1

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, assets: AssetSource) -> Clip:
        """Make clip `number` of a seed; `size` is (height, width).

        Raises:
            InputError: if there are too few frames or they are too small, or no attempt shows the difficulty.
        """
        check_scene_size(size, frames)
        rng = np.random.default_rng((seed, zlib.crc32(self.name.encode()), number))
        for _ in range(MAX_TRIES):
            scene = SceneContext(rng, size, frames, assets, self.exposure_samples)
            layers, light_T3 = self.build_layers(scene)
            if _is_clear_first_frame(scene, layers):
                clip = render_clip(scene, layers, light_T3)
                if self.is_valid_clip(clip):
                    return clip
        raise InputError(
            f"{self.name} number {number} of {frames} frames at {size[1]} x {size[0]}: {MAX_TRIES} attempts did not "
            "show it; 24 frames of 480 x 270 do with procedural assets: use more or larger frames, or other data"
        )


def check_scene_size(size: tuple[int, int], frames: int) -> None:
    """Raise InputError if frames are too few or too small for a scene; `size` is (height, width)."""
    if min(size) < MIN_SIDE:
        raise InputError(f"size {size[1]} x {size[0]} is too small; {MIN_SIDE} x {MIN_SIDE} is the least")
    if frames < MIN_FRAMES:
        raise InputError(f"frames={frames} is too few; the minimum is {MIN_FRAMES}")


def _is_clear_first_frame(scene: SceneContext, layers: list[Layer]) -> bool:
    """Whether the first frame shows every object fully, large enough, and in another color than what is around it."""
    image, masks_NHW, visible_N = render_first_frame(scene, layers)
    if len(masks_NHW) == 0 or visible_N.min() < MIN_VISIBLE_FRACTION:
        return False
    if masks_NHW.mean((1, 2)).min() < MIN_AREA_FRACTION:
        return False
    pixels = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    for mask in masks_NHW:
        reach = max(3, round(0.012 * max(mask.shape)))
        size = (2 * reach + 1, 2 * reach + 1)
        fraction = cv2.blur(mask.astype(np.float32), size)
        inside = cv2.blur(pixels * mask[..., None], size) / np.maximum(fraction, 1e-3)[..., None]
        outside = cv2.blur(pixels * ~mask[..., None], size) / np.maximum(1 - fraction, 1e-3)[..., None]
        edge = mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) == 0)
        contrast = np.linalg.norm(inside - outside, axis=-1)[edge]
        if not edge.any() or float(np.quantile(contrast, 1 - CONTRAST_EDGE_FRACTION)) <= MIN_EDGE_CONTRAST:
            return False
    return True


def _thick_cutout(scene: SceneContext) -> Cutout:
    """A cutout that is not thin, if the assets have one: each scenario has one difficulty alone."""
    cutout = scene.assets.sample_cutout(scene.rng)
    for _ in range(MAX_CUTOUT_TRIES):
        if not is_thin(cutout.alpha > 127, max_remaining=0.6):
            break
        cutout = scene.assets.sample_cutout(scene.rng)
    return cutout


# occlusion ---------------------------------------------------------------------------------------------------------


def occlusion(scene: SceneContext) -> SceneLayers:
    """One object passes behind a post; another turns back behind it, or follows."""
    rng, camera = scene.rng, scene.camera_path()
    layers = [scene.background_layer(camera)]
    wide, middle = rng.uniform(0.28, 0.36), rng.uniform(0.45, 0.55)
    for turns in rng.permutation([False, rng.random() < 0.4]):
        cutout = _thick_cutout(scene)
        aspect = float(max(cutout.alpha.shape) / cutout.alpha.shape[1])
        tall = min(rng.uniform(0.42, 0.62), 0.85 * wide * scene.size[1] / scene.size[0] * aspect)
        start = rng.uniform(0.12, 0.18)
        begin, end = rng.uniform(0.02, 0.15), rng.uniform(0.8, 1.0)
        progress = smoothstep(scene.progress, begin, end)
        x = start + (0.98 - 2 * start) * progress
        if turns:
            x = start + (middle - start) * np.sin(np.pi * progress) ** 0.6
        if rng.random() < 0.5:
            x = 1 - x
        y = rng.uniform(0.3, 0.75) + 0.04 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(
            cutout, np.stack([x, y], -1), tall, camera, angle_M=0.1 * smooth_oscillation(scene, 1)[:, 0]
        )
    post = occluder_panel(rng, scene.assets.sample_image(rng).rgb, int(1.5 * scene.size[0]), int(wide * scene.size[1]))
    position_M2 = np.tile((middle, 0.5), (len(scene.times), 1))
    layers += scene.object_layers(post, position_M2, 1.5, camera, tracked=False, softness=0)
    return layers, None


def has_return(clip: Clip, hidden_ratio: float, visible_ratio: float) -> bool:
    """Whether an object has at most a fraction of its first area for some frames, and then more than another again."""
    for area_T in clip.masks_TNHW.sum((2, 3)).T:
        hidden = np.flatnonzero(area_T <= hidden_ratio * area_T[0])
        if len(hidden) >= 2 and bool((area_T[hidden[-1] :] > visible_ratio * area_T[0]).any()):
            return True
    return False


def stays_visible(clip: Clip, min_fraction: float, max_area: float = np.inf) -> bool:
    """Whether objects are visible in more than a fraction of the frames, and all smaller than a fraction of them."""
    sizes_TN, shown_TN = clip.masks_TNHW.mean((2, 3)), clip.masks_TNHW.any((2, 3))
    return bool(sizes_TN.max() < max_area and shown_TN.mean() > min_fraction)


# twins -------------------------------------------------------------------------------------------------------------


def twins(scene: SceneContext) -> SceneLayers:
    """Two look-alikes change sides, one in front of the other; half of the clips have a third at rest."""
    rng, camera = scene.rng, scene.camera_path()
    cutout = _thick_cutout(scene)
    tall, y = rng.uniform(0.46, 0.62), rng.uniform(0.45, 0.55)
    twin_layers = []
    for side in (0, 1):
        start, stop = rng.uniform(0.18, 0.24), rng.uniform(0.76, 0.84)
        progress = smoothstep(scene.progress, rng.uniform(0.0, 0.15), rng.uniform(0.85, 1.0))
        x = start + (stop - start) * progress if side == 0 else stop - (stop - start) * progress
        lift = y + (side - 0.5) * rng.uniform(0.05, 0.16) + 0.03 * smooth_oscillation(scene, 1)[:, 0]
        position_M2 = np.stack([x, lift], -1)
        twin = replace(cutout, rgb=cv2.convertScaleAbs(cutout.rgb, alpha=rng.uniform(0.97, 1.03)).astype(np.uint8))
        twin_layers.append(
            scene.object_layers(twin, position_M2, tall, camera, angle_M=0.08 * smooth_oscillation(scene, 1)[:, 0])
        )
    layers = [scene.background_layer(camera)]
    if rng.random() < 0.5:
        position_M2 = np.tile((rng.uniform(0.3, 0.7), rng.choice((0.14, 0.86))), (len(scene.times), 1))
        twin = replace(cutout, rgb=cv2.convertScaleAbs(cutout.rgb, alpha=rng.uniform(0.97, 1.03)).astype(np.uint8))
        layers += scene.object_layers(twin, position_M2, 0.7 * tall, camera, tracked=False)
    for i in rng.permutation(2):
        layers += twin_layers[i]
    return layers, None


def has_crossing(clip: Clip) -> bool:
    """Whether one of the two partly covers the other, and both are visible at the end."""
    area_TN = clip.masks_TNHW.sum((2, 3))
    if area_TN.shape[1] != 2 or not area_TN[[0, -1]].all():
        return False
    return bool((area_TN.min(0) < 0.75 * area_TN[0]).any() and (area_TN[-1] > 0.6 * area_TN[0]).all())


# reentry -----------------------------------------------------------------------------------------------------------


def reentry(scene: SceneContext) -> SceneLayers:
    """One object leaves and comes back, maybe elsewhere, another stays; or the camera turns away for a while."""
    rng = scene.rng
    leave, back = rng.uniform(0.12, 0.3), rng.uniform(0.65, 0.85)
    away = smoothstep(scene.progress, leave, leave + 0.2) * (1 - smoothstep(scene.progress, back - 0.2, back))
    pans = rng.random() < 0.35
    heading = rng.choice((-1.0, 1.0))
    pan_M2 = np.stack([1.25 * heading * away, 0.1 * away], -1) if pans else None
    camera = scene.camera_path(pan_M2=pan_M2)
    layers = [scene.background_layer(camera)]
    cutout, tall = _thick_cutout(scene), rng.uniform(0.42, 0.6)
    x, y = rng.uniform(0.25, 0.75), rng.uniform(0.35, 0.65)
    home = roaming_path(scene, (x, y), 0.05)
    stays = scene.object_layers(
        _thick_cutout(scene),
        roaming_path(scene, ((x + 0.45) % 0.8 + 0.1, 1 - y), 0.06),
        rng.uniform(0.3, 0.42),
        camera,
    )
    if not pans:
        # out over the nearest border; in half of the clips back over the opposite one
        margin = 0.8 * tall * np.array([scene.size[0] / scene.size[1], 1.0])
        sides = [(np.array([-home[0, 0] - margin[0], 0.0])), np.array([1 - home[0, 0] + margin[0], 0.0])]
        first = int(home[0, 0] > 0.5)
        second = 1 - first if rng.random() < 0.5 else first
        returning = (np.arange(len(away)) > int(np.flatnonzero(away >= away.max() - 1e-9).mean()))[:, None]
        home = np.asarray(home + away[:, None] * np.where(returning, sides[second], sides[first]))
    leaves = scene.object_layers(cutout, home, tall, camera, angle_M=0.1 * smooth_oscillation(scene, 1)[:, 0])
    return layers + stays + leaves, None


# fast --------------------------------------------------------------------------------------------------------------


def fast(scene: SceneContext) -> SceneLayers:
    """One or two objects move fast, from rest."""
    rng, camera = scene.rng, scene.camera_path(amplitude=0.04)
    layers = [scene.background_layer(camera)]
    for _ in range(int(rng.integers(1, 3))):
        cutout, tall = _thick_cutout(scene), rng.uniform(0.34, 0.48)
        pace = rng.uniform(0.032, 0.05), rng.uniform(0.02, 0.045)
        reach = 0.5 - 0.5 * tall * np.array([scene.size[0] / scene.size[1], 1.0])
        side = rng.choice((-1.0, 1.0), 2)
        waves = np.stack([np.cos(2 * np.pi * p * scene.times) for p in pace], -1)
        position_M2 = 0.5 + side * reach * rng.uniform(0.8, 0.95, 2) * waves
        spin = rng.uniform(-0.08, 0.08) * scene.times
        layers += scene.object_layers(cutout, position_M2, tall, camera, angle_M=spin)
    return layers, None


def is_fast(clip: Clip) -> bool:
    """Whether an object moves over a twentieth of the frame's width per frame, in three frames or more."""
    frames, objects, _, width = clip.masks_TNHW.shape
    xyxy = ops.masks_to_boxes(clip.masks_TNHW.reshape(-1, *clip.masks_TNHW.shape[2:])).reshape(frames, objects, 4)
    center_TN2 = (xyxy[..., :2] + xyxy[..., 2:]) / 2
    visible_TN = clip.masks_TNHW.sum((2, 3)) > 0
    steps = np.linalg.norm(np.diff(center_TN2, axis=0), axis=-1) / width
    steps = np.where(visible_TN[1:] & visible_TN[:-1], steps, 0.0)
    return bool((steps > 0.05).sum(0).max() >= 3)


# small -------------------------------------------------------------------------------------------------------------


def small(scene: SceneContext) -> SceneLayers:
    """Three tiny objects move, maybe among distractors."""
    rng, camera = scene.rng, scene.camera_path()
    layers = [scene.background_layer(camera)]
    for i in range(int(rng.integers(3, 6))):
        cutout, fraction = _thick_cutout(scene), rng.uniform(0.0018, 0.0065)
        fill = max(float((cutout.alpha > 127).mean()), 0.4)
        side = np.sqrt(fraction * scene.size[0] * scene.size[1] / fill / cutout.alpha.size)
        tall = float(side * max(cutout.alpha.shape) / scene.size[0])
        position_M2 = roaming_path(scene, rng.uniform(0.2, 0.8, 2).tolist(), rng.uniform(0.1, 0.35))
        layers += scene.object_layers(
            cutout, position_M2, tall, camera, tracked=i < 3, angle_M=0.2 * smooth_oscillation(scene, 1)[:, 0]
        )
    return layers, None


# long --------------------------------------------------------------------------------------------------------------


def long(scene: SceneContext) -> SceneLayers:
    """Day becomes evening while objects come nearer or go away; another passes in front of them."""
    rng, camera = scene.rng, scene.camera_path(amplitude=0.06, zoom=0.08)
    layers = [scene.background_layer(camera)]
    for x in (0.3, 0.7):
        growth = np.exp(rng.choice((-1, 1)) * rng.uniform(0.4, 0.8) * smoothstep(scene.progress, 0.05, 0.95))
        tall = rng.uniform(0.42, 0.55) / max(growth.max(), 1.0) ** 0.7 * growth
        home = x + rng.normal(0, 0.04), rng.uniform(0.4, 0.6)
        turn = 0.25 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(_thick_cutout(scene), roaming_path(scene, home, 0.12), tall, camera, angle_M=turn)
    passer, start = _thick_cutout(scene), rng.uniform(0.25, 0.6)
    x_M = -0.3 + 1.6 * ((scene.progress - start) / 0.15).clip(0, 1)
    position_M2 = np.stack([x_M, np.full(len(x_M), rng.uniform(0.4, 0.7))], -1)
    layers += scene.object_layers(passer, position_M2, rng.uniform(0.35, 0.5), camera, tracked=False)
    dusk = np.array(rng.choice(((-0.75, -0.95, -1.25), (-0.9, -0.9, -0.6), (-1.3, -1.0, -0.75))))
    fraction_T = np.linspace(0, 1, scene.frames)
    progress = smoothstep(fraction_T, 0.1, 0.9) if rng.random() < 0.6 else 0.5 - 0.5 * np.cos(2 * np.pi * fraction_T)
    return layers, np.exp(0.7 * progress[:, None] * dusk)


def changes_appearance(clip: Clip) -> bool:
    """Whether the light changes by a third, the size of an object by as much, and all objects remain."""
    light = clip.frames_THW3.mean((1, 2, 3))
    area_TN = clip.masks_TNHW.sum((2, 3))
    growth_N = area_TN[-max(len(area_TN) // 10, 1) :].max(0) / area_TN[0]
    grown = np.abs(np.log(np.maximum(growth_N, 1e-6))).max() > 0.4
    return bool(light.min() < 0.67 * light[0] and grown and growth_N.min() > 0.1)


# thin --------------------------------------------------------------------------------------------------------------


def thin(scene: SceneContext) -> SceneLayers:
    """One or two objects of spokes, rungs or twigs."""
    rng, camera = scene.rng, scene.camera_path()
    layers = [scene.background_layer(camera)]
    for x in (0.3, 0.7) if rng.random() < 0.6 else (0.5,):
        texture = None if rng.random() < 0.5 else scene.assets.sample_image(rng).rgb
        cutout = procedural_cutout(rng, THIN_SHAPES, texture)
        position_M2 = roaming_path(scene, (x, rng.uniform(0.42, 0.58)), 0.12)
        turn = rng.uniform(0.1, 0.4) * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(cutout, position_M2, rng.uniform(0.5, 0.7), camera, angle_M=turn, softness=0.01)
    return layers, None


def is_thin(mask: Mask, max_remaining: float = 0.4) -> bool:
    """Whether at most a fraction of an object remains without its parts thinner than a tenth of its box.

    Example:
        >>> is_thin(np.ones((100, 100), bool))
        False
    """
    _, _, wide, tall = cv2.boundingRect(mask.astype(np.uint8))
    side = max(round(0.1 * max(wide, tall)), 3)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return bool(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).sum() < max_remaining * mask.sum())


def is_all_thin(clip: Clip) -> bool:
    """Whether all objects are thin in the first frame."""
    return all(is_thin(mask) for mask in clip.masks_TNHW[0])


# transparency ------------------------------------------------------------------------------------------------------


def transparency(scene: SceneContext) -> SceneLayers:
    """Two transparent objects move over each other and a solid one; a thin veil may pass in front."""
    rng, camera = scene.rng, scene.camera_path()
    layers = [scene.background_layer(camera)]
    solid = roaming_path(scene, (rng.uniform(0.4, 0.6), rng.uniform(0.35, 0.65)), 0.05)
    layers += scene.object_layers(_thick_cutout(scene), solid, rng.uniform(0.25, 0.35), camera, tracked=False)
    for start in (0.18, 0.82):
        cutout = make_transparent(_thick_cutout(scene), rng.uniform(0.58, 0.76))
        stop = 1 - start if rng.random() < 0.6 else start
        x_M = start + (stop - start) * smoothstep(scene.progress, 0.1, 0.95)
        y_M = rng.uniform(0.4, 0.6) + 0.08 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(cutout, np.stack([x_M, y_M], -1), rng.uniform(0.46, 0.62), camera)
    if rng.random() < 0.5:
        veil = occluder_panel(
            rng, scene.assets.sample_image(rng).rgb, int(1.5 * scene.size[0]), int(0.3 * scene.size[1])
        )
        x_M = -0.4 + 1.8 * smoothstep(scene.progress, 0.3, 0.9)
        position_M2 = np.stack([x_M, np.full(len(x_M), 0.5)], -1)
        layers.append(
            scene.object_layers(make_transparent(veil, 0.3), position_M2, 1.5, camera, tracked=False, softness=0)[1]
        )
    return layers, None


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario("occlusion", occlusion, partial(has_return, hidden_ratio=0.04, visible_ratio=0.5)),
            Scenario("twins", twins, has_crossing),
            Scenario("reentry", reentry, partial(has_return, hidden_ratio=0.0, visible_ratio=0.6)),
            Scenario("fast", fast, is_fast, exposure_samples=5),
            Scenario("small", small, partial(stays_visible, min_fraction=0.8, max_area=0.01)),
            Scenario("long", long, changes_appearance, default_frames=150),
            Scenario("thin", thin, is_all_thin),
            Scenario("transparency", transparency, partial(stays_visible, min_fraction=0.9)),
        )
    }
)
"""The scenarios by name."""
