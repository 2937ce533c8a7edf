"""What is written: an image with its objects, how it should be written, and what was lost on the way.

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
    """One object of an image: its mask as a run-length code, its class, and what else is known of it.

    `score` is 0 to 1, None where nobody said one. `id` is the same for one thing in all frames of a video.

    Example:
        >>> LabeledObject.of(np.ones((2, 3), bool), class_id=4)
        LabeledObject(rle={'size': [2, 3], 'counts': '06'}, class_id=4, score=None, id=None)
    """

    rle: Rle
    class_id: int = 0
    score: float | None = None
    track_id: int | None = None

    @classmethod
    def from_mask(
        cls, mask: BoolArray, class_id: int = 0, score: float | None = None, *, track_id: int | None = None
    ) -> LabeledObject:
        """The object of a (H, W) boolean mask."""
        return cls(rle.encode(mask), int(class_id), None if score is None else float(score), track_id)

    @property
    def mask(self) -> BoolArray:
        """(H, W) bool, decoded each time it is looked at."""
        return rle.decode({**self.rle})


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """An image, its name in the data set, and its objects.

    `name` is its path without suffix, relative, with forward slashes; folders of any depth are kept. `size` is
    (height, width). `rgb`, (H, W, 3) uint8, is the image itself where it is no file of its own, such as a frame of
    a video; `path` is then the video. `video` and `frame` say where in which video it is, `split` which part of the data
    set it belongs to, such as train.

    Example:
        >>> LabeledPicture(Path("photos/zoo/cat.jpg"), "zoo/cat", (480, 640), (cat,), split="train")
    """  # noqa: E501

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
    """How a data set is written.

    `segmentation` is "rle" (lossless), "polygon" (outlines that keep at least `min_iou` of each mask) or "both"; only
    "coco", "labelme" and "cvat" have the choice. `images` says what becomes of the images: "none" (they stay
    where they are), "copy" or "link". `folder` is where "yolo" puts its texts; "" is beside classes.txt. `asked` is
    whatever else has to be the same, by name, when a folder is gone on with.

    Example:
        >>> LayoutOptions(segmentation="polygon", min_iou=0.95, images="copy")

    Raises:
        InputError: another word than those, or an IoU that is not in 0 to 1.
    """

    segmentation: str = "rle"
    min_iou: float = 0.98
    images: str = "none"
    label_folder: str = "labels"
    resume_options: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_choice("segmentation", self.segmentation, SEGMENTATION_MODES)
        _check_choice("pictures", self.images, IMAGE_MODES)
        if not 0 < self.min_iou <= EXACT:
            raise InputError(
                f"min_iou={self.min_iou!r} is no share of a mask; it is above 0 and at most 1: 0.98 is usual"
            )


@dataclass(frozen=True)
class ConversionLoss:
    """How well what was written agrees with the masks: IoU of each object with what a reader gets back.

    `exact` objects came through whole, `dropped` ones not at all (they count as IoU 0). `notes` counts whatever else
    could not be held, by a sentence.

    Example:
        >>> loss = Loss.of("cat", [1.0, 0.9])
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
        """The loss of one image."""
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
        """Mean IoU over all objects, 1.0 when there are none."""
        return self.total / self.objects if self.objects else EXACT

    @property
    def is_lossless(self) -> bool:
        """Whether everything came through."""
        return self.exact == self.objects and not self.notes

    def __add__(self, other: ConversionLoss) -> ConversionLoss:
        """Of both together."""
        worse = other if other.worst < self.worst else self
        kinds = [*self.notes, *(note for note in other.notes if note not in self.notes)]
        return ConversionLoss(
            self.objects + other.objects,
            self.exact + other.exact,
            self.dropped + other.dropped,
            self.total + other.total,
            worse.worst,
            worse.worst_in,
            {note: self.notes.get(note, 0) + other.notes.get(note, 0) for note in kinds},
        )

    def summary_lines(self) -> list[str]:
        """What there is to say of it, a sentence each; nothing lost is said in one.

        Example:
            >>> Loss.of("cat", [1.0, 0.9]).lines()
            ['1 of 2 objects lost something of their masks: mean IoU 0.9500, worst 0.9000 (in cat)']
        """
        if self.is_lossless:
            return [f"nothing was lost of {self.objects} objects"]
        said = []
        changed = self.objects - self.exact
        if changed:
            said.append(
                f"{changed} of {self.objects} objects lost something of their masks: mean IoU {self.mean:.4f}, "
                f"worst {self.worst:.4f} (in {self.worst_in})"
            )
        if self.dropped:
            said.append(f"{self.dropped} of {self.objects} objects are not there at all")
        return [*said, *(f"{count} x {note}" for note, count in self.notes.items())]


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown; choose {', '.join(map(repr, choices))}")
