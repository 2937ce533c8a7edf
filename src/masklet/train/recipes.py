"""Runs that were made, each a function that returns its config."""

from __future__ import annotations

import math
from dataclasses import replace

from masklet.errors import InputError
from masklet.train.config import AugmentConfig, LossConfig, PromptConfig, SourceConfig, Stage, TrainConfig

__all__ = ["RECIPES", "builtin", "builtin_joint", "builtin_more", "builtin_video", "finetune_config", "smoke"]

SourceWeights = tuple[tuple[str, float], ...]

IMAGE_SOURCES: SourceWeights = (
    ("COCO", 5.0),
    ("EndangeredAnimals", 3.0),
    ("CCP", 2.0),
    ("Caltech101Outlines", 1.5),
    ("FeralCats", 1.5),
    ("BSDS500", 2.0),
    ("BuildingFacade", 1.2),
    ("BorratTeacher", 0.3),
    ("DSB2018", 0.6),
    ("ElectronicParts", 0.4),
    ("MedicalWaste", 0.5),
    ("QRLoc", 0.15),
    ("SegMush", 0.25),
    ("NanoParticles", 0.25),
    ("SmallObjects5", 0.15),
    ("StrawberryParts", 0.3),
    ("TreePheno", 0.2),
    ("Kudzu", 0.1),
)
"""Natural objects and region maps carry the weight; dense sources are held down."""


SCENE_SOURCES: SourceWeights = (
    ("COCO", 5.0),
    ("EndangeredAnimals", 3.0),
    ("FeralCats", 2.0),
    ("CCP", 1.5),
    ("Caltech101Outlines", 1.0),
    ("BSDS500", 1.2),
    ("BuildingFacade", 0.6),
    ("BorratTeacher", 0.5),
    ("DSB2018", 0.3),
    ("ElectronicParts", 0.2),
    ("MedicalWaste", 0.3),
    ("QRLoc", 0.1),
    ("SegMush", 0.15),
    ("NanoParticles", 0.1),
    ("SmallObjects5", 0.2),
    ("StrawberryParts", 0.3),
    ("TreePheno", 0.1),
)
"""Photographs that a camera moves over: things that could be in a video."""


CUTOUT_SOURCES: SourceWeights = (
    ("COCO", 3.0),
    ("EndangeredAnimals", 3.0),
    ("FeralCats", 2.0),
    ("Caltech101Outlines", 2.0),
    ("CCP", 2.0),
    ("BorratTeacher", 0.5),
    ("MedicalWaste", 0.3),
    ("SmallObjects5", 0.3),
    ("StrawberryParts", 0.2),
)
"""Things that are outlined whole."""


FREEZE_PREFIXES = {
    "encoder": ("image_encoder", "sam_mask_decoder.conv_s"),
    "memory": ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc"),
    "decoder": ("sam_mask_decoder", "sam_prompt_encoder", "no_mem_embed"),
}
"""Of a network, by the start of their weights' names."""


def _sources(weights: SourceWeights) -> tuple[SourceConfig, ...]:
    return tuple(SourceConfig(name, weight) for name, weight in weights)


SCRATCH_PROMPTS = PromptConfig(
    max_objects=6, box_prob=0.4, mask_prob=0.0, round_probs=(0.4, 0.35, 0.25), gt_click_prob=0.0
)
"""What a model is asked that begins with nothing."""

IMAGE_PROMPTS = replace(SCRATCH_PROMPTS, box_prob=0.4, rough_mask_prob=0.1, round_probs=(0.25, 0.2, 0.2, 0.2, 0.15))
"""More corrections, and starts from rough masks, once the first answer is about right."""

VIDEO_PROMPTS = PromptConfig(
    max_objects=3,
    box_prob=0.25,
    mask_prob=0.5,
    round_probs=(0.7, 0.2, 0.1),
    correction_frame_prob=0.3,
    correction_clicks=1,
    gt_click_prob=0.0,
    frame_gap_prob=0.5,
)
"""Half of the objects are handed in as masks, as benchmarks do; now and then a later frame is corrected."""

CROP_AUGMENT = AugmentConfig(
    affine_prob=0.2,
    shear=0.0,
    full_image_prob=0.35,
    brightness=0.25,
    contrast=0.2,
    saturation=0.2,
    frame_brightness=0.0,
    frame_contrast=0.0,
    frame_saturation=0.0,
)
"""Crops and strong colors: few images have to last."""

TRUNK_LR_MULTIPLIERS = (("image_encoder.trunk.stem", 0.1), ("image_encoder.trunk.stages", 0.1))
"""What knows photographs already learns slowly."""

_BUILTIN = TrainConfig(
    model="builtin",
    stages=(),
    sources=_sources(IMAGE_SOURCES),
    losses=LossConfig(
        focal=10.0, cross_entropy=1.0, iou=0.5, object_score=0.05, focal_alpha=-1.0, supervise_all_masks=True
    ),
    augment=CROP_AUGMENT,
    reverse_prob=0.0,
    lr_multipliers=TRUNK_LR_MULTIPLIERS,
    layer_decay=1.0,
    warmup_steps=300,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    grad_clip=1.0,
    precision="fp32",
    ema_decay=0.998,
    log_every=20,
)
"""Of a small model that begins with little and has seen few images."""


