"""A picture in which nobody points at anything: how everything is looked for, and what does not go with it.

From what the network found to `Results`, with the time each stage took.
"""

from __future__ import annotations

import time

import numpy as np

from masklet.errors import InputError, PromptError
from masklet.image import Prediction
from masklet.image.automatic_mask_generator import EverythingOptions, preset, segment_everything_set
from masklet.image.predictor import ImagePredictor
from masklet.media import Picture
from masklet.models.types import PromptableNetwork
from masklet.results import Masks, Results

__all__ = ["NAMES", "Clock", "everything_options", "refuse_everything", "refuse_prompt_words", "results_of", "whole"]

NAMES = {0: "object"}


class Clock:
    """Milliseconds between ticks, by name."""

    def __init__(self) -> None:
        self.speed = {"preprocess": 0.0, "encode": 0.0, "decode": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def tick(self, name: str) -> None:
        """The time since the last tick belongs to `name`."""
        now = time.perf_counter()
        self.speed[name] += 1e3 * (now - self._last)
        self._last = now


def results_of(picture: Picture, prediction: Prediction, clock: Clock) -> Results:
    """One row a mask: objects in the order of their prompts, candidates from the best to the worst."""
    objects, candidates = prediction.scores.shape
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    rows = np.repeat(np.arange(objects, dtype=np.int32), candidates)
    chosen = (rows, order.ravel())
    masks = np.ascontiguousarray(prediction.masks[chosen])
    clock.tick("postprocess")
    return Results(
        picture.rgb,
        picture.path,
        Masks(masks),
        prediction.scores[chosen],
        prompt_ids=rows,
        classes=np.zeros(len(rows), np.int32),
        names=NAMES,
        speed=clock.speed,
        logits=prediction.logits[chosen],
    )


def everything_options(network: PromptableNetwork, given: object) -> EverythingOptions:
    """Options given as a value, as the name of a preset, or not at all.

    Raises:
        InputError: anything else, or an unknown preset.
    """
    if isinstance(given, EverythingOptions):
        return given
    if given is None or isinstance(given, str):
        return preset(network, given or "default")
    raise InputError(
        f"everything={given!r:.60} must be the name of a preset, such as 'fast', or "
        "EverythingOptions(points_per_side=16, ...)"
    )


def refuse_prompt_words(**given: object) -> None:
    """Raise where something was said that is about prompts, and there are none."""
    for name, value in given.items():
        if value is not None:
            raise PromptError(
                f"{name} is about prompts, and there are none: say what to segment with points=[x, y], "
                f"bboxes=[x1, y1, x2, y2] or masks, or leave {name} out to segment everything"
            )


def refuse_everything(everything: object) -> None:
    """Raise where something was said about everything, and there are prompts."""
    if everything is not None:
        raise PromptError(
            "everything is for pictures without prompts, and prompts were given: leave one of the two out"
        )


def whole(predictor: ImagePredictor, picture: Picture, options: EverythingOptions, clock: Clock) -> Results:
    """Everything in the picture that the predictor holds, in the order that the options say."""
    found = segment_everything_set(predictor, picture.rgb, options)
    clock.tick("decode")
    results = found.results(picture.rgb, picture.path, clock.speed)
    clock.tick("postprocess")
    return results
