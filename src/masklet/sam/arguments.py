"""A film in which nobody points at anything: what is looked for, how, and that the two ways are not mixed up.

What a caller said about device, size, options and ids, checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError
from masklet.image import ImagePredictor
from masklet.image.amg_grid import point_grid
from masklet.image.automatic_mask_generator import EverythingOptions, preset, segment_everything
from masklet.video import Finder, FollowOptions, Found, TrackOptions
from masklet.video.association import Rgb

__all__ = [
    "EverythingFinder",
    "check_side",
    "follow_options_of",
    "numbers_of",
    "options_of",
    "refuse_follow_options",
    "refuse_prompt_options",
]


def options_of(options: TrackOptions | None, how: dict[str, Any]) -> TrackOptions:
    """Options given as a value, by name, or both."""
    try:
        return replace(options or TrackOptions(), **how)
    except TypeError:
        known = [field.name for field in fields(TrackOptions)]
        unknown = ", ".join(name for name in how if name not in known)
        raise InputError(f"no option {unknown}; options of tracking are {', '.join(known)}") from None


def numbers_of(ids: Sequence[int] | None, count: int) -> Sequence[int]:
    """The ids of `count` objects."""
    if ids is None:
        return range(1, count + 1)
    if len(set(ids)) != count or len(ids) != count:
        raise PromptError(f"ids {list(ids)!r} must be {count} different number(s), one for each object")
    return ids


def check_side(side: object) -> None:
    """Raise unless `side` is None or a side that the networks take."""
    if side is None:
        return
    if isinstance(side, bool) or not isinstance(side, int) or side % 32 or not 64 <= side <= 4096:
        raise InputError(f"image_size={side!r} must be a multiple of 32 from 64 to 4096, such as 512; or leave it out")


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
