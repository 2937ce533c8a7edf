"""The learning rate of each weight: hand-made cases of the published rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.networks import CONVNET, HIERA, small_network
from masklet.errors import InputError
from masklet.train.config import TrainConfig, TrainStage, scheduled_lr
from masklet.train.optim import layer_lr_scales, parameter_groups

TRUNK = "image_encoder.trunk."


def scale_and_decay(model: torch.nn.Module, groups: list[dict[str, object]]) -> dict[str, tuple[float, float]]:
    """Return scale and weight decay by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], (group["scale"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found)), "a weight is in two groups"
    return dict(found)


def test_the_trunk_of_hiera_learns_slower_the_earlier_the_layer() -> None:
    model = small_network(HIERA)  # five blocks
    found = scale_and_decay(
        model, parameter_groups(model, lr_multiplier=lambda _: 1.0, weight_decay=0.1, layer_decay=0.5)
    )
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert found[f"{TRUNK}patch_embed.proj.weight"] == (0.5**6, 0.1)
    assert found[f"{TRUNK}blocks.0.attn.qkv.weight"] == (0.5**5, 0.1)
    assert found[f"{TRUNK}blocks.4.mlp.layers.0.weight"] == (0.5, 0.1)
    assert found[f"{TRUNK}blocks.4.norm1.weight"] == (0.5, 0.0)
    assert found[f"{TRUNK}pos_embed"] == found[f"{TRUNK}pos_embed_window"] == (1.0, 0.1)
    assert found["image_encoder.neck.convs.0.conv.weight"] == (1.0, 0.1)
    assert found["memory_attention.layers.0.linear1.bias"] == (1.0, 0.0)
    assert found["sam_mask_decoder.output_upscaling.1.weight"] == (1.0, 0.0)  # a normalization over channels


def test_the_built_in_trunk_is_counted_from_its_stem_to_its_context() -> None:
    model = small_network(CONVNET)  # 1 + 2 + 1 + 1 blocks, the entry, two context blocks
    found = scale_and_decay(
        model, parameter_groups(model, lr_multiplier=lambda _: 1.0, weight_decay=0.1, layer_decay=0.5)
    )
    order = ("stages.0.0.look", "stages.1.0.look", "stages.1.1.look", "stages.2.0.look", "stages.3.0.look", "enter")
    order = ("stem", *order, "context.0.attn.q_proj", "context.1.mlp.layers.0")
    assert [found[f"{TRUNK}{name}.weight"][0] for name in order] == [0.5**n for n in (9, 8, 7, 6, 5, 4, 3, 2, 1)]


def test_multipliers_multiply_and_zero_leaves_out() -> None:
    model = small_network(HIERA)
    multipliers = {"image_encoder.neck": 0.0, "image_encoder": 0.5, "sam_prompt_encoder": 0.0}
    groups = parameter_groups(
        model,
        lr_multiplier=lambda name: next(
            (factor for prefix, factor in multipliers.items() if name.startswith(prefix)), 1.0
        ),
        weight_decay=0.1,
        layer_decay=0.5,
        trunk_multiplier=0.25,
    )
    found = scale_and_decay(model, groups)
    assert not any(name.startswith(("image_encoder.neck", "sam_prompt_encoder")) for name in found)
    assert found[f"{TRUNK}blocks.4.attn.qkv.weight"] == (0.5 * 0.25 * 0.5, 0.1)
    assert found["no_mem_embed"] == (1.0, 0.1)
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    assert {group["scale"] for group in optimizer.param_groups} == {scale for scale, _ in found.values()}


def test_without_decay_all_layers_are_alike() -> None:
    model = small_network(HIERA)
    assert set(layer_lr_scales(dict(model.named_parameters()), 1.0).values()) == {1.0}


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", (4.0, 4.0, 4.0)),
        ("linear", (4.0, 2.5, 1.0)),
        ("cosine", (4.0, 2.5, 1.0)),
    ],
)
def test_the_rate_goes_from_start_to_end(schedule: str, rates: tuple[float, ...]) -> None:
    found = [scheduled_lr(progress, start=4.0, end=1.0, schedule=schedule) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx(rates)


def test_a_cosine_begins_and_ends_flat() -> None:
    assert scheduled_lr(1 / 3, start=1.0, end=0.0, schedule="cosine") == pytest.approx(0.75)  # cos 60 degrees is a half
    assert scheduled_lr(2 / 3, start=1.0, end=0.0, schedule="cosine") == pytest.approx(0.25)


def test_an_unknown_schedule_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'square'.*constant, cosine, linear"):
        scheduled_lr(0.5, start=1.0, end=0.0, schedule="square")


def test_warmup_reaches_the_rate_with_its_last_step() -> None:
    stage = TrainStage(image_size=64, batch=1, steps=6, lr=2.0, lr_end=2.0)
    config = TrainConfig("builtin", (stage,), warmup_steps=4)
    assert [config.lr_at(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert replace(config, warmup_steps=0).lr_at(0) == 2.0
