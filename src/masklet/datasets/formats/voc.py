"""Pascal VOC: SegmentationObject/ID.png says which object a pixel is of, SegmentationClass/ID.png of which class.

Pictures are in JPEGImages, boxes in Annotations/ID.xml, the parts of the data in ImageSets/Segmentation. Both kinds of
map have a palette, or are coloured with it; 0 is background and 255 a border that belongs to nobody.

Pascal VOC: maps of objects and of classes, and boxes in XML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import write_text
from masklet.datasets.dataset import Choice, DataError, Dataset, Finding, LazyMasks, Mask, Size, Still, Tag, same_size
from masklet.datasets.files import (
    PICTURE_SUFFIXES,
    any_file,
    chosen,
    files_in,
    gathered,
    in_order,
    is_split,
    lines_of,
    sources_in,
)
from masklet.datasets.label_maps import LAST, label_masks, painted_map, read_labels, write_map
from masklet.datasets.labeled_image import LabelledPicture
from masklet.datasets.write_log import Line
from masklet.datasets.writer import LayoutWriter, Written, one_line, plain
from masklet.datasets.xml_reader import read_xml
from masklet.errors import SourceError
from masklet.masks.label_map import davis_palette
from masklet.masks.polygon_simplify import window_of

__all__ = ["CLASSES", "VocLayout", "VocStill", "is_voc", "open_voc"]

Labels = npt.NDArray[np.uint8]
PICTURES, OBJECTS, KINDS, BOXES, LISTS = (
    "JPEGImages", "SegmentationObject", "SegmentationClass", "Annotations", "ImageSets/Segmentation",
)  # fmt: skip
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Those of the challenge: 1 is aeroplane, in maps without a labelmap.txt."""
VOID = 255


