"""Any function of an image as a detector, and any detector under the options that were asked for.

The detector that needs no download: whatever a segmentation model finds when it is asked everywhere.
"""

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

EXPECTED_RETURN = "(boxes (N, 4) xyxy in pixels, scores (N,), classes (N,))"


class CallableDetector:
    """A function from an image (H, W, 3) uint8 RGB to (boxes, scores, classes), asked image by image.

    Boxes are (N, 4) xyxy in pixels of that image, scores (N,), classes (N,) whole numbers; lists, arrays and tensors
    will do, and a ready `Detections` too. `names` gives the classes names; else the function's own `names`, if it has
    any. Boxes are cut to the image, those outside are left out; of the options, `conf`, `classes` and `max_det` hold.

    Example:
        >>> def middle(rgb):
        ...     height, width = rgb.shape[:2]
        ...     return [[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], [1.0], [0]
        >>> detector = PlainDetector(middle, names={0: "middle"})
        >>> detector.detect([rgb])[0].name_of(0)
        'middle'

    Raises:
        InputError: wanted classes that are not among the names; an answer that is no such tuple, has other shapes, a
            NaN, boxes inside out or in fractions of the image.
    """

    def __init__(
        self, function: Callable[[Rgb], Any], options: DetectOptions | None = None, names: Names | None = None
    ) -> None:
        self.function = function
        self.options = options or DetectOptions()
        self.names: Names = dict(getattr(function, "names", {}) if names is None else names)
        resolve_class_ids(self.options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What the function finds in each image."""
        return [self._detect_image(rgb) for rgb in images]

    def _detect_image(self, rgb: Rgb) -> Detections:
        answer = self.function(rgb)
        found = answer if isinstance(answer, Detections) else self._parse_output(answer)
        if len(found) and found.xyxy.max() <= 1 < max(rgb.shape[:2]):
            raise InputError(
                f"{self._description} answered boxes like {found.xyxy[0].tolist()}, which are fractions of the image; "
                "multiply x by its width and y by its height"
            )
        return filter_detections(clip_to_image(found, (rgb.shape[0], rgb.shape[1])), self.options)

    def _parse_output(self, output: object) -> Detections:
        if not isinstance(output, (tuple, list)) or len(output) != 3:
            raise InputError(
                f"{self._description} answered {_describe_output(output)}; it must return {EXPECTED_RETURN}"
            )
        boxes, scores, classes = (_to_array(part) for part in output)
        try:
            return Detections(boxes, scores, classes, self.names)
        except InputError as error:
            raise InputError(f"{self._description} answered what cannot be: {error}") from error

    @property
    def _description(self) -> str:
        return f"the detector {getattr(self.function, '__name__', type(self.function).__name__)}"


class FilteredDetector:
    """A detector of which only what `options` ask for is taken: `conf`, `classes` and `max_det` hold.

    Example:
        >>> ChosenFrom(detector, DetectOptions(conf=0.5, classes=["dog"])).detect([rgb])

    Raises:
        InputError: wanted classes that are not among the detector's names.
    """

    def __init__(self, detector: Detector, options: DetectOptions) -> None:
        self.detector, self.options = detector, options
        if detector.names:
            resolve_class_ids(options.classes, detector.names)

    @property
    def names(self) -> Names:
        """Those of the detector."""
        return self.detector.names

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What of the detector's answers is asked for."""
        return [filter_detections(found, self.options) for found in self.detector.detect(images)]


def _to_array(part: Any) -> Any:
    """A tensor, wherever it lives, as an array; anything else as it is."""
    return np.asarray(part.detach().cpu()) if hasattr(part, "detach") else part


def _describe_output(output: object) -> str:
    if isinstance(output, (tuple, list)):
        return f"{len(output)} values"
    return "nothing" if output is None else f"one value of type {type(output).__name__}"


NAMES = {0: "object"}


class SegmentEverythingDetector:
    """Everything in an image, as detections of the one class "object", with their masks as run-length codes.

    `everything` says how densely the model is asked and which answers are good; None: the default preset for the
    model. Scores are the model's own guess at the IoU of its mask. Of the options `conf`, `classes` and `max_det` hold.

    Example:
        >>> detector = EverythingDetector(SAM().predictor)
        >>> found = detector.detect([rgb])[0]
        >>> found.masks.shape
        (57, 480, 640)

    Raises:
        InputError: a text, or a class other than "object".
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
                f"the detector 'everything' takes no text={self.options.text!r}: it does not know what things are; "
                "take a detector by text such as 'IDEA-Research/grounding-dino-tiny'"
            )
        resolve_class_ids(self.options.classes, self.names)

    def detect(self, images: Sequence[Rgb]) -> list[Detections]:
        """What is in each image, best score first."""
        return [self._detect_image(rgb) for rgb in images]

    def _detect_image(self, rgb: Rgb) -> Detections:
        found = generate_masks(self.predictor, rgb, self.generator_options)
        classes = np.zeros(len(found), np.int32)
        return filter_detections(Detections(found.xyxy, found.predicted_ious, classes, NAMES, found.rles), self.options)
