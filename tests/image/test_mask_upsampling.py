"""What is measured a strip at a time is what the whole image at once would give, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from masklet.image.mask_upsampling import MaskUpsampler
from masklet.masks import ops as tight
from masklet.transforms import ImageTransform

FITS = [
    ImageTransform((140, 90), 64),
    ImageTransform((33, 200), 64, keep_aspect_ratio=True),
    ImageTransform((200, 33), 128, keep_aspect_ratio=True),
    ImageTransform((7, 5), 64),
    ImageTransform((1, 1), 64),
]


def blobs(cells: int, count: int = 8) -> torch.Tensor:
    noise = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(3)) * 6
    logits = interpolate(noise, (cells, cells), mode="bicubic")[:, 0]
    logits[1] = -9  # nothing, not even at the lower threshold
    logits[2] = -0.5  # nothing but at the lower threshold
    logits[3, cells // 3 :] = -9
    logits[4] = 9
    return logits


@pytest.mark.parametrize("fit", FITS, ids=str)
@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_strips_are_the_whole_image(fit: ImageTransform, threshold: float) -> None:
    logits = blobs(fit.input_size // 4)
    enlarger = MaskUpsampler(fit, threshold, 1.0)
    measured = enlarger.measure(logits)
    full = fit.upsample_logits(logits[:, None])[:, 0].numpy()
    for i, pixels in enumerate(full):
        outer, inner = (np.count_nonzero(pixels > threshold + move) for move in (-1.0, 1.0))
        if outer:
            assert measured.stability_N[i] == pytest.approx(inner / outer, abs=2 / outer)
        else:
            assert np.isnan(measured.stability_N[i])
        mask = pixels > threshold
        exclusive = measured.boxes_N4[i] + ([0, 0, 1, 1] if mask.any() else [0, 0, 0, 0])
        np.testing.assert_array_equal(exclusive, tight.masks_to_boxes(mask[None])[0])
        left, top, right, bottom = measured.boxes_N4[i].astype(int)
        piece = enlarger.crop_mask(logits[i], measured.boxes_N4[i])
        assert np.count_nonzero(piece != mask[top : bottom + 1, left : right + 1]) <= 1


@pytest.mark.parametrize("fit", FITS, ids=str)
def test_shares_of_cells_enlarge_as_the_image_is(fit: ImageTransform) -> None:
    logits = blobs(fit.input_size // 4)
    rows, columns = fit.interpolation_weights(fit.input_size // 4)
    torch.testing.assert_close(
        rows @ logits @ columns.T, fit.upsample_logits(logits[:, None])[:, 0], atol=1e-4, rtol=1e-5
    )


def test_no_candidates_are_measured_too() -> None:
    measured = MaskUpsampler(FITS[0], 0.0, 1.0).measure(torch.zeros(0, 16, 16))
    assert measured.stability_N.shape == (0,)
    assert measured.boxes_N4.shape == (0, 4)
