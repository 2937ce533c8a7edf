"""Save and load the state of a run: written atomically, with exactly what the next step needs."""

from __future__ import annotations

import copy
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masklet.atomic_files import atomic_path, current_keys
from masklet.damaged_files import decoder_errors
from masklet.errors import CheckpointError, OutputError
from masklet.models.sam2 import SAM2
from masklet.models.sam2.convnet import ConvNet
from masklet.train.config import TrainConfig, TrainStage

__all__ = ["EMA", "RunCheckpoint", "TrainState", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

RESUMABLE_FIELDS = ("save_every", "log_every", "image_every")
"""Fields of the config that may change when a run is resumed."""
STATE_TYPES = {"model": dict, "ema": dict, "ema_updates": int, "optimizer": dict, "step": int, "license": str}
MAX_COUNT = 2**53
"""Steps and updates that a state may claim; a float holds it exactly."""


class EMA:
    """An exponential moving average of a network's weights; with decay 0 it is the network itself.

    `torch.optim.swa_utils.AveragedModel` is not used: it copies the weights in its first update and prefixes the names
    of its tensors, so that runs would give other numbers and earlier states would not open.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model
        self.decay, self.num_updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights of one step; early steps count for more, so that the initial weights fade."""
        self.num_updates += 1
        if not self.decay:
            return
        weight = 1 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        averages: list[Tensor] = [*self.model.parameters()]
        latest: list[Tensor] = [*model.parameters()]
        torch._foreach_lerp_(averages, latest, weight)


@dataclass
class TrainState:
    """Everything that changes during a run."""

    model: SAM2
    ema: EMA
    optimizer: torch.optim.Optimizer
    license: str = "Apache-2.0"
    """License of the weights that the run starts from."""
    step: int = 0

    def set_trainable(self, config: TrainConfig, stage: TrainStage) -> None:
        """Set which weights learn in `stage`."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(config.is_trainable(name))
        trunk = self.model.image_encoder.trunk
        if isinstance(trunk, ConvNet) and stage.frozen_stages:
            for part in (trunk.stem, *trunk.stages[: stage.frozen_stages]):
                part.requires_grad_(False)


@dataclass(frozen=True)
class RunCheckpoint:
    """The content of `state.pt`: tensors, numbers and text only."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    ema_updates: int
    optimizer: dict[str, Any]  # whatever torch's optimizer stores
    step: int
    config: str
    """JSON."""
    license: str


def save_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Write the state of a run to `path`, atomically."""
    checkpoint = RunCheckpoint(
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
            torch.save(vars(checkpoint), temporary)
        except RuntimeError as error:  # torch's error for a full disk
            raise OutputError(f"{path} could not be written ({error}); make room, then resume the run") from error


def load_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Fill `state` from `path`.

    Raises:
        CheckpointError: if the file is damaged, or belongs to a run with another config.
    """
    checkpoint = read_checkpoint(path)
    defaults, current = (json.loads(json.dumps(asdict(value))) for value in (TrainConfig("", ()), config))
    saved = {**defaults, **json.loads(checkpoint.config)}  # a field that an earlier version did not have
    differences = [
        line
        for name in current
        if name not in RESUMABLE_FIELDS
        for line in _config_differences(name, saved.get(name), current[name])
    ]
    if differences:
        more = f" and {len(differences) - 1} more" if differences[1:] else ""
        raise _wrong_checkpoint_error(path, f"another {differences[0]}{more}")
    try:
        state.model.load_state_dict(checkpoint.model)
        state.ema.model.load_state_dict(checkpoint.ema)
        state.optimizer.load_state_dict(checkpoint.optimizer)
    except decoder_errors() as error:
        raise _wrong_checkpoint_error(path, str(error)) from error
    state.ema.num_updates, state.step = checkpoint.ema_updates, checkpoint.step


def _config_differences(name: str, saved: object, current: object) -> list[str]:
    """Describe each value that differs, by its path in the config."""
    if isinstance(saved, dict) and isinstance(current, dict):
        pairs = [(key, saved.get(key), current.get(key)) for key in {**saved, **current}]
    elif isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(saved, current, strict=True))]
    else:
        return [] if saved == current else [f"{name}: it was {saved!r} and is {current!r}"]
    return [line for key, *both in pairs for line in _config_differences(f"{name}.{key}", *both)]


def read_checkpoint(path: Path) -> RunCheckpoint:
    """Read a `state.pt`, also one of an earlier version; nothing in the file may run code.

    Raises:
        CheckpointError: if the file is damaged or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch stores without compression, and would expand anything else
            claimed = sum(member.file_size for member in archive.infolist())
        if claimed > (size := path.stat().st_size):
            raise ValueError(f"its parts claim {claimed} bytes, and the file has {size}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        names = current_keys(dict.fromkeys(content), "train_state")
        content = dict(zip(names, content.values(), strict=True))
        config = current_keys(json.loads(content["config"]), "train_config")
        content["config"] = json.dumps(dict(config))
        for name, kind in STATE_TYPES.items():
            if not isinstance(content[name], kind) or (kind is int and not 0 <= content[name] <= MAX_COUNT):
                raise ValueError(f"{name} is {content[name]!r:.40}")
        return RunCheckpoint(**content)
    except decoder_errors() as error:
        raise _wrong_checkpoint_error(path, str(error) or type(error).__name__) from error


def _wrong_checkpoint_error(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not the state of this run ({reason.splitlines()[0]}); "
        "choose another folder for the run, or remove the file to start over"
    )
