"""`auto_annotate` with the arguments of ultralytics."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from masklet import annotate
from masklet.annotate import Summary

__all__ = ["auto_annotate"]


def auto_annotate(
    data: str | PathLike[str],
    det_model: str = "yolov8x.pt",
    sam_model: str = "sam_b.pt",
    device: str = "",
    conf: float = 0.25,
    iou: float = 0.45,
    imgsz: int = 640,
    max_det: int = 300,
    classes: Sequence[int] | None = None,
    output_dir: str | PathLike[str] | None = None,
) -> Summary:
    """Label the images of a folder: a detector finds objects, a SAM draws their masks; YOLO text per image.

    The default detector is YOLOv8, which masklet reads. `masklet.auto_annotate` has more formats and options.

    Raises:
        As `masklet.auto_annotate`.
    """
    return annotate.auto_annotate(
        Path(data), det_model, sam_model, device, conf, iou, imgsz, max_det, classes, output_dir
    )
