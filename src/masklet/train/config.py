"""A training run as a frozen value. What is not said is as the paper has it (Ravi et al. 2024, sections 4 and D.2).

Where the paper leaves a value open, the one of the authors' published fine-tuning configuration stands here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from masklet.errors import InputError
from masklet.train.lora import is_adapter
from masklet.train.optim import LR_SCHEDULES, linear_warmup, scheduled_lr

__all__ = ["AugmentConfig", "LossConfig", "PromptConfig", "SourceConfig", "Stage", "TrainConfig"]

PRECISIONS = ("bf16", "fp32")


def _require_at_least(part: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not least <= value < math.inf:
            raise InputError(f"{name}={value} must be {least} or more")


def _require_fractions(part: object, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} must be a share, from 0 to 1")


@dataclass(frozen=True)
class PromptConfig:
    """How a user is simulated."""

    max_objects: int = 3
    """Of a clip or a still, at most."""
    mask_prob: float = 0.5
    """Objects of a video that start from their mask."""
    box_prob: float = 0.25
    """Objects that start from a box; the others start from a click."""
    rough_mask_prob: float = 0.0
    """Objects of a still that start from a rough mask. Its mask itself would teach nothing: of the others as many start
    from a box, compared with a click, as in videos."""
    box_noise: float = 0.1
    """Of the box's sides, uniform, each side by itself."""
    round_probs: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    """Probability of one, two, ... rounds on a frame; from the second on a corrective click comes each round."""
    correction_frame_prob: float = 0.5
    """Share of the videos in which a later frame is corrected too, so that two frames are."""
    correction_clicks: int = 7
    """Corrective clicks on that frame."""
    gt_click_prob: float = 0.1
    """Share of the corrective clicks that are drawn from the object, not from what is wrong."""
    frame_gap_prob: float = 0.0
    """Share of the videos that count as having frames left out at one place."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "max_objects")
        _require_at_least(self, 0, "box_noise", "correction_clicks")
        _require_fractions(
            self, "mask_prob", "box_prob", "rough_mask_prob", "correction_frame_prob", "gt_click_prob", "frame_gap_prob"
        )
        if self.mask_prob + self.box_prob > 1:
            raise InputError(
                f"mask_share={self.mask_prob} and box_share={self.box_prob} make more than 1 together; lower one"
            )
        if not self.round_probs or min(self.round_probs) < 0 or not sum(self.round_probs) > 0:
            raise InputError(
                f"rounds={self.round_probs} must be probabilities of one, two, ... rounds, such as (0.5, 0.5)"
            )

    def for_images(self) -> PromptConfig:
        """The same user with single images in front of him: `mask_share` is that of rough masks."""
        prompted = 1 - self.mask_prob
        box_share = self.box_prob / prompted if prompted > 0 else 0.5
        return replace(self, mask_prob=self.rough_mask_prob, box_prob=box_share * (1 - self.rough_mask_prob))


@dataclass(frozen=True)
class AugmentConfig:
    """How an image is changed before the network sees it, the same for all frames of a video but for the last three."""

    flip_prob: float = 0.5
    """Share of the images that are mirrored."""
    affine_prob: float = 1.0
    """Share of the images that are turned and sheared."""
    degrees: float = 25.0
    shear: float = 20.0
    """Degrees, both at most."""
    full_image_prob: float = 1.0
    """Share of the images that are shown whole; of the others a crop is shown."""
    min_crop_area: float = 0.33
    """Least share of the area that a crop shows."""
    aspect_jitter: float = 0.2
    """Of a crop's sides, logarithm, at most."""
    brightness: float = 0.1
    contrast: float = 0.03
    saturation: float = 0.03
    grayscale_prob: float = 0.05
    """Share of the images without color."""
    frame_brightness: float = 0.1
    frame_contrast: float = 0.05
    frame_saturation: float = 0.05

    def __post_init__(self) -> None:
        _require_fractions(self, "flip_prob", "affine_prob", "full_image_prob", "min_crop_area", "grayscale_prob")
        if self.min_crop_area == 0:
            raise InputError("crop=0 would show nothing; it must be above 0, such as 0.33")


