import numpy as np
import pytest
from pycocotools import mask as tools

from masklet.masks import iou
from masklet.masks.polygon_simplify import rasterize_like_pycocotools, simplify_mask, tight_crop

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools


def blobs(seed: int, size: tuple[int, int] = (60, 80), fraction: float = 0.5) -> np.ndarray:
    """Smooth shapes with holes and parts, some of them at the border."""
    import cv2

    noise = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 4) > np.quantile(cv2.GaussianBlur(noise, (0, 0), 4), fraction))


def by_pycocotools(rings, size) -> np.ndarray:
    codes = tools.frPyObjects([ring.ravel().astype(float).tolist() for ring in rings], *size)
    return tools.decode(tools.merge(codes)).astype(bool)


@pytest.mark.parametrize("seed", range(30))
def test_rasterizing_matches_pycocotools(seed):
    random = np.random.default_rng(seed)
    size = (int(random.integers(5, 40)), int(random.integers(5, 40)))
    ring = random.uniform(-3, 43, (int(random.integers(3, 12)), 2)).clip(0, 42).astype(np.float32)
    assert np.array_equal(rasterize_like_pycocotools([ring], size), by_pycocotools([ring], size))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_iou", [0.8, 0.95, 0.98, 1.0])
def test_the_iou_holds_for_pycocotools_and_for_us(seed, min_iou):
    mask = blobs(seed, fraction=0.3 + 0.04 * seed)
    outline = simplify_mask(mask, min_iou)
    assert outline is not None
    assert outline.iou >= min_iou
    assert iou(by_pycocotools(outline.rings, mask.shape), mask) >= min_iou
    assert np.allclose(np.concatenate(outline.rings) % 1, 0)


def test_a_lower_iou_takes_fewer_points():
    mask = blobs(3)
    points = [sum(map(len, simplify_mask(mask, least).rings)) for least in (0.8, 0.95, 1.0)]
    assert points[0] < points[1] < points[2]


def test_noise_is_traced_exactly_holes_parts_and_corners_that_touch():
    for seed in range(10):
        mask = np.random.default_rng(seed).random((12, 14)) < 0.5
        outline = simplify_mask(mask, 1.0)
        assert outline is not None
        assert np.array_equal(by_pycocotools(outline.rings, mask.shape), mask)


def test_an_empty_mask_has_no_outline():
    assert simplify_mask(np.zeros((4, 5), bool), 0.5) is None


def test_the_crop_is_the_tight_box():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:7] = True
    left, top, crop = tight_crop(mask)
    assert (left, top, crop.shape, crop.all()) == (1, 2, (2, 6), True)
    assert tight_crop(np.zeros((6, 8), bool))[2].size == 0
