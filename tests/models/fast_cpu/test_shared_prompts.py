"""Prompts that share their work give what the network's own verb gives, prompt by prompt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from helpers.networks import CONVNET, HIERA, PLAIN_VIT, random_image, small_network
from masklet.models.fast_cpu import shared_prompts
from masklet.models.fast_cpu.shared_prompts import SharedPromptContext, SharedPromptDecoder
from masklet.models.heads.mask_decoder import SAM1MaskDecoder
from masklet.models.heads.prompt_encoder import PromptEncoder
from masklet.models.sam2 import SAM2, SAM2Config
from masklet.models.types import ImageFeatures, PromptTensors

POINTS = torch.tensor([[[3.0, 4.0]], [[40.0, 50.5]], [[63.9, 0.0]], [[31.5, 31.5]], [[12.0, 60.0]]])
PROMPTS = PromptTensors(POINTS, torch.ones(5, 1, dtype=torch.long))


def lively(network: SAM2) -> SAM2:
    """With norms and biases that are not one and zero: what is folded together must be seen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.mul_(2)
    return network.eval()


def drawn_network() -> SAM2:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = SAM2Config(CONVNET, image_size=64, width=32, heads=2, hidden=32, prompt_maps=True, memory=None)
        return SAM2(config)


@pytest.fixture(params=["hiera", "convnet", "plain vit", "drawn"])
def network(request: pytest.FixtureRequest) -> SAM2:
    made = {
        "hiera": lambda: small_network(HIERA),
        "convnet": lambda: small_network(CONVNET),
        "plain vit": lambda: small_network(PLAIN_VIT),
        "drawn": drawn_network,
    }
    return lively(made[request.param]())


def shared(network: SAM2) -> SharedPromptDecoder:
    return SharedPromptDecoder(network.sam_prompt_encoder, network.sam_mask_decoder)


@torch.inference_mode()
def test_the_answer_is_that_of_the_network(network: SAM2) -> None:
    features = network.encode_image(random_image(3))
    expected = network.decode(features.index_select(torch.zeros(5, dtype=torch.long)), PROMPTS)
    answer = SharedPromptContext(shared(network), features).predict(PROMPTS)
    torch.testing.assert_close(answer.iou_BK, expected.iou_BK, atol=1e-5, rtol=1e-4)
    scale = expected.logits_BKHW.std().item()
    torch.testing.assert_close(
        answer.candidates([0, 1, 2, 3, 4]).logits_BKHW, expected.logits_BKHW, atol=1e-4 * scale, rtol=1e-4
    )
    assert expected.logits_BKHW.std(0).mean() > 0.01 * scale  # prompts do differ


@torch.inference_mode()
def test_scores_are_calibrated_as_by_the_network() -> None:
    network = lively(small_network(CONVNET))
    features, rows = network.encode_image(random_image(3)), torch.zeros(5, dtype=torch.long)
    raw = network.decode(features.index_select(rows), PROMPTS).iou_BK
    network.sam_mask_decoder.iou_calibration = torch.tensor([[[0.0, 1], [0.2, 0.3]], [[0, 1], [0.6, 0.8]]])
    expected = network.decode(features.index_select(rows), PROMPTS).iou_BK
    torch.testing.assert_close(expected[:, 0], 0.2 + 0.1 * raw[:, 0])
    torch.testing.assert_close(expected[:, 1:], 0.6 + 0.2 * raw[:, 1:])
    answer = SharedPromptContext(shared(network), features).predict(PROMPTS)
    torch.testing.assert_close(answer.iou_BK, expected, atol=1e-5, rtol=1e-4)


CLICKS = PromptTensors(torch.tensor([[[20.0, 30.0], [50.0, 9.0]]]), torch.tensor([[1, 0]]))
BOX = PromptTensors(torch.tensor([[[8.0, 12.0], [40.0, 55.0], [30.0, 30.0]]]), torch.tensor([[2, 3, 1]]))
MAP = replace(CLICKS, mask_B1HW=torch.zeros(1, 1, 16, 16))


