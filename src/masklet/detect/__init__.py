"""What finds objects in pictures: boxes with classes and scores, behind one protocol.

base        Detections, Detector, DetectOptions
opening     from a name or an object to a detector
plain       any function of a picture
everything  whatever a segmentation model finds without being asked
hub         detectors of the `transformers` extra
"""

from __future__ import annotations

from masklet.detect.detector import Detections, DetectOptions, Detector, class_numbers, select
from masklet.detect.open_detector import open_detector

__all__ = ["DetectOptions", "Detections", "Detector", "class_numbers", "open_detector", "select"]
