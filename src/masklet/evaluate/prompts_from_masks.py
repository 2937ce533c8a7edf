"""Simulate the prompts of an object whose mask is known: the mask itself, its tight box, or clicks.

The first click is the pixel deepest inside the mask, every further one the deepest pixel of the error, as interactive
segmentation is scored (Sofiiuk et al. 2022). Training samples its clicks at random from the same regions
(`masklet.train.prompt_simulation`).

Coordinates are pixels of the image, x before y. Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import ops
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points

__all__ = [
    "PROMPT_TYPES",
    "Click",
    "clicks_prompt",
    "deepest_error_click",
    "next_correction_click",
    "parse_prompt_types",
    "prompt_from_mask",
    "sample_evenly",
    "validate_prompt_type",
]

Mask = npt.NDArray[np.bool_]

PROMPT_TYPES = ("mask", "box", "click")


class Click(NamedTuple):
    """A pixel, and whether it is on the object (1) or off it (0)."""

    x: int
    y: int
    label: int


def validate_prompt_type(prompt_type: str) -> None:
    """Check that a prompt is one of `PROMPT_TYPES`.

    Raises:
        InputError: if it is not.
    """
    if prompt_type not in PROMPT_TYPES:
        raise InputError(f"prompt={prompt_type!r} is unknown; choose {', '.join(map(repr, PROMPT_TYPES))}")


def parse_prompt_types(prompts: Iterable[str]) -> tuple[str, ...]:
    """Return prompts without duplicates, in the order given.

    Example:
        >>> parse_prompt_types(["box", "click", "box"])
        ('box', 'click')

    Raises:
        InputError: if there is none, or one is unknown.
    """
    unique = tuple(dict.fromkeys([prompts] if isinstance(prompts, str) else prompts))
    for prompt in unique:
        validate_prompt_type(prompt)
    if not unique:
        raise InputError(f"prompts={prompts!r} is empty; choose at least one of {', '.join(map(repr, PROMPT_TYPES))}")
    return unique


def prompt_from_mask(mask: Mask, prompt_type: str) -> ObjectPrompt:
    """Return the prompt of an object (H, W), not empty: its "mask", its tight "box", or a "click" in its middle."""
    validate_prompt_type(prompt_type)
    if prompt_type == "mask":
        return ObjectPrompt(mask=MaskPrompt(mask))
    if prompt_type == "box":
        return ObjectPrompt(box=Box(*map(float, ops.masks_to_boxes(mask[None])[0])))
    return clicks_prompt([deepest_error_click(np.zeros_like(mask), mask)])


def clicks_prompt(clicks: Sequence[Click], *, refine: bool = False) -> ObjectPrompt:
    """Return clicks as the point prompt of one object."""
    xy = np.array([(click.x, click.y) for click in clicks], np.float32)
    return ObjectPrompt(points=Points(xy, np.array([click.label for click in clicks], np.int32)), refine=refine)


def deepest_error_click(predicted: Mask, truth: Mask) -> Click:
    """Return the pixel deepest inside the error of a mask (H, W); missed and excess regions are separate.

    If there is no error, it is the deepest pixel of the truth.

    Example:
        >>> deepest_error_click(np.zeros((3, 5), bool), np.ones((3, 5), bool))
        Click(x=1, y=1, label=1)
    """
    wrong = predicted ^ truth
    missed = _deepest_pixel(truth & wrong if wrong.any() else truth)
    excess = _deepest_pixel(predicted & wrong)
    return Click(*missed[:2], 1) if missed.depth >= excess.depth else Click(*excess[:2], 0)


def next_correction_click(predicted: Mask, truth: Mask, previous_clicks: Collection[Click] = ()) -> Click | None:
    """Return the next click exactly as clicks are counted (Sofiiuk et al. 2022); None if nothing is wrong.

    No pixel is clicked twice, and if the missed and the excess region are equally deep, the excess one is clicked.

    Example:
        >>> next_correction_click(np.zeros((3, 5), bool), np.ones((3, 5), bool))
        Click(x=1, y=1, label=1)
    """
    missed = _deepest_pixel(truth & ~predicted, previous_clicks)
    excess = _deepest_pixel(predicted & ~truth, previous_clicks)
    if not missed.depth and not excess.depth:
        return None
    return Click(*missed[:2], 1) if missed.depth > excess.depth else Click(*excess[:2], 0)


class _DeepestPixel(NamedTuple):
    x: int
    y: int
    depth: float


def _deepest_pixel(mask: Mask, previous_clicks: Collection[Click] = ()) -> _DeepestPixel:
    """Return the pixel farthest from what is outside a mask and from the border; depth 0 if there is none.

    Only the bounding box of the mask is computed. Pixels of `previous_clicks` are skipped.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return _DeepestPixel(0, 0, 0.0)
    top, left = int(rows[0]), int(columns[0])
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.uint8)
    depth = cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    for click in previous_clicks:
        if top <= click.y < top + depth.shape[0] and left <= click.x < left + depth.shape[1]:
            depth[click.y - top, click.x - left] = 0
    y, x = divmod(int(depth.argmax()), depth.shape[1])
    return _DeepestPixel(left + x, top + y, float(depth[y, x]))


def sample_evenly(count: int, max_count: int) -> list[int]:
    """Return at most `max_count` of the numbers 0 to `count` - 1, spread evenly, with the first and the last.

    Example:
        >>> sample_evenly(10, 3)
        [0, 4, 9]
    """
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(max_count, count)).round())]
