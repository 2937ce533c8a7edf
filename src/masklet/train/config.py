"""Describe a training run as a frozen value. The defaults are the paper's (Ravi et al. 2024, sections 4 and D.2).

Where the paper leaves a value open, the default is that of the authors' published fine-tuning configuration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from masklet.errors import InputError
from masklet.train.lora import is_adapter

__all__ = [
    "LR_SCHEDULES",
    "AugmentConfig",
    "LossConfig",
    "PromptConfig",
    "SourceConfig",
    "TrainConfig",
    "TrainStage",
    "scheduled_lr",
]

PRECISIONS = ("bf16", "fp32")
LR_SCHEDULES = ("constant", "cosine", "linear")


def _require_at_least(part: object, minimum: float, *names: str, fractions: Sequence[str] = ()) -> None:
    for name in (*names, *fractions):
        value = getattr(part, name)
        if name in fractions and not 0 <= value <= 1:
            raise InputError(f"{name}={value} must be a fraction, from 0 to 1")
        if not minimum <= value < math.inf:
            raise InputError(f"{name}={value} must be {minimum} or more")


@dataclass(frozen=True)
class PromptConfig:
    """How user prompts are simulated. Probabilities are per object unless a field says otherwise."""

    max_objects: int = 3
    """Per clip or image."""
    mask_prob: float = 0.5
    """Objects of a video that start from their ground-truth mask."""
    box_prob: float = 0.25
    """Objects that start from a box; the remaining ones start from a click."""
    rough_mask_prob: float = 0.0
    """Objects of an image that start from a distorted mask. The exact mask would teach nothing on an image. Box and
    click keep the ratio that they have in videos."""
    box_noise: float = 0.1
    """Largest shift of each box side, as a fraction of the box; uniform, independent per side."""
    round_probs: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    """Probability of one, two, ... rounds on a frame. Each round after the first adds one corrective click."""
    correction_frame_prob: float = 0.5
    """Fraction of the videos in which a later frame is corrected too."""
    correction_clicks: int = 7
    """Corrective clicks on that frame."""
    gt_click_prob: float = 0.1
    """Fraction of the corrective clicks that are drawn from the object instead of from the error region."""
    frame_gap_prob: float = 0.0
    """Fraction of the videos whose frame numbers skip a few frames at one position."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "max_objects")
        _require_at_least(self, 0, "box_noise", "correction_clicks")
        probs = ("mask_prob", "box_prob", "rough_mask_prob", "correction_frame_prob", "gt_click_prob", "frame_gap_prob")
        _require_at_least(self, 0, fractions=probs)
        if self.mask_prob + self.box_prob > 1:
            raise InputError(
                f"mask_prob={self.mask_prob} and box_prob={self.box_prob} make more than 1 together; lower one"
            )
        if not self.round_probs or min(self.round_probs) < 0 or not sum(self.round_probs) > 0:
            raise InputError(
                f"round_probs={self.round_probs} must be probabilities of one, two, ... rounds, such as (0.5, 0.5)"
            )

    def for_images(self) -> PromptConfig:
        """Return the config for single images, where `mask_prob` is the probability of a rough mask."""
        prompted = 1 - self.mask_prob
        box_prob = self.box_prob / prompted if prompted > 0 else 0.5
        return replace(self, mask_prob=self.rough_mask_prob, box_prob=box_prob * (1 - self.rough_mask_prob))


