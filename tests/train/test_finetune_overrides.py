"""Overrides of single values of a run, NAME=VALUE."""

from __future__ import annotations

from dataclasses import replace

import pytest

from masklet.errors import InputError
from masklet.train.config import SourceConfig, TrainConfig, TrainStage
from masklet.train.finetune import apply_overrides

STAGE = TrainStage(image_size=64, batch=1, steps=3)
CONFIG = TrainConfig(model="tiny", stages=(STAGE, replace(STAGE, steps=5)), sources=(SourceConfig("a"),))


def test_names_are_paths_into_the_parts() -> None:
    found = apply_overrides(
        CONFIG,
        [
            "losses.focal=10",
            "augment.flip_prob = 0",
            "ema_decay=0.99",
            "pretrained=mine.pt",
            "gradient_checkpointing=True",
            "betas=[0.9, 0.95]",
        ],
    )
    assert (found.losses.focal, found.augment.flip_prob, found.ema_decay, found.pretrained) == (
        10.0,
        0.0,
        0.99,
        "mine.pt",
    )
    assert isinstance(found.losses.focal, float)
    assert found.gradient_checkpointing
    assert found.betas == (0.9, 0.95)
    assert CONFIG.losses.focal == 20, "the given one stays"


def test_one_stage_or_every_stage() -> None:
    found = apply_overrides(CONFIG, ["stages.1.steps=9", "stage.clip_length=2", "stage.prompts.max_objects=1"])
    assert [stage.steps for stage in found.stages] == [3, 9]
    assert [stage.clip_length for stage in found.stages] == [2, 2]
    assert [stage.prompts.max_objects for stage in found.stages] == [1, 1]
    assert apply_overrides(CONFIG, ["sources.0.data_format=coco"]).sources[0].data_format == "coco"


def test_no_override_changes_nothing() -> None:
    assert apply_overrides(CONFIG, []) is CONFIG


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("losses.focal", "NAME=VALUE"),
        ("focal=10", "there is no 'focal'; choose among model, stages"),
        ("losses.vocal=10", "there is no 'vocal'; choose among focal, dice"),
        ("losses.focal.deep=10", "choose among nothing"),
        ("losses.focal=ten", "of the kind of 20.0"),
        ("losses=3", "of the kind of"),
        ("seed=1.5", "of the kind of 0"),
        ("gradient_checkpointing=1", "of the kind of False"),
        ("seed=True", "of the kind of 0"),
        ("stages.2.steps=1", "'2' must be a number below 2"),
        ("stages.first.steps=1", "'first' must be a number"),
        ("stage.image_size=100", "multiple of 32"),
        ("stage=3", "there is no"),
        ("=3", "there is no ''"),
        ("ema=0.9", "'ema' is now 'ema_decay'"),
        ("stage.frames=4", "'frames' is now 'clip_length'"),
        ("losses.both=True", "'both' is now 'supervise_all_masks'"),
        ("losses.size=3", "there is no 'size'"),
    ],
)
def test_invalid_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_overrides(CONFIG, [override])
