"""Views transform an image and its masks alike, and colors change by the sampled factors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.train_data import PLAIN, disc
from masklet.train.augment import AffineView, ColorJitter, apply_color_jitter, sample_color_jitter, sample_view
from masklet.train.config import AugmentConfig


def bright_disc(height: int, width: int, x: float, y: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a bright disc on black, and its mask."""
    mask = disc((height, width), x, y, radius)
    return np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, -1), mask


def center(weight: np.ndarray) -> np.ndarray:
    """Return the center of mass, x and y."""
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


def brightness_above_pad(rgb: np.ndarray) -> np.ndarray:
    """Return by how much pixels are brighter than the padding."""
    return (rgb.astype(float).min(-1) - 124).clip(0)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(),
        AugmentConfig(full_image_prob=0.0),
        AugmentConfig(affine_prob=0.0),
        AugmentConfig(degrees=90, shear=30, full_image_prob=0.3),
    ],
)
@pytest.mark.parametrize("side", [64, 200])
def test_a_mask_moves_with_its_image(config: AugmentConfig, side: int) -> None:
    rng, checked = np.random.default_rng(0), 0
    rgb, mask = bright_disc(150, 220, 90, 60, 25)
    for _ in range(30):
        view = sample_view(rng, 150, 220, side, config)
        image, moved = view.warp_image(rgb), view.warp_mask(mask)
        border = moved[0].any() or moved[-1].any() or moved[:, 0].any() or moved[:, -1].any()
        if moved.sum() < 20 or border:
            continue
        checked += 1
        assert np.abs(center(brightness_above_pad(image)) - center(moved)).max() < 0.5
        assert ((image.min(-1) > 127) == moved).mean() > 0.99
    assert checked > 10


@pytest.mark.parametrize(("height", "width", "side"), [(100, 140, 100), (96, 96, 192), (480, 640, 96), (333, 517, 64)])
def test_without_augmentation_a_view_is_a_plain_resize(height: int, width: int, side: int) -> None:
    """To half a pixel, also when it shrinks by five."""
    view = sample_view(np.random.default_rng(0), height, width, side, PLAIN)
    x, y = 0.3 * width, 0.6 * height
    rgb, mask = bright_disc(height, width, x, y, 0.12 * width)
    expected = np.array([(x + 0.5) * side / width - 0.5, (y + 0.5) * side / height - 0.5])
    assert np.abs(center(view.warp_image(rgb).min(-1)) - expected).max() < 0.5
    assert np.abs(center(view.warp_mask(mask)) - expected).max() < 0.5
    area = mask.mean()
    assert view.warp_mask(mask).mean() == pytest.approx(area, rel=0.1)


def test_the_same_size_is_the_same_image() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    view = sample_view(np.random.default_rng(0), 64, 64, 64, PLAIN)
    assert (view.warp_image(rgb) == rgb).all()
    flipped = sample_view(np.random.default_rng(0), 64, 64, 64, replace(PLAIN, flip_prob=1.0))
    assert (flipped.warp_image(rgb) == rgb[:, ::-1]).all()


def test_probabilities_are_respected() -> None:
    rng = np.random.default_rng(0)
    views = [sample_view(rng, 80, 80, 80, replace(PLAIN, flip_prob=0.5, affine_prob=0.25)) for _ in range(400)]
    rotated = sum(abs(view.matrix[1, 0]) > 1e-9 for view in views)
    mirrored = sum(view.matrix[0, 0] < 0 for view in views)
    assert 65 < rotated < 135
    assert 160 < mirrored < 240


def test_a_crop_lies_inside_and_has_its_minimum_area() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        view = sample_view(rng, 90, 160, 64, replace(PLAIN, full_image_prob=0.0, min_crop_area=0.5))
        corners = np.array([[-0.5, -0.5, 1], [63.5, 63.5, 1]])
        back = np.linalg.inv(np.vstack([view.matrix, [0, 0, 1]]))
        (left, top, _), (right, bottom, _) = (back @ corner for corner in corners)
        assert left > -0.51
        assert top > -0.51
        assert right < 159.51
        assert bottom < 89.51
        assert (right - left) * (bottom - top) > 0.39 * 90 * 160  # half, except for what the aspect jitter cuts off


def test_angles_are_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    views = [sample_view(rng, 64, 64, 64, replace(PLAIN, affine_prob=1.0, degrees=25, shear=0)) for _ in range(200)]
    angles = [np.rad2deg(np.arctan2(view.matrix[1, 0], view.matrix[0, 0])) for view in views]
    assert 20 < max(map(abs, angles)) <= 25
    slanted = [sample_view(rng, 64, 64, 64, replace(PLAIN, affine_prob=1.0, degrees=0, shear=20)) for _ in range(200)]
    slopes = [np.rad2deg(np.arctan(view.matrix[0, 1])) for view in slanted]
    assert 15 < max(map(abs, slopes)) <= 20


def test_the_outside_is_gray_and_in_no_mask() -> None:
    view = AffineView(np.array([[0.5, 0, 16], [0, 0.5, 16]]), 64)
    image, mask = view.warp_image(np.zeros((64, 64, 3), np.uint8)), view.warp_mask(np.ones((64, 64), bool))
    assert image[2, 2].tolist() == [124, 116, 104]
    assert not mask[:14].any()
    assert mask[20:44, 20:44].all()


def test_no_jitter_changes_nothing() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    assert sample_color_jitter(np.random.default_rng(0), 0, 0, 0) == ColorJitter()
    assert apply_color_jitter(rgb, ColorJitter(), ColorJitter()) is rgb


def test_colors_change_by_their_factors() -> None:
    gray = np.full((4, 4, 3), 100, np.uint8)
    assert (apply_color_jitter(gray, ColorJitter(brightness=1.1)) == 110).all()
    assert (apply_color_jitter(gray, ColorJitter(contrast=0.5)) == 100).all()
    halves = np.concatenate([np.full((2, 4, 3), 50), np.full((2, 4, 3), 150)]).astype(np.uint8)
    assert np.unique(apply_color_jitter(halves, ColorJitter(contrast=0.5))).tolist() == [75, 125]
    red = np.full((2, 2, 3), (200, 40, 40), np.uint8)
    pale = apply_color_jitter(red, ColorJitter(saturation=0.0))
    assert np.unique(pale).tolist() == [round(0.299 * 200 + 0.701 * 40)]
    assert (apply_color_jitter(gray, ColorJitter(brightness=9.0)) == 255).all()


def test_sampled_factors_stay_near_one() -> None:
    rng = np.random.default_rng(0)
    factors = np.array([list(vars(sample_color_jitter(rng, 0.1, 0.03, 0.3)).values()) for _ in range(300)])
    spread = np.abs(factors - 1).max(0)
    assert (spread <= [0.1, 0.03, 0.3]).all()
    assert (spread > 0.9 * np.array([0.1, 0.03, 0.3])).all()
