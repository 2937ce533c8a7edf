"""What the image predictors of sam2 and segment_anything share: one image, and prompts as their arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from masklet.errors import InputError
from masklet.image import ImagePredictor
from masklet.image.amg_result import GeneratedMasks
from masklet.media.image import from_array, from_pil
from masklet.prompts import Box, ObjectPrompt, Points

__all__ = ["Answer", "PromptArray", "predict_arrays", "published_records", "read_rgb"]

PromptArray = Any
"""An array, a tensor or nested lists of points, labels, boxes or logits; None: none."""
Floats = npt.NDArray[np.float32]
Answer = tuple[npt.NDArray[Any], Floats, Floats]
"""Masks (N, C, H, W), scores (N, C) and low-resolution logits (N, C, h, w)."""


def read_rgb(image: npt.NDArray[np.uint8] | Image.Image, channels: str = "RGB") -> npt.NDArray[np.uint8]:
    """Return an image as (H, W, 3) RGB uint8; `channels` is RGB or BGR.

    Raises:
        InputError: if `channels` is another order.
        SourceError: if it is no image.
    """
    if channels not in ("RGB", "BGR"):
        raise InputError(f"image_format={channels!r} must be 'RGB' or 'BGR'")
    if isinstance(image, Image.Image):
        return from_pil(image).rgb
    return from_array(np.asarray(image), channels="bgr" if channels == "BGR" else "rgb").rgb


def predict_arrays(
    predictor: ImagePredictor,
    point_coords: PromptArray,
    point_labels: PromptArray,
    box: PromptArray,
    mask_input: PromptArray,
    *,
    multimask_output: bool,
    return_logits: bool,
    threshold: float,
    normalized: bool = False,
) -> Answer:
    """Predict for prompts of one object, or of N with a leading dimension; points with label -1 are left out.

    Masks are bool, with `return_logits` float32 logits at the size of the image. `normalized` points and boxes are
    fractions of width and height.

    Raises:
        InputError: if points come without labels.
        PromptError: if a prompt is malformed, outside the image, or there is none.
        StateError: if no image is set.
    """
    height, width = predictor.size
    scale = np.array([width, height] if normalized else [1, 1], np.float32)
    coords, labels, boxes = (None if one is None else _array(one) for one in (point_coords, point_labels, box))
    if coords is not None and labels is None:
        raise InputError("point_labels is None, and there are points; give 1 (on the object) or 0 (off it) for each")
    if coords is not None and labels is not None:
        coords, labels = coords.reshape(-1, *coords.shape[-2:]) * scale, labels.reshape(-1, labels.shape[-1])
    if boxes is not None:
        boxes = boxes.reshape(-1, 4) * np.tile(scale, 2)
    logits = None if mask_input is None else _array(mask_input)
    if logits is not None:
        logits = logits.reshape(-1, 1, *logits.shape[-2:])
    counts = [len(one) for one in (coords, boxes, logits) if one is not None]
    prompts = [
        ObjectPrompt(
            None if coords is None or labels is None else _points(coords[i], labels[i]),
            None if boxes is None else Box(*boxes[i].tolist()),
        ).fit_to_image((height, width))
        for i in range(max(counts, default=0))
    ]
    found = predictor.predict_prompts(
        prompts, mask_input=logits, multimask_output=multimask_output, threshold=threshold
    )
    if not return_logits:
        return found.masks, found.scores, found.logits
    upsampled = predictor._image_transform((height, width)).upsample_logits(torch.from_numpy(found.logits))
    return upsampled.numpy(), found.scores, found.logits


def published_records(generated: GeneratedMasks, *, whole_numbers: bool = False) -> list[dict[str, Any]]:
    """Return the records of generated masks; a box ends at the last pixel of its mask, masklet's one pixel after it."""
    records = []
    for annotation in generated.to_annotations():
        x, y, width, height = annotation["bbox"]
        boxes = {"bbox": [x, y, width - 1, height - 1], "crop_box": annotation["crop_box"]}
        if whole_numbers:
            boxes = {name: [int(number) for number in box] for name, box in boxes.items()}
        records.append({**annotation, **boxes})
    return records


def _points(coords: Floats, labels: Floats) -> Points | None:
    kept = labels >= 0
    return Points(coords[kept], labels[kept].astype(np.int32)) if kept.any() else None


def _array(value: PromptArray) -> Floats:
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, np.float32)
