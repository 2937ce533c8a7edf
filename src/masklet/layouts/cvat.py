"""CVAT for images 1.1: one XML for all pictures, made from the journal a picture at a time."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TextIO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

from masklet.files import atomic_path
from masklet.layouts.base import Written
from masklet.layouts.journal import Line
from masklet.layouts.naming import plain
from masklet.layouts.records import LabelledObject, LabelledPicture
from masklet.layouts.shapes import ShapeLayout
from masklet.masks.polygons import Ring

__all__ = ["CvatLayout"]

ATTRIBUTES = ("score", "track_id")


class CvatLayout(ShapeLayout):
    """annotations.xml, with images/[SPLIT/]NAME.jpg; the parts of the data are subsets.

    "rle" writes a `mask` an object: the runs of its box's rows, which lose nothing. "polygon" writes outlines that keep
    `min_iou`, one a part, tied together by `group_id`; "both" writes both, the outlines exact, tied together too.
    Scores and ids are attributes `score` and `track_id`.
    """

    layout: ClassVar[str] = "cvat"
    about: ClassVar[str] = "annotations.xml, images/[SPLIT/]NAME.jpg"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _picture_file(self, picture: LabelledPicture) -> str:
        return "/".join(part for part in ("images", picture.split, picture.name) if part)

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, shapes = Written(), list[Element]()
        for number, thing in enumerate(picture.objects, 1):
            shapes += self._shapes(thing, number, written)
        written.record["shapes"] = [tostring(shape, encoding="unicode") for shape in shapes]
        return written

    def _shapes(self, thing: LabelledObject, number: int, written: Written) -> list[Element]:
        """The shapes of one object; several are tied together by its number."""
        windows, rings = self._drawn(thing.mask, written)
        found = [_mask_shape(*window) for window in windows] + [_outline_shape(ring) for ring in rings]
        for shape in found:
            shape.attrib |= {"label": plain(self._name_of(thing.class_id)), "source": "auto", "occluded": "0"}
            shape.attrib |= {"z_order": "0"} | ({"group_id": str(number)} if len(found) > 1 else {})
            for what, value in zip(ATTRIBUTES, (thing.score, thing.id), strict=True):
                if value is not None:
                    SubElement(shape, "attribute", name=what).text = repr(value)
        return found

    def _finish(self) -> None:
        path = self.folder / "annotations.xml"
        with atomic_path(path) as temporary:
            self._fill(temporary)
        self.paths.append(path)

    def _fill(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            file.write(self._meta())
            number = 0
            for split in self._journal.splits:
                for line in self._lines(split):
                    _write_image(file, number, line)
                    number += 1
            file.write("</annotations>\n")

    def _meta(self) -> str:
        meta = Element("meta")
        labels = SubElement(SubElement(meta, "task"), "labels")
        for name in self.names.values():
            label = SubElement(labels, "label")
            SubElement(label, "name").text = plain(name)
            attributes = SubElement(label, "attributes")
            for what in ATTRIBUTES:
                attribute = SubElement(attributes, "attribute")
                for key, value in (("name", what), ("mutable", "False"), ("input_type", "text"), ("values", "")):
                    SubElement(attribute, key).text = value
        indent(meta)
        return tostring(meta, encoding="unicode") + "\n"


def _write_image(file: TextIO, number: int, line: Line) -> None:
    below = "/".join(part for part in ("images", line.split) if part)
    height, width = line.size
    image = Element("image", id=str(number), name=line.file.removeprefix(f"{below}/"))
    image.attrib |= {"subset": line.split} if line.split else {}
    image.attrib |= {"width": str(width), "height": str(height)}
    shapes = line.record["shapes"]
    assert isinstance(shapes, list)
    image.text = "\n"
    begun = tostring(image, encoding="unicode").removesuffix("</image>")
    file.write("".join([begun, *(f"{shape}\n" for shape in shapes), "</image>\n"]))


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> Element:
    """The runs of the rows of the box one after the other, background first."""
    flat = crop.ravel()
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], [0] if flat[0] else [], turns, [flat.size]]).astype(int)
    shape = Element("mask", rle=", ".join(map(str, np.diff(edges).tolist())))
    height, width = crop.shape
    for what, value in zip(("left", "top", "width", "height"), (left, top, width, height), strict=True):
        shape.set(what, str(value))
    return shape


def _outline_shape(ring: Ring) -> Element:
    return Element("polygon", points=";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist()))
