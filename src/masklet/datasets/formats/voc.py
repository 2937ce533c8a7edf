"""Pascal VOC: label maps of objects and of classes, and boxes in XML.

    JPEGImages/ID.jpg
    SegmentationObject/ID.png            0 background, 1, 2 ... the objects, 255 a border that belongs to none
    SegmentationClass/ID.png             0 background, 1 the first class
    Annotations/ID.xml                   boxes and class names; object n is the n-th one
    ImageSets/Segmentation/SPLIT.txt     names of images
    labelmap.txt                         one line for each class: name:red,green,blue::, or class_names.txt: name

Maps have a palette or are gray, or are painted in the colors of the palette. Without labelmap.txt, classes are the
twenty of the challenge. Objects of the XML that have no pixel in the map are left out: "void" where the map is 255 in
their box, else "box". Images with an XML and no map are no samples; their boxes are counted as left out.

Without any map, outlines are read that some tools write into the XML: `<polygon><x1>..</x1><y1>..</y1>...</polygon>` in
each object, counted from 1. The XML is in a folder of annotations or next to its image, also in train, valid and test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import write_text
from masklet.damaged_files import open_regular_file
from masklet.datasets.account import DEFAULT_CLASS_NAME
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    LazyMasks,
    LeftOutObject,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    IMAGE_SUFFIXES,
    DatasetPart,
    build_dataset,
    files_by_stem,
    files_in,
    find_source_folders,
    has_matching_file,
    is_split_name,
    natural_sorted,
    read_lines,
    read_parts,
    validate_choice,
)
from masklet.datasets.label_maps import (
    IGNORE_LABEL,
    MAX_LABEL,
    draw_label_map,
    masks_from_label_map,
    open_mask_image,
    read_label_map,
    unique_ids,
)
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import as_id, parse_polygon, rasterize_polygons
from masklet.datasets.writer import DatasetWriter, WriteResult, collapse_whitespace, strip_xml_invalid
from masklet.datasets.xml_reader import read_xml
from masklet.errors import SourceError
from masklet.masks.label_map import davis_palette, save_label_map
from masklet.masks.polygon_simplify import tight_crop

__all__ = ["CLASS_NAMES", "VocDatasetReader", "VocDatasetWriter", "VocPolygonSample", "VocSample"]

LabelMap = npt.NDArray[np.uint8]
IMAGE_FOLDER, OBJECT_FOLDER, CLASS_FOLDER, XML_FOLDER, SPLIT_FOLDER = (
    "JPEGImages", "SegmentationObject", "SegmentationClass", "Annotations", "ImageSets/Segmentation",
)  # fmt: skip
CLASSES_FILE, LABELME_CLASSES_FILE, BACKGROUND = "labelmap.txt", "class_names.txt", "background"
MAX_COORDINATE = 1 << 20
MAX_PROBED_FILES, HEAD_BYTES = 20, 1 << 16
CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Those of the challenge: 1 is aeroplane, in maps without a labelmap.txt."""
CLASS_DROPPED_NOTE = f"a class left out of the map, which has {MAX_LABEL} (the XML has it)"


