"""What finds objects in images: boxes with classes and scores, behind one protocol.

base        Detections, Detector, DetectOptions
opening     from a name or an object to a detector
plain       any function of an image
everything  whatever a segmentation model finds without being asked
hub         detectors of the `transformers` extra
"""

from __future__ import annotations

from masklet.detect.detector import Detections, DetectOptions, Detector, filter_detections, resolve_class_ids
from masklet.detect.open_detector import open_detector

__all__ = ["DetectOptions", "Detections", "Detector", "filter_detections", "open_detector", "resolve_class_ids"]
