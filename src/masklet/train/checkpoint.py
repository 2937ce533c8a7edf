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

__all__ = ["Average", "Record", "RunState", "read_record", "restore", "save"]

FREE = ("save_every", "report_every", "picture_every")
"""What may change when a run goes on."""


class Average:
    """An exponential moving average of a network's weights, or with decay 0 the network itself; kept in the end."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; the first steps count for more, so that the start is forgotten."""
        self.updates += 1
        if not self.decay:
            return
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        mine: list[Tensor] = [*self.model.parameters()]
        theirs: list[Tensor] = [*model.parameters()]
        torch._foreach_lerp_(mine, theirs, share)


@dataclass
class RunState:
    """What changes while a run goes on."""

    model: SAM2
    average: Average
    optimizer: torch.optim.Optimizer
    licence: str = "Apache-2.0"
    """Of the weights that the run goes on from."""
    step: int = 0

    def let_learn(self, config: TrainConfig, stage: Stage) -> None:
        """Let learn what the run teaches, but for the first stages of the trunk where the stage says so."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(config.learns(name))
        trunk = self.model.image_encoder.trunk
        if isinstance(trunk, ConvNet) and stage.frozen:
            for part in (trunk.stem, *trunk.stages[: stage.frozen]):
                part.requires_grad_(False)


@dataclass(frozen=True)
class Record:
    """A run's state as it lies on disk: tensors, numbers and text, nothing else."""

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    average_updates: int
    optimizer: dict[str, Any]  # whatever torch's optimizer says it needs
    step: int
    config: str
    licence: str


def save(path: Path, state: RunState, config: TrainConfig) -> None:
    """Write the run's state to `path`, atomically."""
    record = Record(
        model=state.model.state_dict(),
        average=state.average.model.state_dict(),
        average_updates=state.average.updates,
        optimizer=state.optimizer.state_dict(),
        step=state.step,
        config=json.dumps(asdict(config)),
        licence=state.licence,
    )
    with atomic_path(path) as temporary:
        try:
            torch.save(vars(record), temporary)
        except RuntimeError as error:  # how torch says that the disk is full
            raise OutputError(f"{path} could not be written ({error}); make room, then go on with the run") from error


def restore(path: Path, state: RunState, config: TrainConfig) -> None:
    """Fill `state` from `path`.

    Raises:
        CheckpointError: the file is damaged, or the state of another run.
    """
    record = read_record(path)
    _check_same(path, json.loads(record.config), json.loads(json.dumps(asdict(config))))
    try:
        state.model.load_state_dict(record.model)
        state.average.model.load_state_dict(record.average)
        state.optimizer.load_state_dict(record.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _not_ours(path, str(error)) from error
    state.average.updates, state.step = record.average_updates, record.step


def _check_same(path: Path, saved: dict[str, object], wanted: dict[str, object]) -> None:
    """Raise unless the run that was saved is this one, but for how often it reports."""
    other = [line for name in wanted if name not in FREE for line in _differences(name, saved.get(name), wanted[name])]
    if other:
        more = f" and {len(other) - 1} more" if other[1:] else ""
        raise _not_ours(path, f"another {other[0]}{more}")


def _differences(name: str, saved: object, wanted: object) -> list[str]:
    """Each value that differs, by its way through the config."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        pairs = [(key, saved.get(key), wanted.get(key)) for key in {**saved, **wanted}]
    elif isinstance(saved, list) and isinstance(wanted, list) and len(saved) == len(wanted):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(saved, wanted, strict=True))]
    else:
        return [] if saved == wanted else [f"{name}: it was {saved!r} and is {wanted!r}"]
    return [line for key, *both in pairs for line in _differences(f"{name}.{key}", *both)]


def read_record(path: Path) -> Record:
    """What `save` wrote; nothing in the file may run code.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Record(**content)
    except (RuntimeError, TypeError, EOFError, OSError, UnpicklingError) as error:
        raise _not_ours(path, str(error) or type(error).__name__) from error


def _not_ours(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not the state of this run ({reason.splitlines()[0]}); "
        "choose another folder for the run, or remove the file to begin anew"
    )
