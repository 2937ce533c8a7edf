"""What was found, as plain records that fit a line of JSON: what the journal keeps and what workers send.

Boxes are xyxy in pixels of the original image, x right and y down; masks are COCO run-length codes, lossless.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from masklet.errors import InputError
from masklet.masks.rle import Rle

__all__ = ["BoxXyxy", "ImageAnnotation", "ObjectAnnotation"]

BoxXyxy = tuple[float, float, float, float]
"""x1, y1, x2, y2; right and bottom exclusive."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """One object of an image.

    `box` and `score` are the detector's, `iou` is what the segmenting model thinks of its mask (None where no model was
    asked), `track` the identity in a video.

    Example:
        >>> Found(16, 0.91, (10.0, 20.0, 110.0, 90.0), rle, 5200, (11.0, 20.0, 108.0, 89.0), 0.88)
    """

    class_id: int
    score: float
    box: BoxXyxy
    rle: Rle
    area: int
    """Of the mask, in pixels."""
    mask_box: BoxXyxy
    """The tight box of the mask."""
    predicted_iou: float | None = None
    track_id: int | None = None


@dataclass(frozen=True)
class ImageAnnotation:
    """One image, or one frame of a video: what was found in it, or why nothing could be.

    `name` is the path below the data without suffix, `size` (height, width), None where the image could not be read;
    `part` is train, val, or empty where nothing is split.

    Example:
        >>> Record("cats/0001", "photos/cats/0001.jpg", (480, 640), ())
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
        """One line of JSON, without the line's end.

        Example:
            >>> Record.from_line(record.to_line()) == record
            True
        """
        doc = {name: value for name, value in vars(self).items() if value not in (None, "", ())}
        doc["objects"] = [_to_row(one) for one in self.objects]
        return json.dumps(doc, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> ImageAnnotation:
        """The record of a line.

        Raises:
            InputError: a line that is no record.
        """
        try:
            doc: dict[str, Any] = json.loads(line)
            objects = tuple(_from_row(row) for row in doc.pop("objects"))
            size = doc.pop("size", None)
            return cls(size=None if size is None else (int(size[0]), int(size[1])), objects=objects, **doc)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(
                f"{line[:60]!r} is no record of an annotated image ({error}); the journal was changed by another "
                "program: begin anew"
            ) from error


def _to_row(annotation: ObjectAnnotation) -> list[object]:
    """Numbers with the digits they have, so that what is read again is what was found."""
    code = (annotation.rle["size"], annotation.rle["counts"])
    return [
        annotation.class_id,
        annotation.score,
        list(annotation.box),
        *code,
        annotation.area,
        list(annotation.mask_box),
        annotation.predicted_iou,
        annotation.track_id,
    ]


def _from_row(row: list[Any]) -> ObjectAnnotation:
    class_id, score, box, size, counts, area, extent, iou, track = row
    return ObjectAnnotation(
        class_id, score, _to_box(box), Rle(size=size, counts=counts), area, _to_box(extent), iou, track
    )


def _to_box(row: list[float]) -> BoxXyxy:
    x1, y1, x2, y2 = row
    return x1, y1, x2, y2
