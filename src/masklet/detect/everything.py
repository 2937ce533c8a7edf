"""The detector that needs no download: whatever a segmentation model finds when it is asked everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from masklet.detect.base import Detections, DetectOptions, Names, Rgb, class_numbers, select
from masklet.errors import InputError
from masklet.image.everything import EverythingOptions, segment_everything
from masklet.image.predictor import ImagePredictor

__all__ = ["EverythingDetector"]

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
