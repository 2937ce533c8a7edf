"""Training clips: reproducible, with masks of the visible parts, and objects that hide and come back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from masklet.errors import SourceError
from masklet.synthetic import CutoutClipGenerator, DatasetSource, Photograph, ProceduralSource
from masklet.synthetic.compositing import Deformation, Layer, render_frame, resize_to_render_size
from masklet.synthetic.cutout_clips import MIN_AREA_FRACTION
from masklet.synthetic.cutouts import Cutout, cut_out, is_usable_mask
from masklet.synthetic.motion import Pose, affine_matrices, out_and_back, random_walk

NO_DEFORMATION = Deformation(np.zeros((2, 4, 4, 2), np.float32), 0.1)
FRAME = (32, 32)


@pytest.fixture(scope="module")
def generator(discs: DatasetSource) -> CutoutClipGenerator:
    return CutoutClipGenerator(discs, size=64, frames=5, objects=3)


def test_clip_depends_on_seed_and_number_alone(generator: CutoutClipGenerator) -> None:
    first = generator.clip(0, 7)
    again = generator.clip(0, 7)
    assert (first.frames_THW3 == again.frames_THW3).all()
    assert (first.masks_TNHW == again.masks_TNHW).all()
    assert (first.frames_THW3 != generator.clip(0, 8).frames_THW3).any()
    assert (first.frames_THW3 != generator.clip(1, 7).frames_THW3).any()


def test_first_frame_shows_every_object_and_later_ones_may_not(generator: CutoutClipGenerator) -> None:
    absent = back = 0
    for number in range(40):
        clip = generator.clip(0, number)
        assert clip.frames_THW3.shape == (5, 64, 64, 3)
        assert 1 <= clip.masks_TNHW.shape[1] <= 3
        assert (clip.masks_TNHW[0].mean((1, 2)) > MIN_AREA_FRACTION).all()
        seen_TN = clip.masks_TNHW.any((2, 3))
        absent += int((~seen_TN).any(0).sum())
        back += int((~seen_TN[:-1] & seen_TN[1:]).any(0).sum())
    assert absent > 5
    assert back > 2


def test_masks_do_not_overlap(generator: CutoutClipGenerator) -> None:
    """Discs of an image do not overlap either, so no masks of these clips do."""
    for number in range(20):
        assert generator.clip(0, number).masks_TNHW.sum(1).max() <= 1


def test_generator_can_be_pickled(generator: CutoutClipGenerator) -> None:
    copy = pickle.loads(pickle.dumps(generator))
    assert (copy.clip(3, 5).frames_THW3 == generator.clip(3, 5).frames_THW3).all()


def test_clips_need_no_images() -> None:
    clip = CutoutClipGenerator(ProceduralSource(), size=64, frames=4, objects=2).clip(0, 0)
    assert clip.frames_THW3.shape == (4, 64, 64, 3)
    assert clip.masks_TNHW[0].any((1, 2)).all()


@pytest.mark.slow
def test_images_without_objects_are_reported() -> None:
    class Empty(ProceduralSource):
        def sample_image(self, rng: np.random.Generator) -> Photograph:
            return Photograph(np.zeros((64, 64, 3), np.uint8), {1: np.zeros((64, 64), bool)})

        def sample_cutout(self, rng: np.random.Generator) -> Cutout:
            return Cutout(np.zeros((8, 8, 3), np.uint8), np.diag([0, 0, 0, 255, 0, 0, 0, 0]).astype(np.uint8))

    with pytest.raises(SourceError, match=r"nothing covered 0\.3% to 60%"):
        CutoutClipGenerator(Empty(), size=64, frames=1, objects=2).clip(0, 0)


def square(color: int, left: float, step: float, side: int = 8) -> Layer:
    """A tracked square that moves to the right by `step` pixels a frame."""
    time = np.arange(3)
    position = np.stack([left + side / 2 + step * time, np.full(3, 16.0)], -1)
    pose = Pose(np.full((3, 2), side / 2), position, np.ones((3, 2)), np.zeros(3))
    alpha = np.full((side, side), 255, np.uint8)
    rgb = np.full((side, side, 3), color, np.uint8)
    return Layer(rgb, alpha, alpha[None], affine_matrices(pose), NO_DEFORMATION, np.ones((3, 3)), np.ones(3, bool))


def test_upper_layers_hide_lower_ones() -> None:
    layers = [square(100, 12, 0), square(200, 0, 6)]
    seen = [render_frame(layers, FRAME, t) for t in range(3)]
    assert [int(masks[0].sum()) for _, masks in seen] == [64, 48, 0]
    assert (seen[2][0][seen[2][1][1]] == 200).all()


def test_invisible_layer_has_no_mask() -> None:
    layer = square(100, 4, 0)
    layer.visible_T[1] = False
    assert [render_frame([layer], FRAME, t)[1].any() for t in range(3)] == [True, False, True]


def test_layer_keeps_its_position_when_it_is_resized() -> None:
    y, x = np.mgrid[:64, :64]
    disc = ((x - 32) ** 2 + (y - 32) ** 2 < 24**2).astype(np.uint8) * 255
    pose = Pose(np.full((1, 2), 32.0), np.full((1, 2), 16.0), np.full((1, 2), 0.3), np.zeros(1))
    layer = Layer(
        np.full((64, 64, 3), 90, np.uint8),
        disc,
        disc[None],
        affine_matrices(pose),
        NO_DEFORMATION,
        np.ones((1, 3)),
        np.ones(1, bool),
    )
    small = resize_to_render_size(layer)
    assert small.rgb.shape[0] < 24
    before, after = render_frame([layer], FRAME, 0)[1][0], render_frame([small], FRAME, 0)[1][0]
    assert (before & after).sum() > 0.9 * (before | after).sum()


def test_paths_start_at_zero_and_come_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        path = random_walk(rng, 8, 0.05)
        assert (path[0] == 0).all()
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.12
        away = out_and_back(rng, 8)
        assert away[0] == 0
        assert away.max() > 0.7


def test_cut_off_or_disconnected_masks_are_not_usable() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    assert is_usable_mask(mask)
    pieces = mask.copy()
    pieces[48:52] = False
    assert not is_usable_mask(pieces)
    assert not is_usable_mask(np.roll(mask, 30, axis=1))
    assert not is_usable_mask(mask & (np.arange(100) < 35))


def test_cutout_fades_inside_its_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    cutout = cut_out(np.zeros((100, 100, 3), np.uint8), mask)
    assert cutout.alpha.shape == (52, 52)
    assert cutout.alpha[26, 26] == 255
    assert cutout.alpha[26, 6] < 200
    assert (cutout.alpha[:4] == 0).all()
