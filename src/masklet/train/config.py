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
    later_click: float = 0.0
    """Share of the steps on clips in which a later frame is corrected by a click too."""


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution; the learning rate goes linearly from `rate` to `rate_end`."""

    size: int
    """Side of the square pictures, pixels."""
    batch: int
    """Pictures, or clips."""
    steps: int
    rate: float
    rate_end: float
    prompts: PromptConfig = PromptConfig()
    frozen: int = 0
    """So many stages of the trunk, and its stem, keep the weights they have: half the time of a step."""
    frames: int = 1
    """Of a clip made from stills; 1: the stills themselves."""


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
    cutouts: tuple[tuple[str, float], ...] = ()
    """The same, of what moves through clips."""
    start: str = ""
    """Name or file of a model to go on from; empty: random weights, and a trunk that has seen photographs."""
    losses: LossConfig = LossConfig()
    seed: int = 0
    rates: tuple[tuple[str, float], ...] = (("image_encoder.trunk.stem", 0.1), ("image_encoder.trunk.stages", 0.1))
    """Share of the learning rate by the start of a weight's name, the first that fits; 0: it stays as it is."""
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

    def share_of(self, name: str) -> float:
        """The learning rate of the weight of that name, as a share of the stage's."""
        return next((share for start, share in self.rates if name.startswith(start)), 1.0)

    def rate_at(self, step: int) -> float:
        """Learning rate of what learns fastest."""
        stage, first = self.stage_at(step)
        progress = (step - first) / max(stage.steps - 1, 1)
        rate = stage.rate + (stage.rate_end - stage.rate) * progress
        return rate * min(1.0, (step + 1) / self.warmup)
