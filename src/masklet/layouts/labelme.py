"""LabelMe: a JSON beside each picture, with masks as PNG in base64, outlines, or both."""

from __future__ import annotations

import base64
import io
import json
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.files import write_text
from masklet.layouts.base import Written
from masklet.layouts.journal import Line, Record
from masklet.layouts.naming import one_line
from masklet.layouts.records import LabelledObject, LabelledPicture
from masklet.layouts.shapes import ShapeLayout
from masklet.masks.polygons import Ring

__all__ = ["LabelmeLayout"]

VERSION = "5.4.1"
"""The version of LabelMe whose files these are: masks came with the fifth."""


class LabelmeLayout(ShapeLayout):
    """[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, and labels.txt.

    "rle" writes a shape of type `mask` an object, which loses nothing; "polygon" outlines that keep `min_iou`, a shape
    a part, tied together by `group_id`; "both" both, tied together. LabelMe joins what is tied, so that a part of an
    outline that runs outside its mask counts: "both" outlines are exact. `score` and `track_id` are written where they
    are known; LabelMe keeps them.
    """

    layout: ClassVar[str] = "labelme"
    about: ClassVar[str] = "[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, labels.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _picture_file(self, picture: LabelledPicture) -> str:
        return _stem(picture.name, picture.split)

    def _is_there(self, line: Line) -> bool:
        return super()._is_there(line) and (self.folder / f"{_stem(line.name, line.split)}.json").exists()

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, shapes = Written(), list[Record]()
        for number, thing in enumerate(picture.objects, 1):
            shapes += self._shapes(thing, number, written)
        content: Record = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(file).name,
            "imageData": None,
            "imageHeight": picture.size[0],
            "imageWidth": picture.size[1],
        }
        path = self.folder / f"{_stem(picture.name, picture.split)}.json"
        self.paths.append(write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n"))
        return written

    def _shapes(self, thing: LabelledObject, number: int, written: Written) -> list[Record]:
        """The shapes of one object; several are tied together by its number."""
        windows, rings = self._drawn(thing.mask, written)
        found = [_mask_shape(*window) for window in windows] + [_outline_shape(ring) for ring in rings]
        said: Record = {"label": self._name_of(thing.class_id), "group_id": number if len(found) > 1 else None}
        said |= {"description": "", "flags": {}}
        said |= {"score": thing.score} if thing.score is not None else {}
        said |= {"track_id": thing.id} if thing.id is not None else {}
        return [{**said, **shape} for shape in found]

    def _finish(self) -> None:
        lines = ["__ignore__", "_background_", *map(one_line, self.names.values())]
        self.paths.append(write_text(self.folder / "labels.txt", "".join(f"{line}\n" for line in lines)))


def _stem(name: str, split: str | None) -> str:
    return f"{split}/{name}" if split else name


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> Record:
    """The two points are the first and the last pixel of the box."""
    packed = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).convert("1").save(packed, "PNG")
    height, width = crop.shape
    return {
        "points": [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]],
        "shape_type": "mask",
        "mask": base64.b64encode(packed.getvalue()).decode("ascii"),
    }


def _outline_shape(ring: Ring) -> Record:
    return {"points": ring.astype(float).tolist(), "shape_type": "polygon"}