@dataclass(frozen=True)
class VocSample(ImageSample):
    """An image, the map of its objects, and the map of their classes, the XML and the labelmap.txt if they exist."""

    object_map: Path
    class_map: Path
    xml_file: Path
    classes_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`. Objects keep the order of their values in the map, from 1."""
        label_map = _read_map(self.object_map, davis_palette(), size)
        check_same_size(self.object_map, label_map.shape, self.image_path, size)
        masks = masks_from_label_map(label_map, binary=False)
        has_class_map, elements = self.class_map.exists(), list[Element]()
        try:
            if self.xml_file.exists():
                elements = list(read_xml(self.xml_file).iter("object"))
        except DataError:  # where there is a class map, the XML is only needed to count what is left out
            if not has_class_map:
                raise
        names = [(element.findtext("name") or "").strip() or None for element in elements]
        if has_class_map:
            attributes = self._object_attributes(label_map, list(masks))
        else:
            attributes = {
                label: ObjectAttributes(label=names[label - 1] if label <= len(names) else None) for label in masks
            }
        left_out = [
            LeftOutObject("void" if _is_void(element, label_map) else "box", ObjectAttributes(label=name))
            for label, (element, name) in enumerate(zip(elements, names, strict=True), 1)
            if label not in masks
        ]
        return LazyMasks(
            {number: partial(masks.__getitem__, label) for number, label in enumerate(masks, 1)},
            {number: attributes[label] for number, label in enumerate(masks, 1)},
            left_out,
            num_records=len({*unique_ids(label_map)} - {IGNORE_LABEL} | {*range(1, len(elements) + 1)}),
        )

    def _object_attributes(self, label_map: LabelMap, labels: list[int]) -> dict[int, ObjectAttributes]:
        """Return the class of each object: that of most of its pixels in the map of classes."""
        colors = np.array([color for _, color in _read_classes(self.classes_file)], np.uint8)
        class_map = _read_map(self.class_map, colors, (label_map.shape[0], label_map.shape[1]))
        check_same_size(self.class_map, class_map.shape, self.object_map, label_map.shape)
        attributes = {}
        for label in labels:
            counts = np.bincount(class_map[label_map == label], minlength=IGNORE_LABEL + 1)
            counts[[0, IGNORE_LABEL]] = 0
            attributes[label] = ObjectAttributes(class_id=int(counts.argmax()) - 1 if counts.any() else None)
        return attributes


def _is_void(element: Element, label_map: LabelMap) -> bool:
    """Return whether the map has 255 somewhere in the box of an object of the XML."""
    try:
        numbers = [float(element.findtext(f"bndbox/{tag}") or "") for tag in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = (int(min(max(number, 0), MAX_COORDINATE)) for number in numbers)
    except (ValueError, OverflowError):  # no box, or no numbers in it
        return False
    return bool((label_map[max(top - 1, 0) : bottom, max(left - 1, 0) : right] == IGNORE_LABEL).any())


@dataclass(frozen=True)
class VocPolygonSample(ImageSample):
    """An image, and the XML with outlines of its objects; an object without one is left out ("box")."""

    xml_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`. An outline is checked when its object is accessed."""
        root = read_xml(self.xml_file)
        height, width = as_id(root.findtext("size/height")), as_id(root.findtext("size/width"))
        if isinstance(height, int) and isinstance(width, int) and height and width:
            check_same_size(self.xml_file, (height, width), self.image_path, size, "size")
        decoders: dict[int, Callable[[], Mask]] = {}
        attributes: dict[int, ObjectAttributes] = {}
        left_out: list[LeftOutObject] = []
        elements = list(root.iter("object"))
        for number, element in enumerate(elements, 1):
            known = ObjectAttributes(label=(element.findtext("name") or "").strip() or None)
            polygon = element.find("polygon")
            if polygon is None:
                left_out.append(LeftOutObject("box", known))
                continue
            object_id = len(decoders) + 1
            attributes[object_id] = known
            decoders[object_id] = partial(self._decode, polygon, f"object {number}", size)
        return LazyMasks(decoders, attributes, left_out, num_records=len(elements))

    def _decode(self, polygon: Element, description: str, size: Size) -> Mask:
        numbers = [polygon.findtext(f"{axis}{n}") for n in range(1, len(polygon) // 2 + 1) for axis in "xy"]
        ring = parse_polygon(numbers, (1.0, 1.0), size, self.xml_file, description)
        return rasterize_polygons([ring - 1], size)


class VocDatasetReader(DatasetReader):
    """Reads the images of a VOC tree that have a map of objects; the split is a list of ImageSets/Segmentation.

    Where no image has a map, it reads those with outlines in the XML; the split is the name of a folder.
    """

    data_format: ClassVar[str] = "voc"
    description: ClassVar[str] = (
        "Pascal VOC: JPEGImages/ID.jpg with SegmentationObject/ID.png and SegmentationClass/ID.png"
    )

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a folder, or one directly below it, has JPEGImages and SegmentationObject, or boxes in XML."""
        try:
            return any(find_source_folders(path, is_source, None, "folder") for is_source in (_is_tree, _find_polygons))
        except SourceError:
            return False

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        trees = find_source_folders(path, _is_tree, None, "folder")
        if len(trees) > 1:
            raise SourceError(f"{path} has {len(trees)} VOC trees, such as {trees[0].name}: name one of them")
        root = trees[0] if trees else path
        if not has_matching_file(root / OBJECT_FOLDER, "**/*.png"):
            sources = find_source_folders(path, _find_polygons, options.split, "folder")
            if sources:
                data = build_dataset(
                    cls.data_format,
                    path,
                    read_parts(path, sources, _read_polygons),
                    missing="no images with outlines in XML",
                    expected="images/ID.jpg with annotations/ID.xml, or ID.jpg with ID.xml: check the path",
                )
                folders = {sample.name: sample.name.partition("/")[0] for sample in data.samples if "/" in sample.name}
                return replace(data, splits={name: part for name, part in folders.items() if is_split_name(part)})
            raise SourceError(
                f"{path} has boxes only, no masks; allowed are {IMAGE_FOLDER}/ID.jpg with {OBJECT_FOLDER}/ID.png: add "
                "them"
            )
        classes = _read_classes(_find_classes(root))[1:]
        lists = {file.stem: read_lines(file) for file in files_in(root / SPLIT_FOLDER, (".txt",))}
        names = None if options.split is None else set(lists[validate_choice(path, options.split, lists, "split")])
        data = build_dataset(
            cls.data_format,
            path,
            [_read_tree(root, names)],
            missing="no images with masks",
            expected=f"{IMAGE_FOLDER}/ID.jpg with {OBJECT_FOLDER}/ID.png: check the path",
            names={class_id: name for class_id, (name, _) in enumerate(classes) if name},
        )
        split_of = {name: split for split, listed in lists.items() if is_split_name(split) for name in listed}
        return replace(
            data,
            splits={s.name: split_of[s.name] for s in data.samples if s.name in split_of},
            count_elsewhere=partial(_count_boxes, root, names),
        )


