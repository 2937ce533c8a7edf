"""The models that one process annotates with: the detector, and the one that draws masks, opened when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.detect.detector import Detections, Detector, resolve_class_ids

if TYPE_CHECKING:
    from masklet.sam import SAM

__all__ = ["Models"]


class Models:
    """A detector and a segmenting model, and what is known of the classes.

    Example:
        >>> models = Models(AnnotateOptions("everything"))
        >>> [found] = models.detect([rgb])
        >>> models.names
        {0: 'object'}
    """

    def __init__(self, options: AnnotateOptions) -> None:
        self.options = options
        self._sam: SAM | None = None
        self._detector: Detector | None = None
        self._class_names: dict[int, str] = {}

    @property
    def class_names(self) -> dict[int, str]:
        """Of the classes, as far as they are known."""
        return dict(self._class_names)

    @property
    def uses_detector_masks(self) -> bool:
        """Whether the masks of the detector are taken, where it has some."""
        return self.options.uses_mask_generator or self.options.detector_masks

    @property
    def segmenter(self) -> SAM:
        """The model that draws masks, opened when it is asked for."""
        if self._sam is None:
            from masklet.sam import SAM

            asked = self.options
            self._sam = SAM(asked.sam, device=asked.device or None, precision=asked.precision)
        return self._sam

    def load(self) -> None:
        """Have the models there, so that what fails later is about one image or video.

        Raises:
            MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        """
        self._load_detector()
        if not self.uses_detector_masks:
            self.segmenter  # noqa: B018

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """What the detector finds in each image.

        Raises:
            InputError: it lacks a class that is wanted.
        """
        found = self._load_detector().detect(images)
        assert len(found) == len(images), f"{len(found)} answers to {len(images)} images"
        for one in found:
            self._add_class_names(one.names)
        return found

    def check_classes(self) -> None:
        """Raise where the detector, which by now may know its names, lacks a class that is wanted.

        Raises:
            InputError: it lacks one.
        """
        self._add_class_names(self._load_detector().names)

    def _add_class_names(self, names: Mapping[int, str]) -> None:
        """Take names in; raise where a detector that knows them lacks a class that is wanted."""
        if any(number not in self._class_names for number in names):
            self._class_names.update({int(number): str(name) for number, name in names.items()})
            resolve_class_ids(self.options.detect.classes, self._class_names)

    def _load_detector(self) -> Detector:
        if self._detector is None:
            from masklet.detect import open_detector

            asked = self.options
            if asked.uses_mask_generator:
                self._detector = self._load_mask_generator()
            else:
                self._detector = open_detector(asked.detector, asked.detect, asked.device)
            self._add_class_names(self._detector.names)
        return self._detector

    def _load_mask_generator(self) -> Detector:
        from masklet.detect.adapters import SegmentEverythingDetector
        from masklet.image.automatic_mask_generator import preset

        predictor = self.segmenter.predictor
        return SegmentEverythingDetector(
            predictor, self.options.detect, preset(predictor.model, self.options.everything)
        )
