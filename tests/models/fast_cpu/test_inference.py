"""The fast encoder against the plain one."""

from __future__ import annotations

import pytest
import torch

from helpers.reference import reference_model
from masklet.models.fast_cpu.convnet import FusedConvNet
from masklet.models.fast_cpu.fused_repvit import FusedRepViT
from masklet.models.fast_cpu.hiera import FusedHiera
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.types import ImageFeatures
from masklet.nn.fused_ops import has_fused_operators


def builtin() -> SAM2:
    torch.manual_seed(0)
    return SAM2(CONFIGS["builtin"]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> SAM2:
    """The network of a name; tests that share one follow each other, so that it is filled once."""
    name, _, trunk = request.param.partition(", ")
    return builtin() if name == "builtin" else reference_model(name, small_trunk=bool(trunk))


def same(found: ImageFeatures, expected: ImageFeatures) -> None:
    for a, b in zip(
        (found.embed_BCHW, *found.high_res_features), (expected.embed_BCHW, *expected.high_res_features), strict=True
    ):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) < 2e-5 * float(b.std())


@pytest.mark.parametrize("side", [96, 160])
def test_the_fast_encoder_gives_the_same_features(side: int) -> None:
    model = builtin()
    fast, pixels = FastSAM2Encoder(model), torch.randn(2, 3, side, side + 64)
    for _ in range(2):  # the second time with weights that are laid out already
        same(fast(pixels), model.encode_image(pixels))


@pytest.mark.slow
def test_the_fast_trunk_is_what_runs_here() -> None:
    model = builtin()
    if not has_fused_operators(model.no_mem_embed):
        pytest.skip("this build of torch has no fused oneDNN convolutions")
    assert isinstance(FastSAM2Encoder(model).trunk, FusedConvNet)
    assert isinstance(FastSAM2Encoder(reference_model("sam2.1_hiera_tiny")).trunk, FusedHiera)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1 << 14, 8 << 20])
def test_hiera_in_strips_gives_the_same_features(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr("masklet.models.fast_cpu.hiera.STRIP_BYTES", limit)
    monkeypatch.setattr("masklet.models.fast_cpu.hiera.HEAD_BYTES", limit)
    model = reference_model("sam2.1_hiera_tiny")
    fast = FastSAM2Encoder(model)
    for size in ((256, 256), (160, 224)):  # windows that fit, and that are padded on both sides
        pixels = torch.randn(2, 3, *size)
        with torch.inference_mode():
            same(fast(pixels), model.encode_image(pixels))


def test_without_the_operators_the_eager_trunk_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.models.fast_cpu.sam2.has_fused_operators", lambda _: False)
    for model in (builtin(), reference_model("sam2.1_hiera_tiny", small_trunk=True)):
        fast, pixels = FastSAM2Encoder(model), torch.randn(1, 3, 64, 64)
        assert fast.trunk is model.image_encoder.trunk
        with torch.inference_mode():
            same(fast(pixels), model.encode_image(pixels))


@pytest.mark.parametrize(
    "model",
    [
        "builtin",
        "sam2.1_hiera_tiny, small trunk",
        pytest.param("sam2.1_hiera_tiny", marks=pytest.mark.slow),
        "efficienttam_ti",
    ],
    indirect=True,
)
def test_the_fast_trunk_in_bf16_is_near_the_slow_one_and_not_the_same(model: SAM2) -> None:
    fast, pixels = FastSAM2Encoder(model, torch.bfloat16), torch.randn(2, 3, 96, 160)
    if not isinstance(fast.trunk, FusedConvNet | FusedHiera):
        pytest.skip("this processor or build of torch has no fused oneDNN products of bfloat16")
    with torch.inference_mode():
        found, expected = fast(pixels), model.encode_image(pixels)
    for a, b in zip(
        (found.embed_BCHW, *found.high_res_features), (expected.embed_BCHW, *expected.high_res_features), strict=True
    ):
        assert a.dtype == torch.float32
        assert 1e-5 < float((a - b).abs().mean() / b.std()) < 0.02


def test_bf16_is_not_answered_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.models.fast_cpu.sam2.has_bfloat16_matmul", lambda: False)
    model = builtin()
    assert FastSAM2Encoder(model, torch.bfloat16).trunk is model.image_encoder.trunk
    hiera = reference_model("sam2.1_hiera_tiny", small_trunk=True)
    assert FastSAM2Encoder(hiera, torch.bfloat16).trunk is hiera.image_encoder.trunk


@pytest.mark.parametrize("model", ["edgetam", "efficienttam_ti"], indirect=True)
def test_trunks_of_edgetam_and_efficienttam_give_the_same_features(model: SAM2) -> None:
    fast = FastSAM2Encoder(model)
    for size in ((256, 256), (160, 224)):  # of EfficientTAM, windows that are padded
        pixels = torch.randn(2, 3, *size)
        with torch.inference_mode():
            same(fast(pixels), model.encode_image(pixels))


@pytest.mark.parametrize("model", ["edgetam"], indirect=True)
def test_no_batch_normalization_is_left_in_the_folded_trunk(monkeypatch: pytest.MonkeyPatch, model: SAM2) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    expected = model.encode_image(pixels)
    fast = FastSAM2Encoder(model)
    assert isinstance(fast.trunk, FusedRepViT)
    monkeypatch.setattr("torch.nn.BatchNorm2d.forward", lambda *_: pytest.fail("batch normalization ran"))
    with torch.inference_mode():
        same(fast(pixels), expected)


@pytest.mark.parametrize("model", ["edgetam"], indirect=True)
def test_the_folded_trunk_runs_without_the_operators(monkeypatch: pytest.MonkeyPatch, model: SAM2) -> None:
    monkeypatch.setattr("masklet.models.fast_cpu.sam2.has_fused_operators", lambda _: False)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        same(FastSAM2Encoder(model)(pixels), model.encode_image(pixels))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("model", ["edgetam", "efficienttam_ti"], indirect=True)
def test_trunks_in_bf16_are_near_the_plain_ones_and_not_the_same(
    monkeypatch: pytest.MonkeyPatch, model: SAM2, fused: bool
) -> None:
    if not fused:
        monkeypatch.setattr("masklet.models.fast_cpu.sam2.has_bfloat16_matmul", lambda: False)
    pixels = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        found, expected = FastSAM2Encoder(model, torch.bfloat16)(pixels), model.encode_image(pixels)
    for a, b in zip(
        (found.embed_BCHW, *found.high_res_features), (expected.embed_BCHW, *expected.high_res_features), strict=True
    ):
        assert a.dtype == torch.float32
        assert 1e-5 < float((a - b).abs().mean() / b.std()) < 0.02
