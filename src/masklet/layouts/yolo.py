"""YOLO-seg: a text a picture, a line an object, with data.yaml and classes.txt for the tools that train on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from masklet.files import write_text
from masklet.layouts.base import NO_PIXEL, LayoutWriter, Written
from masklet.layouts.journal import Line, Record
from masklet.layouts.naming import one_line
from masklet.layouts.records import LabelledPicture
from masklet.layouts.tracing import window_of
from masklet.masks.polygons import contour_loss, contour_ring

__all__ = ["YoloLayout"]

IMAGES = "images"
SPLITS = ("train", "val", "test")


class YoloLayout(LayoutWriter):
    """labels/[SPLIT/]NAME.txt with lines of `class x1 y1 x2 y2 ...` in shares of width and height.

    The format holds one ring an object: holes and further parts hang on bridges a pixel wide, which readers paint;
    those to parts lie outside the mask. A picture without objects has an empty text. Pictures go to
    images/[SPLIT/]NAME.jpg; with `folder=""` they and the texts go to OUT itself, and there is no data.yaml.
    """

    layout: ClassVar[str] = "yolo"
    about: ClassVar[str] = "images/[SPLIT/]NAME.jpg, labels/[SPLIT/]NAME.txt, data.yaml, classes.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "classes"})

    def _asked(self) -> Record:
        return {**super()._asked(), "folder": self.options.folder}

    def _picture_file(self, picture: LabelledPicture) -> str:
        return _joined(IMAGES if self.options.folder else "", picture.split, picture.name)

    def _label_file(self, name: str, split: str | None) -> str:
        return _joined(self.options.folder, split, name) + ".txt"

    def _is_there(self, line: Line) -> bool:
        return super()._is_there(line) and (self.folder / self._label_file(line.name, line.split)).exists()

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, lines = Written(), []
        for thing in picture.objects:
            left, top, crop = window_of(thing.mask)
            ring = contour_ring(crop) if crop.size else np.zeros((0, 2), np.float32)
            written.ious.append(contour_loss(crop, ring) if crop.size else 1.0)
            if not len(ring):
                written.notes[NO_PIXEL] += 1
                continue
            shares = (ring + np.array([left, top])) / picture.size[::-1]
            lines.append(f"{thing.class_id} " + " ".join(f"{share:.6f}" for share in shares.ravel().tolist()) + "\n")
        self.paths.append(write_text(self.folder / self._label_file(picture.name, picture.split), "".join(lines)))
        return written

    def _finish(self) -> None:
        names = [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]
        self.paths.append(write_text(self.folder / "classes.txt", "".join(f"{one_line(name)}\n" for name in names)))
        if self.options.folder:
            self.paths.append(write_text(self.folder / "data.yaml", data_yaml(self._journal.splits, names)))


def data_yaml(splits: list[str | None], names: list[str]) -> str:
    """The text of a data.yaml: where pictures are, from where it lies itself, and the class names.

    Trainers ask for train and val; where there is no val, train is named twice, and a comment says so.

    Example:
        >>> print(data_yaml(["train", "val"], ["dog"]))
        train: images/train
        val: images/val
        names:
          0: "dog"
    """
    places: dict[str, list[str]] = {}
    for split in splits:
        part = next((known for known in SPLITS if (split or "").startswith(known)), "train")
        places.setdefault(part, []).append(_joined(IMAGES, split, ""))
    lines = [*_said(places), "names:" if names else "names: {}"]
    return (
        "\n".join([*lines, *(f"  {n}: {json.dumps(name, ensure_ascii=False)}" for n, name in enumerate(names))]) + "\n"
    )


def _said(places: Mapping[str, list[str]]) -> list[str]:
    lines = []
    for part in ("train", "val"):
        if part not in places:
            lines.append(f"# there is no {part}: these are the other pictures again")
        lines.append(f"{part}: {_listed(places.get(part) or next(iter(places.values())))}")
    return [*lines, *(f"{part}: {_listed(found)}" for part, found in places.items() if part == "test")]


def _listed(places: list[str]) -> str:
    quoted = [place if place.replace("/", "").isalnum() else json.dumps(place, ensure_ascii=False) for place in places]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _joined(*parts: str | None) -> str:
    return "/".join(part for part in parts if part)
