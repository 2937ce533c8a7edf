"""CVAT for images 1.1: one XML for many images, with masks as runs of their box, and outlines.

The file may be huge; an entry keeps where its image's element lies in it, and reads it from there. Shapes that have
an area are objects: mask and polygon; those of one label and one group_id are one object.

CVAT for images 1.1: one XML for all images, made from the journal an image at a time.
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
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    ImageSample,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import files_in, is_split_name, validate_choice
from masklet.datasets.labeled_image import LabeledImage, LabeledObject
from masklet.datasets.mask_decoding import Shape, merge_groups, parse_polygon, paste_mask, rasterize_polygon
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import ShapeDatasetWriter, WriteResult, strip_xml_invalid
from masklet.datasets.xml_reader import ElementSpan, iter_elements, parse_xml
from masklet.errors import SourceError
from masklet.masks.polygons import Ring
from masklet.media.image_source import natural_key

__all__ = ["CvatDatasetWriter", "CvatImage", "is_cvat", "open_cvat"]

_MAX_PROBED_FILES = 20
_HEAD_BYTES = 1 << 14


@dataclass(frozen=True)
class CvatImage(ImageSample):
    """An image, and where its element lies in the XML file, in bytes."""

    annotation_file: Path
    declared_size: Size
    """(height, width) as the file says."""
    byte_range: tuple[int, int]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        check_same_size(
            self.annotation_file, self.declared_size, self.image_path, size, f"image {self.image_path.name}"
        )
        shapes = [(n, shape) for n, shape in enumerate(self._read_element(), 1) if shape.tag in ("mask", "polygon")]
        return merge_groups(
            self._parse_shape(shape, f"{shape.tag} {n} of {self.image_path.name}") for n, shape in shapes
        )

    def _read_element(self) -> Element:
        try:
            with self.annotation_file.open("rb") as file:
                file.seek(self.byte_range[0])
                return parse_xml(file.read(self.byte_range[1] - self.byte_range[0]), self.annotation_file)
        except OSError as problem:
            raise DataError.for_file(
                self.annotation_file, f"cannot be read ({problem.strerror or problem}); copy it again"
            ) from problem

    def _parse_shape(self, shape: Element, description: str) -> Shape:
        said = {entry.get("name"): entry.text or "" for entry in shape.iter("attribute")}
        tag = ObjectAttributes(
            label=shape.get("label"), score=_parse_score(said.get("score")), track_id=_parse_int(said.get("track_id"))
        )
        paint = self._parse_rle(shape, description) if shape.tag == "mask" else self._parse_outline(shape, description)
        return Shape(paint, tag, shape.get("group_id"))

    def _parse_outline(self, shape: Element, description: str) -> Callable[[], Mask]:
        try:
            numbers = [float(n) for point in (shape.get("points") or "").split(";") for n in point.split(",")]
        except ValueError as problem:
            raise DataError.for_file(
                self.annotation_file, f"({description}) has points that are no numbers ({problem}); export it again"
            ) from problem
        return partial(
            rasterize_polygon,
            parse_polygon(numbers, (1.0, 1.0), self.declared_size, self.annotation_file, description),
            self.declared_size,
        )

    def _parse_rle(self, shape: Element, description: str) -> Callable[[], Mask]:
        """What decodes the rows of a box: runs of background and object in turn, background first."""
        try:
            left, top, width, height = (int(float(shape.get(k) or "")) for k in ("left", "top", "width", "height"))
            runs = np.array([int(run) for run in (shape.get("rle") or "").split(",")], np.int64)
        except (ValueError, OverflowError) as problem:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) has runs or a box that are no numbers ({problem}); export it again",
            ) from problem
        rows, columns = self.declared_size
        if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) has a box of {width} x {height} at {left}, {top}, which is not in an image of "
                f"{columns} x {rows}: is it the right image?",
            )
        if (runs < 0).any() or (runs > width * height).any() or int(runs.sum()) != width * height:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) has runs that do not cover its box of {width} x {height}; export it again",
            )
        return partial(_decode_runs, runs, (height, width), (left, top), self.declared_size)


def is_cvat(path: Path) -> bool:
    """Whether a path is an XML of CVAT, or a folder with one."""
    return bool(_find_files(path))


def open_cvat(path: Path, options: ReadOptions) -> Dataset:
    """The images of the annotations.xml of a task or a project; a split is one of its subsets.

    Example:
        >>> open_cvat(Path("task"), Choice()).entries[0].name
        'zoo/cat'

    Raises:
        SourceError: no such file or split, no XML, tracks of a video, or no images in its folders.
    """
    files = _find_files(path)
    if not files:
        raise SourceError(f"{path} is no CVAT data; allowed is annotations.xml with images/: check the path")
    read = _parse_file(files[0])
    images = read.elements
    if options.split is not None:
        subsets = {image.attributes.get("subset", "") for image in images} - {""}
        split = validate_choice(path, options.split, sorted(subsets, key=natural_key), "split")
        images = [image for image in images if image.attributes.get("subset") == split]
    entries: dict[str, CvatImage] = {}
    splits: dict[str, str] = {}
    for image in images:
        _add_image(image, files[0], entries, splits, read.issues)
    if not entries:
        first = f": {read.issues[0].reason}" if read.issues else ""
        raise SourceError(f"{path} holds no images with masks{first}; images are in images/: check the path")
    ordered = sorted(entries.values(), key=lambda entry: natural_key(entry.name))
    return Dataset("cvat", path, tuple(ordered), tuple(read.issues), dict(enumerate(read.class_names)), splits)


@dataclass
class _Contents:
    """What a file holds, while it is read."""

    elements: list[ElementSpan] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    issues: list[DataIssue] = field(default_factory=list)


def _find_files(path: Path) -> list[Path]:
    """annotations.xml, or else the first XML that looks like it."""
    found = [path] if path.is_file() and path.suffix.lower() == ".xml" else files_in(path, (".xml",))
    fitting = [file for file in found[:_MAX_PROBED_FILES] if _looks_like_cvat(file)]
    return [file for file in fitting if file.name == "annotations.xml"] or fitting


def _looks_like_cvat(file: Path) -> bool:
    with file.open("rb") as content:
        head = content.read(_HEAD_BYTES)
    return b"<annotations" in head


def _parse_file(file: Path) -> _Contents:
    read = _Contents()
    for piece in iter_elements(file):
        if piece.tag == "image":
            read.elements.append(piece)
        elif piece.tag == "meta":
            read.class_names = _read_class_names(file, piece)
        elif piece.tag == "track":
            raise DataError.for_file(
                file, "has tracks of a video (CVAT for video); images are read: export it as CVAT for images 1.1"
            )
    if not read.elements:
        raise DataError.for_file(file, "names no images; CVAT for images 1.1 has an <image> each: export it again")
    return read


def _read_class_names(file: Path, meta: ElementSpan) -> list[str]:
    with file.open("rb") as content:
        content.seek(meta.start)
        root = parse_xml(content.read(meta.end - meta.start), file)
    names = [(label.findtext("name") or "").strip() for label in root.iter("label")]
    return list(dict.fromkeys(name for name in names if name))


def _add_image(
    element: ElementSpan, file: Path, samples: dict[str, CvatImage], splits: dict[str, str], issues: list[DataIssue]
) -> None:
    """One more image, or what is wrong with it."""
    said = element.attributes.get("name", "").replace("\\", "/")
    subset, name = (
        element.attributes.get("subset", ""),
        PurePosixPath(said, ".").as_posix().removesuffix(Path(said).suffix),
    )
    name = name if not is_split_name(subset) or name.startswith(f"{subset}/") else f"{subset}/{name}"
    size = (_parse_int(element.attributes.get("height")), _parse_int(element.attributes.get("width")))
    image = _find_image(file, said, subset)
    if name in samples:
        issues.append(DataIssue.for_file(name, file, f"has {said} twice; an image is there once: join its shapes"))
    elif size[0] is None or size[1] is None:
        issues.append(DataIssue.for_file(name, file, f"gives {said!r} no width and height; export it again"))
    elif image is None:
        issues.append(
            DataIssue.for_file(name, file, f"names the image {said!r}, which is not in images/: put it there")
        )
    else:
        samples[name] = CvatImage(name, image, file, (size[0], size[1]), (element.start, element.end))
        splits |= {name: subset} if is_split_name(subset) else {}


def _find_image(file: Path, name: str, subset: str) -> Path | None:
    top = file.parent
    folders = (top / "images", top / "images" / subset, top, top / subset)
    return next((folder / name for folder in folders if name and (folder / name).is_file()), None)


def _decode_runs(
    runs: np.ndarray[tuple[int], np.dtype[np.int64]], box_size: Size, origin: tuple[int, int], size: Size
) -> Mask:
    values = np.arange(len(runs)) % 2 == 1
    return paste_mask(np.repeat(values, runs).reshape(box_size), origin[0], origin[1], size)


def _parse_int(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _parse_score(text: str | None) -> float | None:
    try:
        score = float(text or "")
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


ATTRIBUTES = ("score", "track_id")


class CvatDatasetWriter(ShapeDatasetWriter):
    """annotations.xml, with images/[SPLIT/]NAME.jpg; the parts of the data are subsets.

    "rle" writes a `mask` an object: the runs of its box's rows, which lose nothing. "polygon" writes outlines that keep
    `min_iou`, one a part, tied together by `group_id`; "both" writes both, the outlines exact, tied together too.
    Scores and ids are attributes `score` and `track_id`.
    """

    data_format: ClassVar[str] = "cvat"
    description: ClassVar[str] = "annotations.xml, images/[SPLIT/]NAME.jpg"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _image_file(self, image: LabeledImage) -> str:
        return "/".join(part for part in ("images", image.split, image.name) if part)

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written, shapes = WriteResult(), list[Element]()
        for number, thing in enumerate(image.objects, 1):
            shapes += self._object_shapes(thing, number, written)
        written.record["shapes"] = [tostring(shape, encoding="unicode") for shape in shapes]
        return written

    def _object_shapes(self, obj: LabeledObject, number: int, result: WriteResult) -> list[Element]:
        """The shapes of one object; several are tied together by its number."""
        windows, rings = self._to_shapes(obj.mask, result)
        found = [_mask_shape(*window) for window in windows] + [_outline_shape(ring) for ring in rings]
        for shape in found:
            shape.attrib |= {
                "label": strip_xml_invalid(self._class_name(obj.class_id)),
                "source": "auto",
                "occluded": "0",
            }
            shape.attrib |= {"z_order": "0"} | ({"group_id": str(number)} if len(found) > 1 else {})
            for what, value in zip(ATTRIBUTES, (obj.score, obj.track_id), strict=True):
                if value is not None:
                    SubElement(shape, "attribute", name=what).text = repr(value)
        return found

    def _finish(self) -> None:
        path = self.folder / "annotations.xml"
        with atomic_path(path) as temporary:
            self._write_xml(temporary)
        self.paths.append(path)

    def _write_xml(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            file.write(self._meta_xml())
            number = 0
            for split in self._log.splits:
                for line in self._log_entries(split):
                    _write_image_element(file, number, line)
                    number += 1
            file.write("</annotations>\n")

    def _meta_xml(self) -> str:
        meta = Element("meta")
        labels = SubElement(SubElement(meta, "task"), "labels")
        for name in self.names.values():
            label = SubElement(labels, "label")
            SubElement(label, "name").text = strip_xml_invalid(name)
            attributes = SubElement(label, "attributes")
            for what in ATTRIBUTES:
                attribute = SubElement(attributes, "attribute")
                for key, value in (("name", what), ("mutable", "False"), ("input_type", "text"), ("values", "")):
                    SubElement(attribute, key).text = value
        indent(meta)
        return tostring(meta, encoding="unicode") + "\n"


def _write_image_element(file: TextIO, number: int, entry: LogEntry) -> None:
    below = "/".join(part for part in ("images", entry.split) if part)
    height, width = entry.size
    image = Element("image", id=str(number), name=entry.file.removeprefix(f"{below}/"))
    image.attrib |= {"subset": entry.split} if entry.split else {}
    image.attrib |= {"width": str(width), "height": str(height)}
    shapes = entry.record["shapes"]
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
