"""The state of a run on disk: whole or not at all, and exactly what the next step needs."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from masklet.atomic_files import atomic_path
from masklet.errors import CheckpointError, OutputError
from masklet.models.sam2 import SAM2
from masklet.models.sam2.convnet import ConvNet
from masklet.train.config import Stage, TrainConfig

__all__ = ["EMA", "RunCheckpoint", "TrainState", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

RESUMABLE_FIELDS = ("save_every", "report_every", "picture_every")
"""What may change when a run goes on."""


class EMA:
    """An exponential moving average of a network's weights, or with decay 0 the network itself; kept in the end."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model
        self.decay, self.num_updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; the first steps count for more, so that the start is forgotten."""
        self.num_updates += 1
        if not self.decay:
            return
        share = 1 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        mine: list[Tensor] = [*self.model.parameters()]
        theirs: list[Tensor] = [*model.parameters()]
        torch._foreach_lerp_(mine, theirs, share)


@dataclass
class TrainState:
    """What changes while a run goes on."""

    model: SAM2
    ema: EMA
    optimizer: torch.optim.Optimizer
    license: str = "Apache-2.0"
    """Of the weights that the run goes on from."""
    step: int = 0

    def set_trainable(self, config: TrainConfig, stage: Stage) -> None:
        """Let learn what the run teaches, but for the first stages of the trunk where the stage says so."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(config.is_trainable(name))
        trunk = self.model.image_encoder.trunk
        if isinstance(trunk, ConvNet) and stage.frozen_stages:
            for part in (trunk.stem, *trunk.stages[: stage.frozen_stages]):
                part.requires_grad_(False)


@dataclass(frozen=True)
class RunCheckpoint:
    """A run's state as it lies on disk: tensors, numbers and text, nothing else."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    ema_updates: int
    optimizer: dict[str, Any]  # whatever torch's optimizer says it needs
    step: int
    config: str
    license: str


def save_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Write the run's state to `path`, atomically."""
    record = RunCheckpoint(
        model=state.model.state_dict(),
        ema=state.ema.model.state_dict(),
        ema_updates=state.ema.num_updates,
        optimizer=state.optimizer.state_dict(),
        step=state.step,
        config=json.dumps(asdict(config)),
        license=state.license,
    )
    with atomic_path(path) as temporary:
        try:
            torch.save(vars(record), temporary)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OutputError(f"{path} could not be written ({error}); make room, then go on with the run") from error


def load_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Fill `state` from `path`.

    Raises:
        CheckpointError: the file is damaged, or the state of another run.
    """
    record = read_checkpoint(path)
    _check_same_config(path, json.loads(record.config), json.loads(json.dumps(asdict(config))))
    try:
        state.model.load_state_dict(record.model)
        state.ema.model.load_state_dict(record.ema)
        state.optimizer.load_state_dict(record.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _wrong_checkpoint_error(path, str(error)) from error
    state.ema.num_updates, state.step = record.ema_updates, record.step


def _check_same_config(path: Path, saved: dict[str, object], current: dict[str, object]) -> None:
    """Raise unless the run that was saved is this one, but for how often it reports."""
    other = [
        line
        for name in current
        if name not in RESUMABLE_FIELDS
        for line in _config_differences(name, saved.get(name), current[name])
    ]
    if other:
        more = f" and {len(other) - 1} more" if other[1:] else ""
        raise _wrong_checkpoint_error(path, f"another {other[0]}{more}")


def _config_differences(name: str, saved: object, current: object) -> list[str]:
    """Each value that differs, by its way through the config."""
    if isinstance(saved, dict) and isinstance(current, dict):
        pairs = [(key, saved.get(key), current.get(key)) for key in {**saved, **current}]
    elif isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(saved, current, strict=True))]
    else:
        return [] if saved == current else [f"{name}: it was {saved!r} and is {current!r}"]
    return [line for key, *both in pairs for line in _config_differences(f"{name}.{key}", *both)]


def read_checkpoint(path: Path) -> RunCheckpoint:
    """What `save` wrote; nothing in the file may run code.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return RunCheckpoint(**content)
    except (RuntimeError, TypeError, EOFError, OSError, UnpicklingError) as error:
        raise _wrong_checkpoint_error(path, str(error) or type(error).__name__) from error


def _wrong_checkpoint_error(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not the state of this run ({reason.splitlines()[0]}); "
        "choose another folder for the run, or remove the file to begin anew"
    )
