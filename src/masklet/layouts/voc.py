"""Pascal VOC: maps of objects and of classes, and boxes in XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

from masklet.files import write_text
from masklet.formats.palette import davis_palette
from masklet.layouts.base import LayoutWriter, Written
from masklet.layouts.journal import Line
from masklet.layouts.maps import LAST, painted_map, write_map
from masklet.layouts.naming import one_line, plain
from masklet.layouts.records import LabelledPicture
from masklet.layouts.tracing import window_of

__all__ = ["VocLayout"]

OBJECTS, KINDS, BOXES = "SegmentationObject", "SegmentationClass", "Annotations"
NO_CLASS = f"a class left out of the map, which has {LAST} (the XML has it)"


class VocLayout(LayoutWriter):
    """JPEGImages, Annotations (boxes in XML), SegmentationObject, SegmentationClass, ImageSets, labelmap.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and what the other loses is counted.
    Object n of a picture, from 1, is the n-th of its XML; the value of a class is its number plus one. Boxes are those
    of the whole masks; they count pixels from 1, the last one included, as VOC does.
    """

    layout: ClassVar[str] = "voc"
    about: ClassVar[str] = "JPEGImages, Annotations, SegmentationObject, SegmentationClass, ImageSets, labelmap.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "classes"})
    apart: ClassVar[bool] = False

    def _picture_file(self, picture: LabelledPicture) -> str:
        return f"JPEGImages/{picture.name}"

    def _is_there(self, line: Line) -> bool:
        return super()._is_there(line) and all(file.exists() for file in self._files_of(line.name))

    def _files_of(self, name: str) -> tuple[Path, Path, Path]:
        return (
            self.folder / OBJECTS / f"{name}.png",
            self.folder / KINDS / f"{name}.png",
            self.folder / BOXES / f"{name}.xml",
        )

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written = Written()
        numbers = {n: n + 1 for n in range(min(len(picture.objects), LAST))}
        objects = painted_map(picture.objects, numbers, picture.size, written)
        kinds = np.zeros(LAST + 2, np.uint8)
        for number, label in numbers.items():
            value = picture.objects[number].class_id + 1
            kinds[label] = value if value <= LAST else 0
            written.notes.update([NO_CLASS] if value > LAST else [])
        map_of_objects, map_of_kinds, boxes = self._files_of(picture.name)
        write_map(map_of_objects, objects)
        write_map(map_of_kinds, kinds[objects])
        write_text(boxes, self._xml(picture, file))
        self.paths += [map_of_objects, map_of_kinds, boxes]
        return written

    def _xml(self, picture: LabelledPicture, file: str) -> str:
        root = Element("annotation")
        _add(root, "folder", PurePosixPath(file).parent.name)
        _add(root, "filename", PurePosixPath(file).name)
        size = SubElement(root, "size")
        for what, value in zip(("height", "width", "depth"), (*picture.size, 3), strict=True):
            _add(size, what, value)
        _add(root, "segmented", 1)
        for thing in picture.objects:
            found = SubElement(root, "object")
            _add(found, "name", plain(self._name_of(thing.class_id)))
            _add(found, "pose", "Unspecified")
            _add(found, "truncated", 0)
            _add(found, "difficult", 0)
            box = SubElement(found, "bndbox")
            for what, number in zip(("xmin", "ymin", "xmax", "ymax"), _box(thing.mask), strict=True):
                _add(box, what, number)
        indent(root)
        return tostring(root, encoding="unicode") + "\n"

    def _finish(self) -> None:
        names = [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]
        self.paths.append(write_text(self.folder / "labelmap.txt", "".join(_labelmap(names))))
        folder = self.folder / "ImageSets" / "Segmentation"
        for split in self._journal.splits:
            path = folder / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{line.name}\n" for line in self._lines(split))))


def _labelmap(names: list[str]) -> Iterator[str]:
    yield "# label:color_rgb:parts:actions\n"
    for name, color in zip(["background", *names], davis_palette(), strict=False):
        yield f"{one_line(name.replace(':', ' '))}:{','.join(map(str, color))}::\n"


def _add(parent: Element, what: str, value: object) -> None:
    SubElement(parent, what).text = str(value)


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First and last pixel, counted from 1; an empty mask has 0, 0, 0, 0."""
    left, top, crop = window_of(mask)
    return (left + 1, top + 1, left + crop.shape[1], top + crop.shape[0]) if crop.size else (0, 0, 0, 0)
