"""An image in which nobody points at anything: how everything is looked for, and what does not go with it.

From what the network found to `Results`, with the time each stage took.
"""

from __future__ import annotations

import time

import numpy as np

from masklet.errors import InputError, PromptError
from masklet.image import Prediction
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks_for_set_image, preset
from masklet.image.predictor import ImagePredictor
from masklet.media import SourceImage
from masklet.models.types import PromptableModel
from masklet.results import Masks, Results

__all__ = [
    "NAMES",
    "StageTimer",
    "generate_masks",
    "reject_mask_generator",
    "reject_prompt_arguments",
    "resolve_generator_options",
    "results_from_prediction",
]

NAMES = {0: "object"}


class StageTimer:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"preprocess": 0.0, "encode": 0.0, "decode": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        now = time.perf_counter()
        self.speed[name] += 1e3 * (now - self._last)
        self._last = now


def results_from_prediction(image: SourceImage, prediction: Prediction, timer: StageTimer) -> Results:
    """One row a mask: objects in the order of their prompts, candidates from the best to the worst."""
    objects, candidates = prediction.scores.shape
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    rows = np.repeat(np.arange(objects, dtype=np.int32), candidates)
    chosen = (rows, order.ravel())
    masks = np.ascontiguousarray(prediction.masks[chosen])
    timer.tick("postprocess")
    return Results(
        image.rgb,
        image.path,
        Masks(masks),
        prediction.scores[chosen],
        ids=rows,
        classes=np.zeros(len(rows), np.int32),
        names=NAMES,
        speed=timer.speed,
        logits=prediction.logits[chosen],
    )


def resolve_generator_options(network: PromptableModel, given: object) -> MaskGeneratorOptions:
    """Options given as a value, as the name of a preset, or not at all.

    Raises:
        InputError: anything else, or an unknown preset.
    """
    if isinstance(given, MaskGeneratorOptions):
        return given
    if given is None or isinstance(given, str):
        return preset(network, given or "default")
    raise InputError(
        f"everything={given!r:.60} must be the name of a preset, such as 'fast', or "
        "EverythingOptions(points_per_side=16, ...)"
    )


def reject_prompt_arguments(**given: object) -> None:
    """Raise where something was said that is about prompts, and there are none."""
    for name, value in given.items():
        if value is not None:
            raise PromptError(
                f"{name} is about prompts, and there are none: say what to segment with points=[x, y], "
                f"bboxes=[x1, y1, x2, y2] or masks, or leave {name} out to segment everything"
            )


def reject_mask_generator(everything: object) -> None:
    """Raise where something was said about everything, and there are prompts."""
    if everything is not None:
        raise PromptError("everything is for images without prompts, and prompts were given: leave one of the two out")


def generate_masks(
    predictor: ImagePredictor, image: SourceImage, options: MaskGeneratorOptions, timer: StageTimer
) -> Results:
    """Everything in the image that the predictor holds, in the order that the options say."""
    found = generate_masks_for_set_image(predictor, image.rgb, options)
    timer.tick("decode")
    results = found.to_results(image.rgb, image.path, timer.speed)
    timer.tick("postprocess")
    return results
