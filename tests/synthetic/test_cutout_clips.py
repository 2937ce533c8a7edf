"""Clips to train on: the same ones every time, masks that are what is to be seen, things that hide and come back."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from masklet.errors import SourceError
from masklet.synthetic import CutoutClipGenerator, DatasetSource, ProceduralSource, SourceImage
from masklet.synthetic.compositing import Deformation, Layer, render_frame, resize_to_render_size
from masklet.synthetic.cutout_clips import MIN_AREA_FRACTION
from masklet.synthetic.cutouts import Cutout, cut_out, is_usable_mask
from masklet.synthetic.motion import Pose, affine_matrices, out_and_back, random_walk

STILL = Deformation(np.zeros((2, 4, 4, 2), np.float32), 0.1)
FRAME = (32, 32)


@pytest.fixture(scope="module")
def maker(discs: DatasetSource) -> CutoutClipGenerator:
    return CutoutClipGenerator(discs, size=64, frames=5, objects=3)


def test_a_clip_depends_on_seed_and_number_alone(maker: CutoutClipGenerator) -> None:
    first = maker.clip(0, 7)
    again = maker.clip(0, 7)
    assert (first.frames_THW3 == again.frames_THW3).all()
    assert (first.masks_TNHW == again.masks_TNHW).all()
    assert (first.frames_THW3 != maker.clip(0, 8).frames_THW3).any()
    assert (first.frames_THW3 != maker.clip(1, 7).frames_THW3).any()


def test_the_first_frame_shows_every_object_and_later_ones_may_not(maker: CutoutClipGenerator) -> None:
    absent = back = 0
    for number in range(40):
        clip = maker.clip(0, number)
        assert clip.frames_THW3.shape == (5, 64, 64, 3)
        assert 1 <= clip.masks_TNHW.shape[1] <= 3
        assert (clip.masks_TNHW[0].mean((1, 2)) > MIN_AREA_FRACTION).all()
        seen_TN = clip.masks_TNHW.any((2, 3))
        absent += int((~seen_TN).any(0).sum())
        back += int((~seen_TN[:-1] & seen_TN[1:]).any(0).sum())
    assert absent > 5
    assert back > 2


def test_no_two_cut_outs_are_seen_at_one_place(maker: CutoutClipGenerator) -> None:
    """Discs of an image do not overlap either, so that nothing in these clips does."""
    for number in range(20):
        assert maker.clip(0, number).masks_TNHW.sum(1).max() <= 1


def test_a_maker_can_be_sent_to_another_process(maker: CutoutClipGenerator) -> None:
    sent = pickle.loads(pickle.dumps(maker))
    assert (sent.clip(3, 5).frames_THW3 == maker.clip(3, 5).frames_THW3).all()


def test_clips_need_no_images() -> None:
    clip = CutoutClipGenerator(ProceduralSource(), size=64, frames=4, objects=2).clip(0, 0)
    assert clip.frames_THW3.shape == (4, 64, 64, 3)
    assert clip.masks_TNHW[0].any((1, 2)).all()


def test_images_with_nothing_in_them_are_named() -> None:
    class Empty(ProceduralSource):
        def photograph(self, random: np.random.Generator) -> SourceImage:
            return SourceImage(np.zeros((64, 64, 3), np.uint8), {1: np.zeros((64, 64), bool)})

        def piece(self, random: np.random.Generator) -> Cutout:
            return Cutout(np.zeros((8, 8, 3), np.uint8), np.diag([0, 0, 0, 255, 0, 0, 0, 0]).astype(np.uint8))

    with pytest.raises(SourceError, match=r"nothing covered 0\.3% to 60%"):
        CutoutClipGenerator(Empty(), size=64, frames=1, objects=2).clip(0, 0)


def square(color: int, left: float, step: float, side: int = 8) -> Layer:
    """A followed square that moves to the right by `step` pixels a frame."""
    time = np.arange(3)
    place = np.stack([left + side / 2 + step * time, np.full(3, 16.0)], -1)
    pose = Pose(np.full((3, 2), side / 2), place, np.ones((3, 2)), np.zeros(3))
    alpha = np.full((side, side), 255, np.uint8)
    rgb = np.full((side, side, 3), color, np.uint8)
    return Layer(rgb, alpha, alpha[None], affine_matrices(pose), STILL, np.ones((3, 3)), np.ones(3, bool))


def test_what_lies_above_hides_what_lies_below() -> None:
    layers = [square(100, 12, 0), square(200, 0, 6)]
    seen = [render_frame(layers, FRAME, t) for t in range(3)]
    assert [int(masks[0].sum()) for _, masks in seen] == [64, 48, 0]
    assert (seen[2][0][seen[2][1][1]] == 200).all()


def test_a_layer_that_is_not_shown_has_no_mask() -> None:
    layer = square(100, 4, 0)
    layer.visible_T[1] = False
    assert [render_frame([layer], FRAME, t)[1].any() for t in range(3)] == [True, False, True]


def test_a_layer_keeps_its_place_when_it_is_made_smaller() -> None:
    y, x = np.mgrid[:64, :64]
    disc = ((x - 32) ** 2 + (y - 32) ** 2 < 24**2).astype(np.uint8) * 255
    pose = Pose(np.full((1, 2), 32.0), np.full((1, 2), 16.0), np.full((1, 2), 0.3), np.zeros(1))
    layer = Layer(
        np.full((64, 64, 3), 90, np.uint8),
        disc,
        disc[None],
        affine_matrices(pose),
        STILL,
        np.ones((1, 3)),
        np.ones(1, bool),
    )
    small = resize_to_render_size(layer)
    assert small.rgb.shape[0] < 24
    before, after = render_frame([layer], FRAME, 0)[1][0], render_frame([small], FRAME, 0)[1][0]
    assert (before & after).sum() > 0.9 * (before | after).sum()


def test_paths_start_where_they_start_and_excursions_come_back() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        path = random_walk(random, 8, 0.05)
        assert (path[0] == 0).all()
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.12
        away = out_and_back(random, 8)
        assert away[0] == 0
        assert away.max() > 0.7


def test_what_is_cut_off_or_in_pieces_is_no_whole_object() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    assert is_usable_mask(mask)
    pieces = mask.copy()
    pieces[48:52] = False
    assert not is_usable_mask(pieces)
    assert not is_usable_mask(np.roll(mask, 30, axis=1))
    assert not is_usable_mask(mask & (np.arange(100) < 35))


def test_a_cut_out_fades_inside_its_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    piece = cut_out(np.zeros((100, 100, 3), np.uint8), mask)
    assert piece.alpha.shape == (52, 52)
    assert piece.alpha[26, 26] == 255
    assert piece.alpha[26, 6] < 200
    assert (piece.alpha[:4] == 0).all()
