"""From a wish to a run: how long, what is frozen, what is usual for a model; and what cannot be meant."""

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
def wanted(builtin_file: Path, stills: Path, squares: Path):
    """`wanted(batch=2, steps=3)`: the run, of six stills and two videos."""

    def made(machine: RuntimeConfig = CPU, **wish: object) -> TrainConfig:
        return build_config(FinetuneOptions(**wish), str(builtin_file), [stills, squares], machine)

    return made


def test_how_long_is_said_by_steps(wanted) -> None:
    config = wanted(steps=7, batch=3, accumulate=2)
    assert (config.steps, config.stages[0].batch, config.accumulate) == (7, 3, 2)


@pytest.mark.parametrize(
    ("wish", "steps"), [({"epochs": 3}, 24), ({"epochs": 3, "batch": 2, "accumulate": 2}, 6), ({"epochs": 0.01}, 1)]
)
def test_how_long_is_said_by_epochs(wanted, wish: dict[str, float], steps: int) -> None:
    assert wanted(**wish).steps == steps


def test_several_processes_share_an_epoch(wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert wanted(epochs=3).steps == 6


def test_what_is_not_said_depends_on_the_model_and_the_machine(wanted, monkeypatch: pytest.MonkeyPatch) -> None:
    config = wanted(steps=1)
    assert (config.model, config.stages[0].size, config.stages[0].frames) == ("builtin", 288, 8)
    assert (config.stages[0].rate, config.stages[0].rate_end) == pytest.approx((1e-4, 1e-5))
    assert config.precision == "fp32"
    assert wanted(RuntimeConfig("cuda:1"), steps=1).precision == "bf16"
    assert wanted(steps=1, rate=3e-4, precision="bf16").precision == "bf16"
    load = module.load

    def as_tiny(name: object) -> object:
        return replace(load(name), name="sam2.1_hiera_tiny")

    monkeypatch.setattr(module, "load", as_tiny)
    assert wanted(steps=1).stages[0].rate == 5e-6
    assert wanted(steps=1, lora=4).stages[0].rate == 1e-4


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({}, "say how long"),
        ({"epochs": 1, "steps": 1}, "epochs=1 and steps=1"),
        ({"steps": 0}, "steps=0"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"epochs": float("inf")}, "epochs=inf"),
        ({"steps": 1, "batch": 0}, "batch=0"),
        ({"epochs": 1, "accumulate": 0}, "accumulate=0"),
        ({"steps": 1, "size": 100}, "size=100 must be a multiple of 32"),
        ({"steps": 1, "rate": 0.0}, "rate=0"),
        ({"steps": 1, "freeze": ("trunk",)}, "'trunk' is no part"),
        ({"steps": 1, "precision": "fp16"}, "precision='fp16' must be bf16 or fp32"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted, wish: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        wanted(**wish)


def test_recipes_go_by_their_names(stills: Path) -> None:
    assert build_config("smoke", None, stills, CPU) == smoke()
    with pytest.raises(InputError, match=r"'soup' is unknown; choose one of builtin, builtin_video"):
        build_config("soup", None, stills, CPU)


def test_data_and_models_that_are_not_there(builtin_file: Path, stills: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        build_config(FinetuneOptions(epochs=1), str(builtin_file), tmp_path / "nowhere", CPU)
    with pytest.raises(UnknownModelError):
        build_config(FinetuneOptions(epochs=1), "sam9.pt", stills, CPU)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        export_result(tmp_path)
