"""Masks that follow the edges of their image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from masklet.masks.edge_refinement import EPSILON, EdgeGuide, refine_edges

RADIUS = 3


def disc(size: int, radius: float, shift: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(y, x - shift) < radius


def guided_filter(image: np.ndarray, soft: np.ndarray, radius: int) -> np.ndarray:
    """The filter by its definition in fp64: a least-squares fit in every window, and the mean of the fits."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values.astype(np.float64), (2 * radius + 1, 2 * radius + 1))

    height, width = soft.shape
    slope, means = np.zeros((height, width, 3)), np.stack([mean(image[..., i]) for i in range(3)], -1)
    covariance = np.zeros((height, width, 3, 3))
    for i in range(3):
        for j in range(3):
            covariance[..., i, j] = mean(image[..., i] * image[..., j]) - means[..., i] * means[..., j]
    together = np.stack([mean(image[..., i] * soft) for i in range(3)], -1) - means * mean(soft)[..., None]
    slope = np.linalg.solve(covariance + EPSILON * np.eye(3), together[..., None])[..., 0]
    shift = mean(soft) - (slope * means).sum(-1)
    return sum(mean(slope[..., i]) * image[..., i] for i in range(3)) + mean(shift)


@pytest.mark.parametrize("seed", range(3))
def test_the_planes_compute_the_filter_by_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.random((40, 56, 3)), (0, 0), 2.0)
    soft = np.zeros((40, 56))
    soft[8:30, 10:40] = 1
    soft = cv2.GaussianBlur(soft, (0, 0), 2.0)
    refined = EdgeGuide(image.astype(np.float32), RADIUS).refine(soft.astype(np.float32))
    assert refined is not None
    near = cv2.dilate((soft > 0.02).astype(np.uint8), np.ones((3, 3))) > 0
    assert np.abs(refined - guided_filter(image, soft, RADIUS))[near].max() < 2e-3


def test_an_edge_that_is_off_moves_to_that_of_the_image() -> None:
    truth = disc(96, 30)
    image = np.where(truth[..., None], (0.8, 0.4, 0.3), (0.2, 0.3, 0.4)).astype(np.float32)
    soft = cv2.GaussianBlur(disc(96, 29, shift=1.5).astype(np.float32), (0, 0), 2.0)
    refined = soft > 0.5
    refine_edges(refined[None], soft[None], EdgeGuide(image, RADIUS))
    before, after = (((mask & truth).sum() / (mask | truth).sum()) for mask in (soft > 0.5, refined))
    assert before < 0.93
    assert after > 0.96


def test_an_image_of_one_color_leaves_a_mask_where_it_is() -> None:
    soft = np.stack([cv2.GaussianBlur(disc(64, 20).astype(np.float32), (0, 0), 2.0), np.zeros((64, 64), np.float32)])
    masks = soft > 0.5
    refine_edges(masks, soft, EdgeGuide(np.full((64, 64, 3), 0.4, np.float32), RADIUS))
    assert (masks[0] ^ (soft[0] > 0.5)).sum() < 0.05 * masks[0].sum()  # windows round a curve off a little
    assert not masks[1].any()


def test_masks_keep_their_size() -> None:
    soft, masks = disc(64, 26).astype(np.float32), np.ones((1, 90, 70), bool)
    refine_edges(masks, soft[None], EdgeGuide(np.zeros((64, 64, 3), np.float32), RADIUS))
    assert abs(masks.mean() - (soft > 0.5).mean()) < 0.02


@pytest.mark.parametrize(
    "mask", [disc(64, 3), np.pad(np.ones((2, 60), bool), ((31, 31), (2, 2)))], ids=["small", "thin"]
)
def test_what_a_window_does_not_hold_stays_as_it_is(mask: np.ndarray) -> None:
    image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    assert EdgeGuide(image, RADIUS).refine(mask.astype(np.float32)) is None
    masks = mask[None].copy()
    refine_edges(masks, masks.astype(np.float32), EdgeGuide(image, RADIUS))
    assert np.array_equal(masks[0], mask)
