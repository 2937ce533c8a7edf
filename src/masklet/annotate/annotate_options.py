"""What is asked of a run of automatic annotation, checked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from masklet.annotate.resume_log import Settings
from masklet.datasets import DATASET_WRITERS, WriteOptions
from masklet.detect.detector import DetectOptions, Detector
from masklet.errors import InputError

__all__ = ["EVERYTHING", "AnnotateOptions", "DetectorLike"]

DetectorLike: TypeAlias = "str | os.PathLike[str] | Callable[..., Any] | Detector"
EVERYTHING = "everything"
DEFAULT_SAM = "sam2_b.pt"
PRESETS = ("fast", "default", "fine")
MAX_WORKERS, MAX_BATCH = 64, 256


@dataclass(frozen=True)
class AnnotateOptions:
    """How images become labels.

    `det_model` and `detect` say what to look for and `sam_model` who draws the masks ("": the usual one, and with
    "everything" the model in the package; None: the model in the package). `detector_masks` takes the masks of a
    detector that draws its own. `formats` are those of `masklet.datasets`, each in a folder of its own
    below the
    output, written as `layout` says; without any it is one YOLO-seg text an image. `split` is the share of images
    for training. `batch` images go to the detector at once (0: one, or four where detectors gain by it), `workers`
    processes work side by side. `review` is the share of images on the review sheet, `every` how many frames of a
    video lie between two looks of the detector, `everything` how densely everything is asked for: fast, default, fine.

    Example:
        >>> AnnotateOptions("everything", formats=("yolo", "coco"), split=0.8, workers=2)

    Raises:
        InputError: a value outside what is allowed.
    """

    det_model: DetectorLike = "yolov8x.pt"
    sam_model: str | os.PathLike[str] | None = ""
    device: str = ""
    precision: str = "fp32"
    detect: DetectOptions = field(default_factory=DetectOptions)
    detector_masks: bool = False
    formats: tuple[str, ...] = ()
    write_options: WriteOptions = field(default_factory=lambda: WriteOptions(images="link"))
    split: float | None = None
    batch: int = 0
    workers: int = 1
    review_fraction: float = 0.02
    detect_every: int = 10
    everything: str = "default"

    def __post_init__(self) -> None:
        if self.split is not None and not 0 < self.split < 1:
            raise InputError(f"split {self.split!r} must be between 0 and 1, the share for training: 0.8 is usual")
        if not 0 <= self.review_fraction <= 1:
            raise InputError(
                f"review {self.review_fraction!r} must be from 0 (no sheet) to 1, a share of the images: 0.02"
            )
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InputError(f"workers {self.workers!r} must be from 1 to {MAX_WORKERS} processes")
        if self.batch < 0:
            raise InputError(f"batch {self.batch!r} must be 1 or more images at once, or 0 for what is usual")
        if self.everything not in PRESETS:
            raise InputError(f"everything {self.everything!r} is unknown; choose one of {', '.join(PRESETS)}")
        if self.detect_every < 1:
            raise InputError(
                f"every {self.detect_every!r} must be 1 or more frames from one look of the detector to the next"
            )
        if self.batch > MAX_BATCH:
            raise InputError(f"batch {self.batch!r} is too many images at once; {MAX_BATCH} are the most")
        for name in self.formats:
            _check_format(name)
        object.__setattr__(self, "formats", tuple(dict.fromkeys(self.formats)))
        if self.split is not None and not self.formats:
            object.__setattr__(self, "formats", ("yolo",))

    @property
    def uses_mask_generator(self) -> bool:
        """Whether the segmenting model itself is the detector."""
        return isinstance(self.det_model, str) and self.det_model.lower() == EVERYTHING

    @property
    def detector(self) -> str | Path | Callable[..., Any] | Detector:
        """The detector as `open_detector` takes it."""
        return Path(self.det_model) if isinstance(self.det_model, os.PathLike) else self.det_model

    @property
    def sam(self) -> str | os.PathLike[str] | None:
        """The segmenting model as `SAM` takes it."""
        if self.sam_model == "":
            return None if self.uses_mask_generator else DEFAULT_SAM
        return self.sam_model

    @property
    def batch_size(self) -> int:
        """Images at once."""
        return self.batch or (1 if self.uses_mask_generator else 4)

    def settings(self) -> Settings:
        """What the outcome depends on, as the journal keeps it: not how many work at it, nor where."""
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
            "classes": None if detect.classes is None else [str(one) for one in detect.classes],
            "text": detect.text,
            "detector_masks": self.detector_masks,
            "formats": list(self.formats),
            "segmentation": self.write_options.segmentation,
            "min_iou": self.write_options.min_iou,
            "pictures": self.write_options.images,
            "split": self.split,
            "every": self.detect_every,
            "everything": self.everything if self.uses_mask_generator else None,
        }


def _check_format(name: str) -> None:
    if name not in DATASET_WRITERS:
        near = difflib.get_close_matches(name, DATASET_WRITERS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose among them"
        raise InputError(f"no format {name!r} for labels; there are {', '.join(DATASET_WRITERS)}: {hint}")


def _model_name(model: object) -> str | None:
    """A model by its name, its path, or the name of its function or class."""
    if model is None:
        return None
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}.{named.__qualname__}"


def _file_fingerprint(model: object) -> list[int] | None:
    """Bytes and nanoseconds of a model that is a file here."""
    if isinstance(model, (str, os.PathLike)) and model and Path(model).is_file():
        status = Path(model).stat()
        return [status.st_size, status.st_mtime_ns]
    return None
