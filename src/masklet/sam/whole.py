"""A picture in which nobody points at anything: how everything is looked for, and what does not go with it."""

from __future__ import annotations

from masklet.errors import InputError, PromptError
from masklet.image.everything import EverythingOptions, preset, segment_everything_set
from masklet.image.predictor import ImagePredictor
from masklet.media import Picture
from masklet.models.base import PromptableNetwork
from masklet.results import Results
from masklet.sam.answers import Clock

__all__ = ["everything_options", "refuse_everything", "refuse_prompt_words", "whole"]


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
