"""The models that one process annotates with: the detector, and the one that draws masks, opened when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from masklet.annotate.annotate_options import AnnotateOptions
from masklet.detect.detector import Detections, Detector, class_numbers

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
        self._opened: Detector | None = None
        self._names: dict[int, str] = {}

    @property
    def names(self) -> dict[int, str]:
        """Of the classes, as far as they are known."""
        return dict(self._names)

    @property
    def draws(self) -> bool:
        """Whether the masks of the detector are taken, where it has some."""
        return self.options.sees_everything or self.options.detector_masks

    @property
    def segmenter(self) -> SAM:
        """The model that draws masks, opened when it is asked for."""
        if self._sam is None:
            from masklet.sam import SAM

            asked = self.options
            self._sam = SAM(asked.sam, device=asked.device or None, precision=asked.precision)
        return self._sam

    def open(self) -> None:
        """Have the models there, so that what fails later is about one picture or film.

        Raises:
            MaskletError: a model that cannot be had, or a detector without the classes that are wanted.
        """
        self._open_detector()
        if not self.draws:
            self.segmenter  # noqa: B018 - opened by being asked for

    def detect(self, pictures: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """What the detector finds in each picture.

        Raises:
            InputError: it lacks a class that is wanted.
        """
        found = self._open_detector().detect(pictures)
        assert len(found) == len(pictures), f"{len(found)} answers to {len(pictures)} pictures"
        for one in found:
            self._learn(one.names)
        return found

    def check_classes(self) -> None:
        """Raise where the detector, which by now may know its names, lacks a class that is wanted.

        Raises:
            InputError: it lacks one.
        """
        self._learn(self._open_detector().names)

    def _learn(self, names: Mapping[int, str]) -> None:
        """Take names in; raise where a detector that knows them lacks a class that is wanted."""
        if any(number not in self._names for number in names):
            self._names.update({int(number): str(name) for number, name in names.items()})
            class_numbers(self.options.detect.classes, self._names)

    def _open_detector(self) -> Detector:
        if self._opened is None:
            from masklet.detect import open_detector

            asked = self.options
            if asked.sees_everything:
                self._opened = self._everything()
            else:
                self._opened = open_detector(asked.detector, asked.detect, asked.device)
            self._learn(self._opened.names)
        return self._opened

    def _everything(self) -> Detector:
        from masklet.detect.adapters import EverythingDetector
        from masklet.image.automatic_mask_generator import preset

        predictor = self.segmenter.predictor
        return EverythingDetector(predictor, self.options.detect, preset(predictor.model, self.options.everything))
