"""The interface of transformers for SAM, SAM 2 and EdgeTAM on images and videos.

promptable_model        SamModel, Sam2Model, EdgeTamModel: images and prompts to low-resolution masks
promptable_processor    SamProcessor, Sam2Processor: images and nested prompts to tensors, masks to the size of an image
video_model             Sam2VideoModel, EdgeTamVideoModel: sessions frame by frame
video_processor         Sam2VideoProcessor: sessions, and prompts on their frames
inference_session       Sam2VideoInferenceSession
mask_generation         pipeline("mask-generation")
auto_model              AutoModel, AutoProcessor
open_pretrained, nested_prompts, object_prompts, pixel_values, named_tensors     what these share

transformers itself is not needed. Written from its public documentation; docs/compat.md lists what differs.
"""

from __future__ import annotations

from masklet.compat.transformers.auto_model import AutoModel, AutoProcessor
from masklet.compat.transformers.inference_session import Sam2VideoInferenceSession
from masklet.compat.transformers.mask_generation import MaskGenerationPipeline, pipeline
from masklet.compat.transformers.promptable_model import EdgeTamModel, Sam2Model, SamModel
from masklet.compat.transformers.promptable_processor import Sam2Processor, SamProcessor
from masklet.compat.transformers.video_model import EdgeTamVideoModel, Sam2VideoModel
from masklet.compat.transformers.video_processor import Sam2VideoProcessor

__all__ = [
    "AutoModel",
    "AutoProcessor",
    "EdgeTamModel",
    "EdgeTamVideoModel",
    "MaskGenerationPipeline",
    "Sam2Model",
    "Sam2Processor",
    "Sam2VideoInferenceSession",
    "Sam2VideoModel",
    "Sam2VideoProcessor",
    "SamModel",
    "SamProcessor",
    "pipeline",
]
