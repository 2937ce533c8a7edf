"""LoRA adapters: they start without effect, they alone learn, and they can be merged into the weights."""

from __future__ import annotations

import copy

import pytest
import torch

from helpers.networks import CONVNET, HIERA, random_image, small_network, two_frames
from masklet.errors import InputError, StateError
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.sam2 import SAM2
from masklet.train.lora import adapter_state, add_lora, is_adapter, merge_lora


def randomized(model: SAM2) -> SAM2:
    """Set the adapters to random values, as after some steps."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) / 8)
    return model


def test_every_projection_of_attention_is_adapted() -> None:
    attention = [f"{part}.{x}_proj" for part in ("self_attn", "cross_attn_image") for x in ("q", "k", "v", "out")]
    names = add_lora(small_network(HIERA), 2)
    blocks = [name for name in names if name.startswith("image_encoder")]
    assert blocks == [f"image_encoder.trunk.blocks.{k}.attn.{x}" for k in range(5) for x in ("qkv", "proj")]
    assert [name for name in names if name.startswith("memory")] == [
        f"memory_attention.layers.0.{x}" for x in attention
    ]
    decoder = [name for name in names if name.startswith("sam_mask_decoder.transformer.")]
    assert len(decoder) == 4 * (2 * 3 + 1)  # two layers of three attentions, and the final attention
    assert len(names) == len(blocks) + 8 + len(decoder)
    context = [f"image_encoder.trunk.context.{k}.attn.{x}_proj" for k in range(2) for x in ("q", "k", "v", "out")]
    assert [name for name in add_lora(small_network(CONVNET), 2) if name.startswith("image_encoder")] == context


@pytest.mark.parametrize("trunk", [HIERA, CONVNET])
def test_new_adapters_change_nothing_bit_for_bit(trunk: object) -> None:
    model = small_network(trunk)
    expected = two_frames(model)
    add_lora(model, 4, alpha=16)
    assert torch.equal(two_frames(model), expected)
    assert not torch.equal(two_frames(randomized(model)), expected)


def test_the_scale_is_alpha_by_rank() -> None:
    layers = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(3, 2)})
    before = layers["a"].weight.detach().clone()
    assert add_lora(layers, 2, alpha=6.0, targets=["a"]) == ["a"]
    adapter = layers["a"].parametrizations.weight[0]
    with torch.no_grad():
        adapter.up_OR.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    expected = before + 3 * torch.stack([adapter.down_RI[0], 2 * adapter.down_RI[1]])
    torch.testing.assert_close(layers["a"].weight, expected)
    assert set(adapter_state(layers)) == {f"a.parametrizations.weight.0.{x}" for x in ("down_RI", "up_OR")}


def test_only_adapters_get_gradients() -> None:
    model = small_network(HIERA)
    add_lora(model, 2)
    for name, parameter in randomized(model).named_parameters():
        parameter.requires_grad_(is_adapter(name))
    two_frames(model).square().sum().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == set(adapter_state(model))
    without_gradient = [name for name in learning if not model.get_parameter(name).grad.any()]
    assert without_gradient == []


@pytest.mark.parametrize("trunk", [HIERA, CONVNET])
def test_merging_restores_an_ordinary_network(trunk: object) -> None:
    model = small_network(trunk)
    names, parameters = list(model.state_dict()), [name for name, _ in model.named_parameters()]
    adapted = add_lora(model, 4)
    expected = two_frames(randomized(model)).detach()
    assert merge_lora(model) == adapted
    assert list(model.state_dict()) == names
    assert [name for name, _ in model.named_parameters()] == parameters
    assert {type(module) for module in model.modules()} == {type(module) for module in small_network(trunk).modules()}
    torch.testing.assert_close(two_frames(model), expected, rtol=0, atol=1e-5)
    assert merge_lora(model) == []
    add_lora(model, 4)  # adapters can be added again


def test_merging_a_copy_leaves_the_original_unchanged() -> None:
    """A copied layer shares the class that holds its weight as a property."""
    model = small_network(HIERA)
    add_lora(model, 2)
    expected = two_frames(randomized(model)).detach()
    copied = copy.deepcopy(model)
    assert torch.equal(two_frames(copied), expected)
    assert copied.get_parameter(name := next(iter(adapter_state(model)))) is not model.get_parameter(name)
    merge_lora(copied)
    assert torch.equal(two_frames(model), expected)
    two_frames(model).sum().backward()
    merge_lora(model)


def test_adapters_load_from_a_state_dict() -> None:
    model, other = small_network(HIERA), small_network(HIERA)
    for each in (model, other):
        add_lora(each, 2)
    expected = two_frames(randomized(model)).detach()
    other.load_state_dict(adapter_state(model), strict=False)
    assert torch.equal(two_frames(other), expected)
    third = small_network(HIERA, seed=1)
    add_lora(third, 2)
    third.load_state_dict(model.state_dict())
    assert torch.equal(two_frames(third), expected)
    assert adapter_state(small_network(HIERA)) == {}


@pytest.mark.parametrize("trunk", [HIERA, CONVNET])
def test_fast_inference_sees_adapters_and_merged_weights(trunk: object) -> None:
    model = small_network(trunk).eval()
    with torch.inference_mode():
        before = model.encode_image(random_image()).embed_BCHW
        add_lora(model, 4)
        expected = randomized(model).encode_image(random_image()).embed_BCHW
        assert float((expected - before).abs().max()) > 1e-3
        torch.testing.assert_close(FastSAM2Encoder(model)(random_image()).embed_BCHW, expected, rtol=0, atol=1e-5)
        merge_lora(model)
        torch.testing.assert_close(FastSAM2Encoder(model)(random_image()).embed_BCHW, expected, rtol=0, atol=1e-5)


def test_invalid_ranks_and_patterns_are_refused() -> None:
    model = small_network(HIERA)
    for rank in (0, -3, 17):  # the first block has 16 channels
        with pytest.raises(InputError, match=rf"rank {rank} must be from 1 to 16.*blocks\.0\.attn"):
            add_lora(model, rank)
    with pytest.raises(InputError, match=r"'nowhere\.\*'.*pattern"):
        add_lora(model, 2, targets=["nowhere.*"])
    assert adapter_state(model) == {}
    add_lora(model, 2)
    with pytest.raises(StateError, match="merge_lora"):
        add_lora(model, 2)
