"""The annotations of images and frames as plain records, stored as lines of JSON.

Boxes are xyxy in pixels of the original image, x right and y down; masks are COCO run-length codes, lossless.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from masklet.atomic_files import current_keys
from masklet.damaged_files import decoder_errors
from masklet.errors import InputError
from masklet.masks.rle import Rle

__all__ = ["UNEXPECTED", "BoxXyxy", "ImageAnnotation", "ObjectAnnotation", "unexpected_failure"]

UNEXPECTED = "unexpected error"
"""What the reason of a failure has that no list of errors knows: a fault of masklet or of a library."""

BoxXyxy = tuple[float, float, float, float]
"""x1, y1, x2, y2; right and bottom exclusive."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """One object of an image.

    Args:
        score: Confidence of the detector.
        box: Box of the detector.
        rle: The mask.
        area: Area of the mask in pixels.
        mask_box: Tight box of the mask.
        predicted_iou: Mask quality predicted by the segmentation model; None if the mask is the detector's.
        track_id: Identity in a video.

    Example:
        >>> mask = Rle(size=[2, 3], counts="06")
        >>> ObjectAnnotation(16, 0.91, (0.0, 0.0, 3.0, 2.0), mask, 6, (0.0, 0.0, 3.0, 2.0), 0.88).area
        6
    """

    class_id: int
    score: float
    box: BoxXyxy
    rle: Rle
    area: int
    mask_box: BoxXyxy
    predicted_iou: float | None = None
    track_id: int | None = None


@dataclass(frozen=True)
class ImageAnnotation:
    """The annotation of one image, or of one frame of a video, or the reason of its failure.

    Args:
        name: Path below the data without suffix.
        size: (height, width); None if the image could not be read.
        split: "train", "val", or empty without a split.
        failure: Why the image could not be annotated.
        video: Name of the video of a frame.

    Example:
        >>> record = ImageAnnotation("cats/0001", "photos/cats/0001.jpg", (480, 640))
        >>> ImageAnnotation.from_line(record.to_line()) == record
        True
    """

    name: str
    path: str
    size: tuple[int, int] | None
    objects: tuple[ObjectAnnotation, ...] = ()
    split: str = ""
    failure: str = ""
    video: str | None = None
    frame_idx: int | None = None

    def to_line(self) -> str:
        """Return the record as one line of JSON, without the newline; numbers are stored without rounding."""
        doc = {name: value for name, value in vars(self).items() if value not in (None, "", ())}
        doc["objects"] = [
            [
                one.class_id,
                one.score,
                list(one.box),
                one.rle["size"],
                one.rle["counts"],
                one.area,
                list(one.mask_box),
                one.predicted_iou,
                one.track_id,
            ]
            for one in self.objects
        ]
        return json.dumps(doc, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> ImageAnnotation:
        """Read the record of a line, of this or an earlier version.

        Raises:
            InputError: if the line is malformed.
        """
        try:
            doc: dict[str, Any] = json.loads(line)
            objects = []
            for class_id, score, box, mask_size, counts, area, mask_box, iou, track_id in doc.pop("objects"):
                mask = Rle(size=mask_size, counts=counts)
                objects.append(
                    ObjectAnnotation(class_id, score, _to_box(box), mask, area, _to_box(mask_box), iou, track_id)
                )
            doc = current_keys(doc, "annotation_record")
            size = doc.pop("size", None)
            return cls(size=None if size is None else (int(size[0]), int(size[1])), objects=tuple(objects), **doc)
        except decoder_errors() as error:
            raise InputError(
                f"{line[:60]!r} is not the record of an annotated image ({error}); the log was changed by another "
                "program: overwrite the earlier run (resume=False, --overwrite)"
            ) from error


def unexpected_failure(path: str, error: Exception) -> str:
    """Return the reason of the failure of one image or video that ended in an error which no list has.

    Example:
        >>> unexpected_failure("a.png", RuntimeError("no frame"))
        'a.png: unexpected error RuntimeError: no frame'
    """
    return f"{path}: {UNEXPECTED} {type(error).__name__}: {error}"


def _to_box(row: list[float]) -> BoxXyxy:
    x1, y1, x2, y2 = row
    return x1, y1, x2, y2
