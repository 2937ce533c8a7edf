"""The state of a run on disk: whole or not at all, and exactly what the next step needs."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from masklet.errors import CheckpointError
from masklet.files import atomic_path
from masklet.train.config import TrainConfig

__all__ = ["Average", "RunState", "restore", "save"]


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

    model: nn.Module
    average: Average
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    samples: int = 0


def save(path: Path, state: RunState, config: TrainConfig) -> None:
    """Write the run's state to `path`, atomically."""
    record: dict[str, object] = {
        "model": state.model.state_dict(),
        "average": state.average.model.state_dict(),
        "average_updates": state.average.updates,
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "step": state.step,
        "samples": state.samples,
        "config": json.dumps(asdict(config)),
    }
    with atomic_path(path) as temporary:
        torch.save(record, temporary)


def restore(path: Path, state: RunState) -> None:
    """Fill `state` from `path`.

    Raises:
        CheckpointError: the file is damaged or belongs to another network.
    """
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        _fill(state, record)
    except (RuntimeError, KeyError, ValueError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{path} is not the state of this run ({str(error).splitlines()[0]}); "
            "choose another --out folder, or remove the file to begin anew"
        ) from error


def _fill(state: RunState, record: dict[str, object]) -> None:
    tensors = {name: record[name] for name in ("model", "average", "optimizer", "generator")}
    state.model.load_state_dict(tensors["model"])  # type: ignore[arg-type]
    state.average.model.load_state_dict(tensors["average"])  # type: ignore[arg-type]
    state.optimizer.load_state_dict(tensors["optimizer"])  # type: ignore[arg-type]
    assert isinstance(tensors["generator"], Tensor)
    state.generator.set_state(tensors["generator"])
    state.average.updates = int(record["average_updates"])  # type: ignore[call-overload]
    state.step, state.samples = int(record["step"]), int(record["samples"])  # type: ignore[call-overload]