@dataclass(frozen=True)
class AugmentConfig:
    """How images are augmented. All frames of a video get the same change, except for the `frame_` fields."""

    flip_prob: float = 0.5
    """Fraction of the images that are mirrored."""
    affine_prob: float = 1.0
    """Fraction of the images that are rotated and sheared."""
    degrees: float = 25.0
    """Largest rotation."""
    shear: float = 20.0
    """Largest shear, degrees."""
    full_image_prob: float = 1.0
    """Fraction of the images that are not cropped."""
    min_crop_area: float = 0.33
    """Smallest crop, as a fraction of the image area."""
    aspect_jitter: float = 0.2
    """Largest change of a crop's aspect ratio, as a logarithm."""
    brightness: float = 0.1
    contrast: float = 0.03
    saturation: float = 0.03
    grayscale_prob: float = 0.05
    """Fraction of the images that lose their color."""
    frame_brightness: float = 0.1
    frame_contrast: float = 0.05
    frame_saturation: float = 0.05

    def __post_init__(self) -> None:
        probs = ("flip_prob", "affine_prob", "full_image_prob", "min_crop_area", "grayscale_prob")
        _require_at_least(self, 0, fractions=probs)
        if self.min_crop_area == 0:
            raise InputError("min_crop_area=0 would show nothing; it must be above 0, such as 0.33")


