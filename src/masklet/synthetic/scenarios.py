"""Named difficulties: scenes that are hard in one way each, and easy for a person.

occlusion      things pass behind others, all of them, and come back into view
twins          things that look alike cross each other
reentry        things leave the frame and come back
fast           a long way from frame to frame, with the blur of it
small          things of less than a hundredth of the frame
long           a slow change of place, size and light over many frames
thin           things without any thick part
transparency   things that one can see through, partly; the truth is where they are half there or more

Each is a director: `DIFFICULTIES["twins"](seed, number, (270, 480), 24, Drawn())` is a clip that has what the name
says, the same every time. Shapes: T frames, M moments, N objects, H and W of a frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
"""Layers, the lowest first, and a light (T, 3) of its own."""

MIN_FRAMES, MIN_SIDE = 8, 64
MAX_TRIES = 60
MAX_CUTOUT_TRIES = 10
MIN_VISIBLE_FRACTION = 0.92
"""Share of itself that an object shows in the first frame."""
MIN_AREA_FRACTION = 1e-3
"""Share of the first frame that an object covers."""
MIN_EDGE_CONTRAST, CONTRAST_EDGE_FRACTION = 34, 0.65
"""How far colors inside and outside an outline lie apart at least, of 255 in each of three; along what share of it."""


@dataclass(frozen=True)
class Scenario:
    """A director, and what its clips must show."""

    name: str
    build_layers: Callable[[SceneContext], SceneLayers]
    is_valid_clip: Callable[[Clip], bool]
    default_frames: int = 24
    """How long its clips are if nothing else is said."""
    exposure_samples: int = 1

    def __call__(self, seed: int, number: int, size: tuple[int, int], frames: int, assets: AssetSource) -> Clip:
        """Clip `number` of `frames` frames of that height and width.

        Raises:
            InputError: too few frames, too small a frame, or none in `TRIES` attempts that shows what it should.
        """
        check_scene_size(size, frames)
        random = np.random.default_rng((seed, zlib.crc32(self.name.encode()), number))
        for _ in range(MAX_TRIES):
            take = SceneContext(random, size, frames, assets, self.exposure_samples)
            layers, light_T3 = self.build_layers(take)
            if _is_clear_first_frame(take, layers):
                clip = render_clip(take, layers, light_T3)
                if self.is_valid_clip(clip):
                    return clip
        raise InputError(
            f"{self.name} number {number} of {frames} frames at {size[1]} x {size[0]}: {MAX_TRIES} attempts did not "
            "show it; 24 frames of 480 x 270 do with the drawn material: more frames or larger ones help, or other data"
        )


def check_scene_size(size: tuple[int, int], frames: int) -> None:
    """Raise InputError where a scene has no room: `size` is height and width."""
    if min(size) < MIN_SIDE:
        raise InputError(f"size {size[1]} x {size[0]} is too small; {MIN_SIDE} x {MIN_SIDE} is the least")
    if frames < MIN_FRAMES:
        raise InputError(f"frames={frames} is too few for anything to happen; {MIN_FRAMES} is the least")


def _is_clear_first_frame(scene: SceneContext, layers: list[Layer]) -> bool:
    """Whether the first frame has every object whole, large enough, and of another color than what is around it."""
    image, masks_NHW, seen_N = render_first_frame(scene, layers)
    if len(masks_NHW) == 0 or seen_N.min() < MIN_VISIBLE_FRACTION or masks_NHW.mean((1, 2)).min() < MIN_AREA_FRACTION:
        return False
    pixels = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    return all(_contrast(pixels, mask) > MIN_EDGE_CONTRAST for mask in masks_NHW)


def _thick_cutout(scene: SceneContext) -> Cutout:
    """A piece that is not thin, if there is one: each difficulty is hard in its own way alone."""
    piece = scene.assets.sample_cutout(scene.random)
    for _ in range(MAX_CUTOUT_TRIES):
        if not is_thin(piece.alpha > 127, max_remaining=0.6):
            break
        piece = scene.assets.sample_cutout(scene.random)
    return piece


def _contrast(pixels: npt.NDArray[np.float32], mask: Mask) -> float:
    """How far the colors at both sides of an outline lie apart: along `ALONG` of it they do so or more."""
    reach = max(3, round(0.012 * max(mask.shape)))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    share = cv2.blur(mask.astype(np.float32), kernel.shape)
    inside = cv2.blur(pixels * mask[..., None], kernel.shape) / np.maximum(share, 1e-3)[..., None]
    outside = cv2.blur(pixels * ~mask[..., None], kernel.shape) / np.maximum(1 - share, 1e-3)[..., None]
    edge = mask & (cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) == 0)
    return (
        float(np.quantile(np.linalg.norm(inside - outside, axis=-1)[edge], 1 - CONTRAST_EDGE_FRACTION))
        if edge.any()
        else 0.0
    )


# occlusion ---------------------------------------------------------------------------------------------------------


def _occlusion(scene: SceneContext) -> SceneLayers:
    """One goes all the way behind a post, another turns round behind it or follows, a third may stand by."""
    random, camera = scene.random, scene.camera_path()
    layers = [scene.background_layer(camera)]
    wide, middle = random.uniform(0.28, 0.36), random.uniform(0.45, 0.55)
    for turns in random.permutation([False, random.random() < 0.4]):
        piece = _thick_cutout(scene)
        tall = min(random.uniform(0.42, 0.62), 0.85 * wide * scene.size[1] / scene.size[0] * _aspect(piece))
        start = random.uniform(0.12, 0.18)
        begin, end = random.uniform(0.02, 0.15), random.uniform(0.8, 1.0)
        way = smoothstep(scene.progress, begin, end)
        x = start + (0.98 - 2 * start) * way
        if turns:
            x = start + (middle - start) * np.sin(np.pi * way) ** 0.6
        if random.random() < 0.5:
            x = 1 - x
        y = random.uniform(0.3, 0.75) + 0.04 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(
            piece, np.stack([x, y], -1), tall, camera, angle_M=0.1 * smooth_oscillation(scene, 1)[:, 0]
        )
    post = occluder_panel(
        random, scene.assets.sample_image(random).rgb, int(1.5 * scene.size[0]), int(wide * scene.size[1])
    )
    layers += scene.object_layers(post, _static_path(scene, (middle, 0.5)), 1.5, camera, tracked=False, softness=0)
    return layers, None


def _aspect(cutout: Cutout) -> float:
    """Longer side by width."""
    return float(max(cutout.alpha.shape) / cutout.alpha.shape[1])


def _static_path(scene: SceneContext, position: tuple[float, float]) -> Floats:
    return np.tile(np.array(position), (len(scene.times), 1))


def _has_occlusion(clip: Clip) -> bool:
    """Whether something is out of sight for some frames, or all but, and comes back."""
    return any(_disappears_and_returns(area, 0.04, 0.5) for area in _visible_areas(clip).T)


def _visible_areas(clip: Clip) -> Floats:
    """Pixels (T, N)."""
    return np.asarray(clip.masks_TNHW.sum((2, 3)), np.float64)


def _disappears_and_returns(area_T: Floats, hidden_ratio: float, visible_ratio: float) -> bool:
    hidden = np.flatnonzero(area_T <= hidden_ratio * area_T[0])
    return len(hidden) >= 2 and bool((area_T[hidden[-1] :] > visible_ratio * area_T[0]).any())


# twins -------------------------------------------------------------------------------------------------------------


def _twins(scene: SceneContext) -> SceneLayers:
    """Two that look alike change sides, one before the other; in half of the clips a third stands by."""
    random, camera = scene.random, scene.camera_path()
    piece = _thick_cutout(scene)
    tall, y = random.uniform(0.46, 0.62), random.uniform(0.45, 0.55)
    actors = []
    for side in (0, 1):
        start, stop = random.uniform(0.18, 0.24), random.uniform(0.76, 0.84)
        way = smoothstep(scene.progress, random.uniform(0.0, 0.15), random.uniform(0.85, 1.0))
        x = start + (stop - start) * way if side == 0 else stop - (stop - start) * way
        lift = y + (side - 0.5) * random.uniform(0.05, 0.16) + 0.03 * smooth_oscillation(scene, 1)[:, 0]
        place_M2 = np.stack([x, lift], -1)
        alike = Cutout(_similar_colors(random, piece), piece.alpha)
        actors.append(
            scene.object_layers(alike, place_M2, tall, camera, angle_M=0.08 * smooth_oscillation(scene, 1)[:, 0])
        )
    layers = [scene.background_layer(camera)]
    if random.random() < 0.5:
        place = (random.uniform(0.3, 0.7), float(random.choice((0.14, 0.86))))
        alike = Cutout(_similar_colors(random, piece), piece.alpha)
        layers += scene.object_layers(alike, _static_path(scene, place), 0.7 * tall, camera, tracked=False)
    for i in random.permutation(2):
        layers += actors[i]
    return layers, None


def _similar_colors(random: np.random.Generator, cutout: Cutout) -> npt.NDArray[np.uint8]:
    return cv2.convertScaleAbs(cutout.rgb, alpha=random.uniform(0.97, 1.03)).astype(np.uint8)


def _has_crossing(clip: Clip) -> bool:
    """Whether the two meet, one covers part of the other, and both are in sight at the end."""
    area_TN = _visible_areas(clip)
    if area_TN.shape[1] != 2 or not area_TN[[0, -1]].all():
        return False
    return bool((area_TN.min(0) < 0.75 * area_TN[0]).any() and (area_TN[-1] > 0.6 * area_TN[0]).all())


# reentry -----------------------------------------------------------------------------------------------------------


def _reentry(scene: SceneContext) -> SceneLayers:
    """One leaves and comes back, elsewhere now and then, another stays; or the camera looks away for a while."""
    random = scene.random
    leave, back = random.uniform(0.12, 0.3), random.uniform(0.65, 0.85)
    away = smoothstep(scene.progress, leave, leave + 0.2) * (1 - smoothstep(scene.progress, back - 0.2, back))
    pans = random.random() < 0.35
    heading = random.choice((-1.0, 1.0))
    pan_M2 = np.stack([1.25 * heading * away, 0.1 * away], -1) if pans else None
    camera = scene.camera_path(pan_M2=pan_M2)
    layers = [scene.background_layer(camera)]
    piece, tall = _thick_cutout(scene), random.uniform(0.42, 0.6)
    x, y = random.uniform(0.25, 0.75), random.uniform(0.35, 0.65)
    home = roaming_path(scene, (x, y), 0.05)
    stays = scene.object_layers(
        _thick_cutout(scene),
        roaming_path(scene, ((x + 0.45) % 0.8 + 0.1, 1 - y), 0.06),
        random.uniform(0.3, 0.42),
        camera,
    )
    if not pans:
        home = _exit_and_return_path(scene, home, away, tall)
    leaves = scene.object_layers(piece, home, tall, camera, angle_M=0.1 * smooth_oscillation(scene, 1)[:, 0])
    return layers + stays + leaves, None


def _exit_and_return_path(scene: SceneContext, home_M2: Floats, away_M: Floats, tall: float) -> Floats:
    """Out over the nearest border; in half of the clips back over the one across."""
    random, margin = scene.random, 0.8 * tall * np.array([scene.size[0] / scene.size[1], 1.0])
    sides = [(np.array([-home_M2[0, 0] - margin[0], 0.0])), np.array([1 - home_M2[0, 0] + margin[0], 0.0])]
    first = int(home_M2[0, 0] > 0.5)
    second = 1 - first if random.random() < 0.5 else first
    returning = (np.arange(len(away_M)) > int(np.flatnonzero(away_M >= away_M.max() - 1e-9).mean()))[:, None]
    return np.asarray(home_M2 + away_M[:, None] * np.where(returning, sides[second], sides[first]))


def _has_reentry(clip: Clip) -> bool:
    return any(_disappears_and_returns(area, 0.0, 0.6) for area in _visible_areas(clip).T)


# fast --------------------------------------------------------------------------------------------------------------


def _fast(scene: SceneContext) -> SceneLayers:
    """One or two that dash about, from rest."""
    random, camera = scene.random, scene.camera_path(amplitude=0.04)
    layers = [scene.background_layer(camera)]
    for _ in range(int(random.integers(1, 3))):
        piece, tall = _thick_cutout(scene), random.uniform(0.34, 0.48)
        pace = random.uniform(0.032, 0.05), random.uniform(0.02, 0.045)
        reach = 0.5 - 0.5 * tall * np.array([scene.size[0] / scene.size[1], 1.0])
        side = random.choice((-1.0, 1.0), 2)
        waves = np.stack([np.cos(2 * np.pi * p * scene.times) for p in pace], -1)
        place_M2 = 0.5 + side * reach * random.uniform(0.8, 0.95, 2) * waves
        spin = random.uniform(-0.08, 0.08) * scene.times
        layers += scene.object_layers(piece, place_M2, tall, camera, angle_M=spin)
    return layers, None


def _is_fast(clip: Clip) -> bool:
    """Whether something goes a twentieth of the frame's width or more from one frame to the next, again and again."""
    return bool((_center_steps(clip) > 0.05).sum(0).max() >= 3)


