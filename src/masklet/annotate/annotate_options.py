"""The options of automatic annotation."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from masklet.annotate.resume_log import Settings
from masklet.datasets import DATASET_WRITERS, WriteOptions
from masklet.detect.detector import DetectOptions, Detector, Rgb
from masklet.errors import InputError

__all__ = ["EVERYTHING", "AnnotateOptions", "DetectorLike"]

DetectorLike: TypeAlias = "str | os.PathLike[str] | Callable[[Rgb], Any] | Detector"
"""A detector by name or file, a function from an image to (boxes, scores, classes), or a `Detector`."""

EVERYTHING = "everything"
DEFAULT_SAM = "sam2_b.pt"
PRESETS = ("fast", "default", "fine")
MAX_WORKERS, MAX_BATCH = 64, 256


@dataclass(frozen=True)
class AnnotateOptions:
    """How images and videos are annotated.

    Args:
        det_model: A detector, or "everything" for automatic mask generation.
        sam_model: The model of the masks, as `SAM` takes it: None is the built-in model, and "" is sam2_b.pt, or the
            built-in model with "everything".
        device: Where the models run; "" chooses.
        precision: As `SAM` takes it.
        detect: Thresholds and classes of the detector.
        detector_masks: Use the masks of a detector that has its own.
        formats: Dataset formats, each written to OUT/FORMAT; without any, OUT gets a YOLO-seg text per image.
        write_options: How the formats are written.
        val_fraction: Fraction of the images for validation; None does not split.
        batch: Images per call of the detector; 0 is four, or one with "everything".
        workers: Number of processes.
        review_fraction: Fraction of the images on the review page; 0 writes none.
        detect_every: Run the detector on every n-th frame of a video, and track in between.
        everything: Density of "everything": "fast", "default" or "fine".

    Example:
        >>> AnnotateOptions("everything", formats=("yolo", "coco"), val_fraction=0.2).batch_size
        1

    Raises:
        InputError: if a value is out of range or unknown.
    """

    det_model: DetectorLike = "yolov8x.pt"
    sam_model: str | os.PathLike[str] | None = ""
    device: str = ""
    precision: str = "fp32"
    detect: DetectOptions = field(default_factory=DetectOptions)
    detector_masks: bool = False
    formats: tuple[str, ...] = ()
    write_options: WriteOptions = field(default_factory=lambda: WriteOptions(images="link"))
    val_fraction: float | None = None
    batch: int = 0
    workers: int = 1
    review_fraction: float = 0.02
    detect_every: int = 10
    everything: str = "default"

    def __post_init__(self) -> None:
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise InputError(f"val_fraction {self.val_fraction!r} must be between 0 and 1: 0.2 is usual")
        if not 0 <= self.review_fraction <= 1:
            raise InputError(
                f"review_fraction {self.review_fraction!r} must be from 0 (no review page) to 1: 0.02 is usual"
            )
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers {self.workers!r} must be from 1 to {MAX_WORKERS} processes")
        if self.batch < 0:
            raise InputError(f"batch {self.batch!r} must be 1 or more images at once, or 0 for the default")
        if self.batch > MAX_BATCH:
            raise InputError(f"batch {self.batch!r} is too many images at once; the maximum is {MAX_BATCH}")
        if self.everything not in PRESETS:
            raise InputError(f"everything {self.everything!r} is unknown; choose one of {', '.join(PRESETS)}")
        if self.detect_every < 1:
            raise InputError(f"detect_every {self.detect_every!r} must be 1 or more frames: 10 is usual")
        for name in self.formats:
            if name not in DATASET_WRITERS:
                near = difflib.get_close_matches(name, DATASET_WRITERS, n=1)
                hint = f"did you mean {near[0]}?" if near else "choose among them"
                raise InputError(f"no format {name!r} for labels; there are {', '.join(DATASET_WRITERS)}: {hint}")
        object.__setattr__(self, "formats", tuple(dict.fromkeys(self.formats)))
        if self.val_fraction is not None and not self.formats:
            object.__setattr__(self, "formats", ("yolo",))

    @property
    def uses_mask_generator(self) -> bool:
        """Whether the detector is automatic mask generation."""
        return isinstance(self.det_model, str) and self.det_model.lower() == EVERYTHING

    @property
    def detector(self) -> str | Path | Callable[[Rgb], Any] | Detector:
        """The detector as `open_detector` takes it."""
        return Path(self.det_model) if isinstance(self.det_model, os.PathLike) else self.det_model

    @property
    def sam(self) -> str | os.PathLike[str] | None:
        """The segmentation model as `SAM` takes it."""
        if self.sam_model == "":
            return None if self.uses_mask_generator else DEFAULT_SAM
        return self.sam_model

    @property
    def batch_size(self) -> int:
        """Images per call of the detector."""
        return self.batch or (1 if self.uses_mask_generator else 4)

    def settings(self) -> Settings:
        """The options that the labels depend on, as the log stores them; device, batch and workers may change."""
        detect = self.detect
        return {
            "det_model": _model_name(self.det_model),
            "det_model file": _file_fingerprint(self.det_model),
            "sam_model": _model_name(self.sam),
            "sam_model file": _file_fingerprint(self.sam),
            "precision": self.precision,
            "conf": detect.conf,
            "iou": detect.iou,
            "imgsz": detect.imgsz,
            "max_det": detect.max_det,
            "classes": None if detect.classes is None else [str(class_id) for class_id in detect.classes],
            "text": detect.text,
            "detector_masks": self.detector_masks,
            "formats": list(self.formats),
            "segmentation": self.write_options.segmentation,
            "min_iou": self.write_options.min_iou,
            "images": self.write_options.images,
            "val_fraction": None if self.val_fraction is None else round(self.val_fraction, 9),
            "detect_every": self.detect_every,
            "everything": self.everything if self.uses_mask_generator else None,
        }


def _model_name(model: object) -> str | None:
    """The name or path of a model, or the name of its function or class."""
    if model is None:
        return None
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}.{named.__qualname__}"


def _file_fingerprint(model: object) -> list[int] | None:
    """Size in bytes and modification time in nanoseconds of a local file, or of the manifest of an exported folder."""
    if isinstance(model, (str, os.PathLike)) and model and Path(model).exists():
        path = Path(model) / "manifest.json" if Path(model).is_dir() else Path(model)
        if not path.is_file():
            return None
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return None
