"""A video in which nobody points at anything: what is looked for, how, and that the two ways are not mixed up.

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
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks, preset
from masklet.video import AutoTrackOptions, Detection, FrameDetector, TrackOptions
from masklet.video.association import RgbArray

__all__ = [
    "MaskGeneratorDetector",
    "merge_auto_track_options",
    "merge_options",
    "reject_auto_track_options",
    "reject_prompt_options",
    "resolve_object_ids",
    "validate_image_size",
]


def merge_options(options: TrackOptions | None, overrides: dict[str, Any]) -> TrackOptions:
    """Options given as a value, by name, or both."""
    try:
        return replace(options or TrackOptions(), **overrides)
    except TypeError:
        known = [field.name for field in fields(TrackOptions)]
        unknown = ", ".join(name for name in overrides if name not in known)
        raise InputError(f"no option {unknown}; options of tracking are {', '.join(known)}") from None


def resolve_object_ids(object_ids: Sequence[int] | None, count: int) -> Sequence[int]:
    """The ids of `count` objects."""
    if object_ids is None:
        return range(1, count + 1)
    if len(set(object_ids)) != count or len(object_ids) != count:
        raise PromptError(f"ids {list(object_ids)!r} must be {count} different number(s), one for each object")
    return object_ids


def validate_image_size(image_size: object) -> None:
    """Raise unless `side` is None or a side that the networks take."""
    if image_size is None:
        return
    if (
        isinstance(image_size, bool)
        or not isinstance(image_size, int)
        or image_size % 32
        or not 64 <= image_size <= 4096
    ):
        raise InputError(
            f"image_size={image_size!r} must be a multiple of 32 from 64 to 4096, such as 512; or leave it out"
        )


class MaskGeneratorDetector:
    """Finds whatever the network answers when it is asked everywhere; `everything` is a preset or options.

    Example:
        >>> find = EverythingFinder(model.predictor, "fast")
        >>> [found.score for found in find(rgb)]

    Raises:
        InputError: an unknown preset.
    """

    def __init__(self, predictor: ImagePredictor, everything: MaskGeneratorOptions | str) -> None:
        self.predictor = predictor
        self.options = preset(predictor.model, everything) if isinstance(everything, str) else everything

    def __call__(self, rgb: RgbArray) -> list[Detection]:
        """What there is in a frame."""
        return self._detect(rgb, self.options)

    def detect_outside(self, rgb: RgbArray, covered: npt.NDArray[np.bool_]) -> list[Detection]:
        """The same, asking only at points outside `known`; with crops or points of one's own, everywhere."""
        side = self.options.points_per_side
        if side is None or self.options.crop_n_layers:
            return self(rgb)
        points = point_grid(side)
        height, width = covered.shape
        x, y = (points * [width, height]).astype(int).T
        rest = points[~covered[y, x]]
        if not len(rest):
            return []
        return self._detect(rgb, replace(self.options, points_per_side=None, point_grids=[rest], adaptive=False))

    def _detect(self, rgb: RgbArray, options: MaskGeneratorOptions) -> list[Detection]:
        found = generate_masks(self.predictor, rgb, options)
        return [
            Detection(float(score), mask=code) for score, code in zip(found.predicted_ious, found.rles, strict=True)
        ]


def merge_auto_track_options(options: AutoTrackOptions | None, overrides: dict[str, Any]) -> AutoTrackOptions:
    """Options given as a value, by name, or both."""
    try:
        return replace(options or AutoTrackOptions(), **overrides)
    except TypeError:
        known = [field.name for field in fields(AutoTrackOptions)]
        unknown = ", ".join(name for name in overrides if name not in known)
        raise InputError(f"no option {unknown}; options of following everything are {', '.join(known)}") from None


def reject_prompt_options(**given: object) -> None:
    """Raise where something was said that is about prompts, and there are none."""
    for name, value in given.items():
        if value not in (None, False, 0):
            raise PromptError(
                f"{name}={value!r} is about prompts, and there are none: say what to follow with points=[x, y], "
                "bboxes=[x1, y1, x2, y2] or masks, or leave it out to follow everything"
            )


def reject_auto_track_options(detector: FrameDetector | None, overrides: dict[str, Any]) -> None:
    """Raise where something was said that is about a video without prompts, and there are some."""
    given = [*([] if detector is None else ["finder"]), *overrides]
    if given:
        raise PromptError(
            f"{', '.join(given)} is for videos without prompts, and prompts were given: leave one of the two out"
        )