@dataclass(frozen=True)
class VocStill(Still):
    """A picture, the map of its objects, and (where they are) the map of their classes and the XML."""

    objects: Path
    kinds: Path
    boxes: Path
    colors: Path
    """The labelmap.txt, which says how classes are coloured; it need not be there."""

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still. Objects keep the order of their values in the map, from 1."""
        labels = _read_map(self.objects, davis_palette())
        same_size(self.objects, labels.shape, self.picture, size)
        found = label_masks(labels, sole=False)
        tags = self._tags(labels, list(found))
        return LazyMasks(
            {n: (lambda value=value: found[value]) for n, value in enumerate(found, 1)},  # type: ignore[misc]
            {n: tags[value] for n, value in enumerate(found, 1)},
        )

    def _tags(self, labels: Labels, values: list[int]) -> dict[int, Tag]:
        """The class of each object: what most of its pixels are of, or else what the XML says of it."""
        if self.kinds.exists():
            kinds = _read_map(self.kinds, _colors(self.colors))
            same_size(self.kinds, kinds.shape, self.objects, labels.shape)
            return {value: _tag(kinds[labels == value]) for value in values}
        said = self._said() if self.boxes.exists() else []
        return {value: Tag(label=said[value - 1] if value <= len(said) else None) for value in values}

    def _said(self) -> list[str | None]:
        return [thing.findtext("name") for thing in read_xml(self.boxes).iter("object")]


def is_voc(path: Path) -> bool:
    """Whether a folder, or one directly below it, has JPEGImages and SegmentationObject, or boxes in XML."""
    try:
        return bool(sources_in(path, _is_source, None, "folder"))
    except SourceError:
        return False


def open_voc(path: Path, choice: Choice) -> Dataset:
    """The pictures of a VOC tree that have a map of objects; a split is a list of ImageSets/Segmentation.

    Classes are those of labelmap.txt, or else the twenty of the challenge.

    Example:
        >>> open_voc(Path("VOCdevkit/VOC2012"), Choice("val")).entries[0].name
        '2007_000033'

    Raises:
        SourceError: no map of objects, no picture of one, or no such split.
    """
    sources = sources_in(path, _is_source, None, "folder")
    if len(sources) > 1:
        raise SourceError(f"{path} has {len(sources)} VOC trees, such as {sources[0].name}: name one of them")
    root = sources[0] if sources else path
    if not any_file(root / OBJECTS, "**/*.png"):
        raise SourceError(
            f"{path} has boxes only, no masks; allowed are {PICTURES}/ID.jpg with {OBJECTS}/ID.png: add them"
        )
    lists = {file.stem: lines_of(file) for file in files_in(root / LISTS, (".txt",))}
    wanted = None if choice.split is None else set(lists[chosen(path, choice.split, lists, "split")])
    allowed = f"{PICTURES}/ID.jpg with {OBJECTS}/ID.png: check the path"
    data = gathered("voc", path, [_of_tree(root, wanted)], "no pictures with masks", allowed)
    parts = {name: part for part, names in lists.items() if is_split(part) for name in names}
    splits = {entry.name: parts[entry.name] for entry in data.entries if entry.name in parts}
    return Dataset("voc", path, data.entries, data.problems, _names(root / "labelmap.txt"), splits)


def _is_source(folder: Path) -> bool:
    if not (folder / PICTURES).is_dir():
        return False
    return (folder / OBJECTS).is_dir() or any_file(folder / BOXES, "*.xml")


def _of_tree(root: Path, wanted: set[str] | None) -> tuple[list[VocStill], list[Finding]]:
    entries: list[VocStill] = []
    problems: list[Finding] = []
    maps = {file.relative_to(root / OBJECTS).with_suffix("").as_posix(): file for file in _below(root / OBJECTS)}
    for name, file in maps.items():
        if wanted is not None and name not in wanted:
            continue
        picture = next((p for s in PICTURE_SUFFIXES if (p := root / PICTURES / f"{name}{s}").is_file()), None)
        if picture is None:
            problems.append(Finding.of(name, file, f"has no picture of its name in {PICTURES}: add it"))
        else:
            kinds, boxes = root / KINDS / f"{name}.png", root / BOXES / f"{name}.xml"
            entries.append(VocStill(name, picture, file, kinds, boxes, root / "labelmap.txt"))
    lacking = sorted((wanted or set()) - set(maps))
    gone = [Finding.of(name, root / OBJECTS / f"{name}.png", "is listed and not there: add it") for name in lacking]
    return entries, problems + gone


def _below(folder: Path) -> list[Path]:
    return in_order(file for file in folder.rglob("*.png") if not file.name.startswith("."))


def _names(file: Path) -> dict[int, str]:
    """Classes by number, background left out: those of labelmap.txt, or the twenty."""
    names = [line.split(":")[0] for line in lines_of(file) if not line.startswith("#")] if file.is_file() else CLASSES
    return dict(enumerate(name for name in names if name != "background"))


def _colors(file: Path) -> Labels:
    """The colour of each value, (N, 3), as labelmap.txt says, or else the palette of VOC."""
    if not file.is_file():
        return davis_palette()
    said = [line.split(":")[1].split(",") for line in lines_of(file) if not line.startswith("#") and ":" in line]
    try:
        return np.array([[int(n) for n in color] for color in said], np.uint8).reshape(-1, 3)
    except (ValueError, OverflowError) as problem:
        raise DataError.of(
            file, f"has a colour that is none ({problem}); a line is name:red,green,blue::: mend it"
        ) from problem


def _read_map(path: Path, colors: Labels) -> Labels:
    """Values of a map with a palette, or of one that is painted in these colours; another colour is of nobody."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA"):
                return read_labels(path)
            rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        raise DataError.of(path, f"cannot be read as a picture ({problem}); copy or unpack it again") from None
    weights = np.array([1 << 16, 1 << 8, 1])
    codes, known = rgb @ weights, colors.astype(np.int64) @ weights
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], codes).clip(0, len(known) - 1)
    return np.where(known[order][place] == codes, order[place], VOID).astype(np.uint8)


def _tag(kinds: Labels) -> Tag:
    """The class that most of these pixels are of, the border left out."""
    counts = np.bincount(kinds, minlength=VOID + 1)
    counts[[0, VOID]] = 0
    return Tag(class_id=int(counts.argmax()) - 1 if counts.any() else None)


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
