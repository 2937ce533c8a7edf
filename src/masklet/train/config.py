"""A training run as a frozen value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LossConfig", "PromptConfig", "Stage", "TrainConfig"]


@dataclass(frozen=True)
class PromptConfig:
    """How a user is simulated."""

    objects: int = 6
    """Per picture, at most."""
    box_share: float = 0.4
    """Objects that start from a box; the others start from a click."""
    mask_share: float = 0.0
    """Objects that start from a rough mask."""
    box_noise: float = 0.1
    """Of the box's sides, uniform, each side by itself."""
    rounds: tuple[float, ...] = (0.4, 0.35, 0.25)
    """Probability of one, two, three rounds; from the second on a corrective click comes each round."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution; the learning rate goes linearly from `rate` to `rate_end`."""

    size: int
    """Side of the square pictures, pixels."""
    batch: int
    steps: int
    rate: float
    rate_end: float
    prompts: PromptConfig = PromptConfig()
    frozen: int = 0
    """So many stages of the trunk, and its stem, keep the weights they have: half the time of a step."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts; the paper has focal 20, dice 1, IoU 1, presence 1."""

    focal: float = 10.0
    dice: float = 1.0
    cross_entropy: float = 1.0
    iou: float = 0.5
    presence: float = 0.05
    focal_gamma: float = 2.0


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, but the machine."""

    model: str
    stages: tuple[Stage, ...]
    sources: tuple[tuple[str, float], ...]
    """Folder name and weight of each source in the mixture."""
    losses: LossConfig = LossConfig()
    seed: int = 0
    trunk_rate: float = 0.1
    """Learning rate of the trunk as a share of the rest's."""
    warmup: int = 300
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.998
    save_every: int = 50
    """Steps between checkpoints."""
    report_every: int = 20

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage that `step` falls in and the first step of that stage."""
        first = 0
        for stage in self.stages:
            if step < first + stage.steps:
                return stage, first
            first += stage.steps
        raise ValueError(f"step {step} lies behind the run's {self.steps} steps")

    def rate_at(self, step: int) -> float:
        """Learning rate of everything but the trunk."""
        stage, first = self.stage_at(step)
        progress = (step - first) / max(stage.steps - 1, 1)
        rate = stage.rate + (stage.rate_end - stage.rate) * progress
        return rate * min(1.0, (step + 1) / self.warmup)
