"""CVAT for images 1.1: one XML for many pictures, with masks as runs of their box, and outlines.

The file may be huge; an entry keeps where its picture's element lies in it, and reads it from there. Shapes that have
an area are objects: mask and polygon; those of one label and one group_id are one object.

CVAT for images 1.1: one XML for all pictures, made from the journal a picture at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar, TextIO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path
from masklet.datasets.dataset import Choice, DataError, Dataset, Finding, Mask, Size, Still, Tag, same_size
from masklet.datasets.files import chosen, files_in, is_split
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture
from masklet.datasets.mask_decoding import Shape, painted, pasted, ring_of, united
from masklet.datasets.write_log import Line
from masklet.datasets.writer import ShapeLayout, Written, plain
from masklet.datasets.xml_reader import Piece, parse_xml, pieces_of
from masklet.errors import SourceError
from masklet.masks.polygons import Ring
from masklet.media.image_source import natural_key

__all__ = ["CvatLayout", "CvatStill", "is_cvat", "open_cvat"]

_TRIED = 20
_HEAD = 1 << 14


@dataclass(frozen=True)
class CvatStill(Still):
    """A picture, and where its element lies in the XML file, in bytes."""

    file: Path
    size: Size
    """(height, width) as the file says."""
    span: tuple[int, int]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        same_size(self.file, self.size, self.picture, size, f"image {self.picture.name}")
        shapes = [(n, shape) for n, shape in enumerate(self._element(), 1) if shape.tag in ("mask", "polygon")]
        return united(self._shape(shape, f"{shape.tag} {n} of {self.picture.name}") for n, shape in shapes)

    def _element(self) -> Element:
        try:
            with self.file.open("rb") as file:
                file.seek(self.span[0])
                return parse_xml(file.read(self.span[1] - self.span[0]), self.file)
        except OSError as problem:
            raise DataError.of(self.file, f"cannot be read ({problem.strerror or problem}); copy it again") from problem

    def _shape(self, shape: Element, what: str) -> Shape:
        said = {entry.get("name"): entry.text or "" for entry in shape.iter("attribute")}
        tag = Tag(label=shape.get("label"), score=_share(said.get("score")), track=_whole(said.get("track_id")))
        paint = self._runs(shape, what) if shape.tag == "mask" else self._outline(shape, what)
        return Shape(paint, tag, shape.get("group_id"))

    def _outline(self, shape: Element, what: str) -> Callable[[], Mask]:
        try:
            numbers = [float(n) for point in (shape.get("points") or "").split(";") for n in point.split(",")]
        except ValueError as problem:
            raise DataError.of(
                self.file, f"({what}) has points that are no numbers ({problem}); export it again"
            ) from problem
        return partial(painted, ring_of(numbers, (1.0, 1.0), self.size, self.file, what), self.size)

    def _runs(self, shape: Element, what: str) -> Callable[[], Mask]:
        """What decodes the rows of a box: runs of background and object in turn, background first."""
        try:
            left, top, width, height = (int(float(shape.get(k) or "")) for k in ("left", "top", "width", "height"))
            runs = np.array([int(run) for run in (shape.get("rle") or "").split(",")], np.int64)
        except (ValueError, OverflowError) as problem:
            raise DataError.of(
                self.file, f"({what}) has runs or a box that are no numbers ({problem}); export it again"
            ) from problem
        rows, columns = self.size
        if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
            raise DataError.of(
                self.file,
                f"({what}) has a box of {width} x {height} at {left}, {top}, which is not in a picture of "
                f"{columns} x {rows}: is it the right picture?",
            )
        if (runs < 0).any() or (runs > width * height).any() or int(runs.sum()) != width * height:
            raise DataError.of(
                self.file, f"({what}) has runs that do not cover its box of {width} x {height}; export it again"
            )
        return partial(_decoded, runs, (height, width), (left, top), self.size)


def is_cvat(path: Path) -> bool:
    """Whether a path is an XML of CVAT, or a folder with one."""
    return bool(_files(path))


def open_cvat(path: Path, choice: Choice) -> Dataset:
    """The pictures of the annotations.xml of a task or a project; a split is one of its subsets.

    Example:
        >>> open_cvat(Path("task"), Choice()).entries[0].name
        'zoo/cat'

    Raises:
        SourceError: no such file or split, no XML, tracks of a film, or no pictures in its folders.
    """
    files = _files(path)
    if not files:
        raise SourceError(f"{path} is no CVAT data; allowed is annotations.xml with images/: check the path")
    read = _read(files[0])
    images = read.images
    if choice.split is not None:
        subsets = {image.attributes.get("subset", "") for image in images} - {""}
        split = chosen(path, choice.split, sorted(subsets, key=natural_key), "split")
        images = [image for image in images if image.attributes.get("subset") == split]
    entries: dict[str, CvatStill] = {}
    splits: dict[str, str] = {}
    for image in images:
        _add(image, files[0], entries, splits, read.problems)
    if not entries:
        first = f": {read.problems[0].reason}" if read.problems else ""
        raise SourceError(f"{path} holds no pictures with masks{first}; pictures are in images/: check the path")
    ordered = sorted(entries.values(), key=lambda entry: natural_key(entry.name))
    return Dataset("cvat", path, tuple(ordered), tuple(read.problems), dict(enumerate(read.labels)), splits)


@dataclass
class _Read:
    """What a file holds, while it is read."""

    images: list[Piece] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)


def _files(path: Path) -> list[Path]:
    """annotations.xml, or else the first XML that looks like it."""
    found = [path] if path.is_file() and path.suffix.lower() == ".xml" else files_in(path, (".xml",))
    fitting = [file for file in found[:_TRIED] if _fits(file)]
    return [file for file in fitting if file.name == "annotations.xml"] or fitting


def _fits(file: Path) -> bool:
    with file.open("rb") as content:
        head = content.read(_HEAD)
    return b"<annotations" in head


def _read(file: Path) -> _Read:
    read = _Read()
    for piece in pieces_of(file):
        if piece.tag == "image":
            read.images.append(piece)
        elif piece.tag == "meta":
            read.labels = _labels(file, piece)
        elif piece.tag == "track":
            raise DataError.of(
                file, "has tracks of a film (CVAT for video); pictures are read: export it as CVAT for images 1.1"
            )
    if not read.images:
        raise DataError.of(file, "names no images; CVAT for images 1.1 has an <image> each: export it again")
    return read


def _labels(file: Path, meta: Piece) -> list[str]:
    with file.open("rb") as content:
        content.seek(meta.start)
        root = parse_xml(content.read(meta.end - meta.start), file)
    names = [(label.findtext("name") or "").strip() for label in root.iter("label")]
    return list(dict.fromkeys(name for name in names if name))


def _add(
    image: Piece, file: Path, entries: dict[str, CvatStill], splits: dict[str, str], problems: list[Finding]
) -> None:
    """One more picture, or what is wrong with it."""
    said = image.attributes.get("name", "").replace("\\", "/")
    subset, name = (
        image.attributes.get("subset", ""),
        PurePosixPath(said, ".").as_posix().removesuffix(Path(said).suffix),
    )
    name = name if not is_split(subset) or name.startswith(f"{subset}/") else f"{subset}/{name}"
    size = (_whole(image.attributes.get("height")), _whole(image.attributes.get("width")))
    picture = _picture_of(file, said, subset)
    if name in entries:
        problems.append(Finding.of(name, file, f"has {said} twice; a picture is there once: join its shapes"))
    elif size[0] is None or size[1] is None:
        problems.append(Finding.of(name, file, f"gives {said!r} no width and height; export it again"))
    elif picture is None:
        problems.append(Finding.of(name, file, f"names the picture {said!r}, which is not in images/: put it there"))
    else:
        entries[name] = CvatStill(name, picture, file, (size[0], size[1]), (image.start, image.end))
        splits |= {name: subset} if is_split(subset) else {}


def _picture_of(file: Path, name: str, subset: str) -> Path | None:
    top = file.parent
    folders = (top / "images", top / "images" / subset, top, top / subset)
    return next((folder / name for folder in folders if name and (folder / name).is_file()), None)


def _decoded(runs: np.ndarray[tuple[int], np.dtype[np.int64]], box: Size, origin: tuple[int, int], size: Size) -> Mask:
    values = np.arange(len(runs)) % 2 == 1
    return pasted(np.repeat(values, runs).reshape(box), origin[0], origin[1], size)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _share(text: str | None) -> float | None:
    try:
        score = float(text or "")
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


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
