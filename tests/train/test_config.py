"""A run as a value: the defaults are the paper's, and invalid values are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from masklet.errors import InputError
from masklet.train.config import AugmentConfig, LossConfig, PromptConfig, TrainConfig, TrainStage
from masklet.train.finetune import FinetuneOptions, finetune_config
from masklet.train.recipes import RECIPES

STAGE = TrainStage(image_size=1024, batch=1, steps=100)
CONFIG = TrainConfig(model="sam2.1_hiera_tiny", stages=(STAGE,))


def fields(part: object, *names: str) -> dict[str, object]:
    return {name: getattr(part, name) for name in names}


def test_the_defaults_are_those_of_the_paper() -> None:
    """Ravi et al. 2024, sections 4 and D.2; the rest is from their fine-tuning configuration."""
    assert STAGE.clip_length == 8
    assert CONFIG.reverse_prob == 0.5
    prompts = STAGE.prompts
    assert fields(prompts, "max_objects", "mask_prob", "box_prob") == {
        "max_objects": 3,
        "mask_prob": 0.5,
        "box_prob": 0.25,
    }
    assert fields(prompts, "correction_frame_prob", "correction_clicks", "gt_click_prob") == {
        "correction_frame_prob": 0.5,
        "correction_clicks": 7,
        "gt_click_prob": 0.1,
    }
    assert prompts.round_probs == (0,) * 7 + (1,), "the first, and seven corrective clicks"
    assert fields(LossConfig(), "focal", "dice", "iou", "object_score", "cross_entropy") == {
        "focal": 20,
        "dice": 1,
        "iou": 1,
        "object_score": 1,
        "cross_entropy": 0,
    }
    assert (LossConfig().focal_gamma, LossConfig().focal_alpha, LossConfig().supervise_all_masks) == (2, 0.25, False)
    augment = AugmentConfig()
    assert (augment.flip_prob, augment.affine_prob, augment.degrees, augment.shear, augment.full_image_prob) == (
        0.5,
        1,
        25,
        20,
        1,
    )
    assert (augment.brightness, augment.contrast, augment.saturation, augment.grayscale_prob) == (0.1, 0.03, 0.03, 0.05)
    assert (augment.frame_brightness, augment.frame_contrast, augment.frame_saturation) == (0.1, 0.05, 0.05)
    assert (STAGE.lr, STAGE.lr_end, STAGE.lr_schedule) == (5e-6, 5e-7, "cosine")
    assert CONFIG.lr_multiplier("image_encoder.neck.convs.0.conv.weight") * STAGE.lr == pytest.approx(3e-6)
    assert CONFIG.lr_multiplier("sam_mask_decoder.iou_token.weight") == 1
    assert (CONFIG.layer_decay, CONFIG.weight_decay, CONFIG.betas) == (0.9, 0.1, (0.9, 0.999))
    assert (CONFIG.grad_clip, CONFIG.precision) == (0.1, "bf16")
    tuned = finetune_config("sam2.1_hiera_tiny", "sam2.1_t.pt", FinetuneOptions(steps=100, image_size=1024))
    assert tuned.stages[0].lr_end == pytest.approx(STAGE.lr_end)
    assert replace(tuned, pretrained="", stages=CONFIG.stages) == CONFIG
    assert replace(tuned.stages[0], lr_end=STAGE.lr_end) == STAGE


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (STAGE, {"image_size": 100}, "image_size=100 must be a multiple of 32"),
        (STAGE, {"image_size": 32}, "from 64 on"),
        (STAGE, {"batch": 0}, "batch=0 must be 1 or more"),
        (STAGE, {"steps": 0}, "steps=0"),
        (STAGE, {"lr": -1.0}, "lr=-1.0"),
        (STAGE, {"lr": float("nan")}, "lr=nan"),
        (STAGE, {"lr_schedule": "wavy"}, "cosine, linear"),
        (STAGE.prompts, {"max_objects": 0}, "max_objects=0"),
        (STAGE.prompts, {"mask_prob": 0.9}, "more than 1 together"),
        (STAGE.prompts, {"box_prob": -0.1}, "from 0 to 1"),
        (STAGE.prompts, {"round_probs": ()}, "round_probs="),
        (STAGE.prompts, {"round_probs": (0.0, 0.0)}, "round_probs="),
        (CONFIG.augment, {"flip_prob": 2.0}, "flip_prob=2.0"),
        (CONFIG.augment, {"min_crop_area": 0.0}, "min_crop_area=0"),
        (CONFIG, {"precision": "fp8"}, "bf16 or fp32"),
        (CONFIG, {"grad_accum": 0}, "grad_accum=0"),
        (CONFIG, {"seed": -1}, "seed=-1"),
        (CONFIG, {"grad_clip": 0.0}, "grad_clip=0"),
        (CONFIG, {"ema_decay": 1.5}, "ema_decay=1.5"),
        (CONFIG, {"log_every": 0}, "log_every=0"),
        (CONFIG, {"lora": -1}, "lora=-1"),
    ],
)
def test_an_invalid_value_is_refused(part: object, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(part, **changes)


def test_stages_follow_each_other_and_rates_fall_within_them() -> None:
    first = TrainStage(image_size=64, batch=1, steps=3, lr=1.0, lr_end=0.5, lr_schedule="linear")
    config = TrainConfig(
        model="tiny", stages=(first, replace(first, image_size=96, steps=2, lr=0.4, lr_end=0.2)), warmup_steps=2
    )
    assert config.total_steps == 5
    assert [config.stage_at(step) for step in (0, 2, 3, 4)] == [(first, 0)] * 2 + [(config.stages[1], 3)] * 2
    assert [config.lr_at(step) for step in range(5)] == pytest.approx([0.5, 0.75, 0.5, 0.4, 0.2])
    with pytest.raises(ValueError, match="step 5"):
        config.stage_at(5)


def test_one_probability_does_not_change_another() -> None:
    assert PromptConfig(mask_prob=0.75).box_prob == 0.25


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_be_made(name: str) -> None:
    assert RECIPES[name]().total_steps > 0


def test_parts_of_the_network_are_frozen_by_name() -> None:
    options = FinetuneOptions(steps=1, image_size=512)
    config = finetune_config("sam2.1_hiera_tiny", "a.pt", replace(options, freeze=("encoder", "memory")))
    frozen = ("image_encoder.trunk.pos_embed", "sam_mask_decoder.conv_s0.bias", "maskmem_tpos_enc", "memory_encoder.x")
    assert [config.lr_multiplier(name) for name in frozen] == [0] * 4
    assert config.lr_multiplier("sam_mask_decoder.mask_tokens.weight") == 1
    with pytest.raises(InputError, match=r"'trunk' is no part.*encoder, memory, decoder"):
        finetune_config("sam2.1_hiera_tiny", "a.pt", replace(options, freeze=("trunk",)))
    for lr in (0.0, -1.0, 2.0, float("nan")):
        with pytest.raises(InputError, match="lr="):
            finetune_config("sam2.1_hiera_tiny", "a.pt", replace(options, lr=lr))
