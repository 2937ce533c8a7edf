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

from masklet.errors import CheckpointError
from masklet.files import atomic_path
from masklet.models.sam2 import SAM2
from masklet.train.config import TrainConfig

__all__ = ["Average", "Record", "RunState", "read_record", "restore", "save"]


class Average:
    """An exponential moving average of a network's weights; this is what is kept in the end."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; the first steps count for more, so that the start is forgotten."""
        self.updates += 1
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
    generator: torch.Generator
    step: int = 0
    samples: int = 0


@dataclass(frozen=True)
class Record:
    """A run's state as it lies on disk: tensors, numbers and text, nothing else."""

    model: dict[str, Tensor]
    average: dict[str, Tensor]
    average_updates: int
    optimizer: dict[str, Any]  # whatever torch's optimizer says it needs
    generator: Tensor
    step: int
    samples: int
    config: str


def save(path: Path, state: RunState, config: TrainConfig) -> None:
    """Write the run's state to `path`, atomically."""
    record = Record(
        model=state.model.state_dict(),
        average=state.average.model.state_dict(),
        average_updates=state.average.updates,
        optimizer=state.optimizer.state_dict(),
        generator=state.generator.get_state(),
        step=state.step,
        samples=state.samples,
        config=json.dumps(asdict(config)),
    )
    with atomic_path(path) as temporary:
        torch.save(vars(record), temporary)


def restore(path: Path, state: RunState) -> None:
    """Fill `state` from `path`.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    record = read_record(path)
    try:
        state.model.load_state_dict(record.model)
        state.average.model.load_state_dict(record.average)
        state.optimizer.load_state_dict(record.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _not_ours(path, error) from error
    state.generator.set_state(record.generator)
    state.average.updates, state.step, state.samples = record.average_updates, record.step, record.samples


def read_record(path: Path) -> Record:
    """What `save` wrote; nothing in the file may run code.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Record(**content)
    except (RuntimeError, TypeError, EOFError, OSError, UnpicklingError) as error:
        raise _not_ours(path, error) from error


def _not_ours(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{path} is not the state of this run ({reason}); "
        "choose another folder for the run, or remove the file to begin anew"
    )