@dataclass(frozen=True)
class TrainStage:
    """A part of the run at one resolution; the learning rate goes from `lr` to `lr_end`."""

    image_size: int
    """Side of the square input, pixels."""
    batch: int
    """Videos per process and pass. Image batches are `image_batch_multiplier` times as large."""
    steps: int
    lr: float = 5e-6
    lr_end: float = 5e-7
    lr_schedule: str = "cosine"
    """cosine, linear or constant."""
    prompts: PromptConfig = PromptConfig()
    frozen_stages: int = 0
    """Stages of the built-in model's trunk that stay frozen, together with its stem."""
    clip_length: int = 8
    """Frames per video clip."""
    image_batch_multiplier: int = 1
    still_image_size: int = 0
    """Side of single images; 0: `image_size`."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "batch", "steps", "clip_length", "image_batch_multiplier")
        _require_at_least(self, 0, "lr", "lr_end", "frozen_stages")
        still_image_size = self.still_image_size or self.image_size
        for name, size in (("image_size", self.image_size), ("still_image_size", still_image_size)):
            if size < 64 or size % 32:
                raise InputError(f"{name}={size} must be a multiple of 32 from 64 on, such as 512")
        if self.lr_schedule not in LR_SCHEDULES:
            raise InputError(f"lr_schedule={self.lr_schedule!r} must be one of {', '.join(LR_SCHEDULES)}")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    """L1 between the predicted and the true IoU of each mask."""
    object_score: float = 1.0
    cross_entropy: float = 0.0
    """Plain cross-entropy; it helps a model that starts from random weights."""
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    """Weight of pixels inside the object, with 1 - `focal_alpha` outside; negative: both weigh the same."""
    supervise_all_masks: bool = False
    """Supervise the best of the three masks and the single mask for every prompt, not only the one it asks for."""


@dataclass(frozen=True)
class SourceConfig:
    """A data set of the mixture."""

    path: str
    """Relative to the data folder; empty: the data folder itself."""
    weight: float = 1.0
    """Sampling weight, relative to the other sources."""
    data_format: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on, except for the data folder and the machine."""

    model: str
    """Canonical name of the network, such as `sam2.1_hiera_tiny`."""
    stages: tuple[TrainStage, ...]
    pretrained: str = ""
    """Name or file of the model to start from; empty: random weights, `builtin` with an ImageNet-style trunk."""
    sources: tuple[SourceConfig, ...] = (SourceConfig(""),)
    synthetic_fraction: float = 0.0
    """Fraction of the image batches that are replaced by videos made from images (`masklet.synthetic`)."""
    procedural_fraction: float = 0.0
    """Fraction of the synthetic videos that are drawn procedurally, one hard scenario each."""
    composite_fraction: float = 0.0
    """Fraction of the image batches that show cutouts on photographs (`masklet.synthetic.CompositeGenerator`)."""
    objects_by_area: bool = False
    """Choose the objects of an image from small ones, large ones and those between alike, instead of at random."""
    hard_examples: str = ""
    """Report of `masklet eval images` on the data; images with low IoU are drawn more often. Empty: all alike."""
    cutouts: tuple[SourceConfig, ...] = ()
    """Sources of the objects that are pasted into synthetic videos and composites; empty: `sources`."""
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    reverse_prob: float = 0.5
    """Fraction of the videos that are played backwards."""
    seed: int = 0
    lr_multipliers: tuple[tuple[str, float], ...] = (("image_encoder", 0.6),)
    """Factors of the learning rate by prefix of the weight's name; the first match counts, 0 freezes."""
    layer_decay: float = 0.9
    """Factor of the learning rate from each block of the trunk to the block below."""
    lora: int = 0
    """Rank of LoRA adapters on attention, which then are the only trainable weights; 0: none."""
    warmup_steps: int = 0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 0.1
    """Largest gradient norm."""
    grad_accum: int = 1
    """Passes per step."""
    precision: str = "bf16"
    """bf16 (autocast) or fp32."""
    gradient_checkpointing: bool = False
    """Recompute the trunk's activations in the backward pass: less memory, a third more time."""
    cached_views: int = 0
    """Augmented views per image whose embeddings are cached on disk; the encoder must be frozen. 0: endless views, no
    cache."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights; 0: none."""
    save_every: int = 50
    """Steps between checkpoints."""
    log_every: int = 10
    image_every: int = 200
    """Steps between sheets of predictions; 0: none."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "grad_accum", "save_every", "log_every")
        _require_at_least(self, 0, "seed", "lora", "warmup_steps", "weight_decay", "cached_views", "image_every")
        fractions = ("synthetic_fraction", "procedural_fraction", "composite_fraction", "reverse_prob", "ema_decay")
        _require_at_least(self, 0, fractions=(*fractions, "layer_decay"))
        if not self.grad_clip > 0:
            raise InputError(f"grad_clip={self.grad_clip} must be above 0; it is the largest gradient norm")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision={self.precision!r} must be {' or '.join(PRECISIONS)}")

    @property
    def total_steps(self) -> int:
        """Number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[TrainStage, int]:
        """Return the stage of `step` and the first step of that stage."""
        first = 0
        for stage in self.stages:
            if step < first + stage.steps:
                return stage, first
            first += stage.steps
        raise ValueError(f"step {step} is beyond the {self.total_steps} steps of the run")

    def lr_multiplier(self, name: str) -> float:
        """Return the learning rate of the weight called `name`, as a factor of the stage's."""
        return next((factor for prefix, factor in self.lr_multipliers if name.startswith(prefix)), 1.0)

    def is_trainable(self, name: str) -> bool:
        """Tell whether the weight called `name` may change."""
        return self.lr_multiplier(name) > 0 and (not self.lora or is_adapter(name))

    def lr_at(self, step: int) -> float:
        """Return the learning rate at `step` of weights whose multiplier is 1, warmed up over the first steps."""
        stage, first = self.stage_at(step)
        progress = (step - first) / max(stage.steps - 1, 1)
        lr = scheduled_lr(progress, start=stage.lr, end=stage.lr_end, schedule=stage.lr_schedule)
        warmed_up = min(1.0, (step + 1) / max(self.warmup_steps, 1))  # from 0 to 1 at the last of these steps
        return lr * warmed_up


def scheduled_lr(progress: float, *, start: float, end: float, schedule: str) -> float:
    """Return the learning rate at `progress`, 0 to 1, of the way from `start` to `end`.

    `schedule` is one of `LR_SCHEDULES`; "constant" stays at `start`.

    Example:
        >>> scheduled_lr(0.5, start=1e-3, end=1e-4, schedule="linear")
        0.00055

    Raises:
        InputError: if the schedule is unknown.
    """
    assert 0 <= progress <= 1, f"progress {progress} lies outside 0 to 1"
    if schedule not in LR_SCHEDULES:
        raise InputError(f"lr_schedule {schedule!r} must be one of {', '.join(LR_SCHEDULES)}")
    fraction = {"constant": 0.0, "cosine": (1 - math.cos(math.pi * progress)) / 2, "linear": progress}[schedule]
    return start + (end - start) * fraction
