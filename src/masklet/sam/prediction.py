"""Segment images: from prompts, or without any, to `Results`, with the time of each stage."""

from __future__ import annotations

import copy
import hashlib
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, PromptError
from masklet.image import Prediction
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks_for_set_image, preset
from masklet.image.predictor import ImagePredictor
from masklet.masks.morphology import clean_edges, fill_holes, remove_islands
from masklet.media import SourceImage
from masklet.models.types import PromptableModel
from masklet.prompts import Box, MaskPrompt, ObjectPrompt, Points
from masklet.results import Masks, Results
from masklet.runtime import standard_torch

__all__ = ["CachedEncoder", "SpeedTimer", "results_from_prediction", "segment_everything", "segment_prompts"]

NAMES = {0: "object"}


class SpeedTimer:
    """Milliseconds between ticks, by stage."""

    def __init__(self) -> None:
        self.speed = {"preprocess": 0.0, "encode": 0.0, "decode": 0.0, "postprocess": 0.0}
        self._last = time.perf_counter()

    def tick(self, stage: str) -> None:
        """Add the time since the last tick to `stage`."""
        now = time.perf_counter()
        self.speed[stage] += 1e3 * (now - self._last)
        self._last = now


class CachedEncoder:
    """Encodes images for any number of threads, and the last `max_images` of them not a second time.

    `predictor` lends its network and never has an image of this: each image has its own predictor. An image is known by
    its pixels, and one that is read-only by being the same array.
    """

    def __init__(self, predictor: ImagePredictor, max_images: int = 1) -> None:
        self.predictor, self.max_images = predictor, max_images
        self._lock = threading.Lock()
        self._encoded: OrderedDict[bytes, ImagePredictor] = OrderedDict()
        """By hash, those used last at the end."""
        self._read_only: list[tuple[weakref.ref[npt.NDArray[np.uint8]], bytes]] = []

    def encode(self, image: SourceImage, timer: SpeedTimer) -> ImagePredictor:
        """Return a predictor that has the image; treat it as read-only, because other threads may use it too."""
        with self._lock:
            key = next((digest for array, digest in self._read_only if array() is image.rgb), None)
        if key is None or image.rgb.flags.writeable:
            shape = np.array(image.rgb.shape, np.int64).tobytes()
            key = hashlib.blake2b(np.ascontiguousarray(image.rgb).data, key=shape).digest()
        with self._lock:
            if not image.rgb.flags.writeable:
                others = [one for one in self._read_only if one[0]() is not None and one[0]() is not image.rgb]
                self._read_only = [*others, (weakref.ref(image.rgb), key)][-self.max_images :]
            found = self._encoded.get(key)
            if found is not None:
                self._encoded.move_to_end(key)
                timer.tick("encode")
                return found
        with standard_torch():
            predictor = copy.copy(self.predictor)
            pixels = predictor._image_transform(image.size).preprocess(image.rgb)
            timer.tick("preprocess")
            predictor._set_preprocessed(pixels, image.size)
        with self._lock:
            self._encoded[key] = predictor
            while len(self._encoded) > self.max_images:
                self._encoded.popitem(last=False)
        timer.tick("encode")
        return predictor

    def __reduce__(self) -> tuple[type[CachedEncoder], tuple[ImagePredictor, int]]:
        """Copy and pickle the network without images, which are encoded again where they are needed."""
        return CachedEncoder, (self.predictor, self.max_images)


def segment_prompts(
    encoder: CachedEncoder,
    images: Iterable[SourceImage],
    parse: Callable[[tuple[int, int]], tuple[ObjectPrompt, ...]],
    logits: npt.NDArray[np.float32] | None,
    multimask: bool | None,
    fill_hole_area: int | None = None,
    *,
    threshold: float = 0.0,
    view: Box | None = None,
) -> Iterator[Results]:
    """Segment the prompted objects in each image; `parse` reads the prompts for an image of (height, width).

    With `view`, the network sees this part of the image alone, at its full detail, and masks are empty around it.

    Masks are cleaned as `SAM.stream` says. Objects within one cell of the network keep what was given: a mask prompt
    all its pixels, and a box that would have an empty answer the pixels of the box. A mask prompt of any size whose
    answer would be empty is returned itself. An answer that stays empty has a score of 0.
    """
    for whole in images:
        prompts, image, timer = parse(whole.size), whole, SpeedTimer()
        if view is not None:
            image, prompts = crop_image(whole, view), tuple(crop_prompt(one, view, whole.size) for one in prompts)
        predictor = encoder.encode(image, timer)
        prediction = predictor.predict_prompts(
            prompts, mask_input=logits, multimask_output=multimask, threshold=threshold
        )
        timer.tick("decode")
        transform = predictor._image_transform(image.size)
        for prompt, candidates in zip(prompts, prediction.masks, strict=True):
            given = transform.small_prompt_mask(prompt)
            inside = outside = np.zeros((0, 2), np.float32)
            if prompt.points is not None:
                positive = prompt.points.labels > 0
                inside, outside = prompt.points.xy[positive], prompt.points.xy[~positive]
            for mask in candidates:
                if fill_hole_area is None:
                    mask[:] = clean_edges(mask, inside, outside)
                elif fill_hole_area:
                    mask[:] = remove_islands(fill_holes(mask, fill_hole_area), fill_hole_area)
                if given is not None and (prompt.mask is not None or not mask.any()):
                    mask |= given
                elif prompt.mask is not None and prompt.points is None and prompt.box is None and not mask.any():
                    mask[:] = prompt.mask.mask
        if view is not None:
            left, top, right, bottom = pixels_of(view, whole.size)
            masks = np.zeros((*prediction.masks.shape[:2], *whole.size), bool)
            masks[..., top:bottom, left:right] = prediction.masks
            prediction = replace(prediction, masks=masks)
        yield results_from_prediction(whole, prediction, timer)


