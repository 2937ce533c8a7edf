"""The interface of segment_anything: change `from segment_anything` to `from masklet.compat.segment_anything`.

build_sam                   sam_model_registry and the builders
sam_network                 Sam
predictor                   SamPredictor
automatic_mask_generator    SamAutomaticMaskGenerator
utils.transforms            ResizeLongestSide
utils.onnx                  SamOnnxModel

Written from the public names of facebookresearch/segment-anything 1.0; docs/compat.md lists what differs.
"""

from __future__ import annotations

from masklet.compat.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator
from masklet.compat.segment_anything.build_sam import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    sam_model_registry,
)
from masklet.compat.segment_anything.predictor import SamPredictor
from masklet.compat.segment_anything.sam_network import Sam

__all__ = [
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
]
