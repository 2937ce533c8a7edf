"""Every scenario shows its difficulty, with exact masks, and is reproducible."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from masklet.errors import InputError
from masklet.synthetic import SCENARIOS, Clip, DatasetSource, ProceduralSource
from masklet.synthetic.compositing import HIDDEN_AREA_FRACTION, Layer, render_frame
from masklet.synthetic.scenarios import is_thin
from masklet.synthetic.scene_builder import SceneContext, make_transparent, render_clip, roaming_path

SIZE = (96, 160)
NUMBERS = (0, 1)


@cache
def clip(name: str, number: int) -> Clip:
    return SCENARIOS[name](1, number, SIZE, 60 if name == "long" else 24, ProceduralSource())


def areas(video: Clip) -> np.ndarray:
    return video.masks_TNHW.sum((2, 3))


def test_names_and_order_of_the_scenarios() -> None:
    assert list(SCENARIOS) == ["occlusion", "twins", "reentry", "fast", "small", "long", "thin", "transparency"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_masks_are_disjoint_and_the_first_frame_shows_every_object(name: str) -> None:
    video = clip(name, 0)
    assert video.frames_THW3.shape == (60 if name == "long" else 24, *SIZE, 3)
    assert video.frames_THW3.dtype == np.uint8
    assert video.masks_TNHW.shape[2:] == SIZE
    assert 1 <= video.masks_TNHW.shape[1] <= 3
    assert video.masks_TNHW.sum(1).max() == 1
    fraction = areas(video) / (SIZE[0] * SIZE[1])
    assert (fraction[0] > 9e-4).all()
    assert ((fraction == 0) | (fraction >= HIDDEN_AREA_FRACTION)).all()


@pytest.mark.parametrize("name", [pytest.param("twins", marks=pytest.mark.slow), "fast"])
def test_clip_depends_on_seed_number_and_name_alone(name: str) -> None:
    first, again = clip(name, 0), SCENARIOS[name](1, 0, SIZE, 24, ProceduralSource())
    assert (first.frames_THW3 == again.frames_THW3).all()
    assert (first.masks_TNHW == again.masks_TNHW).all()
    assert (first.frames_THW3[0] != clip(name, 1).frames_THW3[0]).any()
    assert (first.frames_THW3[0] != SCENARIOS[name](2, 0, SIZE, 24, ProceduralSource()).frames_THW3[0]).any()


@pytest.mark.parametrize("number", NUMBERS)
def test_object_is_hidden_and_comes_back(number: int) -> None:
    area_TN = areas(clip("occlusion", number))
    hidden = area_TN <= 0.05 * area_TN[0]
    assert hidden.any()
    for n in np.flatnonzero(hidden.any(0)):
        last = np.flatnonzero(hidden[:, n])[-1]
        if (area_TN[last:, n] > 0.5 * area_TN[0, n]).any():
            return
    pytest.fail("nothing came back")


@pytest.mark.parametrize("number", NUMBERS)
def test_twins_look_alike_and_change_sides(number: int) -> None:
    video = clip("twins", number)
    assert video.masks_TNHW.shape[1] == 2
    histograms = [histogram(video, n) for n in (0, 1)]
    assert np.minimum(*histograms).sum() > 0.75
    middles = np.array([[np.nonzero(mask)[1].mean() for mask in video.masks_TNHW[t]] for t in (0, -1)])
    assert (middles[0, 0] < middles[0, 1]) != (middles[1, 0] < middles[1, 1])


def histogram(video: Clip, n: int) -> np.ndarray:
    """The distribution of 64 colors of object `n` in the first frame."""
    pixels = video.frames_THW3[0][video.masks_TNHW[0, n]] // 64
    counts = np.bincount(pixels @ np.array([16, 4, 1]), minlength=64)
    return np.asarray(counts / counts.sum())


@pytest.mark.parametrize("number", NUMBERS)
def test_object_leaves_the_frame_and_comes_back(number: int) -> None:
    area_TN = areas(clip("reentry", number))
    hidden = np.flatnonzero((area_TN == 0).any(0))
    assert len(hidden)
    n = hidden[0]
    absent = np.flatnonzero(area_TN[:, n] == 0)
    assert absent[0] > 0
    assert area_TN[absent[-1] + 1 :, n].max() > 0.6 * area_TN[0, n]


@pytest.mark.parametrize("number", NUMBERS)
def test_fast_objects_move_far_and_are_blurred(number: int) -> None:
    video = clip("fast", number)
    middles = np.array([[np.argwhere(mask).mean(0) if mask.any() else (0, 0) for mask in t] for t in video.masks_TNHW])
    steps_TN = np.linalg.norm(np.diff(middles, axis=0), axis=-1) / SIZE[1]
    assert np.sort(steps_TN.max(1))[-3] > 0.05
    assert SCENARIOS["fast"].exposure_samples > 1


def test_exposure_is_the_mean_of_its_moments_and_the_masks_are_of_the_middle() -> None:
    """A square that moves 12 pixels per frame: a third of it is sharp except for the lens blur, its ends fade."""
    square = np.full((16, 16, 3), 255, np.uint8), np.full((16, 16), 255, np.uint8)
    scene = SceneContext(np.random.default_rng(0), (64, 64), 3, ProceduralSource(), exposure_samples=5)
    matrices = np.tile(np.array([[1.0, 0, 8], [0, 1, 24], [0, 0, 1]]), (15, 1, 1))
    matrices[:, 0, 2] = 8 + 12 * scene.times
    video = render_clip(scene, [scene.make_layer(*square, matrices, tracked=True)])
    assert [int(np.nonzero(mask[0])[1].min()) for mask in video.masks_TNHW] == [8, 20, 32]
    row = video.frames_THW3[1, 32].mean(-1)
    assert row[28] > 200
    assert 20 < row[19] < 200
    assert row[10] < 20


@pytest.mark.slow
def test_small_objects_stay_small() -> None:
    fraction = areas(clip("small", 0)) / (SIZE[0] * SIZE[1])
    assert fraction.max() < 0.01


def test_light_and_size_change_slowly_in_long_clips() -> None:
    video = clip("long", 0)
    light = video.frames_THW3.mean((1, 2, 3))
    assert light.min() < 0.7 * light[0]
    assert np.abs(np.diff(light)).max() < 0.1 * light[0]
    grown = areas(video)[-6:].max(0) / areas(video)[0]
    assert np.abs(np.log(grown)).max() > 0.35
    assert SCENARIOS["long"].default_frames >= 150


@pytest.mark.slow
def test_thin_objects_have_no_thick_part() -> None:
    assert all(is_thin(mask) for mask in clip("thin", 0).masks_TNHW[0])
    assert not any(is_thin(mask) for mask in clip("twins", 0).masks_TNHW[0])


def test_objects_behind_glass_are_visible_but_have_no_mask() -> None:
    scene = SceneContext(np.random.default_rng(0), (64, 64), 2, ProceduralSource())
    rest = np.tile(np.eye(3), (2, 1, 1))
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 200
    piece = ProceduralSource().sample_cutout(np.random.default_rng(5))
    glass = make_transparent(type(piece)(np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)), 0.6)
    solid = np.full((20, 20, 3), 90, np.uint8), np.full((20, 20), 255, np.uint8)

    def render(above: Layer) -> tuple[np.ndarray, np.ndarray]:
        layers = [scene.make_layer(pixels, None, rest), scene.make_layer(*solid, rest, tracked=True), above]
        return render_frame(layers, (64, 64), 0)

    image, masks = render(scene.make_layer(glass.rgb, glass.alpha, rest, tracked=True))
    assert image[25, 36].mean() > image[25, 20].mean() + 60
    assert [int(mask.sum()) for mask in masks] == [0, 1600]
    veil = make_transparent(type(piece)(np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)), 0.3)
    assert render(scene.make_layer(veil.rgb, veil.alpha, rest))[1].sum() == 400


@pytest.mark.parametrize("number", NUMBERS)
def test_transparent_objects_are_at_least_half_opaque(number: int) -> None:
    scene = SceneContext(np.random.default_rng(number), SIZE, 24, ProceduralSource())
    layers, _ = SCENARIOS["transparency"].build_layers(scene)
    max_alphas = [int(layer.alpha.max()) for layer in layers if len(layer.regions) and layer.alpha is not None]
    assert len(max_alphas) == 2
    assert all(128 <= alpha < 210 for alpha in max_alphas)


def test_mask_matches_the_pixels_of_its_object() -> None:
    """One color over another, without a lens: at least half opaque inside the mask, less outside."""
    scene = SceneContext(np.random.default_rng(3), SIZE, 24, ProceduralSource())
    piece = ProceduralSource().sample_cutout(scene.rng)
    plain = type(piece)(np.full_like(piece.rgb, 255), piece.alpha)
    fixed = np.tile(np.eye(3), (24, 1, 1))
    layers = [scene.make_layer(np.zeros((*SIZE, 3), np.uint8), None, fixed)]
    layers.append(scene.object_layers(plain, roaming_path(scene, (0.5, 0.5), 0.2), 0.6, fixed)[1])
    for t in (0, 11, 23):
        image, masks = render_frame(layers, SIZE, t)
        assert masks.any()
        assert (abs((image[..., 0] >= 128).astype(int) - masks[0]) <= (abs(image[..., 0].astype(int) - 128) < 3)).all()


def test_scenes_use_custom_images(discs: DatasetSource) -> None:
    video = SCENARIOS["reentry"](0, 0, (72, 72), 12, discs)
    assert video.masks_TNHW[0].any((1, 2)).all()


@pytest.mark.parametrize(
    ("size", "frames", "words"),
    [
        ((0, 0), 24, "size 0 x 0 is too small; 64 x 64"),
        ((96, 160), 1, "frames=1 is too few"),
        ((64, 63), 24, "63 x 64"),
    ],
)
def test_frames_too_few_or_small_are_reported(size: tuple[int, int], frames: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SCENARIOS["twins"](0, 0, size, frames, ProceduralSource())


def test_scenario_that_never_succeeds_is_reported() -> None:
    def never(_: Clip) -> bool:
        return False

    impossible = type(SCENARIOS["small"])("small", SCENARIOS["small"].build_layers, never)
    with pytest.raises(InputError, match="small number 0 of 8 frames at 64 x 64: 60 attempts"):
        impossible(0, 0, (64, 64), 8, ConstantSource())


class ConstantSource(ProceduralSource):
    """Assets that cost nothing."""

    def sample_image(self, rng: np.random.Generator) -> object:  # type: ignore[override]
        return PHOTOGRAPH

    def sample_cutout(self, rng: np.random.Generator) -> object:  # type: ignore[override]
        return PIECE


PHOTOGRAPH = ProceduralSource().sample_image(np.random.default_rng(0))
PIECE = ProceduralSource().sample_cutout(np.random.default_rng(0))
