"""From what a user wants to a run, and from a run to a file: what `SAM.train` and `masklet train` have in common.

Single values of a run's config, as they are typed: `losses.focal=10`, `augment.flip=0`, `stages.0.steps=500`.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from masklet.datasets import DataPaths
from masklet.errors import InputError
from masklet.load_model import LoadedModel, load
from masklet.registry import BUILTIN
from masklet.train.config import TrainConfig
from masklet.train.data import open_train_data
from masklet.train.export_weights import export_weights
from masklet.train.loop import DEFAULT_RUNTIME, STATE_FILE, RuntimeConfig, TrainProgress, train
from masklet.train.recipes import RECIPES, finetune_config

__all__ = [
    "RESULT_FILE",
    "FinetuneOptions",
    "apply_overrides",
    "build_config",
    "default_device",
    "export_result",
    "parse_options",
    "require_single_process",
    "run",
]

Config = TypeVar("Config")


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """The config with these values instead.

    A name is a way through the config, part by part; `stage` stands for every stage.

    Example:
        >>> with_settings(finetune("builtin", "builtin", steps=9, size=288), ["losses.focal=10", "stage.frames=4"])

    Raises:
        InputError: a name that is no field, or a value of another kind.
    """
    for setting in overrides:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"setting {setting!r} must be NAME=VALUE, such as losses.focal=10")
        config = _override(config, name.strip().split("."), _parse_value(text.strip()), setting)
    return config


def _parse_value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _override(part: Any, path: list[str], value: object, override: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(part, tuple):
        return _override_item(part, name, rest, value, override)
    known = [field.name for field in fields(part)] if is_dataclass(part) else []
    if name == "stage" and rest and "stages" in known:
        return replace(part, stages=tuple(_override(stage, rest, value, override) for stage in part.stages))
    if name not in known:
        raise InputError(f"setting {override!r}: there is no {name!r}; choose among {', '.join(known) or 'nothing'}")
    before = getattr(part, name)
    return replace(
        part, **{name: _override(before, rest, value, override) if rest else _coerce(before, value, override)}
    )


def _override_item(part: tuple[Any, ...], name: str, rest: list[str], value: object, override: str) -> Any:
    if not name.isdecimal() or int(name) >= len(part):
        raise InputError(f"setting {override!r}: {name!r} must be a number below {len(part)}")
    own = int(name)
    changed = _override(part[own], rest, value, override) if rest else _coerce(part[own], value, override)
    return (*part[:own], changed, *part[own + 1 :])


def _coerce(current: object, value: object, override: str) -> object:
    """The value as the kind of the one it replaces."""
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(current, tuple) and isinstance(value, list):
        return tuple(value)
    if is_dataclass(current) or (current is not None and type(value) is not type(current)):
        raise InputError(f"setting {override!r}: the value must be of the kind of {current!r}")
    return value


RESULT_FILE = "model.safetensors"
LR_FULL, LR_LORA = 5e-6, 1e-4
"""Learning rates."""


@dataclass(frozen=True)
class FinetuneOptions:
    """What a user says of a run; the rest is as the paper has it."""

    epochs: float | None = None
    """How often everything is seen; None: `steps` says how long."""
    steps: int | None = None
    batch: int = 1
    clip_length: int = 8
    image_size: int | None = None
    """Side of the input; None: what the model was made for."""
    lr: float | None = None
    """None: 5e-6 as the published models were tuned with, 1e-4 for adapters and for the built-in model."""
    freeze: tuple[str, ...] = ()
    """encoder, memory, decoder."""
    lora: int = 0
    grad_accum: int = 1
    precision: str | None = None
    """None: bf16 on cuda, else fp32."""
    gradient_checkpointing: bool = False


def parse_options(given: dict[str, Any], *, epochs: float | None, steps: int | None) -> FinetuneOptions:
    """What was said by name.

    Raises:
        InputError: a name that a run does not have.
    """
    try:
        return FinetuneOptions(epochs=epochs, steps=steps, **given)
    except TypeError:
        known = [field.name for field in fields(FinetuneOptions)]
        unknown = ", ".join(name for name in given if name not in known)
        raise InputError(f"no {unknown} of a training run; there are {', '.join(known)}, and settings") from None


def require_single_process() -> None:
    """Raise where torchrun started several."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1":
        raise InputError(
            f"WORLD_SIZE is {world}, but SAM.train is one process; several are started by "
            "torchrun --standalone --nproc-per-node N -m masklet train ..."
        )


def default_device() -> str:
    """The best there is."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def build_config(
    options: FinetuneOptions | str, model: str | None, data: DataPaths, runtime: RuntimeConfig
) -> TrainConfig:
    """The run that is wanted: a recipe by its name, or a model to be tuned on `data`.

    Raises:
        InputError: what cannot be meant.
        UnknownModelError, CheckpointError, DownloadError: the model cannot be had.
        SourceError: data that cannot be opened.
    """
    if isinstance(options, str):
        if options not in RECIPES:
            raise InputError(f"recipe {options!r} is unknown; choose one of {', '.join(RECIPES)}")
        return RECIPES[options]()
    return _finetune_config(options, load(model), str(model or BUILTIN), data, runtime)


def _finetune_config(
    options: FinetuneOptions, loaded: LoadedModel, name: str, data: DataPaths, runtime: RuntimeConfig
) -> TrainConfig:
    network = loaded.require_sam2("be trained here")
    usual = LR_LORA if options.lora or loaded.name == "builtin" else LR_FULL
    config = finetune_config(
        loaded.name,
        name,
        steps=1 if options.steps is None else options.steps,
        image_size=options.image_size or network.image_size,
        batch=options.batch,
        clip_length=options.clip_length,
        lr=usual if options.lr is None else options.lr,
        freeze=options.freeze,
    )
    config = replace(
        config,
        lora=options.lora,
        grad_accum=options.grad_accum,
        precision=options.precision or ("bf16" if runtime.device.startswith("cuda") else "fp32"),
        gradient_checkpointing=options.gradient_checkpointing,
    )
    _check_length(options)
    steps = options.steps or _steps_for_epochs(options, open_train_data(data, config).num_samples)
    still_size = 0 if options.image_size else network.still_image_size_override or 0
    return replace(config, stages=(replace(config.stages[0], steps=steps, still_image_size=still_size),))


def _check_length(options: FinetuneOptions) -> None:
    if (options.epochs is None) == (options.steps is None):
        raise InputError(f"epochs={options.epochs} and steps={options.steps}: say how long, by one of the two")
    if options.epochs is not None and not 0 < options.epochs < math.inf:
        raise InputError(f"epochs={options.epochs} must be above 0")


def _steps_for_epochs(options: FinetuneOptions, num_samples: int) -> int:
    """Steps in which so many entries are seen as often as is wanted."""
    assert options.epochs is not None
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, math.ceil(options.epochs * num_samples / (options.batch * options.grad_accum * world)))


def run(
    config: TrainConfig,
    data: DataPaths,
    run_dir: Path,
    runtime: RuntimeConfig = DEFAULT_RUNTIME,
    report: Callable[[TrainProgress], None] | None = None,
) -> Path:
    """Run or resume to the end, and write the file to use.

    Raises:
        what `train` and `finished` raise.
    """
    for progress in train(config, data, run_dir, runtime):
        if report is not None:
            report(progress)
    return export_result(run_dir)


def export_result(run_dir: Path) -> Path:
    """The file to use of a run that is over: `out`/model.safetensors, in the published naming.

    Raises:
        CheckpointError: there is no state of a run.
    """
    return export_weights(run_dir / STATE_FILE, run_dir / RESULT_FILE)
