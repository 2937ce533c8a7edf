"""Turn a user's options into a run, and a run into a file: the common part of `SAM.train` and `masklet train`."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from masklet.atomic_files import current_keys
from masklet.datasets import DataPaths
from masklet.errors import InputError
from masklet.load_model import load
from masklet.registry import BUILTIN
from masklet.train.config import TrainConfig, TrainStage
from masklet.train.data import open_train_data
from masklet.train.export_weights import export_weights
from masklet.train.loop import DEFAULT_RUNTIME, RESULT_FILE, STATE_FILE, RuntimeConfig, TrainProgress, train
from masklet.train.recipes import FREEZE_PREFIXES, RECIPES

__all__ = [
    "RESULT_FILE",
    "FinetuneOptions",
    "apply_overrides",
    "build_config",
    "export_result",
    "finetune_config",
    "parse_options",
    "require_single_process",
    "run",
]

LR_FULL, LR_LORA = 5e-6, 1e-4
"""Default learning rates."""

Config = TypeVar("Config")


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of a fine-tuning run; everything else is as in the paper."""

    epochs: float | None = None
    """Passes over the data; None: `steps` sets the length."""
    steps: int | None = None
    batch: int = 1
    clip_length: int = 8
    image_size: int | None = None
    """Side of the input; None: the model's own."""
    lr: float | None = None
    """None: 5e-6 as for the published models, 1e-4 for adapters and for the built-in model."""
    freeze: tuple[str, ...] = ()
    """encoder, memory, decoder."""
    lora: int = 0
    grad_accum: int = 1
    precision: str | None = None
    """None: bf16 on cuda, else fp32."""
    gradient_checkpointing: bool = False