def _center_steps(clip: Clip) -> Floats:
    """How far (T - 1, N) the middle of each object's box goes, in widths of the frame; 0 where it is out of sight."""
    frames, objects, _, width = clip.masks_TNHW.shape
    xyxy = ops.masks_to_boxes(clip.masks_TNHW.reshape(-1, *clip.masks_TNHW.shape[2:])).reshape(frames, objects, 4)
    middle_TN2 = (xyxy[..., :2] + xyxy[..., 2:]) / 2
    seen_TN = _visible_areas(clip) > 0
    steps = np.linalg.norm(np.diff(middle_TN2, axis=0), axis=-1) / width
    return np.asarray(np.where(seen_TN[1:] & seen_TN[:-1], steps, 0.0))


# small -------------------------------------------------------------------------------------------------------------


def _small(scene: SceneContext) -> SceneLayers:
    """Two or three tiny ones on their way, among others that nobody asked for."""
    random, camera = scene.random, scene.camera_path()
    layers = [scene.background_layer(camera)]
    for i in range(int(random.integers(3, 6))):
        piece, share = _thick_cutout(scene), random.uniform(0.0018, 0.0065)
        fill = max(float((piece.alpha > 127).mean()), 0.4)
        side = np.sqrt(share * scene.size[0] * scene.size[1] / fill / piece.alpha.size)
        tall = float(side * max(piece.alpha.shape) / scene.size[0])
        place_M2 = roaming_path(scene, random.uniform(0.2, 0.8, 2).tolist(), random.uniform(0.1, 0.35))
        layers += scene.object_layers(
            piece, place_M2, tall, camera, tracked=i < 3, angle_M=0.2 * smooth_oscillation(scene, 1)[:, 0]
        )
    return layers, None


