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
from masklet.train.data import open_material
from masklet.train.export_weights import publish
from masklet.train.loop import HERE, STATE_FILE, Machine, Progress, train
from masklet.train.recipes import RECIPES, finetune

__all__ = [
    "RESULT",
    "Wish",
    "config_for",
    "default_device",
    "fine_tuned",
    "finished",
    "one_process",
    "wish_of",
    "with_settings",
]

Config = TypeVar("Config")


def with_settings(config: Config, settings: Iterable[str]) -> Config:
    """The config with these values instead.

    A name is a way through the config, part by part; `stage` stands for every stage.

    Example:
        >>> with_settings(finetune("builtin", "builtin", steps=9, size=288), ["losses.focal=10", "stage.frames=4"])

    Raises:
        InputError: a name that is no field, or a value of another kind.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"setting {setting!r} must be NAME=VALUE, such as losses.focal=10")
        config = _changed(config, name.strip().split("."), _value(text.strip()), setting)
    return config


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _changed(part: Any, way: list[str], value: object, setting: str) -> Any:
    name, rest = way[0], way[1:]
    if isinstance(part, tuple):
        return _changed_in(part, name, rest, value, setting)
    known = [field.name for field in fields(part)] if is_dataclass(part) else []
    if name == "stage" and rest and "stages" in known:
        return replace(part, stages=tuple(_changed(stage, rest, value, setting) for stage in part.stages))
    if name not in known:
        raise InputError(f"setting {setting!r}: there is no {name!r}; choose among {', '.join(known) or 'nothing'}")
    before = getattr(part, name)
    return replace(part, **{name: _changed(before, rest, value, setting) if rest else _fitting(before, value, setting)})


def _changed_in(part: tuple[Any, ...], name: str, rest: list[str], value: object, setting: str) -> Any:
    if not name.isdecimal() or int(name) >= len(part):
        raise InputError(f"setting {setting!r}: {name!r} must be a number below {len(part)}")
    own = int(name)
    changed = _changed(part[own], rest, value, setting) if rest else _fitting(part[own], value, setting)
    return (*part[:own], changed, *part[own + 1 :])


def _fitting(before: object, value: object, setting: str) -> object:
    """The value as the kind of the one it replaces."""
    if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(before, tuple) and isinstance(value, list):
        return tuple(value)
    if is_dataclass(before) or (before is not None and type(value) is not type(before)):
        raise InputError(f"setting {setting!r}: the value must be of the kind of {before!r}")
    return value


RESULT = "model.safetensors"
SLOW, QUICK = 5e-6, 1e-4
"""Learning rates."""


@dataclass(frozen=True)
class Wish:
    """What a user says of a run; the rest is as the paper has it."""

    epochs: float | None = None
    """How often everything is seen; None: `steps` says how long."""
    steps: int | None = None
    batch: int = 1
    frames: int = 8
    size: int | None = None
    """Side of the input; None: what the model was made for."""
    rate: float | None = None
    """None: 5e-6 as the published models were tuned with, 1e-4 for adapters and for the built-in model."""
    freeze: tuple[str, ...] = ()
    """encoder, memory, decoder."""
    lora: int = 0
    accumulate: int = 1
    precision: str | None = None
    """None: bf16 on cuda, else fp32."""
    checkpointing: bool = False


def wish_of(said: dict[str, Any], *, epochs: float | None, steps: int | None) -> Wish:
    """What was said by name.

    Raises:
        InputError: a name that a run does not have.
    """
    try:
        return Wish(epochs=epochs, steps=steps, **said)
    except TypeError:
        known = [field.name for field in fields(Wish)]
        unknown = ", ".join(name for name in said if name not in known)
        raise InputError(f"no {unknown} of a training run; there are {', '.join(known)}, and settings") from None


def one_process() -> None:
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


def config_for(wish: Wish | str, model: str | None, data: DataPaths, machine: Machine) -> TrainConfig:
    """The run that is wanted: a recipe by its name, or a model to be tuned on `data`.

    Raises:
        InputError: what cannot be meant.
        UnknownModelError, CheckpointError, DownloadError: the model cannot be had.
        SourceError: data that cannot be opened.
    """
    if isinstance(wish, str):
        if wish not in RECIPES:
            raise InputError(f"recipe {wish!r} is unknown; choose one of {', '.join(RECIPES)}")
        return RECIPES[wish]()
    return _tuning(wish, load(model), str(model or BUILTIN), data, machine)


def _tuning(wish: Wish, start: LoadedModel, name: str, data: DataPaths, machine: Machine) -> TrainConfig:
    network = start.as_sam2("be trained here")
    usual = QUICK if wish.lora or start.name == "builtin" else SLOW
    config = finetune(
        start.name,
        name,
        steps=1 if wish.steps is None else wish.steps,
        size=wish.size or network.image_size,
        batch=wish.batch,
        frames=wish.frames,
        rate=usual if wish.rate is None else wish.rate,
        freeze=wish.freeze,
    )
    config = replace(
        config,
        lora=wish.lora,
        accumulate=wish.accumulate,
        precision=wish.precision or ("bf16" if machine.device.startswith("cuda") else "fp32"),
        checkpointing=wish.checkpointing,
    )
    _check_length(wish)
    steps = wish.steps or _steps_of(wish, open_material(data, config).entries)
    still_size = 0 if wish.size else network.own_picture_size or 0
    return replace(config, stages=(replace(config.stages[0], steps=steps, still_size=still_size),))


def _check_length(wish: Wish) -> None:
    if (wish.epochs is None) == (wish.steps is None):
        raise InputError(f"epochs={wish.epochs} and steps={wish.steps}: say how long, by one of the two")
    if wish.epochs is not None and not 0 < wish.epochs < math.inf:
        raise InputError(f"epochs={wish.epochs} must be above 0")


def _steps_of(wish: Wish, entries: int) -> int:
    """Steps in which so many entries are seen as often as is wanted."""
    assert wish.epochs is not None
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return max(1, math.ceil(wish.epochs * entries / (wish.batch * wish.accumulate * world)))


def fine_tuned(
    config: TrainConfig,
    data: DataPaths,
    out: Path,
    machine: Machine = HERE,
    report: Callable[[Progress], None] | None = None,
) -> Path:
    """Run or resume to the end, and write the file to use.

    Raises:
        what `train` and `finished` raise.
    """
    for progress in train(config, data, out, machine):
        if report is not None:
            report(progress)
    return finished(out)


def finished(out: Path) -> Path:
    """The file to use of a run that is over: `out`/model.safetensors, in the published naming.

    Raises:
        CheckpointError: there is no state of a run.
    """
    return publish(out / STATE_FILE, out / RESULT)
