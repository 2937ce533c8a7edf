"""Tensors of prompts for images with as many objects each, to the prompts of single objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from masklet.compat.transformers.nested_prompts import PADDING
from masklet.errors import PromptError
from masklet.models.types import PromptTensors

__all__ = ["batches", "object_prompts"]

MAX_BATCH_OBJECTS = 32
"""Objects that are decoded together, so that memory stays bounded."""


def object_prompts(
    points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, masks: Tensor | None
) -> list[list[PromptTensors | None]]:
    """Return for each image the prompt of each object; None for an object of which there is only padding.

    Points (B, N, P, 2), labels (B, N, P), boxes (B, N, 4), masks (B, N, h, w); None: none, and without labels all
    points are on the object.

    Raises:
        PromptError: if there is nothing, or their numbers of images and objects differ.
    """
    if points is not None and labels is None:
        labels = torch.ones(points.shape[:-1], dtype=torch.int64)
    given = {"input_points": points, "input_labels": labels, "input_boxes": boxes, "input_masks": masks}
    shapes = {name: tuple(one.shape[:2]) for name, one in given.items() if one is not None}
    if points is None and boxes is None and masks is None:
        raise PromptError("there is no prompt: give input_points, with or without input_labels, or input_boxes")
    if len(set(shapes.values())) != 1:
        raise PromptError(f"prompts must be of as many images and objects each, and they are of {shapes}")
    ((images, objects),) = set(shapes.values())
    return [
        [_object_prompt(*(None if one is None else one[i, n] for one in given.values())) for n in range(objects)]
        for i in range(images)
    ]


def batches(prompts: Sequence[PromptTensors | None]) -> list[tuple[list[int], PromptTensors]]:
    """Join prompts of the same shape: their places, and one `PromptTensors` of them."""
    by_shape: dict[tuple[int, bool], list[int]] = {}
    for i, prompt in enumerate(prompts):
        if prompt is not None:
            by_shape.setdefault((prompt.labels_BN.shape[1], prompt.mask_B1HW is None), []).append(i)
    joined = []
    for places in by_shape.values():
        for start in range(0, len(places), MAX_BATCH_OBJECTS):
            rows = places[start : start + MAX_BATCH_OBJECTS]
            some = [one for one in (prompts[i] for i in rows) if one is not None]
            masks = [one.mask_B1HW for one in some if one.mask_B1HW is not None]
            points, labels = torch.cat([one.points_BN2 for one in some]), torch.cat([one.labels_BN for one in some])
            joined.append((rows, PromptTensors(points, labels, torch.cat(masks) if masks else None)))
    return joined


def _object_prompt(
    points: Tensor | None, labels: Tensor | None, box: Tensor | None, mask: Tensor | None
) -> PromptTensors | None:
    """Return the prompt of one object; corners of a box come before points."""
    coords, marks = [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)]
    if box is not None:
        coords.append(box.cpu().float().reshape(2, 2))
        marks.append(torch.tensor([2, 3]))
    if points is not None and labels is not None:
        is_point = labels.cpu() != PADDING
        coords.append(points.cpu().float()[is_point])
        marks.append(labels.cpu().long()[is_point])
    joined = torch.cat(coords)[None]
    if mask is None and not joined.shape[1]:
        return None
    return PromptTensors(joined, torch.cat(marks)[None], None if mask is None else mask.cpu().float()[None, None])
