"""Pascal VOC: SegmentationObject/ID.png says which object a pixel is of, SegmentationClass/ID.png of which class.

Images are in JPEGImages, boxes in Annotations/ID.xml, the parts of the data in ImageSets/Segmentation. Both kinds of
map have a palette, or are colored with it; 0 is background and 255 a border that belongs to nobody.

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
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    ImageSample,
    LazyMasks,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    IMAGE_SUFFIXES,
    build_dataset,
    files_in,
    find_source_folders,
    has_matching_file,
    is_split_name,
    natural_sorted,
    read_lines,
    validate_choice,
)
from masklet.datasets.label_maps import MAX_LABEL, draw_label_map, masks_from_label_map, read_label_map, save_label_map
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import DatasetWriter, WriteResult, collapse_whitespace, strip_xml_invalid
from masklet.datasets.xml_reader import read_xml
from masklet.errors import SourceError
from masklet.masks.label_map import davis_palette
from masklet.masks.polygon_simplify import tight_crop

__all__ = ["CLASS_NAMES", "VocDatasetWriter", "VocImage", "is_voc", "open_voc"]

LabelMap = npt.NDArray[np.uint8]
IMAGE_FOLDER, OBJECT_FOLDER, CLASS_FOLDER, XML_FOLDER, SPLIT_FOLDER = (
    "JPEGImages", "SegmentationObject", "SegmentationClass", "Annotations", "ImageSets/Segmentation",
)  # fmt: skip
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Those of the challenge: 1 is aeroplane, in maps without a labelmap.txt."""
VOID_LABEL = 255


