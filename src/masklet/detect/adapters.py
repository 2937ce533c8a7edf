"""Any function of a picture as a detector, and any detector under the options that were asked for.

The detector that needs no download: whatever a segmentation model finds when it is asked everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from masklet.detect.detector import Detections, DetectOptions, Detector, Names, Rgb, class_numbers, clipped, select
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import EverythingOptions, segment_everything
from masklet.image.predictor import ImagePredictor

__all__ = ["ChosenFrom", "EverythingDetector", "PlainDetector"]

SHAPE_OF_ANSWER = "(boxes (N, 4) xyxy in pixels, scores (N,), classes (N,))"


class PlainDetector:
    """A function from a picture (H, W, 3) uint8 RGB to (boxes, scores, classes), asked picture by picture.

    Boxes are (N, 4) xyxy in pixels of that picture, scores (N,), classes (N,) whole numbers; lists, arrays and tensors
    will do, and a ready `Detections` too. `names` gives the classes names; else the function's own `names`, if it has
    any. Boxes are cut to the picture, those outside are left out; of the options, `conf`, `classes` and `max_det` hold.

    Example:
        >>> def middle(rgb):
        ...     height, width = rgb.shape[:2]
        ...     return [[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], [1.0], [0]
        >>> detector = PlainDetector(middle, names={0: "middle"})
        >>> detector.detect([rgb])[0].name_of(0)
        'middle'

    Raises:
        InputError: wanted classes that are not among the names; an answer that is no such tuple, has other shapes, a
            NaN, boxes inside out or in fractions of the picture.
    """

    def __init__(
        self, function: Callable[[Rgb], Any], options: DetectOptions | None = None, names: Names | None = None
    ) -> None:
        self.function = function
        self.options = options or DetectOptions()
        self.names: Names = dict(getattr(function, "names", {}) if names is None else names)
        class_numbers(self.options.classes, self.names)

    def detect(self, pictures: Sequence[Rgb]) -> list[Detections]:
        """What the function finds in each picture."""
        return [self._one(rgb) for rgb in pictures]

    def _one(self, rgb: Rgb) -> Detections:
        answer = self.function(rgb)
        found = answer if isinstance(answer, Detections) else self._read(answer)
        if len(found) and found.xyxy.max() <= 1 < max(rgb.shape[:2]):
            raise InputError(
                f"{self._title} answered boxes like {found.xyxy[0].tolist()}, which are fractions of the picture; "
                "multiply x by its width and y by its height"
            )
        return select(clipped(found, (rgb.shape[0], rgb.shape[1])), self.options)

    def _read(self, answer: object) -> Detections:
        if not isinstance(answer, (tuple, list)) or len(answer) != 3:
            raise InputError(f"{self._title} answered {_show(answer)}; it must return {SHAPE_OF_ANSWER}")
        boxes, scores, classes = (_array(part) for part in answer)
        try:
            return Detections(boxes, scores, classes, self.names)
        except InputError as error:
            raise InputError(f"{self._title} answered what cannot be: {error}") from error

    @property
    def _title(self) -> str:
        return f"the detector {getattr(self.function, '__name__', type(self.function).__name__)}"


class ChosenFrom:
    """A detector of which only what `options` ask for is taken: `conf`, `classes` and `max_det` hold.

    Example:
        >>> ChosenFrom(detector, DetectOptions(conf=0.5, classes=["dog"])).detect([rgb])

    Raises:
        InputError: wanted classes that are not among the detector's names.
    """

    def __init__(self, detector: Detector, options: DetectOptions) -> None:
        self.detector, self.options = detector, options
        if detector.names:
            class_numbers(options.classes, detector.names)

    @property
    def names(self) -> Names:
        """Those of the detector."""
        return self.detector.names

    def detect(self, pictures: Sequence[Rgb]) -> list[Detections]:
        """What of the detector's answers is asked for."""
        return [select(found, self.options) for found in self.detector.detect(pictures)]


def _array(part: Any) -> Any:
    """A tensor, wherever it lives, as an array; anything else as it is."""
    return np.asarray(part.detach().cpu()) if hasattr(part, "detach") else part


def _show(answer: object) -> str:
    if isinstance(answer, (tuple, list)):
        return f"{len(answer)} values"
    return "nothing" if answer is None else f"one value of type {type(answer).__name__}"


NAMES = {0: "object"}


class EverythingDetector:
    """Everything in a picture, as detections of the one class "object", with their masks as run-length codes.

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
        everything: EverythingOptions | None = None,
    ) -> None:
        self.predictor, self.options, self.everything = predictor, options or DetectOptions(), everything
        self.names: Names = NAMES
        if self.options.text is not None:
            raise InputError(
                f"the detector 'everything' takes no text={self.options.text!r}: it does not know what things are; "
                "take a detector by text such as 'IDEA-Research/grounding-dino-tiny'"
            )
        class_numbers(self.options.classes, self.names)

    def detect(self, pictures: Sequence[Rgb]) -> list[Detections]:
        """What is in each picture, best score first."""
        return [self._one(rgb) for rgb in pictures]

    def _one(self, rgb: Rgb) -> Detections:
        found = segment_everything(self.predictor, rgb, self.everything)
        classes = np.zeros(len(found), np.int32)
        return select(Detections(found.xyxy, found.predicted_ious, classes, NAMES, found.rles), self.options)
