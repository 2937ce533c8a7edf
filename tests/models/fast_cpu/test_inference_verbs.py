"""The fast decoder and memory encoder against the plain ones."""

from __future__ import annotations

import pytest
import torch

from helpers.reference import reference_model
from masklet.models.fast_cpu.mask_decoder import FastMaskDecoder
from masklet.models.fast_cpu.memory_encoder import FastMemoryEncoder
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, SelectedMasks, empty_prompt

NAMES = ("sam2.1_hiera_tiny", "sam2_hiera_tiny", "builtin")
SIZES = ((6, 6), (6, 6), (5, 7))
"""Another frame of the same size, then another size."""


def network(name: str) -> SAM2:
    if name != "builtin":
        return reference_model(name, 256, "c", small_trunk=True)
    torch.manual_seed(0)
    model = SAM2(CONFIGS[name]).eval().requires_grad_(False)
    for parameter in model.memory_encoder.parameters():  # scales of residuals, and shifts, that can be seen
        parameter.uniform_(-0.5, 0.5)
    return model


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> SAM2:
    """The network of a name; tests that share one follow each other, so that it is filled once."""
    return network(request.param)


def features(model: SAM2, size: tuple[int, int], batch: int) -> ImageFeatures:
    (height, width), channels = size, model.config.width
    embed = torch.randn(batch, channels, height, width)
    fine = [torch.randn(batch, channels // n, n // 2 * height, n // 2 * width) for n in (4, 8)]
    return ImageFeatures(embed, (fine[0], fine[1]))


def found(model: SAM2, size: tuple[int, int], objects: int) -> SelectedMasks:
    logits = 5 * torch.randn(objects, 1, 4 * size[0], 4 * size[1])
    score = torch.tensor([[3.0], [-2.0], [1.0]])[:objects]
    return SelectedMasks(logits, torch.rand(objects, 1), score, torch.randn(objects, model.config.width))


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.shape == expected.shape
    spread = float(expected.std()) if expected.numel() > 4 else 1.0
    assert float((ours - expected).abs().max()) < 2e-5 * spread


def same(ours: MaskPrediction, expected: MaskPrediction) -> None:
    for name in ("logits_BKHW", "iou_BK", "object_score_B1", "tokens_BKC"):
        close(getattr(ours, name), getattr(expected, name))


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_the_decoder_without_prompts_gives_the_same_candidates(model: SAM2) -> None:
    decode, nothing = FastMaskDecoder(model), empty_prompt(2, torch.device("cpu"))
    with torch.inference_mode():
        for size in SIZES:
            image, seen = features(model, size, 1), features(model, size, 2)
            one = ImageFeatures(seen.embed_BCHW, image.index_select(torch.zeros(2, dtype=torch.long)).high_res_features)
            for each in (one, seen):  # finer maps of one image, and of two
                same(decode(each), model.decode(each, nothing))


def test_the_decoder_calibrates_its_scores() -> None:
    model = network("builtin")
    model.sam_mask_decoder.iou_calibration = torch.tensor([[[0.0, 1], [0.2, 0.3]], [[0, 1], [0.6, 0.8]]])
    seen = features(model, SIZES[0], 2)
    with torch.inference_mode():
        decoded = FastMaskDecoder(model)(seen)
        same(decoded, model.decode(seen, empty_prompt(2, torch.device("cpu"))))
    assert 0.2 <= float(decoded.iou_BK[:, 0].min()) <= float(decoded.iou_BK[:, 0].max()) <= 0.3
    assert 0.6 <= float(decoded.iou_BK[:, 1:].min()) <= float(decoded.iou_BK[:, 1:].max()) <= 0.8


def test_the_decoder_with_priors_gives_the_candidates_of_mask_prompts() -> None:
    model = network("builtin")
    fast = FastSAM2(model)
    with torch.inference_mode():
        for size in SIZES:
            image, seen = features(model, size, 1), features(model, size, 2)
            one = ImageFeatures(seen.embed_BCHW, image.high_res_features)  # finer maps of one image
            prior = torch.rand(2, 1, 2 * size[0], 2 * size[1])
            same(fast.decode_prior(one, prior), model.decode_prior(one, prior))
            logits = model.prior_logits(prior)
            assert logits.shape == (2, 1, 4 * size[0], 4 * size[1])
            assert float(logits.max()) <= 10 * 1.0001
            assert not torch.equal(model.decode_prior(one, prior).logits_BKHW, fast.decode(one).logits_BKHW)


@pytest.mark.parametrize("model", NAMES, indirect=True)
@pytest.mark.parametrize("prompted", [False, True])
def test_the_memory_encoder_writes_the_same_memories(model: SAM2, prompted: bool) -> None:
    remember = FastMemoryEncoder(model)
    with torch.inference_mode():
        for size in SIZES:
            masks, shared, own = found(model, size, 3), features(model, size, 1), features(model, size, 3)
            both = shared.index_select(torch.zeros(3, dtype=torch.long))
            for given, plain in ((shared, both), (own, own)):
                ours, expected = (
                    remember(given, masks, prompted=prompted),
                    model.encode_memory(plain, masks, prompted=prompted),
                )
                close(ours.spatial_BMHW, expected.spatial_BMHW)
                assert torch.equal(ours.pointer_BC, expected.pointer_BC)


def test_without_the_operators_the_network_itself_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("memory_attention", "mask_decoder", "memory_encoder"):
        monkeypatch.setattr(f"masklet.models.fast_cpu.{place}.has_fused_operators", lambda _: False)
    model = network("builtin")
    fast, size = FastSAM2(model), (6, 6)
    seen, masks = features(model, size, 1), found(model, size, 3)
    shared = seen.index_select(torch.zeros(3, dtype=torch.long))
    with torch.inference_mode():
        assert torch.equal(
            fast.decode(shared).logits_BKHW, model.decode(shared, empty_prompt(3, torch.device("cpu"))).logits_BKHW
        )
        assert torch.equal(
            fast.encode_memory(seen, masks).spatial_BMHW, model.encode_memory(shared, masks).spatial_BMHW
        )


def test_the_decoder_without_finer_maps_gives_the_same_candidates() -> None:
    model = reference_model("efficienttam_ti", 256, "c")
    decode, nothing = FastMaskDecoder(model), empty_prompt(2, torch.device("cpu"))
    with torch.inference_mode():
        for size in SIZES:
            seen = ImageFeatures(torch.randn(2, model.config.width, *size))
            same(decode(seen), model.decode(seen, nothing))


def test_compressed_memories_are_those_of_the_network() -> None:
    model = reference_model("edgetam", 256, "c")
    encode, size = FastMemoryEncoder(model), (32, 32)
    image, masks = ImageFeatures(torch.randn(1, model.config.width, *size)), found(model, size, 2)
    with torch.inference_mode():
        ours = encode(image, masks)
        expected = model.encode_memory(image.index_select(torch.zeros(2, dtype=torch.long)), masks)
    assert ours.spatial_BMHW.shape == (2, 64, 32, 16)
    close(ours.spatial_BMHW, expected.spatial_BMHW)
