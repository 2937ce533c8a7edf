"""Segment images: from prompts, or without any, to `Results`, with the time of each stage."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.image import Prediction
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks_for_set_image, preset
from masklet.image.predictor import ImagePredictor
from masklet.media import SourceImage
from masklet.models.types import ImageFeatures, PromptableModel
from masklet.prompts import ObjectPrompt
from masklet.results import Masks, Results

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
    """A predictor that does not encode the image it holds a second time."""

    def __init__(self, predictor: ImagePredictor) -> None:
        self.predictor = predictor
        self._key = b""
        self._features: ImageFeatures | None = None

    def set_image(self, image: SourceImage, timer: SpeedTimer) -> None:
        """Encode the image, unless it is the one encoded last."""
        shape = np.array(image.rgb.shape, np.int64).tobytes()
        key = hashlib.blake2b(np.ascontiguousarray(image.rgb).data, key=shape).digest()
        if key != self._key or self._features is not self.predictor.features:  # the predictor may have another image
            pixels = self.predictor._image_transform(image.size).preprocess(image.rgb)
            timer.tick("preprocess")
            self.predictor._set_preprocessed(pixels, image.size)
            self._key, self._features = key, self.predictor.features
        timer.tick("encode")


def segment_prompts(
    encoder: CachedEncoder,
    images: Iterable[SourceImage],
    parse: Callable[[tuple[int, int]], tuple[ObjectPrompt, ...]],
    logits: npt.NDArray[np.float32] | None,
    multimask: bool | None,
) -> Iterator[Results]:
    """Segment the prompted objects in each image; `parse` reads the prompts for an image of (height, width)."""
    for image in images:
        prompts = parse(image.size)
        timer = SpeedTimer()
        encoder.set_image(image, timer)
        prediction = encoder.predictor.predict_prompts(prompts, mask_input=logits, multimask_output=multimask)
        timer.tick("decode")
        yield results_from_prediction(image, prediction, timer)


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
            encoder.set_image(image, timer)
            generated = generate_masks_for_set_image(encoder.predictor, image.rgb, options)
            timer.tick("decode")
            converted = generated.to_results(image.rgb, image.path, timer.speed)
            timer.tick("postprocess")
            yield converted

    return results()


def results_from_prediction(image: SourceImage, prediction: Prediction, timer: SpeedTimer) -> Results:
    """Convert a prediction to one row per mask: objects in the order of their prompts, best candidates first."""
    objects, candidates = prediction.scores.shape
    order = np.argsort(-prediction.scores, axis=1, kind="stable")
    prompt_indices = np.repeat(np.arange(objects, dtype=np.int32), candidates)
    rows = (prompt_indices, order.ravel())
    masks = np.ascontiguousarray(prediction.masks[rows])
    timer.tick("postprocess")
    return Results(
        image.rgb,
        image.path,
        Masks(masks),
        prediction.scores[rows],
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