@pytest.mark.parametrize("prompts", [CLICKS, BOX], ids=["clicks", "a box and a click"])
@torch.inference_mode()
def test_prompts_of_several_points_share_too(network: SAM2, prompts: PromptTensors) -> None:
    features = network.encode_image(random_image(3))
    look = SharedPromptContext(shared(network), features)
    if not look.supports(prompts):  # drawn boxes cover more places than clicks reach
        assert prompts is BOX
        assert network.sam_prompt_encoder.drawing is not None
        return
    expected, found = network.decode(features, prompts), look.predict(prompts).candidates([0])
    torch.testing.assert_close(found.iou_BK, expected.iou_BK, atol=1e-5, rtol=1e-4)
    scale = expected.logits_BKHW.std().item()
    torch.testing.assert_close(found.logits_BKHW, expected.logits_BKHW, atol=1e-4 * scale, rtol=1e-4)


@torch.inference_mode()
def test_maps_are_not_shared(network: SAM2) -> None:
    assert not SharedPromptContext(shared(network), network.encode_image(random_image(3))).supports(MAP)


def test_threads_do_not_see_each_others_clicks() -> None:
    network = lively(drawn_network())
    with torch.inference_mode():
        look = SharedPromptContext(shared(network), network.encode_image(random_image(3)))

    def predict(number: int) -> torch.Tensor:
        one = PromptTensors(POINTS[number : number + 1], PROMPTS.labels_BN[:1])
        with torch.inference_mode():
            return look.predict(one).candidates([0]).logits_BKHW

    alone = [predict(number) for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        for number, found in enumerate(pool.map(predict, list(range(5)) * 8)):
            assert torch.equal(found, alone[number % 5])


@torch.inference_mode()
def test_only_what_is_wanted_is_made(network: SAM2) -> None:
    features = network.encode_image(random_image(4))
    answer = SharedPromptContext(shared(network), features).predict(PROMPTS)
    every = answer.candidates([0, 1, 2, 3, 4]).logits_BKHW
    some = answer.logits_of_candidates(torch.tensor([0, 0, 3]), torch.tensor([1, 3, 2]))
    torch.testing.assert_close(some, every[[0, 0, 3], [1, 3, 2]])
    assert answer.logits_of_candidates(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)).shape == (
        0,
        16,
        16,
    )
    assert answer.candidates([]).logits_BKHW.shape == (0, 4, 16, 16)


@torch.inference_mode()
def test_one_prompt_leaves_nothing_behind_for_the_next(network: SAM2) -> None:
    look = SharedPromptContext(shared(network), network.encode_image(random_image(5)))
    together = look.predict(PROMPTS)
    kept = look.table.rows_NS.clone()
    alone = look.predict(PromptTensors(POINTS[2:3], PROMPTS.labels_BN[2:3]))
    torch.testing.assert_close(alone.iou_BK[0], together.iou_BK[2])
    torch.testing.assert_close(alone.candidates([0]).logits_BKHW[0], together.candidates([2]).logits_BKHW[0])
    torch.testing.assert_close(look.table.rows_NS, kept, atol=0, rtol=0)


@torch.inference_mode()
def test_without_fused_operators_it_is_the_same(network: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    features = network.encode_image(random_image(6))
    fused = SharedPromptContext(shared(network), features).predict(PROMPTS)
    for module in (shared_prompts, shared_prompts.matmul.__globals__):
        names = module if isinstance(module, dict) else vars(module)
        monkeypatch.setitem(names, "has_fused_operators", lambda weight: False)
    plain = SharedPromptContext(shared(network), features).predict(PROMPTS)
    torch.testing.assert_close(plain.iou_BK, fused.iou_BK, atol=1e-5, rtol=1e-4)
    logits = fused.candidates([0, 4]).logits_BKHW
    torch.testing.assert_close(plain.candidates([0, 4]).logits_BKHW, logits, atol=1e-4 * logits.std().item(), rtol=1e-4)


@torch.inference_mode()
def test_the_decoder_of_the_first_generation_has_no_finer_maps_and_no_presence() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        prompts, decoder = PromptEncoder(32, always_pad=False), SAM1MaskDecoder(32, 2, 64)
        features = ImageFeatures(torch.randn(1, 32, 4, 4))
    sparse, dense = prompts(PROMPTS, 4, 4)
    each = replace(features, embed_BCHW=features.embed_BCHW.expand(5, -1, -1, -1))
    expected = decoder(each, prompts.pe_layer.grid(4, 4), sparse, dense)
    answer = SharedPromptContext(SharedPromptDecoder(prompts, decoder), features).predict(PROMPTS)
    torch.testing.assert_close(answer.iou_BK, expected.iou_BK, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        answer.candidates([0, 1, 2, 3, 4]).logits_BKHW, expected.logits_BKHW, atol=1e-5, rtol=1e-4
    )
