"""Every difficulty has what its name says, with masks that are exact, and the same for the same seed."""

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


def areas(of: Clip) -> np.ndarray:
    return of.masks_TNHW.sum((2, 3))


def test_the_names_are_those_that_are_written_down() -> None:
    assert list(SCENARIOS) == ["occlusion", "twins", "reentry", "fast", "small", "long", "thin", "transparency"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_masks_are_apart_and_the_first_frame_has_every_object(name: str) -> None:
    made = clip(name, 0)
    assert made.frames_THW3.shape == (60 if name == "long" else 24, *SIZE, 3)
    assert made.frames_THW3.dtype == np.uint8
    assert made.masks_TNHW.shape[2:] == SIZE
    assert 1 <= made.masks_TNHW.shape[1] <= 3
    assert made.masks_TNHW.sum(1).max() == 1
    share = areas(made) / (SIZE[0] * SIZE[1])
    assert (share[0] > 9e-4).all()
    assert ((share == 0) | (share >= HIDDEN_AREA_FRACTION)).all()


@pytest.mark.parametrize("name", ["twins", "fast"])
def test_a_clip_depends_on_seed_number_and_name_alone(name: str) -> None:
    first, again = clip(name, 0), SCENARIOS[name](1, 0, SIZE, 24, ProceduralSource())
    assert (first.frames_THW3 == again.frames_THW3).all()
    assert (first.masks_TNHW == again.masks_TNHW).all()
    assert (first.frames_THW3[0] != clip(name, 1).frames_THW3[0]).any()
    assert (first.frames_THW3[0] != SCENARIOS[name](2, 0, SIZE, 24, ProceduralSource()).frames_THW3[0]).any()


@pytest.mark.parametrize("number", NUMBERS)
def test_something_is_hidden_and_seen_again(number: int) -> None:
    area_TN = areas(clip("occlusion", number))
    hidden = area_TN <= 0.05 * area_TN[0]
    assert hidden.any()
    for n in np.flatnonzero(hidden.any(0)):
        last = np.flatnonzero(hidden[:, n])[-1]
        if (area_TN[last:, n] > 0.5 * area_TN[0, n]).any():
            return
    pytest.fail("nothing came back")


@pytest.mark.parametrize("number", NUMBERS)
def test_twins_have_one_look_and_change_sides(number: int) -> None:
    made = clip("twins", number)
    assert made.masks_TNHW.shape[1] == 2
    histograms = [histogram(made, n) for n in (0, 1)]
    assert np.minimum(*histograms).sum() > 0.75
    middles = np.array([[np.nonzero(mask)[1].mean() for mask in made.masks_TNHW[t]] for t in (0, -1)])
    assert (middles[0, 0] < middles[0, 1]) != (middles[1, 0] < middles[1, 1])


def histogram(of: Clip, n: int) -> np.ndarray:
    """Shares of 64 colors of object `n` in the first frame."""
    pixels = of.frames_THW3[0][of.masks_TNHW[0, n]] // 64
    counts = np.bincount(pixels @ np.array([16, 4, 1]), minlength=64)
    return np.asarray(counts / counts.sum())


@pytest.mark.parametrize("number", NUMBERS)
def test_something_leaves_the_frame_and_comes_back(number: int) -> None:
    area_TN = areas(clip("reentry", number))
    gone = np.flatnonzero((area_TN == 0).any(0))
    assert len(gone)
    n = gone[0]
    absent = np.flatnonzero(area_TN[:, n] == 0)
    assert absent[0] > 0
    assert area_TN[absent[-1] + 1 :, n].max() > 0.6 * area_TN[0, n]


@pytest.mark.parametrize("number", NUMBERS)
def test_fast_ones_go_far_and_are_blurred(number: int) -> None:
    made = clip("fast", number)
    middles = np.array([[np.argwhere(mask).mean(0) if mask.any() else (0, 0) for mask in t] for t in made.masks_TNHW])
    steps_TN = np.linalg.norm(np.diff(middles, axis=0), axis=-1) / SIZE[1]
    assert np.sort(steps_TN.max(1))[-3] > 0.05
    assert SCENARIOS["fast"].exposure_samples > 1


def test_an_exposure_is_the_mean_of_its_moments_and_the_truth_is_its_middle() -> None:
    """A square that goes 12 pixels in a frame: a third of it is sharp less what the lens softens, its ends fade."""
    square = np.full((16, 16, 3), 255, np.uint8), np.full((16, 16), 255, np.uint8)
    take = SceneContext(np.random.default_rng(0), (64, 64), 3, ProceduralSource(), exposure_samples=5)
    matrices = np.tile(np.array([[1.0, 0, 8], [0, 1, 24], [0, 0, 1]]), (15, 1, 1))
    matrices[:, 0, 2] = 8 + 12 * take.times
    made = render_clip(take, [take.make_layer(*square, matrices, tracked=True)])
    assert [int(np.nonzero(mask[0])[1].min()) for mask in made.masks_TNHW] == [8, 20, 32]
    row = made.frames_THW3[1, 32].mean(-1)
    assert row[28] > 200
    assert 20 < row[19] < 200
    assert row[10] < 20


def test_small_ones_stay_small() -> None:
    share = areas(clip("small", 0)) / (SIZE[0] * SIZE[1])
    assert share.max() < 0.01


def test_light_and_size_change_slowly_in_a_long_clip() -> None:
    made = clip("long", 0)
    light = made.frames_THW3.mean((1, 2, 3))
    assert light.min() < 0.7 * light[0]
    assert np.abs(np.diff(light)).max() < 0.1 * light[0]
    grown = areas(made)[-6:].max(0) / areas(made)[0]
    assert np.abs(np.log(grown)).max() > 0.35
    assert SCENARIOS["long"].default_frames >= 150


def test_thin_ones_have_no_thick_part() -> None:
    assert all(is_thin(mask) for mask in clip("thin", 0).masks_TNHW[0])
    assert not any(is_thin(mask) for mask in clip("twins", 0).masks_TNHW[0])


def test_what_is_behind_a_thing_of_glass_shows_through_and_is_hidden_in_the_truth() -> None:
    take = SceneContext(np.random.default_rng(0), (64, 64), 2, ProceduralSource())
    rest = np.tile(np.eye(3), (2, 1, 1))
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 200
    piece = ProceduralSource().sample_cutout(np.random.default_rng(5))
    glass = make_transparent(type(piece)(np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)), 0.6)
    solid = np.full((20, 20, 3), 90, np.uint8), np.full((20, 20), 255, np.uint8)

    def scene(above: Layer) -> tuple[np.ndarray, np.ndarray]:
        layers = [take.make_layer(pixels, None, rest), take.make_layer(*solid, rest, tracked=True), above]
        return render_frame(layers, (64, 64), 0)

    image, masks = scene(take.make_layer(glass.rgb, glass.alpha, rest, tracked=True))
    assert image[25, 36].mean() > image[25, 20].mean() + 60
    assert [int(mask.sum()) for mask in masks] == [0, 1600]
    veil = make_transparent(type(piece)(np.zeros((40, 40, 3), np.uint8), np.full((40, 40), 255, np.uint8)), 0.3)
    assert scene(take.make_layer(veil.rgb, veil.alpha, rest))[1].sum() == 400