@dataclass(frozen=True)
class VocImage(ImageSample):
    """An image, the map of its objects, and (where they are) the map of their classes and the XML."""

    object_map: Path
    class_map: Path
    xml_file: Path
    color_file: Path
    """The labelmap.txt, which says how classes are colored; it need not be there."""

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still. Objects keep the order of their values in the map, from 1."""
        labels = _read_color_map(self.object_map, davis_palette())
        check_same_size(self.object_map, labels.shape, self.image_path, size)
        found = masks_from_label_map(labels, binary=False)
        tags = self._object_attributes(labels, list(found))
        return LazyMasks(
            {n: (lambda value=value: found[value]) for n, value in enumerate(found, 1)},  # type: ignore[misc]
            {n: tags[value] for n, value in enumerate(found, 1)},
        )

    def _object_attributes(self, label_map: LabelMap, values: list[int]) -> dict[int, ObjectAttributes]:
        """The class of each object: what most of its pixels are of, or else what the XML says of it."""
        if self.class_map.exists():
            kinds = _read_color_map(self.class_map, _read_colors(self.color_file))
            check_same_size(self.class_map, kinds.shape, self.object_map, label_map.shape)
            return {value: _majority_class(kinds[label_map == value]) for value in values}
        said = self._read_xml_names() if self.xml_file.exists() else []
        return {value: ObjectAttributes(label=said[value - 1] if value <= len(said) else None) for value in values}

    def _read_xml_names(self) -> list[str | None]:
        return [thing.findtext("name") for thing in read_xml(self.xml_file).iter("object")]


def is_voc(path: Path) -> bool:
    """Whether a folder, or one directly below it, has JPEGImages and SegmentationObject, or boxes in XML."""
    try:
        return bool(find_source_folders(path, _is_source, None, "folder"))
    except SourceError:
        return False


def open_voc(path: Path, options: ReadOptions) -> Dataset:
    """The images of a VOC tree that have a map of objects; a split is a list of ImageSets/Segmentation.

    Classes are those of labelmap.txt, or else the twenty of the challenge.

    Example:
        >>> open_voc(Path("VOCdevkit/VOC2012"), Choice("val")).entries[0].name
        '2007_000033'

    Raises:
        SourceError: no map of objects, no image of one, or no such split.
    """
    sources = find_source_folders(path, _is_source, None, "folder")
    if len(sources) > 1:
        raise SourceError(f"{path} has {len(sources)} VOC trees, such as {sources[0].name}: name one of them")
    root = sources[0] if sources else path
    if not has_matching_file(root / OBJECT_FOLDER, "**/*.png"):
        raise SourceError(
            f"{path} has boxes only, no masks; allowed are {IMAGE_FOLDER}/ID.jpg with {OBJECT_FOLDER}/ID.png: add them"
        )
    lists = {file.stem: read_lines(file) for file in files_in(root / SPLIT_FOLDER, (".txt",))}
    wanted = None if options.split is None else set(lists[validate_choice(path, options.split, lists, "split")])
    allowed = f"{IMAGE_FOLDER}/ID.jpg with {OBJECT_FOLDER}/ID.png: check the path"
    data = build_dataset("voc", path, [_read_tree(root, wanted)], "no images with masks", allowed)
    parts = {name: part for part, names in lists.items() if is_split_name(part) for name in names}
    splits = {entry.name: parts[entry.name] for entry in data.samples if entry.name in parts}
    return Dataset("voc", path, data.samples, data.issues, _read_class_names(root / "labelmap.txt"), splits)


def _is_source(folder: Path) -> bool:
    if not (folder / IMAGE_FOLDER).is_dir():
        return False
    return (folder / OBJECT_FOLDER).is_dir() or has_matching_file(folder / XML_FOLDER, "*.xml")


def _read_tree(root: Path, names: set[str] | None) -> tuple[list[VocImage], list[DataIssue]]:
    entries: list[VocImage] = []
    problems: list[DataIssue] = []
    maps = {
        file.relative_to(root / OBJECT_FOLDER).with_suffix("").as_posix(): file
        for file in _find_maps(root / OBJECT_FOLDER)
    }
    for name, file in maps.items():
        if names is not None and name not in names:
            continue
        image = next((p for s in IMAGE_SUFFIXES if (p := root / IMAGE_FOLDER / f"{name}{s}").is_file()), None)
        if image is None:
            problems.append(DataIssue.for_file(name, file, f"has no image of its name in {IMAGE_FOLDER}: add it"))
        else:
            kinds, boxes = root / CLASS_FOLDER / f"{name}.png", root / XML_FOLDER / f"{name}.xml"
            entries.append(VocImage(name, image, file, kinds, boxes, root / "labelmap.txt"))
    lacking = sorted((names or set()) - set(maps))
    gone = [
        DataIssue.for_file(name, root / OBJECT_FOLDER / f"{name}.png", "is listed and not there: add it")
        for name in lacking
    ]
    return entries, problems + gone


def _find_maps(folder: Path) -> list[Path]:
    return natural_sorted(file for file in folder.rglob("*.png") if not file.name.startswith("."))


def _read_class_names(file: Path) -> dict[int, str]:
    """Classes by number, background left out: those of labelmap.txt, or the twenty."""
    names = (
        [line.split(":")[0] for line in read_lines(file) if not line.startswith("#")] if file.is_file() else CLASS_NAMES
    )
    return dict(enumerate(name for name in names if name != "background"))


def _read_colors(file: Path) -> LabelMap:
    """The color of each value, (N, 3), as labelmap.txt says, or else the palette of VOC."""
    if not file.is_file():
        return davis_palette()
    said = [line.split(":")[1].split(",") for line in read_lines(file) if not line.startswith("#") and ":" in line]
    try:
        return np.array([[int(n) for n in color] for color in said], np.uint8).reshape(-1, 3)
    except (ValueError, OverflowError) as problem:
        raise DataError.for_file(
            file, f"has a color that is none ({problem}); a line is name:red,green,blue::: mend it"
        ) from problem


def _read_color_map(path: Path, colors: LabelMap) -> LabelMap:
    """Values of a map with a palette, or of one that is painted in these colors; another color is of nobody."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA"):
                return read_label_map(path)
            rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        raise DataError.for_file(path, f"cannot be read as an image ({problem}); copy or unpack it again") from None
    weights = np.array([1 << 16, 1 << 8, 1])
    codes, known = rgb @ weights, colors.astype(np.int64) @ weights
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known[order], codes).clip(0, len(known) - 1)
    return np.where(known[order][place] == codes, order[place], VOID_LABEL).astype(np.uint8)


def _majority_class(class_map: LabelMap) -> ObjectAttributes:
    """The class that most of these pixels are of, the border left out."""
    counts = np.bincount(class_map, minlength=VOID_LABEL + 1)
    counts[[0, VOID_LABEL]] = 0
    return ObjectAttributes(class_id=int(counts.argmax()) - 1 if counts.any() else None)


