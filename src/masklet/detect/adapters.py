"""Make detectors of functions, of other detectors with options, and of automatic mask generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from masklet.detect.detector import (
    Detections,
    DetectOptions,
    Detector,
    Names,
    Rgb,
    clip_to_image,
    filter_detections,
    resolve_class_ids,
)
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.image.predictor import ImagePredictor

__all__ = ["CallableDetector", "FilteredDetector", "SegmentEverythingDetector"]

NAMES = {0: "object"}
EXPECTED_RETURN = "(boxes (N, 4) xyxy in pixels, scores (N,), classes (N,))"


class CallableDetector:
    """A detector made of a function from an image (H, W, 3) uint8 RGB to (boxes, scores, classes).

    Boxes are (N, 4) xyxy in pixels of that image, scores (N,), classes (N,) whole numbers, as lists, arrays or
    tensors; a `Detections` is accepted too. `names` are the class names, by default the function's attribute `names`.
    Boxes are clipped to the image, those outside are removed. Of the options, `conf`, `classes` and `max_det` apply.

    Example:
        >>> def middle(rgb):
        ...     height, width = rgb.shape[:2]
        ...     return [[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], [1.0], [0]
        >>> detector = CallableDetector(middle, names={0: "middle"})
        >>> detector.detect([np.zeros((8, 8, 3), np.uint8)])
        [Detections(1: middle 1.00)]

    Raises:
        InputError: if a class in the options is not among the names; if the function returns anything else, other
            shapes, a NaN, or boxes inside out or in fractions of the image.
    """

    def __init__(
        self, function: Callable[[Rgb], Any], options: DetectOptions | None = None, names: Names | None = None
    ) -> None:
        self.function = function
        self._description = f"the detector {getattr(function, '__name__', type(function).__name__)}"
        self.options = options or DetectOptions()
        self.names: Names = dict(getattr(function, "names", {}) if names is None else names)
        resolve_class_ids(self.options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Call the function for each image."""
        results = []
        for rgb in images:
            output = self.function(rgb)
            if isinstance(output, Detections):
                detections = output
            elif not isinstance(output, (tuple, list)) or len(output) != 3:
                one = "nothing" if output is None else f"one value of type {type(output).__name__}"
                shown = f"{len(output)} values" if isinstance(output, (tuple, list)) else one
                raise InputError(f"{self._description} answered {shown}; it must return {EXPECTED_RETURN}")
            else:
                boxes, scores, classes = (  # tensors from any device
                    np.asarray(part.detach().cpu()) if hasattr(part, "detach") else part for part in output
                )
                try:
                    detections = Detections(boxes, scores, classes, self.names)
                except InputError as error:
                    raise InputError(f"{self._description} answered invalid detections: {error}") from error
            if len(detections) and detections.xyxy.max() <= 1 < max(rgb.shape[:2]):
                raise InputError(
                    f"{self._description} answered boxes like {detections.xyxy[0].tolist()}, which are fractions of "
                    "the image; multiply x by its width and y by its height"
                )
            results.append(filter_detections(clip_to_image(detections, (rgb.shape[0], rgb.shape[1])), self.options))
        return results


class FilteredDetector:
    """A detector whose detections are filtered by the options `conf`, `classes` and `max_det`.

    Example:
        >>> FilteredDetector(detector, DetectOptions(conf=0.5, classes=["dog"])).detect([rgb])  # doctest: +SKIP

    Raises:
        InputError: if a class is not among the detector's names.
    """

    def __init__(self, detector: Detector, options: DetectOptions) -> None:
        self.detector, self.options = detector, options
        if detector.names:
            resolve_class_ids(options.classes, detector.names)

    @property
    def names(self) -> Names:
        """The names of the detector."""
        return self.detector.names

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Detect the objects of each image and filter them."""
        return [filter_detections(detections, self.options) for detections in self.detector.detect(images)]


class SegmentEverythingDetector:
    """Automatic mask generation as a detector of the one class "object", with masks as run-length codes.

    `generator_options` set how densely to segment and which masks to keep; None: the default preset for the model.
    Scores are the predicted IoU. Of the options `conf`, `classes` and `max_det` apply.

    Example:
        >>> detector = SegmentEverythingDetector(SAM().predictor)  # doctest: +SKIP
        >>> detector.detect([rgb])[0].masks.shape  # doctest: +SKIP
        (57, 480, 640)

    Raises:
        InputError: if the options have a text, or a class other than "object".
    """

    def __init__(
        self,
        predictor: ImagePredictor,
        options: DetectOptions | None = None,
        generator_options: MaskGeneratorOptions | None = None,
    ) -> None:
        self.predictor, self.options, self.generator_options = predictor, options or DetectOptions(), generator_options
        self.names: Names = NAMES
        if self.options.text is not None:
            raise InputError(
                f"the detector 'everything' takes no text={self.options.text!r}: it has no names for objects; "
                "take a detector by text such as 'IDEA-Research/grounding-dino-tiny'"
            )
        resolve_class_ids(self.options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """Segment everything in each image, best score first."""
        results = []
        for rgb in images:
            masks = generate_masks(self.predictor, rgb, self.generator_options)
            classes = np.zeros(len(masks), np.int32)
            detections = Detections(masks.xyxy, masks.predicted_ious, classes, NAMES, masks.rles)
            results.append(filter_detections(detections, self.options))
        return results