@dataclass(frozen=True)
class Stage:
    """A stretch of the run at one resolution; the learning rate goes from `rate` to `rate_end`."""

    image_size: int
    """Side of the square images, pixels."""
    batch: int
    """Videos of one process and one pass; stills come `stills` times as many."""
    steps: int
    lr: float = 5e-6
    lr_end: float = 5e-7
    lr_schedule: str = "cosine"
    """Of the way between them: cosine, linear or constant."""
    prompts: PromptConfig = PromptConfig()
    frozen_stages: int = 0
    """So many stages of the built-in model's trunk, and its stem, keep the weights they have."""
    clip_length: int = 8
    """Of a video."""
    image_batch_multiplier: int = 1
    still_image_size: int = 0
    """Side of the stills; 0: `size`."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "batch", "total_steps", "clip_length", "image_batch_multiplier")
        _require_at_least(self, 0, "lr", "lr_end", "frozen_stages")
        for name, size in (("size", self.image_size), ("still_size", self.still_image_size or self.image_size)):
            if size < 64 or size % 32:
                raise InputError(f"{name}={size} must be a multiple of 32 from 64 on, such as 512")
        if self.lr_schedule not in LR_SCHEDULES:
            raise InputError(
                f"shape={self.lr_schedule!r} of the learning rate must be one of {', '.join(LR_SCHEDULES)}"
            )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    """L1 between the predicted IoU of every mask and the true one."""
    object_score: float = 1.0
    cross_entropy: float = 0.0
    """Plain; it helps a model that starts from nothing."""
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    """Weight of what is inside, 1 minus it of what is outside; negative: both count the same."""
    supervise_all_masks: bool = False
    """Teach the best of three and the unambiguous mask by every prompt, not the one that is asked for by it."""


@dataclass(frozen=True)
class SourceConfig:
    """A data set in the mixture."""

    path: str
    """Under the folder of data; empty: that folder itself."""
    weight: float = 1.0
    """How often it is drawn from, relative to the others."""
    data_format: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on, but the data's place and the machine."""

    model: str
    """Canonical name of the network, such as `sam2.1_hiera_tiny`."""
    stages: tuple[Stage, ...]
    pretrained: str = ""
    """A model to go on from, by name or file; empty: random weights, `builtin` with a trunk that knows photographs."""
    sources: tuple[SourceConfig, ...] = (SourceConfig(""),)
    synthetic_fraction: float = 0.0
    """Share of the batches of stills out of which videos are made (`masklet.synthetic`)."""
    procedural_fraction: float = 0.0
    """Share of the made videos that are drawn, without any still, and hard in one way each (`masklet.synthetic`)."""
    cutouts: tuple[SourceConfig, ...] = ()
    """What moves through made videos; empty: the sources."""
    losses: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    reverse_prob: float = 0.5
    """Share of the videos that are played backwards."""
    seed: int = 0
    lr_multipliers: tuple[tuple[str, float], ...] = (("image_encoder", 0.6),)
    """Share of the learning rate by the start of a weight's name, the first that fits; 0: it stays as it is."""
    layer_decay: float = 0.9
    """Of the learning rate from each block of the trunk to the one below it."""
    lora: int = 0
    """Rank of adapters on attention, which then are all that learns; 0: none."""
    warmup_steps: int = 0
    """Steps."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 0.1
    """Longest gradient."""
    grad_accum: int = 1
    """Passes before the weights change."""
    precision: str = "bf16"
    """Of matrix products: bf16 (autocast) or fp32."""
    gradient_checkpointing: bool = False
    """Forget the trunk's intermediate maps and compute them again: less memory, a third more time."""
    cached_views: int = 0
    """Different views of each still whose embeddings are kept on disk, where the encoder does not learn; 0: endlessly
    many, none kept."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights; 0: none."""
    save_every: int = 50
    """Steps between checkpoints."""
    log_every: int = 10
    image_every: int = 200
    """Steps between images of predictions; 0: none."""

    def __post_init__(self) -> None:
        _require_at_least(self, 1, "grad_accum", "save_every", "log_every")
        _require_at_least(self, 0, "seed", "lora", "warmup_steps", "weight_decay", "cached_views", "image_every")
        _require_fractions(
            self, "synthetic_fraction", "procedural_fraction", "reverse_prob", "ema_decay", "layer_decay"
        )
        if not self.grad_clip > 0:
            raise InputError(f"clip={self.grad_clip} must be above 0; it is the longest gradient")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision={self.precision!r} must be {' or '.join(PRECISIONS)}")

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage that `step` falls in and the first step of that stage."""
        first = 0
        for stage in self.stages:
            if step < first + stage.steps:
                return stage, first
            first += stage.steps
        raise ValueError(f"step {step} lies behind the run's {self.total_steps} steps")

    def lr_multiplier(self, name: str) -> float:
        """The learning rate of the weight of that name, as a share of the stage's."""
        return next((share for start, share in self.lr_multipliers if name.startswith(start)), 1.0)

    def is_trainable(self, name: str) -> bool:
        """Whether the weight of that name may change."""
        return self.lr_multiplier(name) > 0 and (not self.lora or is_adapter(name))

    def lr_at(self, step: int) -> float:
        """Learning rate of what learns fastest."""
        stage, first = self.stage_at(step)
        progress = (step - first) / max(stage.steps - 1, 1)
        rate = scheduled_lr(progress, start=stage.lr, end=stage.lr_end, schedule=stage.lr_schedule)
        return linear_warmup(rate, step, self.warmup_steps)