@pytest.mark.parametrize("number", NUMBERS)
def test_things_of_glass_are_half_there_or_more(number: int) -> None:
    take = SceneContext(np.random.default_rng(number), SIZE, 24, ProceduralSource())
    layers, _ = SCENARIOS["transparency"].build_layers(take)
    most = [int(layer.alpha.max()) for layer in layers if len(layer.regions) and layer.alpha is not None]
    assert len(most) == 2
    assert all(128 <= alpha < 210 for alpha in most)


def test_a_drawn_thing_has_the_pixels_of_its_mask() -> None:
    """One color over another, without a lens: inside the mask it is at least half the thing's, outside less."""
    take = SceneContext(np.random.default_rng(3), SIZE, 24, ProceduralSource())
    piece = ProceduralSource().sample_cutout(take.random)
    plain = type(piece)(np.full_like(piece.rgb, 255), piece.alpha)
    still = np.tile(np.eye(3), (24, 1, 1))
    layers = [take.make_layer(np.zeros((*SIZE, 3), np.uint8), None, still)]
    layers.append(take.object_layers(plain, roaming_path(take, (0.5, 0.5), 0.2), 0.6, still)[1])
    for t in (0, 11, 23):
        image, masks = render_frame(layers, SIZE, t)
        assert masks.any()
        assert (abs((image[..., 0] >= 128).astype(int) - masks[0]) <= (abs(image[..., 0].astype(int) - 128) < 3)).all()


def test_scenes_are_made_of_images_of_ones_own(discs: DatasetSource) -> None:
    made = SCENARIOS["reentry"](0, 0, (72, 72), 12, discs)
    assert made.masks_TNHW[0].any((1, 2)).all()


@pytest.mark.parametrize(
    ("size", "frames", "words"),
    [
        ((0, 0), 24, "size 0 x 0 is too small; 64 x 64"),
        ((96, 160), 1, "frames=1 is too few"),
        ((64, 63), 24, "63 x 64"),
    ],
)
def test_no_room_is_named(size: tuple[int, int], frames: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SCENARIOS["twins"](0, 0, size, frames, ProceduralSource())


def test_what_cannot_be_shown_is_named() -> None:
    def never(_: Clip) -> bool:
        return False

    hopeless = type(SCENARIOS["small"])("small", SCENARIOS["small"].build_layers, never)
    with pytest.raises(InputError, match="small number 0 of 8 frames at 64 x 64: 60 attempts"):
        hopeless(0, 0, (64, 64), 8, Plain())


class Plain(ProceduralSource):
    """Material that costs nothing."""

    def photograph(self, random: np.random.Generator) -> object:  # type: ignore[override]
        return PHOTOGRAPH

    def piece(self, random: np.random.Generator) -> object:  # type: ignore[override]
        return PIECE


PHOTOGRAPH = ProceduralSource().sample_image(np.random.default_rng(0))
PIECE = ProceduralSource().sample_cutout(np.random.default_rng(0))
