"""The fast encoder against the plain one."""

from __future__ import annotations

import pytest
import torch

from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.sam2.inference import FastEncoder
from masklet.models.sam2.inference.convnet import FusedConvNet
from masklet.models.sam2.inference.fused import has_fused_operators
from reference import reference_model


def builtin() -> SAM2:
    torch.manual_seed(0)
    return SAM2(CONFIGS["builtin"]).eval().requires_grad_(False)


@pytest.mark.parametrize("side", [96, 160])
def test_the_fast_encoder_gives_the_same_features(side: int) -> None:
    model = builtin()
    fast, pixels = FastEncoder(model), torch.randn(1, 3, side, side)
    for _ in range(2):  # the second time with weights that are laid out already
        found, expected = fast(pixels), model.encode_image(pixels)
        for a, b in zip((found.embed_BCHW, *found.fine), (expected.embed_BCHW, *expected.fine), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.std()))


def test_the_fast_trunk_is_what_runs_here() -> None:
    model = builtin()
    if not has_fused_operators(model.image_encoder.trunk.stem.weight):
        pytest.skip("this build of torch has no fused oneDNN convolutions")
    assert isinstance(FastEncoder(model).trunk, FusedConvNet)


def test_merged_laterals_give_the_same_features() -> None:
    model, pixels = reference_model("sam2.1_hiera_tiny"), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found, expected = FastEncoder(model)(pixels), model.encode_image(pixels)
    for a, b in zip(found.fine, expected.fine, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.std()))


def test_bf16_is_not_answered_in_fp32() -> None:
    model = builtin()
    assert FastEncoder(model, torch.bfloat16).trunk is model.image_encoder.trunk
