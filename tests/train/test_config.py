"""A run as a value: the paper's values where nothing is said, and no value that cannot be meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from masklet.errors import InputError
from masklet.train.config import AugmentConfig, LossConfig, PromptConfig, Stage, TrainConfig
from masklet.train.recipes import RECIPES, finetune_config

STAGE = Stage(image_size=1024, batch=1, steps=100)
CONFIG = TrainConfig(model="sam2.1_hiera_tiny", stages=(STAGE,))


def fields(part: object, *names: str) -> dict[str, object]:
    return {name: getattr(part, name) for name in names}


def test_what_is_not_said_is_as_the_paper_has_it() -> None:
    """Ravi et al. 2024, sections 4 and D.2; what they leave open, as in their fine-tuning."""
    assert STAGE.clip_length == 8
    assert CONFIG.reverse_prob == 0.5
    prompts = STAGE.prompts
    assert fields(prompts, "objects", "mask_share", "box_share") == {"objects": 3, "mask_share": 0.5, "box_share": 0.25}
    assert fields(prompts, "later", "later_rounds", "truth_clicks") == {
        "later": 0.5,
        "later_rounds": 7,
        "truth_clicks": 0.1,
    }
    assert prompts.round_probs == (0,) * 7 + (1,), "the first, and seven corrective clicks"
    assert fields(LossConfig(), "focal", "dice", "iou", "presence", "cross_entropy") == {
        "focal": 20,
        "dice": 1,
        "iou": 1,
        "presence": 1,
        "cross_entropy": 0,
    }
    assert (LossConfig().focal_gamma, LossConfig().focal_alpha, LossConfig().supervise_all_masks) == (2, 0.25, False)
    look = AugmentConfig()
    assert (look.flip_prob, look.affine_prob, look.degrees, look.shear, look.full_image_prob) == (0.5, 1, 25, 20, 1)
    assert (look.brightness, look.contrast, look.saturation, look.grayscale_prob) == (0.1, 0.03, 0.03, 0.05)
    assert (look.frame_brightness, look.frame_contrast, look.frame_saturation) == (0.1, 0.05, 0.05)
    assert (STAGE.lr, STAGE.lr_end, STAGE.lr_schedule) == (5e-6, 5e-7, "cosine")
    assert CONFIG.lr_multiplier("image_encoder.neck.convs.0.conv.weight") * STAGE.lr == pytest.approx(3e-6)
    assert CONFIG.lr_multiplier("sam_mask_decoder.iou_token.weight") == 1
    assert (CONFIG.layer_decay, CONFIG.weight_decay, CONFIG.betas) == (0.9, 0.1, (0.9, 0.999))
    assert (CONFIG.grad_clip, CONFIG.precision) == (0.1, "bf16")
    tuned = finetune_config("sam2.1_hiera_tiny", "sam2.1_t.pt", steps=100, image_size=1024)
    assert tuned.stages[0].lr_end == pytest.approx(STAGE.lr_end)
    assert replace(tuned, start="", stages=CONFIG.stages) == CONFIG
    assert replace(tuned.stages[0], rate_end=STAGE.lr_end) == STAGE


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        (STAGE, {"size": 100}, "size=100 must be a multiple of 32"),
        (STAGE, {"size": 32}, "from 64 on"),
        (STAGE, {"batch": 0}, "batch=0 must be 1 or more"),
        (STAGE, {"steps": 0}, "steps=0"),
        (STAGE, {"rate": -1.0}, "rate=-1.0"),
        (STAGE, {"rate": float("nan")}, "rate=nan"),
        (STAGE, {"shape": "wavy"}, "cosine, linear"),
        (STAGE.prompts, {"objects": 0}, "objects=0"),
        (STAGE.prompts, {"mask_share": 0.9}, "more than 1 together"),
        (STAGE.prompts, {"box_share": -0.1}, "from 0 to 1"),
        (STAGE.prompts, {"rounds": ()}, "rounds="),
        (STAGE.prompts, {"rounds": (0.0, 0.0)}, "rounds="),
        (CONFIG.augment, {"flip": 2.0}, "flip=2.0"),
        (CONFIG.augment, {"crop": 0.0}, "crop=0"),
        (CONFIG, {"precision": "fp8"}, "bf16 or fp32"),
        (CONFIG, {"accumulate": 0}, "accumulate=0"),
        (CONFIG, {"seed": -1}, "seed=-1"),
        (CONFIG, {"clip": 0.0}, "clip=0"),
        (CONFIG, {"ema": 1.5}, "ema=1.5"),
        (CONFIG, {"report_every": 0}, "report_every=0"),
        (CONFIG, {"lora": -1}, "lora=-1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(part: object, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(part, **changes)


def test_stages_follow_each_other_and_rates_fall_within_them() -> None:
    first = Stage(image_size=64, batch=1, steps=3, lr=1.0, lr_end=0.5, lr_schedule="linear")
    config = TrainConfig(
        model="tiny", stages=(first, replace(first, size=96, steps=2, rate=0.4, rate_end=0.2)), warmup_steps=2
    )
    assert config.total_steps == 5
    assert [config.stage_at(step) for step in (0, 2, 3, 4)] == [(first, 0)] * 2 + [(config.stages[1], 3)] * 2
    assert [config.lr_at(step) for step in range(5)] == pytest.approx([0.5, 0.75, 0.5, 0.4, 0.2])
    with pytest.raises(ValueError, match="step 5"):
        config.stage_at(5)


def test_prompts_have_the_shares_they_are_said_to_have() -> None:
    assert PromptConfig(mask_prob=0.75).box_prob == 0.25


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_be_made(name: str) -> None:
    assert RECIPES[name]().total_steps > 0


def test_what_is_frozen_is_named_by_parts() -> None:
    config = finetune_config("sam2.1_hiera_tiny", "a.pt", steps=1, image_size=512, freeze=("encoder", "memory"))
    still = ("image_encoder.trunk.pos_embed", "sam_mask_decoder.conv_s0.bias", "maskmem_tpos_enc", "memory_encoder.x")
    assert [config.lr_multiplier(name) for name in still] == [0] * 4
    assert config.lr_multiplier("sam_mask_decoder.mask_tokens.weight") == 1
    with pytest.raises(InputError, match=r"'trunk' is no part.*encoder, memory, decoder"):
        finetune_config("sam2.1_hiera_tiny", "a.pt", steps=1, image_size=512, freeze=("trunk",))
    for rate in (0.0, -1.0, 2.0, float("nan")):
        with pytest.raises(InputError, match="rate="):
            finetune_config("sam2.1_hiera_tiny", "a.pt", steps=1, image_size=512, lr=rate)
