"""A training run as a frozen value. What is not said is as the paper has it (Ravi et al. 2024, sections 4 and D.2).

Where the paper leaves a value open, the one of the authors' published fine-tuning configuration stands here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from masklet.errors import InputError
from masklet.train.lora import is_adapter
from masklet.train.optim import SHAPES, learning_rate, warmed

__all__ = ["AugmentConfig", "LossConfig", "PromptConfig", "SourceConfig", "Stage", "TrainConfig"]

PRECISIONS = ("bf16", "fp32")


def _at_least(part: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not least <= value < math.inf:
            raise InputError(f"{name}={value} must be {least} or more")


def _shares(part: object, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} must be a share, from 0 to 1")


@dataclass(frozen=True)
class PromptConfig:
    """How a user is simulated."""

    objects: int = 3
    """Of a clip or a still, at most."""
    mask_share: float = 0.5
    """Objects of a film that start from their mask."""
    box_share: float = 0.25
    """Objects that start from a box; the others start from a click."""
    rough_share: float = 0.0
    """Objects of a still that start from a rough mask. Its mask itself would teach nothing: of the others as many start
    from a box, compared with a click, as in films."""
    box_noise: float = 0.1
    """Of the box's sides, uniform, each side by itself."""
    rounds: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    """Probability of one, two, ... rounds on a frame; from the second on a corrective click comes each round."""
    later: float = 0.5
    """Share of the films in which a later frame is corrected too, so that two frames are."""
    later_rounds: int = 7
    """Corrective clicks on that frame."""
    truth_clicks: float = 0.1
    """Share of the corrective clicks that are drawn from the object, not from what is wrong."""
    gaps: float = 0.0
    """Share of the films that count as having frames left out at one place."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "objects")
        _at_least(self, 0, "box_noise", "later_rounds")
        _shares(self, "mask_share", "box_share", "rough_share", "later", "truth_clicks", "gaps")
        if self.mask_share + self.box_share > 1:
            raise InputError(
                f"mask_share={self.mask_share} and box_share={self.box_share} make more than 1 together; lower one"
            )
        if not self.rounds or min(self.rounds) < 0 or not sum(self.rounds) > 0:
            raise InputError(f"rounds={self.rounds} must be probabilities of one, two, ... rounds, such as (0.5, 0.5)")

    def for_stills(self) -> PromptConfig:
        """The same user with single pictures in front of him: `mask_share` is that of rough masks."""
        prompted = 1 - self.mask_share
        box_share = self.box_share / prompted if prompted > 0 else 0.5
        return replace(self, mask_share=self.rough_share, box_share=box_share * (1 - self.rough_share))


@dataclass(frozen=True)
class AugmentConfig:
    """How a picture is changed before the network sees it, the same for all frames of a film but for the last three."""

    flip: float = 0.5
    """Share of the pictures that are mirrored."""
    turned: float = 1.0
    """Share of the pictures that are turned and sheared."""
    degrees: float = 25.0
    shear: float = 20.0
    """Degrees, both at most."""
    whole: float = 1.0
    """Share of the pictures that are shown whole; of the others a crop is shown."""
    crop: float = 0.33
    """Least share of the area that a crop shows."""
    stretch: float = 0.2
    """Of a crop's sides, logarithm, at most."""
    brightness: float = 0.1
    contrast: float = 0.03
    saturation: float = 0.03
    grayscale: float = 0.05
    """Share of the pictures without colour."""
    frame_brightness: float = 0.1
    frame_contrast: float = 0.05
    frame_saturation: float = 0.05

    def __post_init__(self) -> None:
        _shares(self, "flip", "turned", "whole", "crop", "grayscale")
        if self.crop == 0:
            raise InputError("crop=0 would show nothing; it must be above 0, such as 0.33")


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution; the learning rate goes from `rate` to `rate_end`."""

    size: int
    """Side of the square pictures, pixels."""
    batch: int
    """Films of one process and one pass; stills come `stills` times as many."""
    steps: int
    rate: float = 5e-6
    rate_end: float = 5e-7
    shape: str = "cosine"
    """Of the way between them: cosine, linear or constant."""
    prompts: PromptConfig = PromptConfig()
    frozen: int = 0
    """So many stages of the built-in model's trunk, and its stem, keep the weights they have."""
    frames: int = 8
    """Of a film."""
    stills: int = 1
    still_size: int = 0
    """Side of the stills; 0: `size`."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch", "steps", "frames", "stills")
        _at_least(self, 0, "rate", "rate_end", "frozen")
        for name, size in (("size", self.size), ("still_size", self.still_size or self.size)):
            if size < 64 or size % 32:
                raise InputError(f"{name}={size} must be a multiple of 32 from 64 on, such as 512")
        if self.shape not in SHAPES:
            raise InputError(f"shape={self.shape!r} of the learning rate must be one of {', '.join(SHAPES)}")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    """L1 between the predicted IoU of every mask and the true one."""
    presence: float = 1.0
    cross_entropy: float = 0.0
    """Plain; it helps a model that starts from nothing."""
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    """Weight of what is inside, 1 minus it of what is outside; negative: both count the same."""
    both: bool = False
    """Teach the best of three and the unambiguous mask by every prompt, not the one that is asked for by it."""


@dataclass(frozen=True)
class SourceConfig:
    """A data set in the mixture."""

    path: str
    """Under the folder of data; empty: that folder itself."""
    weight: float = 1.0
    """How often it is drawn from, relative to the others."""
    kind: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, but the data's place and the machine."""

    model: str
    """Canonical name of the network, such as `sam2.1_hiera_tiny`."""
    stages: tuple[Stage, ...]
    start: str = ""
    """A model to go on from, by name or file; empty: random weights, `builtin` with a trunk that knows photographs."""
    sources: tuple[SourceConfig, ...] = (SourceConfig(""),)
    made: float = 0.0
    """Share of the batches of stills out of which films are made (`masklet.synthetic`)."""
    drawn: float = 0.0
    """Share of the made films that are drawn, without any still, and hard in one way each (`masklet.synthetic`)."""
    cutouts: tuple[SourceConfig, ...] = ()
    """What moves through made films; empty: the sources."""
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    reverse: float = 0.5
    """Share of the films that are played backwards."""
    seed: int = 0
    rates: tuple[tuple[str, float], ...] = (("image_encoder", 0.6),)
    """Share of the learning rate by the start of a weight's name, the first that fits; 0: it stays as it is."""
    layer_decay: float = 0.9
    """Of the learning rate from each block of the trunk to the one below it."""
    lora: int = 0
    """Rank of adapters on attention, which then are all that learns; 0: none."""
    warmup: int = 0
    """Steps."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.1
    """Longest gradient."""
    accumulate: int = 1
    """Passes before the weights change."""
    precision: str = "bf16"
    """Of matrix products: bf16 (autocast) or fp32."""
    checkpointing: bool = False
    """Forget the trunk's intermediate maps and compute them again: less memory, a third more time."""
    views: int = 0
    """Different views of each still whose embeddings are kept on disk, where the encoder does not learn; 0: endlessly
    many, none kept."""
    ema: float = 0.0
    """Decay of the moving average of the weights; 0: none."""
    save_every: int = 50
    """Steps between checkpoints."""
    report_every: int = 10
    picture_every: int = 200
    """Steps between pictures of predictions; 0: none."""

    def __post_init__(self) -> None:
        _at_least(self, 1, "accumulate", "save_every", "report_every")
        _at_least(self, 0, "seed", "lora", "warmup", "weight_decay", "views", "picture_every")
        _shares(self, "made", "drawn", "reverse", "ema", "layer_decay")
        if not self.clip > 0:
            raise InputError(f"clip={self.clip} must be above 0; it is the longest gradient")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision={self.precision!r} must be {' or '.join(PRECISIONS)}")

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

    def learns(self, name: str) -> bool:
        """Whether the weight of that name may change."""
        return self.share_of(name) > 0 and (not self.lora or is_adapter(name))

    def rate_at(self, step: int) -> float:
        """Learning rate of what learns fastest."""
        stage, first = self.stage_at(step)
        progress = (step - first) / max(stage.steps - 1, 1)
        rate = learning_rate(progress, start=stage.rate, end=stage.rate_end, shape=stage.shape)
        return warmed(rate, step, self.warmup)