def _is_tree(folder: Path) -> bool:
    if not (folder / IMAGE_FOLDER).is_dir():
        return False
    return (folder / OBJECT_FOLDER).is_dir() or has_matching_file(folder / XML_FOLDER, "*.xml")


def _find_polygons(folder: Path) -> list[Path]:
    """List the XML files of a folder, or of its folder of annotations, if one of the first has an outline."""
    for place in (folder / XML_FOLDER, folder / XML_FOLDER.lower(), folder):
        files = files_in(place, (".xml",))
        for file in files[:MAX_PROBED_FILES]:
            with suppress(OSError), open_regular_file(file) as stream:
                if b"<polygon>" in stream.read(HEAD_BYTES):
                    return files
    return []


def _read_polygons(folder: Path, prefix: str) -> DatasetPart:
    """List the images of XML files with outlines."""
    files = _find_polygons(folder)
    for place in (folder / "images", folder / IMAGE_FOLDER, folder):
        images, issues = files_by_stem(place)
        if any(file.stem in images for file in files):
            break
    samples = [VocPolygonSample(prefix + file.stem, images[file.stem], file) for file in files if file.stem in images]
    for file in files:
        if file.stem not in images:
            name, reason = prefix + file.stem, "has no image of its name beside it or in images: add it"
            issues.append(DataIssue.for_file(name, file, reason))
    return samples, issues


