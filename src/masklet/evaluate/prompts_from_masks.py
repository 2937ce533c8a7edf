"""What a model is told about an object whose mask is known: the mask itself, its tight box, or clicks.

A box is the tight box of the mask. The first click is the pixel that lies deepest inside the mask, every further one
the deepest pixel of what is wrong, which is how interactive segmentation is scored (Sofiiuk et al. 2022). Training
draws its clicks from the same places at random (`masklet.train.prompt_simulation`).

Coordinates are pixels of the image, x before y.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
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
    "deepest_error_click",
    "next_correction_click",
    "parse_prompt_types",
    "prompt_from_mask",
    "sample_evenly",
    "tight_box",
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
    """Raise InputError when nothing is known of such a first prompt."""
    if prompt_type not in PROMPT_TYPES:
        raise InputError(f"prompt={prompt_type!r} is unknown; choose {', '.join(map(repr, PROMPT_TYPES))}")


def parse_prompt_types(prompts: Iterable[str]) -> tuple[str, ...]:
    """Prompts, each once, in the order given.

    Example:
        >>> checked_prompts(["box", "click", "box"])
        ('box', 'click')

    Raises:
        InputError: none, or an unknown one.
    """
    asked = tuple(dict.fromkeys([prompts] if isinstance(prompts, str) else prompts))
    for prompt in asked:
        validate_prompt_type(prompt)
    if not asked:
        raise InputError(
            f"prompts={prompts!r} asks nothing; choose at least one of {', '.join(map(repr, PROMPT_TYPES))}"
        )
    return asked


def prompt_from_mask(mask: Mask, prompt_type: str) -> ObjectPrompt:
    """What is said of an object (H, W), not empty, by its "mask", its tight "box" or a "click" in its middle."""
    validate_prompt_type(prompt_type)
    if prompt_type == "mask":
        return ObjectPrompt(mask=MaskPrompt(mask))
    if prompt_type == "box":
        return ObjectPrompt(box=tight_box(mask))
    click = deepest_error_click(np.zeros_like(mask), mask)
    return ObjectPrompt(points=Points(np.array([[click.x, click.y]], np.float32), np.array([click.label], np.int32)))


def tight_box(mask: Mask) -> Box:
    """The box around the pixels of a mask (H, W) that is not empty."""
    return Box(*map(float, ops.masks_to_boxes(mask[None])[0]))


def deepest_error_click(predicted: Mask, truth: Mask) -> Click:
    """The pixel deepest inside what is wrong with a mask (H, W), missed and excess regions looked at separately.

    Where nothing is wrong, the deepest pixel of the truth.

    Example:
        >>> corrective_click(np.zeros((3, 5), bool), np.ones((3, 5), bool))
        Click(x=1, y=1, label=1)
    """
    wrong = predicted ^ truth
    missed = _deepest_pixel(truth & wrong if wrong.any() else truth)
    excess = _deepest_pixel(predicted & wrong)
    return Click(*missed[:2], 1) if missed.depth >= excess.depth else Click(*excess[:2], 0)


def next_correction_click(predicted: Mask, truth: Mask, previous_clicks: Collection[Click] = ()) -> Click | None:
    """As `corrective_click`, by the letter of how clicks are counted (Sofiiuk et al. 2022); None: nothing to click.

    No pixel is clicked twice, and where the missed and the excess region are equally deep the excess one is clicked.

    Example:
        >>> next_click(np.zeros((3, 5), bool), np.ones((3, 5), bool))
        Click(x=1, y=1, label=1)
    """
    missed, excess = (
        _deepest_pixel(truth & ~predicted, previous_clicks),
        _deepest_pixel(predicted & ~truth, previous_clicks),
    )
    if not missed.depth and not excess.depth:
        return None
    return Click(*missed[:2], 1) if missed.depth > excess.depth else Click(*excess[:2], 0)


class _DeepestPixel(NamedTuple):
    x: int
    y: int
    depth: float


def _deepest_pixel(mask: Mask, previous_clicks: Collection[Click] = ()) -> _DeepestPixel:
    """The pixel farthest from what is outside a mask and from the border; only the part that holds it is looked at.

    Depth 0 where there is none; pixels of `taken` are passed over.
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
    """At most `most` of the numbers 0 to `count` - 1, spread evenly, first and last among them.

    Example:
        >>> spread(10, 3)
        [0, 4, 9]
    """
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(max_count, count)).round())]