def builtin() -> TrainConfig:
    """The built-in model on stills: small images first, the native resolution last."""
    stage = Stage(
        image_size=288,
        batch=8,
        steps=950,
        lr=6e-4,
        lr_end=1e-5,
        lr_schedule="linear",
        prompts=IMAGE_PROMPTS,
        frozen_stages=2,
        clip_length=1,
    )
    return replace(
        _BUILTIN,
        stages=(
            replace(stage, image_size=192, batch=16, steps=1500, lr=1e-3, lr_end=7e-4, prompts=SCRATCH_PROMPTS),
            stage,
            replace(stage, steps=360, lr=3e-4, lr_end=0.0),
        ),
    )


def builtin_video() -> TrainConfig:
    """The built-in model learns time: its memory from scratch, the rest a little, the encoder not at all."""
    stage = Stage(
        image_size=288,
        batch=2,
        clip_length=8,
        steps=960,
        lr=7e-4,
        lr_end=0.0,
        lr_schedule="linear",
        prompts=VIDEO_PROMPTS,
    )
    return replace(
        _BUILTIN,
        pretrained="builtin",
        sources=_sources(SCENE_SOURCES),
        synthetic_fraction=1.0,
        cutouts=_sources(CUTOUT_SOURCES),
        stages=(replace(stage, image_size=192, batch=4, clip_length=6, steps=1200, lr=1e-3, lr_end=7e-4), stage),
        lr_multipliers=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder.pred_obj_score_head", 1.0),
            ("sam_mask_decoder", 0.1),
            ("sam_prompt_encoder", 0.1),
            ("no_mem_embed", 0.1),
        ),
        losses=replace(_BUILTIN.losses, object_score=1.0),
        warmup_steps=100,
    )


def builtin_more() -> TrainConfig:
    """The built-in model on stills again, all of its trunk learning, small images first, large ones last."""
    stage = Stage(
        image_size=288,
        batch=8,
        steps=800,
        lr=6e-4,
        lr_end=4e-4,
        lr_schedule="linear",
        prompts=IMAGE_PROMPTS,
        clip_length=1,
    )
    return replace(
        _BUILTIN,
        pretrained="builtin",
        stages=(stage, replace(stage, image_size=448, batch=6, steps=1500, lr=4e-4, lr_end=0.0)),
        lr_multipliers=(
            ("image_encoder.trunk.stem", 0.1),
            ("image_encoder.trunk.stages", 0.25),
            *((prefix, 0.0) for prefix in FREEZE_PREFIXES["memory"]),
        ),
        losses=replace(_BUILTIN.losses, iou=1.0),
        warmup_steps=100,
        precision="bf16",
    )


def builtin_joint() -> TrainConfig:
    """The memory of the built-in model catches up with its encoder, on made videos; stills between keep the clicks."""
    joint = replace(VIDEO_PROMPTS, round_probs=(0.4, 0.2, 0.15, 0.15, 0.1))
    stage = Stage(
        image_size=320,
        batch=2,
        clip_length=8,
        steps=2700,
        lr=6e-4,
        lr_end=0.0,
        lr_schedule="linear",
        prompts=joint,
        image_batch_multiplier=2,
    )
    return replace(
        builtin_video(),
        sources=_sources(SCENE_SOURCES),
        synthetic_fraction=0.8,
        procedural_fraction=0.45,
        stages=(replace(stage, still_image_size=448),),
        lr_multipliers=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder.pred_obj_score_head", 1.0),
            ("sam_mask_decoder", 0.2),
            ("sam_prompt_encoder", 0.2),
            ("no_mem_embed", 0.2),
        ),
        losses=replace(_BUILTIN.losses, iou=1.0, object_score=1.0),
    )


def smoke() -> TrainConfig:
    """A few steps, to see that everything runs."""
    stage = Stage(image_size=96, batch=2, steps=4, lr=1e-3, lr_end=1e-3, prompts=SCRATCH_PROMPTS, clip_length=1)
    return replace(_BUILTIN, stages=(stage,), save_every=2, log_every=1)


RECIPES = {
    "builtin": builtin,
    "builtin_video": builtin_video,
    "builtin_more": builtin_more,
    "builtin_both": builtin_joint,
    "smoke": smoke,
}


def finetune_config(
    model: str,
    pretrained: str,
    *,
    steps: int,
    image_size: int,
    batch: int = 1,
    clip_length: int = 8,
    lr: float = 5e-6,
    freeze: tuple[str, ...] = (),
) -> TrainConfig:
    """A model that is published goes on learning from somebody's own data, as the paper's authors do it.

    `model` is its network's name, `start` its name or file, `freeze` what stays as it is: encoder, memory, decoder.

    Example:
        >>> finetune("sam2.1_hiera_tiny", "sam2.1_t.pt", steps=1000, size=1024, freeze=("encoder",))

    Raises:
        InputError: something else to freeze, or a number that makes no sense.
    """
    if not 0 < lr < 1 or not math.isfinite(lr):
        raise InputError(f"rate={lr} must lie between 0 and 1; 5e-6 is what the published models were tuned with")
    stay = tuple((prefix, 0.0) for part in freeze for prefix in _freeze_prefixes(part))
    return TrainConfig(
        model=model,
        pretrained=pretrained,
        stages=(
            Stage(image_size=image_size, batch=batch, steps=steps, lr=lr, lr_end=lr / 10, clip_length=clip_length),
        ),
        lr_multipliers=(*stay, ("image_encoder", 0.6)),
    )


def _freeze_prefixes(name: str) -> tuple[str, ...]:
    if name not in FREEZE_PREFIXES:
        raise InputError(f"freeze={name!r} is no part of a network; choose among {', '.join(FREEZE_PREFIXES)}")
    return FREEZE_PREFIXES[name]
