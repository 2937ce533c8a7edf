"""YOLOv8 (Jocher et al. 2023), detecting and segmenting, written from its published description and tensor shapes.

FastSAM (Zhao et al. 2023, arXiv 2306.12156) is its segmenter in two sizes, with one class.
"""

from __future__ import annotations

from masklet.models.yolo.config import CONFIGS, YOLOConfig
from masklet.models.yolo.head import RawDetections
from masklet.models.yolo.model import YOLOv8
from masklet.models.yolo.state_dict import build, config_name, expected_shapes, infer_config

__all__ = [
    "CONFIGS",
    "RawDetections",
    "YOLOConfig",
    "YOLOv8",
    "build",
    "config_name",
    "expected_shapes",
    "infer_config",
]
