"""A film in which nobody points at anything: what is looked for, how, and that the two ways are not mixed up."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError
from masklet.image import ImagePredictor
from masklet.image.everything import EverythingOptions, preset, segment_everything
from masklet.image.grid import point_grid
from masklet.video import Finder, FollowOptions, Found
from masklet.video.finding import Rgb

__all__ = ["EverythingFinder", "follow_options_of", "refuse_follow_options", "refuse_prompt_options"]


class EverythingFinder:
    """Finds whatever the network answers when it is asked everywhere; `everything` is a preset or options.

    Example:
        >>> find = EverythingFinder(model.predictor, "fast")
        >>> [found.score for found in find(rgb)]

    Raises:
        InputError: an unknown preset.
    """

    def __init__(self, predictor: ImagePredictor, everything: EverythingOptions | str) -> None:
        self.predictor = predictor
        self.options = preset(predictor.model, everything) if isinstance(everything, str) else everything

    def __call__(self, rgb: Rgb) -> list[Found]:
        """What there is in a frame."""
        return self._found(rgb, self.options)

    def beyond(self, rgb: Rgb, known: npt.NDArray[np.bool_]) -> list[Found]:
        """The same, asking only at points outside `known`; with crops or points of one's own, everywhere."""
        side = self.options.points_per_side
        if side is None or self.options.crop_n_layers:
            return self(rgb)
        points = point_grid(side)
        height, width = known.shape
        x, y = (points * [width, height]).astype(int).T
        rest = points[~known[y, x]]
        if not len(rest):
            return []
        return self._found(rgb, replace(self.options, points_per_side=None, point_grids=[rest], adaptive=False))

    def _found(self, rgb: Rgb, options: EverythingOptions) -> list[Found]:
        found = segment_everything(self.predictor, rgb, options)
        return [Found(float(score), mask=code) for score, code in zip(found.predicted_ious, found.rles, strict=True)]


def follow_options_of(options: FollowOptions | None, how: dict[str, Any]) -> FollowOptions:
    """Options given as a value, by name, or both."""
    try:
        return replace(options or FollowOptions(), **how)
    except TypeError:
        known = [field.name for field in fields(FollowOptions)]
        unknown = ", ".join(name for name in how if name not in known)
        raise InputError(f"no option {unknown}; options of following everything are {', '.join(known)}") from None


def refuse_prompt_options(**given: object) -> None:
    """Raise where something was said that is about prompts, and there are none."""
    for name, value in given.items():
        if value not in (None, False, 0):
            raise PromptError(
                f"{name}={value!r} is about prompts, and there are none: say what to follow with points=[x, y], "
                "bboxes=[x1, y1, x2, y2] or masks, or leave it out to follow everything"
            )


def refuse_follow_options(finder: Finder | None, how: dict[str, Any]) -> None:
    """Raise where something was said that is about a film without prompts, and there are some."""
    given = [*([] if finder is None else ["finder"]), *how]
    if given:
        raise PromptError(
            f"{', '.join(given)} is for films without prompts, and prompts were given: leave one of the two out"
        )
