"""What a run will take, found out by two of its steps on its own data, before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from masklet.datasets import DataPaths
from masklet.train.config import Stage, TrainConfig
from masklet.train.data import Material, batches, open_material
from masklet.train.distributed import Ranks
from masklet.train.loop import HERE, Machine, encoder_for, one_step, start_run
from masklet.train.memory_budget import measure

__all__ = ["Estimate", "StageEstimate", "estimate"]


@dataclass(frozen=True)
class StageEstimate:
    """One stage of a run."""

    size: int
    still_size: int
    steps: int
    seconds: float
    """Of one step, once batches come as fast as they are wanted."""
    peak_bytes: int | None
    """Of memory; on a processor that of the whole process. None where the system does not tell."""


@dataclass(frozen=True)
class Estimate:
    """A whole run; `print(estimate)` shows it."""

    entries: int
    """Stills and films."""
    parameters: int
    learning: int
    """Parameters that may change."""
    stages: tuple[StageEstimate, ...]

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(stage.steps * stage.seconds for stage in self.stages)

    def __str__(self) -> str:
        lines = [
            f"{self.entries} stills and films; {self.parameters / 1e6:.2f} M parameters, of which "
            f"{self.learning / 1e6:.3f} M learn"
        ]
        for stage in self.stages:
            memory = "unknown" if stage.peak_bytes is None else f"{stage.peak_bytes / 1e9:.2f} GB"
            stills = "" if stage.still_size == stage.size else f" (stills {stage.still_size} x {stage.still_size})"
            lines.append(
                f"{stage.steps} steps at {stage.size} x {stage.size}{stills}: {stage.seconds:.2f} s each, "
                f"memory {memory}, {_said(stage.steps * stage.seconds)}"
            )
        return "\n".join([*lines, f"in all {sum(s.steps for s in self.stages)} steps, {_said(self.seconds)}"])


def estimate(config: TrainConfig, data: DataPaths, machine: Machine = HERE) -> Estimate:
    """Do two steps of every stage, keep nothing of them, and say what the second one took.

    Example:
        >>> print(estimate(finetune("builtin", "builtin", steps=200, size=288), "photos"))

    Raises:
        SourceError, CheckpointError, InputError, StateError: what the run itself would meet.
    """
    material = open_material(data, config)
    with TemporaryDirectory(prefix="masklet-") as nowhere:
        found = [_stage(config, stage, material, machine, Path(nowhere)) for stage in config.stages]
    return Estimate(material.entries, found[0][1], found[0][2], tuple(each for each, _, _ in found))


def _stage(
    config: TrainConfig, stage: Stage, material: Material, machine: Machine, nowhere: Path
) -> tuple[StageEstimate, int, int]:
    alone = replace(config, stages=(replace(stage, steps=2),))
    run = start_run(alone, nowhere, machine, Ranks(0, 1, 0))
    encode = encoder_for(run, alone.stages[0], nowhere / "embeddings")
    source = batches(material.samples(alone, alone.stages[0], 0, 0, 1), workers=0)
    source = iter([next(source) for _ in range(2 * alone.accumulate)])
    one_step(run, encode, source)
    budget = measure(lambda: one_step(run, encode, source), run.device)
    parameters = list(run.state.model.parameters())
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    return (
        StageEstimate(stage.size, stage.still_size or stage.size, stage.steps, budget.seconds, budget.peak_bytes),
        sum(p.numel() for p in parameters),
        learning,
    )


def _said(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
