"""Runs that were made, each a function that returns its config."""

from __future__ import annotations

import math
from dataclasses import replace

from masklet.errors import InputError
from masklet.train.config import AugmentConfig, LossConfig, PromptConfig, SourceConfig, Stage, TrainConfig

__all__ = ["RECIPES", "builtin", "builtin_both", "builtin_more", "builtin_video", "finetune", "smoke"]

Weights = tuple[tuple[str, float], ...]

STILLS: Weights = (
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


SCENES: Weights = (
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
"""Photographs that a camera moves over: things that could be in a film."""


CUTOUTS: Weights = (
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


PARTS = {
    "encoder": ("image_encoder", "sam_mask_decoder.conv_s"),
    "memory": ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_", "no_mem_pos_enc"),
    "decoder": ("sam_mask_decoder", "sam_prompt_encoder", "no_mem_embed"),
}
"""Of a network, by the start of their weights' names."""


def _sources(weights: Weights) -> tuple[SourceConfig, ...]:
    return tuple(SourceConfig(name, weight) for name, weight in weights)


ASKED = PromptConfig(objects=6, box_share=0.4, mask_share=0.0, rounds=(0.4, 0.35, 0.25), truth_clicks=0.0)
"""What a model is asked that begins with nothing."""

LATER = replace(ASKED, box_share=0.4, rough_share=0.1, rounds=(0.25, 0.2, 0.2, 0.2, 0.15))
"""More corrections, and starts from rough masks, once the first answer is about right."""

FOLLOWED = PromptConfig(
    objects=3,
    box_share=0.25,
    mask_share=0.5,
    rounds=(0.7, 0.2, 0.1),
    later=0.3,
    later_rounds=1,
    truth_clicks=0.0,
    gaps=0.5,
)
"""Half of the objects are handed in as masks, as benchmarks do; now and then a later frame is corrected."""

LOOKED = AugmentConfig(
    turned=0.2,
    shear=0.0,
    whole=0.35,
    brightness=0.25,
    contrast=0.2,
    saturation=0.2,
    frame_brightness=0.0,
    frame_contrast=0.0,
    frame_saturation=0.0,
)
"""Crops and strong colours: few pictures have to last."""

TRUNK = (("image_encoder.trunk.stem", 0.1), ("image_encoder.trunk.stages", 0.1))
"""What knows photographs already learns slowly."""

_BUILTIN = TrainConfig(
    model="builtin",
    stages=(),
    sources=_sources(STILLS),
    losses=LossConfig(focal=10.0, cross_entropy=1.0, iou=0.5, presence=0.05, focal_alpha=-1.0, both=True),
    augment=LOOKED,
    reverse=0.0,
    rates=TRUNK,
    layer_decay=1.0,
    warmup=300,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    clip=1.0,
    precision="fp32",
    ema=0.998,
    report_every=20,
)
"""Of a small model that begins with little and has seen few pictures."""


def builtin() -> TrainConfig:
    """The built-in model on stills: small pictures first, the native resolution last."""
    stage = Stage(
        size=288, batch=8, steps=950, rate=6e-4, rate_end=1e-5, shape="linear", prompts=LATER, frozen=2, frames=1
    )
    return replace(
        _BUILTIN,
        stages=(
            replace(stage, size=192, batch=16, steps=1500, rate=1e-3, rate_end=7e-4, prompts=ASKED),
            stage,
            replace(stage, steps=360, rate=3e-4, rate_end=0.0),
        ),
    )


def builtin_video() -> TrainConfig:
    """The built-in model learns time: its memory from scratch, the rest a little, the encoder not at all."""
    stage = Stage(size=288, batch=2, frames=8, steps=960, rate=7e-4, rate_end=0.0, shape="linear", prompts=FOLLOWED)
    return replace(
        _BUILTIN,
        start="builtin",
        sources=_sources(SCENES),
        made=1.0,
        cutouts=_sources(CUTOUTS),
        stages=(replace(stage, size=192, batch=4, frames=6, steps=1200, rate=1e-3, rate_end=7e-4), stage),
        rates=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder.pred_obj_score_head", 1.0),
            ("sam_mask_decoder", 0.1),
            ("sam_prompt_encoder", 0.1),
            ("no_mem_embed", 0.1),
        ),
        losses=replace(_BUILTIN.losses, presence=1.0),
        warmup=100,
    )


def builtin_more() -> TrainConfig:
    """The built-in model on stills again, all of its trunk learning, small pictures first, large ones last."""
    stage = Stage(size=288, batch=8, steps=800, rate=6e-4, rate_end=4e-4, shape="linear", prompts=LATER, frames=1)
    return replace(
        _BUILTIN,
        start="builtin",
        stages=(stage, replace(stage, size=448, batch=6, steps=1500, rate=4e-4, rate_end=0.0)),
        rates=(
            ("image_encoder.trunk.stem", 0.1),
            ("image_encoder.trunk.stages", 0.25),
            *((prefix, 0.0) for prefix in PARTS["memory"]),
        ),
        losses=replace(_BUILTIN.losses, iou=1.0),
        warmup=100,
        precision="bf16",
    )


def builtin_both() -> TrainConfig:
    """The memory of the built-in model catches up with its encoder, on made films; stills between keep the clicks."""
    joint = replace(FOLLOWED, rounds=(0.4, 0.2, 0.15, 0.15, 0.1))
    stage = Stage(
        size=320, batch=2, frames=8, steps=2700, rate=6e-4, rate_end=0.0, shape="linear", prompts=joint, stills=2
    )
    return replace(
        builtin_video(),
        sources=_sources(SCENES),
        made=0.8,
        drawn=0.45,
        stages=(replace(stage, still_size=448),),
        rates=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder.pred_obj_score_head", 1.0),
            ("sam_mask_decoder", 0.2),
            ("sam_prompt_encoder", 0.2),
            ("no_mem_embed", 0.2),
        ),
        losses=replace(_BUILTIN.losses, iou=1.0, presence=1.0),
    )


def smoke() -> TrainConfig:
    """A few steps, to see that everything runs."""
    stage = Stage(size=96, batch=2, steps=4, rate=1e-3, rate_end=1e-3, prompts=ASKED, frames=1)
    return replace(_BUILTIN, stages=(stage,), save_every=2, report_every=1)


RECIPES = {
    "builtin": builtin,
    "builtin_video": builtin_video,
    "builtin_more": builtin_more,
    "builtin_both": builtin_both,
    "smoke": smoke,
}


def finetune(
    model: str,
    start: str,
    *,
    steps: int,
    size: int,
    batch: int = 1,
    frames: int = 8,
    rate: float = 5e-6,
    freeze: tuple[str, ...] = (),
) -> TrainConfig:
    """A model that is published goes on learning from somebody's own data, as the paper's authors do it.

    `model` is its network's name, `start` its name or file, `freeze` what stays as it is: encoder, memory, decoder.

    Example:
        >>> finetune("sam2.1_hiera_tiny", "sam2.1_t.pt", steps=1000, size=1024, freeze=("encoder",))

    Raises:
        InputError: something else to freeze, or a number that makes no sense.
    """
    if not 0 < rate < 1 or not math.isfinite(rate):
        raise InputError(f"rate={rate} must lie between 0 and 1; 5e-6 is what the published models were tuned with")
    stay = tuple((prefix, 0.0) for part in freeze for prefix in _parts(part))
    return TrainConfig(
        model=model,
        start=start,
        stages=(Stage(size=size, batch=batch, steps=steps, rate=rate, rate_end=rate / 10, frames=frames),),
        rates=(*stay, ("image_encoder", 0.6)),
    )


def _parts(name: str) -> tuple[str, ...]:
    if name not in PARTS:
        raise InputError(f"freeze={name!r} is no part of a network; choose among {', '.join(PARTS)}")
    return PARTS[name]
