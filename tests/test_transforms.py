"""The transform of an image to a network's square input, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.models.types import PIXEL_MEAN, PIXEL_STD
from masklet.prompts import parse_prompts
from masklet.transforms import MASK_PROMPT_LOGIT, ImageTransform, binary_mask, preprocess_frame, prompt_tensors


@pytest.mark.parametrize(
    ("size", "filled"), [((100, 200), (32, 64)), ((200, 100), (64, 32)), ((67, 100), (43, 64)), ((1, 1000), (1, 64))]
)
def test_the_longer_side_fills_the_input(size: tuple[int, int], filled: tuple[int, int]) -> None:
    assert ImageTransform(size, 64, keep_aspect_ratio=True).valid_size == filled
    assert ImageTransform(size, 64).valid_size == (64, 64)


def test_what_is_not_image_is_zero_after_normalizing() -> None:
    rgb = np.full((30, 60, 3), 255, np.uint8)
    pixels = ImageTransform((30, 60), 32, keep_aspect_ratio=True).preprocess(rgb)
    assert pixels.shape == (1, 3, 32, 32)
    white = (1 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    torch.testing.assert_close(pixels[0, :, :16].mean((1, 2)), white)
    assert not pixels[0, :, 16:].any()


def test_stretched_images_fill_the_input() -> None:
    pixels = ImageTransform((30, 60), 32).preprocess(np.full((30, 60, 3), 255, np.uint8))
    torch.testing.assert_close(pixels[0, 0], torch.full((32, 32), (1 - PIXEL_MEAN[0]) / PIXEL_STD[0]))


@pytest.mark.parametrize(("keep", "expected"), [(True, (16.0, 8.0)), (False, (16.0, 16.0))])
def test_points_go_where_the_image_went(keep: bool, expected: tuple[float, float]) -> None:
    tensors = prompt_tensors(parse_prompts([50, 25], size=(50, 100)), ImageTransform((50, 100), 32, keep))
    assert tuple(tensors.points_BN2[0, 0].tolist()) == expected


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("size", [(48, 96), (96, 48), (70, 70)])
def test_a_mask_comes_back_from_where_it_was_put(keep: bool, size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[10:40, 20:44] = True
    transform = ImageTransform(size, 256, keep)
    logits = transform.mask_logits(mask)
    assert logits.shape == (1, 1, 64, 64)
    assert float(logits.max()) == MASK_PROMPT_LOGIT
    restored = transform.postprocess_masks(logits)[0, 0]
    assert restored.shape == size
    assert (restored & mask).sum() / (restored | mask).sum() > 0.9
    assert transform.upsample_logits(logits).shape == (1, 1, *size)


@pytest.mark.parametrize("size", [(64, 200), (512, 700)])
def test_a_mask_smaller_than_a_cell_keeps_the_cells_it_touches(size: tuple[int, int]) -> None:
    mask = np.zeros(size, bool)
    mask[size[0] // 2, size[1] // 3] = True
    for cells, inside in (
        (binary_mask(mask, (32, 32))[0, 0], 1),
        (ImageTransform(size, 128).mask_logits(mask)[0, 0], MASK_PROMPT_LOGIT),
    ):
        assert (cells == inside).sum() == 1
        assert cells[16, 10] == inside
    assert not binary_mask(np.zeros(size, bool), (32, 32)).any()


def test_a_mask_that_fills_a_cell_is_averaged_as_ever() -> None:
    mask = np.zeros((64, 64), bool)
    mask[8:16, 8:16] = True
    mask[40, 40] = True
    assert binary_mask(mask, (16, 16))[0, 0].sum() == 4


@pytest.mark.parametrize("size", [(32, 64), (64, 96), (120, 160), (160, 256)])
def test_the_fast_way_to_resize_a_frame_rounds_a_byte_to_its_neighbor_at_most(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    exact, fast = preprocess_frame(rgb, size), preprocess_frame(rgb, size, exact=False)
    assert fast.shape == (1, 3, *size)
    off_13HW = (fast - exact).abs() * torch.tensor(PIXEL_STD).view(1, 3, 1, 1) * 255
    assert float(off_13HW.max()) < 1.01
    assert float((off_13HW > 0.5).float().mean()) < 0.03
    view = preprocess_frame(rgb[:, ::-1], size, exact=False)  # a view with negative steps, as frames may be
    torch.testing.assert_close(view, preprocess_frame(rgb[:, ::-1].copy(), size, exact=False))
