"""Gradient checkpointing of Hiera: the same gradients, and less kept for the way back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from helpers.networks import HIERA, random_image, small_network
from masklet.models.sam2.hiera import Hiera


def trunk(checkpointing: bool) -> Hiera:
    found = small_network(HIERA).image_encoder.trunk
    assert isinstance(found, Hiera)
    found.gradient_checkpointing = checkpointing
    return found.train()


def loss_of(trunk: Hiera) -> tuple[Tensor, int]:
    """A loss over all maps, and the bytes of storage that are kept for the way back, each counted once."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in trunk.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = torch.stack([x.square().mean() for x in trunk(random_image(count=2))]).sum()
    return loss, sum(kept.values())


@pytest.mark.slow
def test_gradients_are_the_same_and_less_is_kept() -> None:
    plain, again = trunk(checkpointing=False), trunk(checkpointing=True)
    (expected, much), (found, little) = loss_of(plain), loss_of(again)
    assert torch.equal(found, expected)
    assert little < 0.4 * much
    expected.backward()
    found.backward()
    for (name, parameter), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert parameter.grad is not None, name
        assert torch.equal(other.grad, parameter.grad), name


def test_it_counts_in_training_with_gradients_alone() -> None:
    model = trunk(checkpointing=True)
    called: list[int] = []
    model.blocks[0].register_forward_pre_hook(lambda *_: called.append(1))
    with torch.no_grad():
        maps = model(random_image())
    assert len(called) == 1
    model.eval()(random_image())[0].sum().backward()
    assert len(called) == 2
    model.train()(random_image())[0].sum().backward()
    assert len(called) == 4, "a block is done again on the way back"
    assert not maps[0].requires_grad


def test_frozen_blocks_may_come_before_those_that_learn() -> None:
    model = trunk(checkpointing=True)
    for block in (model.patch_embed, *model.blocks[:3]):
        block.requires_grad_(False)
    model.pos_embed.requires_grad_(False)
    model.pos_embed_window.requires_grad_(False)
    loss_of(model)[0].backward()
    assert model.blocks[0].attn.qkv.weight.grad is None
    assert model.blocks[4].attn.qkv.weight.grad is not None


def test_mixed_precision_is_that_of_the_way_there() -> None:
    plain, again = trunk(checkpointing=False), trunk(checkpointing=True)
    for model in (plain, again):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)[0]
        loss.backward()
    assert torch.equal(plain.blocks[2].attn.qkv.weight.grad, again.blocks[2].attn.qkv.weight.grad)