CLASS_DROPPED_NOTE = f"a class left out of the map, which has {MAX_LABEL} (the XML has it)"


class VocDatasetWriter(DatasetWriter):
    """JPEGImages, Annotations (boxes in XML), SegmentationObject, SegmentationClass, ImageSets, labelmap.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and what the other loses is counted.
    Object n of an image, from 1, is the n-th of its XML; the value of a class is its number plus one. Boxes are those
    of the whole masks; they count pixels from 1, the last one included, as VOC does.
    """

    data_format: ClassVar[str] = "voc"
    description: ClassVar[str] = (
        "JPEGImages, Annotations, SegmentationObject, SegmentationClass, ImageSets, labelmap.txt"
    )
    supports: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "classes"})
    unique_per_split: ClassVar[bool] = False

    def _image_file(self, image: LabeledImage) -> str:
        return f"JPEGImages/{image.name}"

    def _files_exist(self, entry: LogEntry) -> bool:
        return super()._files_exist(entry) and all(file.exists() for file in self._annotation_files(entry.name))

    def _annotation_files(self, name: str) -> tuple[Path, Path, Path]:
        return (
            self.folder / OBJECT_FOLDER / f"{name}.png",
            self.folder / CLASS_FOLDER / f"{name}.png",
            self.folder / XML_FOLDER / f"{name}.xml",
        )

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written = WriteResult()
        numbers = {n: n + 1 for n in range(min(len(image.objects), MAX_LABEL))}
        objects = draw_label_map(image.objects, numbers, image.size, written)
        kinds = np.zeros(MAX_LABEL + 2, np.uint8)
        for number, label in numbers.items():
            value = image.objects[number].class_id + 1
            kinds[label] = value if value <= MAX_LABEL else 0
            written.notes.update([CLASS_DROPPED_NOTE] if value > MAX_LABEL else [])
        map_of_objects, map_of_kinds, boxes = self._annotation_files(image.name)
        save_label_map(map_of_objects, objects)
        save_label_map(map_of_kinds, kinds[objects])
        write_text(boxes, self._annotation_xml(image, file))
        self.paths += [map_of_objects, map_of_kinds, boxes]
        return written

    def _annotation_xml(self, image: LabeledImage, file: str) -> str:
        root = Element("annotation")
        _add_element(root, "folder", PurePosixPath(file).parent.name)
        _add_element(root, "filename", PurePosixPath(file).name)
        size = SubElement(root, "size")
        for what, value in zip(("height", "width", "depth"), (*image.size, 3), strict=True):
            _add_element(size, what, value)
        _add_element(root, "segmented", 1)
        for thing in image.objects:
            found = SubElement(root, "object")
            _add_element(found, "name", strip_xml_invalid(self._class_name(thing.class_id)))
            _add_element(found, "pose", "Unspecified")
            _add_element(found, "truncated", 0)
            _add_element(found, "difficult", 0)
            box = SubElement(found, "bndbox")
            for what, number in zip(("xmin", "ymin", "xmax", "ymax"), _box_from_mask(thing.mask), strict=True):
                _add_element(box, what, number)
        indent(root)
        return tostring(root, encoding="unicode") + "\n"

    def _finish(self) -> None:
        names = [self.names.get(number, str(number)) for number in range(max(self.names, default=-1) + 1)]
        self.paths.append(write_text(self.folder / "labelmap.txt", "".join(_labelmap_lines(names))))
        folder = self.folder / "ImageSets" / "Segmentation"
        for split in self._log.splits:
            path = folder / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{line.name}\n" for line in self._log_entries(split))))


def _labelmap_lines(names: list[str]) -> Iterator[str]:
    yield "# label:color_rgb:parts:actions\n"
    for name, color in zip(["background", *names], davis_palette(), strict=False):
        yield f"{collapse_whitespace(name.replace(':', ' '))}:{','.join(map(str, color))}::\n"


def _add_element(parent: Element, tag: str, value: object) -> None:
    SubElement(parent, tag).text = str(value)


def _box_from_mask(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """First and last pixel, counted from 1; an empty mask has 0, 0, 0, 0."""
    left, top, crop = tight_crop(mask)
    return (left + 1, top + 1, left + crop.shape[1], top + crop.shape[0]) if crop.size else (0, 0, 0, 0)