def _is_small(clip: Clip) -> bool:
    return bool(clip.masks_TNHW.mean((2, 3)).max() < 0.01) and bool(clip.masks_TNHW.any((2, 3)).mean() > 0.8)


# long --------------------------------------------------------------------------------------------------------------


def _long(scene: SceneContext) -> SceneLayers:
    """Day becomes evening while things come nearer or go away; now and then something passes before them."""
    random, camera = scene.random, scene.camera_path(amplitude=0.06, zoom=0.08)
    layers = [scene.background_layer(camera)]
    for x in (0.3, 0.7):
        growth = np.exp(random.choice((-1, 1)) * random.uniform(0.4, 0.8) * smoothstep(scene.progress, 0.05, 0.95))
        tall = random.uniform(0.42, 0.55) / max(growth.max(), 1.0) ** 0.7 * growth
        home = x + random.normal(0, 0.04), random.uniform(0.4, 0.6)
        turn = 0.25 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(_thick_cutout(scene), roaming_path(scene, home, 0.12), tall, camera, angle_M=turn)
    passer, start = _thick_cutout(scene), random.uniform(0.25, 0.6)
    x_M = -0.3 + 1.6 * ((scene.progress - start) / 0.15).clip(0, 1)
    place_M2 = np.stack([x_M, np.full(len(x_M), random.uniform(0.4, 0.7))], -1)
    layers += scene.object_layers(passer, place_M2, random.uniform(0.35, 0.5), camera, tracked=False)
    dusk = np.array(random.choice(((-0.75, -0.95, -1.25), (-0.9, -0.9, -0.6), (-1.3, -1.0, -0.75))))
    share_T = np.linspace(0, 1, scene.frames)
    way = smoothstep(share_T, 0.1, 0.9) if random.random() < 0.6 else 0.5 - 0.5 * np.cos(2 * np.pi * share_T)
    return layers, np.exp(0.7 * way[:, None] * dusk)


