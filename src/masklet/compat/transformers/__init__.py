"""The interface of transformers for SAM and SAM 2 on images: `Sam2Model`, `Sam2Processor`, `SamModel`, `SamProcessor`.

promptable_model        the models: `from_pretrained` with names and folders, outputs with `pred_masks` and `iou_scores`
promptable_processor    the processors: images and nested prompts to tensors, and masks back to the size of an image

transformers itself is not needed. Written from its public documentation; docs/compat.md lists what differs.
"""

from __future__ import annotations

from masklet.compat.transformers.promptable_model import Sam2Model, SamModel
from masklet.compat.transformers.promptable_processor import Sam2Processor, SamProcessor

__all__ = ["Sam2Model", "Sam2Processor", "SamModel", "SamProcessor"]
