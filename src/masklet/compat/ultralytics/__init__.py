"""The interface of ultralytics: change `from ultralytics import SAM` to `from masklet.compat.ultralytics import SAM`.

model               SAM, YOLO, FastSAM
engine.results      Results, Boxes, Masks: torch tensors, BGR
models.sam          Predictor, SAM2Predictor, SAM2VideoPredictor, SAM2DynamicInteractivePredictor
data.annotator      auto_annotate
tracking            objects and their ids through the frames of a video
arguments, sources, outputs     keywords, what images are read from, what is written

Written from the public documentation of ultralytics; docs/compat.md lists what differs.
"""

from __future__ import annotations

from masklet.compat.ultralytics.model import SAM, YOLO, FastSAM, sample_images

__all__ = ["ASSETS", "SAM", "YOLO", "FastSAM"]


def __getattr__(name: str) -> object:
    if name == "ASSETS":
        return sample_images()
    raise AttributeError(
        f"module 'masklet.compat.ultralytics' has no attribute {name!r}; it has {', '.join(__all__)}, and masklet "
        "itself may have what you need: docs/coming_from.md"
    )