def pixels_of(view: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels of an image of (height, width) that a view touches."""
    fitted = view.fit_to_image(size)
    return int(fitted.x1), int(fitted.y1), ceil(fitted.x2), ceil(fitted.y2)


def crop_image(image: SourceImage, view: Box) -> SourceImage:
    """Return the part of an image that a view touches."""
    left, top, right, bottom = pixels_of(view, image.size)
    return SourceImage(np.ascontiguousarray(image.rgb[top:bottom, left:right]), image.path)


def crop_prompt(prompt: ObjectPrompt, view: Box, size: tuple[int, int]) -> ObjectPrompt:
    """Return the part of a prompt that lies in a view, in its pixels: points beyond it are left out, boxes are cut.

    Raises:
        PromptError: if nothing of the prompt lies there, or points off the object alone.
    """
    left, top, right, bottom = pixels_of(view, size)
    shift, part = np.array([left, top], np.float32), np.array([right - left, bottom - top], np.float32)
    points, box, mask = prompt.points, prompt.box, prompt.mask
    if points is not None:
        seen = ((points.xy >= shift) & (points.xy < shift + part)).all(1)
        points = Points(points.xy[seen] - shift, points.labels[seen]) if seen.any() else None
    if box is not None:
        x1, y1 = np.maximum(box.xyxy[:2] - shift, 0).tolist()
        x2, y2 = np.minimum(box.xyxy[2:] - shift, part).tolist()
        box = Box(x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
    if mask is not None:
        within = mask.mask[top:bottom, left:right]
        mask = MaskPrompt(within) if within.any() else None
    if box is None and mask is None and (points is None or not points.labels.any()):
        raise PromptError(
            f"nothing that marks the object lies in the view {left}, {top}, {right}, {bottom}: point at it there, or "
            "leave the view out"
        )
    return ObjectPrompt(points, box, mask)


def segment_everything(
    encoder: CachedEncoder, images: Iterable[SourceImage], everything: MaskGeneratorOptions | str | None
) -> Iterator[Results]:
    """Segment everything in each image; `everything` is options, the name of a preset, or None: the default preset.

    Raises:
        InputError: if it is anything else, or the preset is unknown, before the first image.
    """
    options = _resolve_generator_options(encoder.predictor.model, everything)

    def results() -> Iterator[Results]:
        for image in images:
            timer = SpeedTimer()
            generated = generate_masks_for_set_image(encoder.encode(image, timer), image.rgb, options)
            timer.tick("decode")
            converted = generated.to_results(image.rgb, image.path, timer.speed)
            timer.tick("postprocess")
            yield converted

    return results()


def results_from_prediction(image: SourceImage, prediction: Prediction, timer: SpeedTimer) -> Results:
    """Convert a prediction to one row per mask: objects in the order of their prompts, best candidates first."""
    objects, candidates = prediction.scores.shape
    scores = prediction.scores * prediction.masks.any(axis=(2, 3))
    order = np.argsort(-scores, axis=1, kind="stable")
    prompt_indices = np.repeat(np.arange(objects, dtype=np.int32), candidates)
    rows = (prompt_indices, order.ravel())
    masks = np.ascontiguousarray(prediction.masks[rows])
    timer.tick("postprocess")
    return Results(
        image.rgb,
        image.path,
        Masks(masks),
        scores[rows],
        ids=prompt_indices,
        classes=np.zeros(len(prompt_indices), np.int32),
        names=NAMES,
        speed=timer.speed,
        logits=prediction.logits[rows],
    )


def _resolve_generator_options(network: PromptableModel, everything: object) -> MaskGeneratorOptions:
    if isinstance(everything, MaskGeneratorOptions):
        return everything
    if everything is None or isinstance(everything, str):
        return preset(network, everything or "default")
    raise InputError(
        f"everything={everything!r:.60} must be the name of a preset, such as 'fast', or "
        "MaskGeneratorOptions(points_per_side=16, ...)"
    )