def _read_tree(root: Path, names: set[str] | None) -> DatasetPart:
    """List the images of a tree; `names` are those to take (None: all)."""
    samples: list[VocSample] = []
    issues: list[DataIssue] = []
    classes_file = _find_classes(root)
    map_files = (file for file in (root / OBJECT_FOLDER).rglob("*.png") if not file.name.startswith("."))
    maps = {
        file.relative_to(root / OBJECT_FOLDER).with_suffix("").as_posix(): file for file in natural_sorted(map_files)
    }
    for name, file in maps.items():
        if names is not None and name not in names:
            continue
        candidates = (root / IMAGE_FOLDER / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
        images = [path for path in candidates if path.is_file()]
        if len(images) > 1:
            both = " or ".join(path.name for path in images)
            issues.append(DataIssue.for_file(name, file, f"is of {both}; a map has one image: rename or remove one"))
        elif not images:
            issues.append(DataIssue.for_file(name, file, f"has no image of its name in {IMAGE_FOLDER}: add it"))
        else:
            class_map, xml_file = root / CLASS_FOLDER / f"{name}.png", root / XML_FOLDER / f"{name}.xml"
            samples.append(VocSample(name, images[0], file, class_map, xml_file, classes_file))
    missing = {name: root / OBJECT_FOLDER / f"{name}.png" for name in sorted((names or set()) - set(maps))}
    issues += [DataIssue.for_file(name, file, "is listed and not there: add it") for name, file in missing.items()]
    return samples, issues


def _count_boxes(root: Path, names: set[str] | None) -> dict[str, Counter[str]]:
    """Count by class the boxes of the images that have an XML and no map; `names` are those to take (None: all)."""
    boxes: Counter[str] = Counter()
    for file in (root / XML_FOLDER).rglob("*.xml"):
        name = file.relative_to(root / XML_FOLDER).with_suffix("").as_posix()
        if file.name.startswith(".") or (names is not None and name not in names):
            continue
        if not (root / OBJECT_FOLDER / f"{name}.png").exists():
            with suppress(DataError):  # a damaged one has no number
                elements = read_xml(file).iter("object")
                boxes.update((element.findtext("name") or "").strip() or DEFAULT_CLASS_NAME for element in elements)
    return {"box": boxes} if boxes else {}


def _find_classes(root: Path) -> Path:
    """Return the list of the classes: labelmap.txt or, as LabelMe's converter writes it, class_names.txt."""
    names_only = root / LABELME_CLASSES_FILE
    return names_only if names_only.is_file() and not (root / CLASSES_FILE).is_file() else root / CLASSES_FILE


def _read_classes(file: Path) -> list[tuple[str, Sequence[int]]]:
    """Return the (name, color) of each value of a class map, the background first, of labelmap.txt.

    Without the file, names are those of the challenge. A class without a color has that of the palette of VOC, and a
    value without a class the name "".
    """
    palette: list[list[int]] = davis_palette().tolist()
    lines = read_lines(file) if file.is_file() else ["background", *CLASS_NAMES]
    fields = [
        [field.strip() for field in line.split(":")] for line in lines if not line.startswith(("#", "__ignore__"))
    ]
    fields = [[BACKGROUND] if parts == ["_background_"] else parts for parts in fields]
    fields.sort(key=lambda parts: parts[0] != BACKGROUND)  # the first value, wherever it is listed
    if not fields or fields[0][0] != BACKGROUND:
        fields.insert(0, [BACKGROUND])
    classes: list[tuple[str, Sequence[int]]] = []
    for parts, default in zip(fields, palette, strict=False):
        color = default
        if len(parts) > 1 and parts[1]:
            try:
                color = [int(number) for number in parts[1].split(",")]
            except ValueError as problem:
                raise DataError.for_file(
                    file, f"has a color that is none ({problem}); a line is name:red,green,blue::: fix it"
                ) from problem
            if len(color) != 3 or not all(0 <= number <= 255 for number in color):
                raise DataError.for_file(
                    file,
                    f"has a color that is none ({parts[1]:.40}); a line is name:red,green,blue::, of 0 to 255: fix it",
                )
        classes.append((parts[0], color))
    if not file.is_file():
        classes += [("", color) for color in palette[len(classes) :]]
    return classes


def _read_map(path: Path, colors: LabelMap, size: Size) -> LabelMap:
    """Read a map with a palette, a gray one, or one painted in these colors; another color belongs to no object."""
    with open_mask_image(path, size) as image:
        if image.mode not in ("RGB", "RGBA"):
            return read_label_map(path, size)
        rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    weights = np.array([1 << 16, 1 << 8, 1])
    codes, known = rgb @ weights, colors.astype(np.int64) @ weights
    order = np.argsort(known, kind="stable")
    index = np.searchsorted(known[order], codes).clip(0, len(known) - 1)
    return np.where(known[order][index] == codes, order[index], IGNORE_LABEL).astype(np.uint8)


class VocDatasetWriter(DatasetWriter):
    """Writes JPEGImages, Annotations (boxes in XML), SegmentationObject, SegmentationClass, ImageSets, labelmap.txt.

    A pixel belongs to one object: where masks overlap the smaller one is kept, and the loss of the other is counted.
    Object n of an image, from 1, is the n-th of its XML; the value of a class is its number plus one. Boxes are those
    of the complete masks; they count pixels from 1, the last one included, as VOC does.
    """

    data_format: ClassVar[str] = "voc"
    description: ClassVar[str] = (
        "JPEGImages, Annotations, SegmentationObject, SegmentationClass, ImageSets, labelmap.txt"
    )
    supports: ClassVar[frozenset[str]] = frozenset({"holes", "parts", "classes"})
    dataset_files: ClassVar[tuple[str, ...]] = (CLASSES_FILE, f"{SPLIT_FOLDER}/*.txt")
    names_are_text: ClassVar[bool] = True
    unique_per_split: ClassVar[bool] = False

    def _image_file(self, image: LabeledImage) -> str:
        return f"{IMAGE_FOLDER}/{image.name}"

    def _annotation_files(self, name: str, split: str | None, file: str) -> tuple[Path, Path, Path]:
        return (
            self.folder / OBJECT_FOLDER / f"{name}.png",
            self.folder / CLASS_FOLDER / f"{name}.png",
            self.folder / XML_FOLDER / f"{name}.xml",
        )

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result = WriteResult()
        labels = {number: number + 1 for number in range(min(len(image.objects), MAX_LABEL))}
        object_map = draw_label_map(image.objects, labels, image.size, result)
        class_of_label = np.zeros(MAX_LABEL + 2, np.uint8)
        for number, label in labels.items():
            value = image.objects[number].class_id + 1
            if value <= MAX_LABEL:
                class_of_label[label] = value
            else:
                result.notes[CLASS_DROPPED_NOTE] += 1
        object_file, class_file, xml_file = annotation_files
        self.paths.append(save_label_map(object_file, object_map, davis_palette()))
        self.paths.append(save_label_map(class_file, class_of_label[object_map], davis_palette()))
        self.paths.append(write_text(xml_file, self._annotation_xml(image, file)))
        return result

    def _annotation_xml(self, image: LabeledImage, file: str) -> str:
        root = Element("annotation")
        _add_element(root, "folder", PurePosixPath(file).parent.name)
        _add_element(root, "filename", PurePosixPath(file).name)
        size = SubElement(root, "size")
        for tag, value in zip(("height", "width", "depth"), (*image.size, 3), strict=True):
            _add_element(size, tag, value)
        _add_element(root, "segmented", 1)
        for obj in image.objects:
            element = SubElement(root, "object")
            _add_element(element, "name", strip_xml_invalid(self._class_name(obj.class_id)))
            _add_element(element, "pose", "Unspecified")
            _add_element(element, "truncated", 0)
            _add_element(element, "difficult", 0)
            left, top, crop = tight_crop(obj.mask)
            corners = (left + 1, top + 1, left + crop.shape[1], top + crop.shape[0]) if crop.size else (0, 0, 0, 0)
            box = SubElement(element, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                _add_element(box, tag, value)
        indent(root)
        return tostring(root, encoding="unicode") + "\n"

    def _finish(self) -> None:
        lines = ["# label:color_rgb:parts:actions\n"]
        for name, color in zip(["background", *self._names_without_gaps()], davis_palette(), strict=False):
            lines.append(f"{collapse_whitespace(name.replace(':', ' '))}:{','.join(map(str, color))}::\n")
        self.paths.append(write_text(self.folder / CLASSES_FILE, "".join(lines)))
        for split in self._log.splits:
            path = self.folder / SPLIT_FOLDER / f"{(split or 'train').replace('/', '_')}.txt"
            self.paths.append(write_text(path, "".join(f"{entry.name}\n" for entry in self._log.entries(split))))


def _add_element(parent: Element, tag: str, value: object) -> None:
    SubElement(parent, tag).text = str(value)