def _changes_appearance(clip: Clip) -> bool:
    """Whether the light changes by a third, and an object's size by as much, and nothing is lost for good."""
    light = clip.frames_THW3.mean((1, 2, 3))
    area_TN = _visible_areas(clip)
    growth_N = area_TN[-max(len(area_TN) // 10, 1) :].max(0) / area_TN[0]
    grown = np.abs(np.log(np.maximum(growth_N, 1e-6))).max() > 0.4
    return bool(light.min() < 0.67 * light[0] and grown and growth_N.min() > 0.1)


# thin --------------------------------------------------------------------------------------------------------------


def _thin(scene: SceneContext) -> SceneLayers:
    """One or two things of spokes, rungs and twigs."""
    random, camera = scene.random, scene.camera_path()
    layers, places = [scene.background_layer(camera)], (0.3, 0.7) if random.random() < 0.6 else (0.5,)
    for x in places:
        coat = None if random.random() < 0.5 else scene.assets.sample_image(random).rgb
        piece = procedural_cutout(random, THIN_SHAPES, coat)
        place_M2 = roaming_path(scene, (x, random.uniform(0.42, 0.58)), 0.12)
        turn = random.uniform(0.1, 0.4) * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(piece, place_M2, random.uniform(0.5, 0.7), camera, angle_M=turn, softness=0.01)
    return layers, None


def is_thin(mask: Mask, max_remaining: float = 0.4) -> bool:
    """Whether less than a share `left` of an object is left when what is thinner than a tenth of its box is rubbed out.

    Example:
        >>> is_thin(np.ones((100, 100), bool))
        False
    """
    _, _, wide, tall = cv2.boundingRect(mask.astype(np.uint8))
    side = max(round(0.1 * max(wide, tall)), 3)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return bool(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).sum() < max_remaining * mask.sum())


def _is_all_thin(clip: Clip) -> bool:
    return all(is_thin(mask) for mask in clip.masks_TNHW[0])


# transparency ------------------------------------------------------------------------------------------------------


def _transparency(scene: SceneContext) -> SceneLayers:
    """Two things of glass, one of them crossing the other or a solid one; a thin veil may pass before all."""
    random, camera = scene.random, scene.camera_path()
    layers = [scene.background_layer(camera)]
    solid = roaming_path(scene, (random.uniform(0.4, 0.6), random.uniform(0.35, 0.65)), 0.05)
    layers += scene.object_layers(_thick_cutout(scene), solid, random.uniform(0.25, 0.35), camera, tracked=False)
    for start in (0.18, 0.82):
        piece = make_transparent(_thick_cutout(scene), random.uniform(0.58, 0.76))
        stop = 1 - start if random.random() < 0.6 else start
        x_M = start + (stop - start) * smoothstep(scene.progress, 0.1, 0.95)
        y_M = random.uniform(0.4, 0.6) + 0.08 * smooth_oscillation(scene, 1)[:, 0]
        layers += scene.object_layers(piece, np.stack([x_M, y_M], -1), random.uniform(0.46, 0.62), camera)
    if random.random() < 0.5:
        veil = occluder_panel(
            random, scene.assets.sample_image(random).rgb, int(1.5 * scene.size[0]), int(0.3 * scene.size[1])
        )
        x_M = -0.4 + 1.8 * smoothstep(scene.progress, 0.3, 0.9)
        place_M2 = np.stack([x_M, np.full(len(x_M), 0.5)], -1)
        layers.append(
            scene.object_layers(make_transparent(veil, 0.3), place_M2, 1.5, camera, tracked=False, softness=0)[1]
        )
    return layers, None


def _is_mostly_visible(clip: Clip) -> bool:
    return bool(clip.masks_TNHW.any((2, 3)).mean() > 0.9)


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        difficulty.name: difficulty
        for difficulty in (
            Scenario("occlusion", _occlusion, _has_occlusion),
            Scenario("twins", _twins, _has_crossing),
            Scenario("reentry", _reentry, _has_reentry),
            Scenario("fast", _fast, _is_fast, exposure_samples=5),
            Scenario("small", _small, _is_small),
            Scenario("long", _long, _changes_appearance, default_frames=150),
            Scenario("thin", _thin, _is_all_thin),
            Scenario("transparency", _transparency, _is_mostly_visible),
        )
    }
)
"""Every director by the name of what is difficult in its clips."""
