"""From options to a run: how long, what is frozen, the defaults of a model; and invalid options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from masklet.errors import CheckpointError, InputError, SourceError, UnknownModelError
from masklet.train import finetune as module
from masklet.train.config import TrainConfig
from masklet.train.finetune import FinetuneOptions, build_config, export_result
from masklet.train.loop import RuntimeConfig
from masklet.train.recipes import smoke

CPU = RuntimeConfig("cpu", workers=0)


@pytest.fixture
def build(builtin_file: Path, stills: Path, squares: Path):
    """`build(batch=2, steps=3)`: the config of a run on six images and two videos."""

    def build(runtime: RuntimeConfig = CPU, **options: object) -> TrainConfig:
        return build_config(FinetuneOptions(**options), str(builtin_file), [stills, squares], runtime)

    return build


def test_steps_set_the_length(build) -> None:
    config = build(steps=7, batch=3, grad_accum=2)
    assert (config.total_steps, config.stages[0].batch, config.grad_accum) == (7, 3, 2)


@pytest.mark.parametrize(
    ("options", "steps"), [({"epochs": 3}, 24), ({"epochs": 3, "batch": 2, "grad_accum": 2}, 6), ({"epochs": 0.01}, 1)]
)
def test_epochs_set_the_length(build, options: dict[str, float], steps: int) -> None:
    assert build(**options).total_steps == steps


def test_several_processes_share_an_epoch(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert build(epochs=3).total_steps == 6


def test_defaults_depend_on_the_model_and_the_device(build, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build(steps=1)
    assert (config.model, config.stages[0].image_size, config.stages[0].clip_length) == ("builtin", 288, 8)
    assert (config.stages[0].lr, config.stages[0].lr_end) == pytest.approx((1e-4, 1e-5))
    assert config.precision == "fp32"
    assert build(RuntimeConfig("cuda:1"), steps=1).precision == "bf16"
    assert build(steps=1, lr=3e-4, precision="bf16").precision == "bf16"
    load = module.load

    def as_tiny(name: object, **keywords: object) -> object:
        return replace(load(name, **keywords), name="sam2.1_hiera_tiny")

    monkeypatch.setattr(module, "load", as_tiny)
    assert build(steps=1).stages[0].lr == 5e-6
    assert build(steps=1, lora=4).stages[0].lr == 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say how long"),
        ({"epochs": 1, "steps": 1}, "epochs=1 and steps=1"),
        ({"steps": 0}, "steps=0"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"epochs": float("inf")}, "epochs=inf"),
        ({"steps": 1, "batch": 0}, "batch=0"),
        ({"epochs": 1, "grad_accum": 0}, "grad_accum=0"),
        ({"steps": 1, "image_size": 100}, "image_size=100 must be a multiple of 32"),
        ({"steps": 1, "lr": 0.0}, "lr=0"),
        ({"steps": 1, "freeze": ("trunk",)}, "'trunk' is no part"),
        ({"steps": 1, "precision": "fp16"}, "precision='fp16' must be bf16 or fp32"),
    ],
)
def test_invalid_options_are_refused(build, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**options)


def test_recipes_go_by_their_names(stills: Path) -> None:
    assert build_config("smoke", None, stills, CPU) == smoke()
    with pytest.raises(InputError, match=r"'soup' is unknown; choose one of builtin, builtin_video"):
        build_config("soup", None, stills, CPU)


def test_missing_data_and_models(builtin_file: Path, stills: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        build_config(FinetuneOptions(epochs=1), str(builtin_file), tmp_path / "nowhere", CPU)
    with pytest.raises(UnknownModelError):
        build_config(FinetuneOptions(epochs=1), "sam9.pt", stills, CPU)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        export_result(tmp_path)
