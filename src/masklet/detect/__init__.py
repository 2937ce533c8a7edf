"""Detect objects in images: boxes with classes and scores, behind one protocol.

detector             Detections, Detector, DetectOptions
open_detector        from a name, a function or an object to a detector
yolo, letterbox, proto_masks    YOLOv8 and FastSAM
fastsam, clip        select FastSAM's masks by points, boxes and texts
huggingface, huggingface_files  detectors of the `transformers` extra
adapters             functions, filters and automatic mask generation as detectors
"""

from __future__ import annotations

from masklet.detect.detector import Detections, DetectOptions, Detector, filter_detections, resolve_class_ids
from masklet.detect.open_detector import open_detector

__all__ = ["DetectOptions", "Detections", "Detector", "filter_detections", "open_detector", "resolve_class_ids"]
