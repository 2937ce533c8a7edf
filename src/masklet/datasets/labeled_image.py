"""The types of writing: an image with its objects, the options of a writer, and the loss of a conversion.

Coordinates are pixels of the upright image, x right and y down. Shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.rle import Rle

__all__ = ["IMAGE_MODES", "SEGMENTATION_MODES", "ConversionLoss", "LabeledImage", "LabeledObject", "WriteOptions"]

BoolArray = npt.NDArray[np.bool_]
SEGMENTATION_MODES = ("rle", "polygon", "both")
IMAGE_MODES = ("none", "copy", "link")
EXACT = 1.0


@dataclass(frozen=True)
class LabeledObject:
    """One object of an image: its mask as run-length code, its class, and its other annotations.

    `score` is 0 to 1, None if unknown. `track_id` is the same for one object in all frames of a video.

    Example:
        >>> LabeledObject.from_mask(np.ones((2, 3), bool), class_id=4)
        LabeledObject(rle={'size': [2, 3], 'counts': '06'}, class_id=4, score=None, track_id=None)
    """

    rle: Rle
    class_id: int = 0
    score: float | None = None
    track_id: int | None = None

    @classmethod
    def from_mask(
        cls, mask: BoolArray, class_id: int = 0, score: float | None = None, *, track_id: int | None = None
    ) -> LabeledObject:
        """Build the object of a (H, W) boolean mask."""
        return cls(rle.encode(mask), int(class_id), None if score is None else float(score), track_id)

    @property
    def mask(self) -> BoolArray:
        """(H, W) bool, decoded at each access."""
        return rle.decode({**self.rle})


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image, its name in the dataset, and its objects.

    `name` is a relative path without suffix, with forward slashes; folders of any depth are allowed. `size` is
    (height, width). `video` and `frame_idx` say which frame of which video it is, `split` the split it belongs to, such
    as train. A frame of a video file has no image file: `rgb`, (H, W, 3) uint8, has its pixels and `path` is the video.

    Example:
        >>> image = LabeledImage(Path("photos/zoo/cat.jpg"), "zoo/cat", (480, 640), split="train")
        >>> image.objects
        ()
    """

    path: Path
    name: str
    size: tuple[int, int]
    objects: tuple[LabeledObject, ...] = ()
    frame_idx: int | None = None
    video: str | None = None
    split: str | None = None
    rgb: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class WriteOptions:
    """How a dataset is written.

    `segmentation` is "rle" (lossless), "polygon" (outlines with at least `min_iou` to each mask) or "both"; only
    "coco", "labelme" and "cvat" have the choice. `images` says what happens to image files: "none" (they stay where
    they are), "copy" or "link". `label_folder` is the folder of the "yolo" labels; "" puts them next to classes.txt.
    `resume_options` are further (name, value) pairs that must be equal when a later run resumes the folder. With
    `overwrite`, files that masklet did not write or that were changed since are replaced too.

    Example:
        >>> WriteOptions(segmentation="polygon", min_iou=0.95, images="copy").label_folder
        'labels'

    Raises:
        InputError: if a value is not one of these, or the IoU is not above 0 and at most 1.
    """

    segmentation: str = "rle"
    min_iou: float = 0.98
    images: str = "none"
    label_folder: str = "labels"
    resume_options: tuple[tuple[str, str], ...] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("segmentation", self.segmentation, SEGMENTATION_MODES),
            ("images", self.images, IMAGE_MODES),
        ):
            if value not in choices:
                raise InputError(f"{name}={value!r} is unknown; choose {', '.join(map(repr, choices))}")
        if not 0 < self.min_iou <= EXACT:
            raise InputError(f"min_iou={self.min_iou!r} is not an IoU; it is above 0 and at most 1: 0.98 is usual")


@dataclass(frozen=True)
class ConversionLoss:
    """The IoU of each object's mask with the mask a reader gets back, summed up over a dataset.

    `exact` objects are unchanged, `dropped` ones are missing (they count as IoU 0). `total` is the sum of all IoUs,
    `worst` the lowest one, in the image `worst_in`. `notes` counts other losses by their description.

    Example:
        >>> loss = ConversionLoss.from_ious("cat", [1.0, 0.9])
        >>> loss.mean, loss.worst, loss.worst_in
        (0.95, 0.9, 'cat')
    """

    objects: int = 0
    exact: int = 0
    dropped: int = 0
    total: float = 0.0
    worst: float = 1.0
    worst_in: str = ""
    notes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_ious(cls, name: str, ious: Sequence[float], notes: Mapping[str, int] | None = None) -> ConversionLoss:
        """Build the loss of one image."""
        ious = [float(iou) for iou in ious]
        worst = min(ious, default=EXACT)
        return cls(
            objects=len(ious),
            exact=sum(iou == EXACT for iou in ious),
            dropped=sum(iou == 0 for iou in ious),
            total=sum(ious),
            worst=worst,
            worst_in=name if worst < EXACT else "",
            notes=dict(notes or {}),
        )

    @property
    def mean(self) -> float:
        """Mean IoU over all objects, 1.0 if there are none."""
        return self.total / self.objects if self.objects else EXACT

    @property
    def is_lossless(self) -> bool:
        """Whether every object is exact and there is no note."""
        return self.exact == self.objects and not self.notes

    def __add__(self, other: ConversionLoss) -> ConversionLoss:
        """Return the loss of both together."""
        worse = other if other.worst < self.worst else self
        names = [*self.notes, *(note for note in other.notes if note not in self.notes)]
        return ConversionLoss(
            self.objects + other.objects,
            self.exact + other.exact,
            self.dropped + other.dropped,
            self.total + other.total,
            worse.worst,
            worse.worst_in,
            {note: self.notes.get(note, 0) + other.notes.get(note, 0) for note in names},
        )

    def summary_lines(self) -> list[str]:
        """Describe the loss, one sentence a line.

        Example:
            >>> ConversionLoss.from_ious("cat", [1.0, 0.9]).summary_lines()
            ['1 of 2 objects lost something of their masks: mean IoU 0.9500, worst 0.9000 (in cat)']
        """
        if self.is_lossless:
            return [f"nothing was lost of {self.objects} object{'' if self.objects == 1 else 's'}"]
        lines = []
        changed = self.objects - self.exact
        if changed:
            lines.append(
                f"{changed} of {self.objects} objects lost something of their masks: mean IoU {self.mean:.4f}, "
                f"worst {self.worst:.4f} (in {self.worst_in})"
            )
        if self.dropped:
            lines.append(f"{self.dropped} of {self.objects} objects are not there at all")
        return [*lines, *(f"{count} x {note}" for note, count in self.notes.items())]
