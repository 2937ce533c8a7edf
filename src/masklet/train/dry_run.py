"""What a run will take, found out by two of its steps on its own data, before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from masklet.datasets import DataPaths
from masklet.train.config import Stage, TrainConfig
from masklet.train.data import TrainData, make_loader, open_train_data
from masklet.train.distributed import DistributedContext
from masklet.train.loop import DEFAULT_RUNTIME, RuntimeConfig, build_context, stage_encoder, train_step
from masklet.train.memory_budget import measure_step

__all__ = ["RunEstimate", "StageEstimate", "estimate_run"]


@dataclass(frozen=True)
class StageEstimate:
    """One stage of a run."""

    image_size: int
    still_image_size: int
    steps: int
    seconds: float
    """Of one step, once batches come as fast as they are wanted."""
    peak_bytes: int | None
    """Of memory; on a processor that of the whole process. None where the system does not tell."""


@dataclass(frozen=True)
class RunEstimate:
    """A whole run; `print(estimate)` shows it."""

    num_samples: int
    """Stills and videos."""
    num_parameters: int
    num_trainable: int
    """Parameters that may change."""
    stages: tuple[StageEstimate, ...]

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(stage.steps * stage.seconds for stage in self.stages)

    def __str__(self) -> str:
        lines = [
            f"{self.num_samples} stills and videos; {self.num_parameters / 1e6:.2f} M parameters, of which "
            f"{self.num_trainable / 1e6:.3f} M learn"
        ]
        for stage in self.stages:
            memory = "unknown" if stage.peak_bytes is None else f"{stage.peak_bytes / 1e9:.2f} GB"
            stills = (
                ""
                if stage.still_image_size == stage.image_size
                else f" (stills {stage.still_image_size} x {stage.still_image_size})"
            )
            lines.append(
                f"{stage.steps} steps at {stage.image_size} x {stage.image_size}{stills}: {stage.seconds:.2f} s each, "
                f"memory {memory}, {_format_duration(stage.steps * stage.seconds)}"
            )
        return "\n".join(
            [*lines, f"in all {sum(s.steps for s in self.stages)} steps, {_format_duration(self.seconds)}"]
        )


def estimate_run(config: TrainConfig, data: DataPaths, runtime: RuntimeConfig = DEFAULT_RUNTIME) -> RunEstimate:
    """Do two steps of every stage, keep nothing of them, and say what the second one took.

    Example:
        >>> print(estimate(finetune("builtin", "builtin", steps=200, size=288), "photos"))

    Raises:
        SourceError, CheckpointError, InputError, StateError: what the run itself would meet.
    """
    material = open_train_data(data, config)
    with TemporaryDirectory(prefix="masklet-") as nowhere:
        found = [_estimate_stage(config, stage, material, runtime, Path(nowhere)) for stage in config.stages]
    return RunEstimate(material.num_samples, found[0][1], found[0][2], tuple(each for each, _, _ in found))


def _estimate_stage(
    config: TrainConfig, stage: Stage, data: TrainData, runtime: RuntimeConfig, temp_dir: Path
) -> tuple[StageEstimate, int, int]:
    alone = replace(config, stages=(replace(stage, steps=2),))
    run = build_context(alone, temp_dir, runtime, DistributedContext(0, 1, 0))
    encode = stage_encoder(run, alone.stages[0], temp_dir / "embeddings")
    source = make_loader(data.clip_dataset(alone, alone.stages[0], 0, 0, 1), workers=0)
    source = iter([next(source) for _ in range(2 * alone.grad_accum)])
    train_step(run, encode, source)
    budget = measure_step(lambda: train_step(run, encode, source), run.device)
    parameters = list(run.state.model.parameters())
    learning = sum(p.numel() for p in parameters if p.requires_grad)
    return (
        StageEstimate(
            stage.image_size, stage.still_image_size or stage.image_size, stage.steps, budget.seconds, budget.peak_bytes
        ),
        sum(p.numel() for p in parameters),
        learning,
    )


def _format_duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
