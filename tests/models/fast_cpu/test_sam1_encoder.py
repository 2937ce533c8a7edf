"""The fast encoders against the plain ones."""

from __future__ import annotations

import pytest
import torch

from helpers.small_sam1 import small_sam1
from masklet.models.fast_cpu.encoder import fast_encoder
from masklet.models.fast_cpu.sam1_encoder import FastSAM1Encoder, FusedMLP, FusedViT
from masklet.models.sam1 import vit
from masklet.nn.fused_ops import has_fused_operators


@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
@pytest.mark.parametrize("side", [64, 96])
def test_the_fast_encoder_gives_the_same_features(name: str, side: int) -> None:
    """Also where learned positions are stretched to another side than 64, and twice: nothing is used up."""
    model = small_sam1(name)
    fast = fast_encoder(model, None)
    assert isinstance(fast, FastSAM1Encoder)
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model.encode_image(pixels).embed_BCHW
        for _ in range(2):
            found = fast(pixels).embed_BCHW
            assert found.shape == expected.shape
            assert float((found - expected).abs().max()) < 5e-5 * float(expected.std())


@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
def test_the_fast_trunk_is_what_runs_here(name: str) -> None:
    model = small_sam1(name)
    if not has_fused_operators(next(model.parameters())):
        pytest.skip("this build of torch has no fused oneDNN products")
    trunk = FastSAM1Encoder(model).trunk
    if name == "mobile_sam":
        assert any(isinstance(part, FusedMLP) for part in trunk.modules())
    else:
        assert isinstance(trunk, FusedViT)


@pytest.mark.parametrize("name", ["sam_vit_b", "mobile_sam"])
def test_bf16_is_near(name: str) -> None:
    model, pixels = small_sam1(name), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model.encode_image(pixels).embed_BCHW
        found = FastSAM1Encoder(model, torch.bfloat16)(pixels).embed_BCHW
    assert found.dtype == torch.float32
    assert float((found - expected).abs().mean()) < 0.05 * float(expected.std())


def test_relative_position_biases_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = small_sam1("sam_vit_b").image_encoder.blocks[1].attn
    qkv = torch.randn(2, 4, 4, 72, generator=torch.Generator().manual_seed(4))
    whole = attention.attend(qkv)
    for limit in (1, 16 * 8, 16 * 16 * 3):  # a row of one head, two rows, three heads
        monkeypatch.setitem(vit.MAX_BIAS_ELEMENTS, "cpu", limit)
        torch.testing.assert_close(attention.attend(qkv), whole, atol=1e-6, rtol=1e-5)
