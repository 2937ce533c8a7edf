"""What the connectors share: one model a process, prompts in pixels or percent, and masks for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from threading import Lock

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError
from masklet.masks.polygon_simplify import simplify_mask
from masklet.masks.polygons import bridge_holes, mask_to_polygons
from masklet.prompts import Box, ObjectPrompt, Points
from masklet.results import Results
from masklet.sam import SAM

__all__ = ["KEPT_IMAGES", "Rgb", "make_prompt", "open_model", "outline_rings", "percent_box", "segment_objects"]

Rgb = npt.NDArray[np.uint8]
"""An image, (H, W, 3), red first."""
KEPT_IMAGES = 8
"""Encoded images that wait for the next prompt on them."""
_opening = Lock()


def open_model(model: str | None = None, device: str | None = None) -> SAM:
    """Open a model, once in a process: hosts make their objects for each request or project.

    `model` and `device` are as for `SAM`; None: the environment variables MASKLET_MODEL and MASKLET_DEVICE, else the
    built-in model on the best device.

    Raises:
        UnknownModelError, DownloadError, CheckpointError, InputError: if the model or the device cannot be used.
    """
    name = model or os.environ.get("MASKLET_MODEL") or None
    with _opening:
        return _open_once(name, device or os.environ.get("MASKLET_DEVICE") or None)


@cache
def _open_once(model: str | None, device: str | None) -> SAM:
    sam = SAM(model, device=device)
    sam.keep_images(KEPT_IMAGES)
    return sam


def make_prompt(
    positive: Sequence[Sequence[float]],
    negative: Sequence[Sequence[float]] = (),
    box: Sequence[float] | None = None,
    *,
    size: tuple[int, int],
) -> ObjectPrompt:
    """Make the prompt of one object from points [x, y] and a box [x1, y1, x2, y2], in pixels of an image of `size`.

    Hosts let people click on the very edge and drag boxes beyond it: points and boxes are moved into the image.

    Raises:
        PromptError: if there is no positive point and no box, a number is not finite, or the box encloses nothing.
    """
    height, width = size
    points = None
    if len(positive) or len(negative):
        labels = [1] * len(positive) + [0] * len(negative)
        given = Points(np.array([*positive, *negative], np.float64), np.array(labels))
        limit = np.nextafter(np.array([width, height], np.float32), np.float32(0))
        points = Points(np.clip(given.xy, 0, limit), given.labels)
    if box is None:
        return ObjectPrompt(points)
    given_box = Box(*box)
    x1, x2 = np.clip([given_box.x1, given_box.x2], 0, width).tolist()
    y1, y2 = np.clip([given_box.y1, given_box.y2], 0, height).tolist()
    if x1 == x2 or y1 == y2:
        raise PromptError(
            f"box {list(box)} lies outside the image, which is {width} wide and {height} high; draw it on the image"
        )
    return ObjectPrompt(points, Box(x1, y1, x2, y2))


def percent_box(
    x: float, y: float, width: float, height: float, rotation: float = 0.0, *, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Convert a rectangle in percent of an image of `size` (height, width) to a box x1, y1, x2, y2 in pixels.

    `rotation` is in degrees, clockwise about the corner (x, y); the box then holds all corners.

    Example:
        >>> percent_box(25, 50, 50, 25, size=(100, 200))
        (50.0, 50.0, 150.0, 75.0)
    """
    scale = np.array([size[1], size[0]]) / 100
    corner, (w, h) = np.array([x, y]) * scale, np.array([width, height]) * scale
    angle = np.deg2rad(rotation)
    across, down = np.array([np.cos(angle), np.sin(angle)]) * w, np.array([-np.sin(angle), np.cos(angle)]) * h
    corners = corner + np.array([0 * across, across, down, across + down])
    x1, y1 = corners.min(axis=0).tolist()
    x2, y2 = corners.max(axis=0).tolist()
    return x1, y1, x2, y2


def segment_objects(model: SAM, rgb: Rgb, prompts: Sequence[ObjectPrompt]) -> Results:
    """Segment the prompted objects of an image, which is not encoded again if it was before.

    All prompts have the same parts: points, a box, or both.
    """
    points, boxes = [one.points for one in prompts], [one.box for one in prompts]
    return model(
        rgb,
        points=[one.xy.tolist() for one in points if one is not None] or None,
        labels=[one.labels.tolist() for one in points if one is not None] or None,
        bboxes=[one.xyxy for one in boxes if one is not None] or None,
    )[0]


def outline_rings(mask: npt.NDArray[np.bool_], min_iou: float) -> list[npt.NDArray[np.float32]]:
    """Outline a mask (H, W): one ring (K, 2) of pixels a connected part, holes joined by bridges without width.

    Filled again, they have an IoU of at least `min_iou` with the mask; 1 gives the very mask.

    Raises:
        InputError: if `min_iou` is not above 0 and at most 1.
    """
    if not 0 < min_iou <= 1:
        raise InputError(f"min_iou={min_iou!r} must be above 0 and at most 1; 1 keeps every pixel, 0.98 most of them")
    outline = simplify_mask(mask, min_iou)
    return [bridge_holes(part) for part in mask_to_polygons(mask)] if outline is None else list(outline.rings)