def parse_options(given: dict[str, Any], *, epochs: float | None, steps: int | None) -> FinetuneOptions:
    """Build the options from keyword arguments.

    Raises:
        InputError: if a name is unknown.
    """
    known = [field.name for field in fields(FinetuneOptions)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InputError(
            f"no {', '.join(unknown)} of a training run; there are {', '.join(known)}, and overrides"
            + "".join(f"; {old!r} is now {new!r}" for old in unknown if (new := _current_name(old)) in known)
        )
    return FinetuneOptions(epochs=epochs, steps=steps, **given)


def require_single_process() -> None:
    """Raise if torchrun started several processes."""
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size != "1":
        raise InputError(
            f"WORLD_SIZE is {world_size}, but SAM.train is one process; several are started by "
            "torchrun --standalone --nproc-per-node N -m masklet train ..."
        )


def finetune_config(model: str, pretrained: str, options: FinetuneOptions) -> TrainConfig:
    """Build the config that fine-tunes a pretrained model as the paper's authors do.

    `model` is the name of the network, `pretrained` the name or file of the weights. `options` give `steps` and
    `image_size`.

    Example:
        >>> options = FinetuneOptions(steps=1000, image_size=1024, freeze=("encoder",))
        >>> finetune_config("sam2.1_hiera_tiny", "sam2.1_t.pt", options)

    Raises:
        InputError: if `freeze` names no part of a network, or a number is invalid.
    """
    assert options.steps is not None, "options give the number of steps"
    assert options.image_size is not None, "options give the image size"
    lr = (LR_LORA if options.lora or model == "builtin" else LR_FULL) if options.lr is None else options.lr
    if not 0 < lr < 1:
        raise InputError(f"lr={lr} must lie between 0 and 1; 5e-6 is what the published models were tuned with")
    for part in options.freeze:
        if part not in FREEZE_PREFIXES:
            raise InputError(f"freeze={part!r} is no part of a network; choose among {', '.join(FREEZE_PREFIXES)}")
    frozen = tuple((prefix, 0.0) for part in options.freeze for prefix in FREEZE_PREFIXES[part])
    stage = TrainStage(
        image_size=options.image_size,
        batch=options.batch,
        steps=options.steps,
        lr=lr,
        lr_end=lr / 10,
        clip_length=options.clip_length,
    )
    return TrainConfig(
        model=model,
        pretrained=pretrained,
        stages=(stage,),
        lr_multipliers=(*frozen, ("image_encoder", 0.6)),
        lora=options.lora,
        grad_accum=options.grad_accum,
        precision=options.precision or "bf16",
        gradient_checkpointing=options.gradient_checkpointing,
    )


def build_config(
    options: FinetuneOptions | str,
    model: str | None,
    data: DataPaths,
    runtime: RuntimeConfig,
    variant: str | None = None,
) -> TrainConfig:
    """Build the config of a recipe, by its name, or of a model to be fine-tuned on `data`.

    `variant` is that of an EfficientTAM whose file does not say it.

    Raises:
        InputError: if an option is invalid.
        UnknownModelError, CheckpointError, DownloadError: if the model cannot be loaded.
        SourceError: if the data cannot be opened.
    """
    if isinstance(options, str):
        if options not in RECIPES:
            raise InputError(f"recipe {options!r} is unknown; choose one of {', '.join(RECIPES)}")
        return RECIPES[options]()
    if (options.epochs is None) == (options.steps is None):
        raise InputError(f"epochs={options.epochs} and steps={options.steps}: say how long, by one of the two")
    if options.epochs is not None and not 0 < options.epochs < math.inf:
        raise InputError(f"epochs={options.epochs} must be above 0")
    loaded = load(model, variant=variant)
    network = loaded.require_sam2("be trained here")
    resolved = replace(
        options,
        steps=1 if options.steps is None else options.steps,
        image_size=options.image_size or network.image_size,
        precision=options.precision or ("bf16" if runtime.device.startswith("cuda") else "fp32"),
    )
    config = finetune_config(loaded.name, str(model or BUILTIN), resolved)
    stage = replace(
        config.stages[0], still_image_size=0 if options.image_size else network.still_image_size_override or 0
    )
    if options.epochs is not None:
        samples_per_step = options.batch * options.grad_accum * int(os.environ.get("WORLD_SIZE", "1"))
        num_samples = open_train_data(data, config).num_samples
        stage = replace(stage, steps=max(1, math.ceil(options.epochs * num_samples / samples_per_step)))
    return replace(config, stages=(stage,))


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Replace single values of a config, given as NAME=VALUE.

    NAME is the path of a field, part by part; `stage` stands for every stage.

    Example:
        >>> apply_overrides(config, ["losses.focal=10", "stages.0.steps=500", "stage.clip_length=4"])

    Raises:
        InputError: if a name is no field, or a value is of another type.
    """
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"override {override!r} must be NAME=VALUE, such as losses.focal=10")
        value: object = text.strip()
        with suppress(ValueError, SyntaxError):  # otherwise it is text
            value = ast.literal_eval(text.strip())
        config = _override(config, name.strip().split("."), value, override)
    return config


def _override(part: Any, path: list[str], value: object, override: str) -> Any:
    if not path:  # a value of the type of the one it replaces
        if isinstance(part, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(part, tuple) and isinstance(value, list):
            return tuple(value)
        if is_dataclass(part) or (part is not None and type(value) is not type(part)):
            raise InputError(f"override {override!r}: the value must be of the kind of {part!r}")
        return value
    name, rest = path[0], path[1:]
    if isinstance(part, tuple):
        if not name.isdecimal() or int(name) >= len(part):
            raise InputError(f"override {override!r}: {name!r} must be a number below {len(part)}")
        index = int(name)
        return (*part[:index], _override(part[index], rest, value, override), *part[index + 1 :])
    known = [field.name for field in fields(part)] if is_dataclass(part) else []
    if name == "stage" and rest and "stages" in known:
        return replace(part, stages=tuple(_override(stage, rest, value, override) for stage in part.stages))
    if name not in known:
        if (current := _current_name(name)) in known:
            raise InputError(f"override {override!r}: {name!r} is now {current!r}")
        raise InputError(f"override {override!r}: there is no {name!r}; choose among {', '.join(known) or 'nothing'}")
    return replace(part, **{name: _override(getattr(part, name), rest, value, override)})


def _current_name(name: str) -> str:
    """Return the current name of a config field that was renamed."""
    (current,) = current_keys({name: None}, "train_config")
    return str(current)


def run(
    config: TrainConfig,
    data: DataPaths,
    run_dir: Path,
    runtime: RuntimeConfig = DEFAULT_RUNTIME,
    on_progress: Callable[[TrainProgress], None] | None = None,
) -> Path:
    """Run or resume to the end, and return the exported weights.

    Raises:
        SourceError, CheckpointError, StateError: as `masklet.train.loop.train`.
    """
    for progress in train(config, data, run_dir, runtime):
        if on_progress is not None:
            on_progress(progress)
    return export_result(run_dir)


def export_result(run_dir: Path) -> Path:
    """Write `run_dir`/model.safetensors from the state of a finished run, in the published naming.

    Raises:
        CheckpointError: if there is no state of a run.
    """
    return export_weights(run_dir / STATE_FILE, run_dir / RESULT_FILE)
