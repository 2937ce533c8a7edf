"""Runs that were made, each a function that returns its config."""

from __future__ import annotations

from masklet.train.config import LossConfig, PromptConfig, Stage, TrainConfig

__all__ = ["RECIPES", "builtin", "builtin_video", "smoke"]

STILLS: tuple[tuple[str, float], ...] = (
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


SCENES: tuple[tuple[str, float], ...] = (
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


CUTOUTS: tuple[tuple[str, float], ...] = (
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


LATER = PromptConfig(box_share=0.35, mask_share=0.1, rounds=(0.25, 0.2, 0.2, 0.2, 0.15))
"""More corrections, and starts from rough masks, once the first answer is about right."""


def builtin() -> TrainConfig:
    """The built-in model on stills: small pictures first, the native resolution last."""
    return TrainConfig(
        model="builtin",
        sources=STILLS,
        stages=(
            Stage(size=192, batch=16, steps=1500, rate=1e-3, rate_end=7e-4, frozen=2),
            Stage(size=288, batch=8, steps=950, rate=6e-4, rate_end=1e-5, prompts=LATER, frozen=2),
            Stage(size=288, batch=8, steps=360, rate=3e-4, rate_end=0.0, prompts=LATER, frozen=2),
        ),
    )


FOLLOWED = PromptConfig(objects=3, box_share=0.25, mask_share=0.5, rounds=(0.7, 0.2, 0.1), later_click=0.3)
"""Half of the objects are handed in as masks, as benchmarks do; now and then a later frame is corrected."""


def builtin_video() -> TrainConfig:
    """The built-in model learns time: its memory from scratch, the rest a little, the encoder not at all."""
    return TrainConfig(
        model="builtin",
        start="builtin",
        sources=SCENES,
        cutouts=CUTOUTS,
        stages=(
            Stage(size=192, batch=4, frames=6, steps=1200, rate=1e-3, rate_end=7e-4, prompts=FOLLOWED),
            Stage(size=288, batch=2, frames=8, steps=960, rate=7e-4, rate_end=0.0, prompts=FOLLOWED),
        ),
        rates=(
            ("image_encoder", 0.0),
            ("sam_mask_decoder.conv_s", 0.0),
            ("sam_mask_decoder.pred_obj_score_head", 1.0),
            ("sam_mask_decoder", 0.1),
            ("sam_prompt_encoder", 0.1),
            ("no_mem_embed", 0.1),
        ),
        losses=LossConfig(presence=1.0),
        warmup=100,
    )


def smoke() -> TrainConfig:
    """A few steps, to see that everything runs."""
    return TrainConfig(
        model="builtin",
        sources=STILLS,
        stages=(Stage(size=96, batch=2, steps=4, rate=1e-3, rate_end=1e-3),),
        save_every=2,
        report_every=1,
    )


RECIPES = {"builtin": builtin, "builtin_video": builtin_video, "smoke": smoke}
