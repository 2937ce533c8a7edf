"""The training runs of the built-in model, each a function that returns its config."""

from __future__ import annotations

from dataclasses import replace

from masklet.train.config import AugmentConfig, LossConfig, PromptConfig, SourceConfig, TrainConfig, TrainStage

__all__ = [
    "FREEZE_PREFIXES",
    "RECIPES",
    "builtin",
    "builtin_images",
    "builtin_joint",
    "builtin_more",
    "builtin_prior",
    "builtin_video",
    "smoke",
]

SourceWeights = tuple[tuple[str, float], ...]


def _changed(weights: SourceWeights, **changes: float) -> SourceWeights:
    """Return the weights of other sources, or other weights of the same."""
    return tuple({**dict(weights), **changes}.items())


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
"""Natural objects and region maps weigh most, dense sources least."""

MORE_IMAGE_SOURCES: SourceWeights = _changed(
    IMAGE_SOURCES,
    EndangeredAnimals=2.0,
    AnimalsMore=1.5,
    CCP=2.5,
    Caltech101Outlines=1.2,
    FeralCats=1.0,
    FeralCatsMore=2.0,
    BSDS500=3.0,
    BuildingFacade=1.4,
    DSB2018=0.7,
    QRLoc=0.1,
    TreePheno=0.25,
)
"""Also images with many objects that hide each other."""

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
"""Photographs that serve as backgrounds of synthetic videos."""

MORE_SCENE_SOURCES: SourceWeights = _changed(
    SCENE_SOURCES, AnimalsMore=1.5, FeralCatsMore=2.0, CCP=2.5, BSDS500=2.4, BuildingFacade=1.2
)
"""Also animals that hide each other; regions, clothes and facades count twice as much."""

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
"""Objects with complete outlines."""

MORE_CUTOUT_SOURCES: SourceWeights = _changed(CUTOUT_SOURCES, FeralCatsMore=2.0, Caltech101Cutouts=4.0)
"""Also cut-outs with clean edges. Their own images have an artificial background."""

VIDEO_SOURCES: SourceWeights = (("RealClips", 2.5), ("Rendered", 4.0))
"""Real videos of small things, and rendered ones."""

FREEZE_PREFIXES = {
    "encoder": ("image_encoder", "sam_mask_decoder.conv_s"),
    "memory": ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc"),
    "decoder": ("sam_mask_decoder", "sam_prompt_encoder", "no_mem_embed"),
}
"""Parts of a network that can be frozen, by the prefixes of their weights' names."""


def _sources(weights: SourceWeights) -> tuple[SourceConfig, ...]:
    return tuple(SourceConfig(name, weight) for name, weight in weights)


SCRATCH_PROMPTS = PromptConfig(
    max_objects=6, box_prob=0.4, mask_prob=0.0, round_probs=(0.4, 0.35, 0.25), gt_click_prob=0.0
)
"""Prompts for a model with random weights."""

IMAGE_PROMPTS = replace(SCRATCH_PROMPTS, box_prob=0.4, rough_mask_prob=0.1, round_probs=(0.25, 0.2, 0.2, 0.2, 0.15))
"""More corrections, and rough masks as first prompts, once first predictions are about right."""

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
"""Half of the objects start from masks, as in benchmarks; some clips get a correction on a later frame."""

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
"""Crops and strong color jitter, because there are few images."""

TRUNK_LR_MULTIPLIERS = (("image_encoder.trunk.stem", 0.1), ("image_encoder.trunk.stages", 0.1))
"""The pretrained trunk learns slowly."""

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
"""Base config of a small model that starts from few pretrained weights and sees few images."""


def builtin() -> TrainConfig:
    """Train the built-in model on images: small ones first, the native resolution last."""
    stage = TrainStage(
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
    """Train the memory of the built-in model from scratch; the decoder learns slowly, the encoder is frozen."""
    stage = TrainStage(
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
    """Continue the built-in model on images with its complete trunk, small images first, large ones last."""
    stage = TrainStage(
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


def builtin_images() -> TrainConfig:
    """Continue the built-in model on images at nearly full size: more sources, and more objects of each image."""
    stage = TrainStage(
        image_size=448,
        batch=4,
        steps=1400,
        lr=3e-4,
        lr_end=0.0,
        lr_schedule="linear",
        prompts=replace(IMAGE_PROMPTS, max_objects=8),
        clip_length=1,
    )
    return replace(
        builtin_more(),
        sources=_sources(MORE_IMAGE_SOURCES),
        cutouts=_sources(MORE_CUTOUT_SOURCES),
        composite_fraction=0.2,
        objects_by_area=True,
        stages=(stage,),
        seed=7,
    )


def builtin_joint() -> TrainConfig:
    """Adapt the memory of the built-in model to its new encoder on synthetic videos; images preserve click quality."""
    joint = replace(VIDEO_PROMPTS, round_probs=(0.4, 0.2, 0.15, 0.15, 0.1))
    stage = TrainStage(
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


def builtin_prior() -> TrainConfig:
    """Teach the decoder and the memory of the built-in model to use labels copied from earlier frames.

    The encoder is frozen, so that the keys that labels are copied by stay. A third of the batches are images.
    """
    joint = builtin_joint()
    prompts = replace(VIDEO_PROMPTS, round_probs=(0.5, 0.2, 0.15, 0.1, 0.05), max_objects=3)
    return replace(
        joint,
        sources=_sources(MORE_SCENE_SOURCES + VIDEO_SOURCES),
        cutouts=_sources(MORE_CUTOUT_SOURCES),
        synthetic_fraction=0.65,
        stages=(replace(joint.stages[0], steps=1000, lr=5e-4, prompts=prompts),),
        lr_multipliers=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder", 0.5),
            ("sam_prompt_encoder", 0.5),
            ("no_mem_embed", 0.2),
        ),
        precision="bf16",
        seed=11,
    )


def smoke() -> TrainConfig:
    """Run a few steps, to check the setup."""
    stage = TrainStage(image_size=96, batch=2, steps=4, lr=1e-3, lr_end=1e-3, prompts=SCRATCH_PROMPTS, clip_length=1)
    return replace(_BUILTIN, stages=(stage,), save_every=2, log_every=1)


RECIPES = {
    "builtin": builtin,
    "builtin_video": builtin_video,
    "builtin_more": builtin_more,
    "builtin_both": builtin_joint,
    "builtin_images": builtin_images,
    "builtin_prior": builtin_prior,
    "smoke": smoke,
}
