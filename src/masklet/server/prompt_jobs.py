"""Prompts of clients: what the model is called with, in a view or not, and the mask or the logits that come of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.masks import rle
from masklet.masks.rle import Rle
from masklet.media import Frame, SourceImage
from masklet.projects import ProjectMask, ProjectObject, ProjectSource
from masklet.results import Results
from masklet.sam import SAM
from masklet.server.api_errors import ApiError
from masklet.server.work_sessions import WorkSession
from masklet.transforms import ImageTransform

__all__ = ["MAX_THRESHOLD", "PromptJob", "check_view", "scale_logits"]

View = tuple[int, int, int, int]
LOGIT_SCALE = 8
"""Logits go as int8: this many steps for 1, bounded at 127."""
MAX_THRESHOLD = 15
"""Of masks: logits of clients are bounded there."""
MIN_VIEW = 16
"""Pixels of a view along each side."""
NEW_OBJECT = 2**31 - 1
"""Id by which an object is prompted on a video before it is in the project."""


@dataclass(frozen=True)
class PromptJob:
    """The prompts of an object on a frame, checked, and the work that segments by them.

    With a view only what lies in it is segmented, and the rest of the mask stays.
    """

    session: WorkSession
    source: ProjectSource
    obj: ProjectObject | None
    frame: int
    given: Mapping[str, Any]
    view: View | None
    threshold: float
    image: Frame | None
    """What the image model sees; None: the session of a video answers."""
    known: ProjectMask | None
    """The mask that the object has, if it has one."""

    @property
    def number(self) -> int:
        """The id by which a session of a video knows the object."""
        return NEW_OBJECT if self.obj is None else self.obj.id

    def segment(self, model: SAM) -> Results:
        """Segment by the prompts, as `SAM` does on images and in views, and as `Session.add_prompt` on videos.

        Where the prompts only take away, or only their part in the view is seen, they refine the known mask.
        """
        given = dict(self.given)
        only_negative = "box" not in given and "mask" not in given and not any(given.get("labels", [1]))
        refines = self.known is not None and "mask" not in given and (only_negative or self._exceeds_view())
        start = {"mask": self.known.mask} if refines and self.known is not None else {}
        if self.image is not None:
            names = {"points": "points", "labels": "labels", "box": "bboxes", "mask": "masks"}
            merged: dict[str, Any] = {names[name]: [value] for name, value in {**start, **given}.items()}
            if self.view is not None:
                merged["view"] = self.view
            if self.threshold:
                merged["threshold"] = self.threshold
            [results] = model(SourceImage(self.image.rgb, self.image.path), **merged)
            return results
        tracking = self.session.clicks(model, self.source.id)
        if self.number in tracking.object_ids:
            tracking.remove_object(self.number)
        if start:
            tracking.add_prompt(self.number, self.frame, **start)
        results = tracking.add_prompt(self.number, self.frame, **given)
        if self.threshold:
            results = tracking.results_at(self.frame, threshold=self.threshold)
            results = results[results.ids == self.number]
        return results

    def mask(self, results: Results) -> tuple[Rle, float]:
        """Return the mask to store, and its score; what lies around a view stays as it was."""
        assert results.masks is not None, "a model that segments has masks"
        mask = results.masks.data[0]
        if self.view is not None and self.known is not None:
            left, top, right, bottom = self.view
            whole = self.known.mask.copy()
            whole[top:bottom, left:right] = mask[top:bottom, left:right]
            mask = whole
        return rle.encode(mask), min(1.0, max(0.0, float(results.scores[0])))

    def logits(self, model: SAM) -> tuple[dict[str, Any], bytes]:
        """Return the logits behind the mask as int8 (h, w), and what to know of them: `box` is what they cover."""
        results = self.segment(model)
        left, top, right, bottom = self.view or (0, 0, *self.source.size[::-1])
        box: list[float] = [left, top, right, bottom]
        if self.image is None:
            logits = self.session.clicks(model, self.source.id).logits_at(self.number, self.frame)
        else:
            assert results.logits is not None, "results of an image have logits"
            logits, network = results.logits[0], model.predictor.model
            size, side = (bottom - top, right - left), network.still_image_size
            filled = ImageTransform(size, side, network.keeps_aspect_ratio).valid_size  # the rest is padding
            box[2:] = left + size[1] * side / filled[1], top + size[0] * side / filled[0]
        known, payload = scale_logits(logits)
        return {**known, "box": box}, payload

    def _exceeds_view(self) -> bool:
        """Whether a prompt lies outside the view."""
        if self.view is None:
            return False
        left, top, right, bottom = self.view
        x1, y1, x2, y2 = self.given.get("box", self.view)
        is_beyond = x1 < left or y1 < top or x2 > right or y2 > bottom
        return is_beyond or any(not (left <= x < right and top <= y < bottom) for x, y in self.given.get("points", ()))


def check_view(given: Sequence[float] | None, size: tuple[int, int]) -> View | None:
    """Return a view in whole pixels of an image of (height, width); None: all of it.

    Raises:
        ApiError: if it is smaller than `MIN_VIEW` pixels, or lies outside.
    """
    if given is None:
        return None
    left, top = (max(0, math.floor(one)) for one in given[:2])
    right, bottom = (min(limit, math.ceil(one)) for one, limit in zip(given[2:], size[::-1], strict=True))
    if min(right - left, bottom - top) < min(MIN_VIEW, *size):
        raise ApiError(
            400,
            f"view={given} has less than {MIN_VIEW} pixels of width or height in the image of {list(size)}: take more",
        )
    return left, top, right, bottom


def scale_logits(logits: npt.NDArray[np.float32]) -> tuple[dict[str, Any], bytes]:
    """Return low-resolution logits as int8, for clients that draw soft edges, and what to know of them."""
    scaled = np.clip(np.rint(logits * LOGIT_SCALE), -127, 127).astype(np.int8)
    return {"shape": list(scaled.shape), "scale": LOGIT_SCALE}, scaled.tobytes()
