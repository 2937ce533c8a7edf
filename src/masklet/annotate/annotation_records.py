"""What was found, as plain records that fit a line of JSON: what the journal keeps and what workers send.

Boxes are xyxy in pixels of the original picture, x right and y down; masks are COCO run-length codes, lossless.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from masklet.errors import InputError
from masklet.masks.rle import Rle

__all__ = ["Corners", "Found", "Record"]

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2; right and bottom exclusive."""


@dataclass(frozen=True)
class Found:
    """One object of a picture.

    `box` and `score` are the detector's, `iou` is what the segmenting model thinks of its mask (None where no model was
    asked), `track` the identity in a film.

    Example:
        >>> Found(16, 0.91, (10.0, 20.0, 110.0, 90.0), rle, 5200, (11.0, 20.0, 108.0, 89.0), 0.88)
    """

    class_id: int
    score: float
    box: Corners
    rle: Rle
    area: int
    """Of the mask, in pixels."""
    extent: Corners
    """The tight box of the mask."""
    iou: float | None = None
    track: int | None = None


@dataclass(frozen=True)
class Record:
    """One picture, or one frame of a film: what was found in it, or why nothing could be.

    `name` is the path below the data without suffix, `size` (height, width), None where the picture could not be read;
    `part` is train, val, or empty where nothing is split.

    Example:
        >>> Record("cats/0001", "photos/cats/0001.jpg", (480, 640), ())
    """

    name: str
    path: str
    size: tuple[int, int] | None
    objects: tuple[Found, ...] = ()
    part: str = ""
    failure: str = ""
    film: str | None = None
    frame: int | None = None

    def to_line(self) -> str:
        """One line of JSON, without the line's end.

        Example:
            >>> Record.from_line(record.to_line()) == record
            True
        """
        doc = {name: value for name, value in vars(self).items() if value not in (None, "", ())}
        doc["objects"] = [_row(one) for one in self.objects]
        return json.dumps(doc, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The record of a line.

        Raises:
            InputError: a line that is no record.
        """
        try:
            doc: dict[str, Any] = json.loads(line)
            objects = tuple(_object(row) for row in doc.pop("objects"))
            size = doc.pop("size", None)
            return cls(size=None if size is None else (int(size[0]), int(size[1])), objects=objects, **doc)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(
                f"{line[:60]!r} is no record of an annotated picture ({error}); the journal was changed by another "
                "program: begin anew"
            ) from error


def _row(one: Found) -> list[object]:
    """Numbers with the digits they have, so that what is read again is what was found."""
    code = (one.rle["size"], one.rle["counts"])
    return [one.class_id, one.score, list(one.box), *code, one.area, list(one.extent), one.iou, one.track]


def _object(row: list[Any]) -> Found:
    class_id, score, box, size, counts, area, extent, iou, track = row
    return Found(class_id, score, _corners(box), Rle(size=size, counts=counts), area, _corners(extent), iou, track)


def _corners(row: list[float]) -> Corners:
    x1, y1, x2, y2 = row
    return x1, y1, x2, y2
