"""Estimate time and memory of a run from two of its steps on its own data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from masklet.datasets import DataPaths
from masklet.train.config import TrainConfig
from masklet.train.data import make_loader, open_train_data
from masklet.train.distributed import DistributedContext
from masklet.train.loop import DEFAULT_RUNTIME, RuntimeConfig, build_context, stage_encoder, train_step
from masklet.train.memory_budget import measure_step

__all__ = ["RunEstimate", "StageEstimate", "estimate_run"]


@dataclass(frozen=True)
class StageEstimate:
    """The estimate of one stage."""

    image_size: int
    still_image_size: int
    steps: int
    seconds: float
    """Per step, once batches come as fast as they are needed."""
    peak_bytes: int | None
    """Peak memory, on a CPU that of the process; None where the system does not report it."""


@dataclass(frozen=True)
class RunEstimate:
    """The estimate of a run; `print(estimate)` shows it."""

    num_samples: int
    """Images and videos."""
    num_parameters: int
    num_trainable: int
    """Trainable parameters."""
    stages: tuple[StageEstimate, ...]

    @property
    def seconds(self) -> float:
        """Seconds of all stages."""
        return sum(stage.steps * stage.seconds for stage in self.stages)

    def __str__(self) -> str:
        lines = [
            f"{self.num_samples} images and videos; {self.num_parameters / 1e6:.2f} M parameters, of which "
            f"{self.num_trainable / 1e6:.3f} M learn"
        ]
        seconds = [*(stage.steps * stage.seconds for stage in self.stages), self.seconds]
        *durations, total = (
            f"{s:.0f} s" if s < 90 else f"{s / 60:.0f} min" if s < 5400 else f"{s / 3600:.1f} h" for s in seconds
        )
        for stage, duration in zip(self.stages, durations, strict=True):
            memory = "unknown" if stage.peak_bytes is None else f"{stage.peak_bytes / 1e9:.2f} GB"
            still_size = stage.still_image_size
            images = "" if still_size == stage.image_size else f" (images {still_size} x {still_size})"
            lines.append(
                f"{stage.steps} steps at {stage.image_size} x {stage.image_size}{images}: {stage.seconds:.2f} s each, "
                f"memory {memory}, {duration}"
            )
        lines.append(f"in all {sum(stage.steps for stage in self.stages)} steps, {total}")
        return "\n".join(lines)


def estimate_run(config: TrainConfig, data: DataPaths, runtime: RuntimeConfig = DEFAULT_RUNTIME) -> RunEstimate:
    """Do two steps of every stage in a temporary folder and measure the second.

    Example:
        >>> print(estimate_run(config, "photos"))

    Raises:
        SourceError, CheckpointError, InputError, StateError: as the run itself.
    """
    train_data = open_train_data(data, config)
    estimates = []
    with TemporaryDirectory(prefix="masklet-") as temporary:
        for stage in config.stages:
            short = replace(config, stages=(replace(stage, steps=2),))
            context = build_context(short, Path(temporary), runtime, DistributedContext(0, 1, 0))
            encode = stage_encoder(context, short.stages[0], Path(temporary) / "embeddings")
            loader = make_loader(train_data.clip_dataset(short, short.stages[0], 0, 0, 1), workers=0)
            batches = iter([next(loader) for _ in range(2 * short.grad_accum)])
            train_step(context, encode, batches)
            usage = measure_step(partial(train_step, context, encode, batches), context.device)
            still_size = stage.still_image_size or stage.image_size
            estimates.append(StageEstimate(stage.image_size, still_size, stage.steps, usage.seconds, usage.peak_bytes))
            if stage is config.stages[0]:
                parameters = list(context.state.model.parameters())
    num_trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return RunEstimate(train_data.num_samples, sum(p.numel() for p in parameters), num_trainable, tuple(estimates))
