"""The models of one process: the detector, and the segmentation model, each loaded when it is needed."""

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
    """A detector, a segmentation model, and the class names known so far.

    Example:
        >>> models = Models(AnnotateOptions("everything"))
        >>> [detections] = models.detect([rgb])  # doctest: +SKIP
        >>> models.class_names  # doctest: +SKIP
        {0: 'object'}
    """

    def __init__(self, options: AnnotateOptions) -> None:
        self.options = options
        self._sam: SAM | None = None
        self._detector: Detector | None = None
        self._class_names: dict[int, str] = {}

    @property
    def class_names(self) -> dict[int, str]:
        """The class names known so far; some detectors name a class only when they detect it."""
        return dict(self._class_names)

    @property
    def uses_detector_masks(self) -> bool:
        """Whether the masks of the detector are used, if it has some."""
        return self.options.uses_mask_generator or self.options.detector_masks

    def load_segmenter(self) -> SAM:
        """Return the segmentation model, loaded at the first call."""
        if self._sam is None:
            from masklet.sam import SAM

            options = self.options
            self._sam = SAM(options.sam, device=options.device or None, precision=options.precision)
        return self._sam

    def load(self) -> None:
        """Load the models, so that a later error is about one image or video.

        Raises:
            MaskletError: if a model cannot be loaded, or the detector lacks a requested class.
        """
        self._load_detector()
        if not self.uses_detector_masks:
            self.load_segmenter()

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Run the detector on images (H, W, 3) RGB.

        Raises:
            InputError: if the detector lacks a requested class.
        """
        detections = self._load_detector().detect(images)
        assert len(detections) == len(images), f"{len(detections)} results for {len(images)} images"
        for one in detections:
            self._add_class_names(one.names)
        return detections

    def check_classes(self) -> None:
        """Check the requested classes against the names that the detector has by now.

        Raises:
            InputError: if the detector lacks a requested class.
        """
        self._add_class_names(self._load_detector().names)

    def _add_class_names(self, names: Mapping[int, str]) -> None:
        if any(class_id not in self._class_names for class_id in names):
            self._class_names.update({int(class_id): str(name) for class_id, name in names.items()})
            resolve_class_ids(self.options.detect.classes, self._class_names)

    def _load_detector(self) -> Detector:
        if self._detector is None:
            options = self.options
            if options.uses_mask_generator:
                from masklet.detect.adapters import SegmentEverythingDetector
                from masklet.image.automatic_mask_generator import preset

                predictor = self.load_segmenter().predictor
                generator_options = preset(predictor.model, options.everything)
                self._detector = SegmentEverythingDetector(predictor, options.detect, generator_options)
            else:
                from masklet.detect import open_detector

                self._detector = open_detector(options.detector, options.detect, options.device)
            self._add_class_names(self._detector.names)
        return self._detector
