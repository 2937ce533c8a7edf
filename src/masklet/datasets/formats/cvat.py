"""CVAT for images 1.1: one XML for many images, with masks as runs of their box, and outlines.

    annotations.xml    <image name="a.jpg" width="60" height="40"><mask .../><polygon .../></image> ...
    images/a.jpg       or images/SUBSET/a.jpg

Masks and polygons are objects; those of one label and one `group_id` are one object. Other shapes (boxes, ellipses,
points, lines) are left out and counted. Scores and ids are attributes `score` and `track_id`.

The file may be huge: a sample stores the byte range of its image's element and reads it from there; the writer makes
the file from its log, one image at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import atomic_path
from masklet.damaged_files import open_regular_file
from masklet.datasets.account import ObjectAccount
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    LeftOutObject,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import build_dataset, files_in, is_split_name, sample_names, validate_choice
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import (
    Shape,
    as_id,
    as_score,
    as_track_id,
    merge_groups,
    parse_polygon,
    paste_mask,
    rasterize_polygons,
)
from masklet.datasets.writer import ShapeDatasetWriter, WriteResult, join_path, path_in_split, strip_xml_invalid
from masklet.datasets.xml_reader import ElementSpan, iter_elements, parse_xml
from masklet.errors import SourceError
from masklet.media.image_source import natural_key

__all__ = ["CvatDatasetReader", "CvatDatasetWriter", "CvatSample"]

FILE_NAME, IMAGE_FOLDER = "annotations.xml", "images"
OBJECT_ATTRIBUTES = ("score", "track_id")
IMAGE_TAG = "tag"
"""The element of a class of the image as a whole, which is no object."""
MAX_PROBED_FILES, HEAD_BYTES = 20, 1 << 14


@dataclass(frozen=True)
class CvatSample(ImageSample):
    """An image, and the byte range of its element in the XML file."""

    annotation_file: Path
    declared_size: Size
    """(height, width) in the XML file."""
    byte_range: tuple[int, int]

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        file, name = self.annotation_file, self.image_path.name
        check_same_size(file, self.declared_size, self.image_path, size, f"image {name}")
        shapes = []
        left_out = []
        elements = list(_read_element(file, *self.byte_range))
        for number, shape in enumerate(elements, 1):
            if shape.tag in ("mask", "polygon"):
                texts = {attribute.get("name"): attribute.text or "" for attribute in shape.iter("attribute")}
                attributes = ObjectAttributes(
                    label=shape.get("label"),
                    score=as_score(texts.get("score")),
                    track_id=as_track_id(texts.get("track_id")),
                )
                decode = self._decode_mask if shape.tag == "mask" else self._decode_polygon
                description = f"{shape.tag} {number} of {name}"
                shapes.append(Shape(partial(decode, shape, description), attributes, shape.get("group_id")))
            elif shape.tag != IMAGE_TAG:  # a shape without a mask: box, ellipse, points, polyline, cuboid, skeleton ...
                left_out.append(LeftOutObject(shape.tag, ObjectAttributes(label=shape.get("label"))))
        return merge_groups(shapes, left_out, sum(element.tag != IMAGE_TAG for element in elements))

    def _decode_polygon(self, shape: Element, description: str) -> Mask:
        try:
            numbers = [float(n) for point in (shape.get("points") or "").split(";") for n in point.split(",")]
        except ValueError as problem:
            raise DataError.for_file(
                self.annotation_file, f"({description}) has points that are no numbers ({problem}); export it again"
            ) from problem
        ring = parse_polygon(numbers, (1.0, 1.0), self.declared_size, self.annotation_file, description)
        return rasterize_polygons([ring], self.declared_size)

    def _decode_mask(self, shape: Element, description: str) -> Mask:
        """Decode the rows of a box: runs of background and object in turn, background first."""
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
        is_object = np.arange(len(runs)) % 2 == 1
        return paste_mask(np.repeat(is_object, runs).reshape(height, width), left, top, self.declared_size)


class CvatDatasetReader(DatasetReader):
    """Reads the images of the annotations.xml of a task or a project; the split is one of its subsets."""

    data_format: ClassVar[str] = "cvat"
    description: ClassVar[str] = "CVAT for images 1.1: annotations.xml with images/"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a path is an XML of CVAT, or a folder with one."""
        return bool(_find_files(path))

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        files = _find_files(path)
        if not files:
            raise SourceError(f"{path} is no CVAT data; allowed is {FILE_NAME} with images/: check the path")
        file = files[0]
        images, class_names = _parse_file(file)
        if options.split is not None:
            subsets = {image.attributes.get("subset", "") for image in images} - {""}
            split = validate_choice(path, options.split, sorted(subsets, key=natural_key), "split")
            images = [image for image in images if image.attributes.get("subset") == split]
        samples: dict[str, CvatSample] = {}
        splits: dict[str, str] = {}
        issues: list[DataIssue] = []
        paths = []  # below the subset, where that is a split
        for image in images:
            paths.append(PurePosixPath(image.attributes.get("name", "").replace("\\", "/")).as_posix())
            subset = image.attributes.get("subset", "")
            if is_split_name(subset) and not paths[-1].startswith(f"{subset}/"):
                paths[-1] = f"{subset}/{paths[-1]}"
        for image, name in zip(images, sample_names(paths), strict=True):
            sample = _make_sample(image, name, file, samples)
            if isinstance(sample, DataIssue):
                unread = CvatSample(name, Path(), file, (1, 1), (image.start, image.end))
                issues.append(replace(sample, objects=ObjectAccount.for_unread_sample(unread, {}).source))
                continue
            samples[sample.name] = sample
            subset = image.attributes.get("subset", "")
            splits |= {sample.name: subset} if is_split_name(subset) else {}
        return build_dataset(
            cls.data_format,
            path,
            [(sorted(samples.values(), key=lambda sample: natural_key(sample.name)), issues)],
            missing="no images with masks",
            expected="images in images/: check the path",
            names=dict(enumerate(class_names)),
            splits=splits,
        )


def _find_files(path: Path) -> list[Path]:
    """Find annotations.xml, or else the XML files that look like it."""
    files = [path] if path.is_file() and path.suffix.lower() == ".xml" else files_in(path, (".xml",))
    matching = []
    for file in files[:MAX_PROBED_FILES]:
        try:
            with open_regular_file(file) as content:
                matches = b"<annotations" in content.read(HEAD_BYTES)
        except OSError:
            matches = file.name == FILE_NAME  # reading it names the fault
        if matches:
            matching.append(file)
    return [file for file in matching if file.name == FILE_NAME] or matching


def _parse_file(file: Path) -> tuple[list[ElementSpan], list[str]]:
    """Return the elements of the images of a file, and its class names."""
    images: list[ElementSpan] = []
    class_names: list[str] = []
    for element in iter_elements(file):
        if element.tag == "image":
            images.append(element)
        elif element.tag == "meta":
            labels = _read_element(file, element.start, element.end).iter("label")
            names = [(label.findtext("name") or "").strip() for label in labels]
            class_names = list(dict.fromkeys(name for name in names if name))
        elif element.tag == "track":
            raise DataError.for_file(
                file, "has tracks of a video (CVAT for video); images are read: export it as CVAT for images 1.1"
            )
    if not images:
        raise DataError.for_file(file, "names no images; CVAT for images 1.1 has an <image> each: export it again")
    return images, class_names


def _read_element(file: Path, start: int, end: int) -> Element:
    try:
        with open_regular_file(file) as stream:
            stream.seek(start)
            return parse_xml(stream.read(end - start), file)
    except OSError as problem:
        raise DataError.for_file(file, f"cannot be read ({problem.strerror or problem}); copy it again") from problem


def _make_sample(image: ElementSpan, name: str, file: Path, others: Mapping[str, CvatSample]) -> CvatSample | DataIssue:
    """Make the sample of an image element; or its issue, which names the objects that it costs."""
    image_name, subset = image.attributes.get("name", "").replace("\\", "/"), image.attributes.get("subset", "")
    if name in others:
        return DataIssue.for_file(name, file, f"has {image_name} twice; an image is there once: join its shapes")
    height, width = as_id(image.attributes.get("height")), as_id(image.attributes.get("width"))
    if not isinstance(height, int) or not isinstance(width, int):
        return DataIssue.for_file(name, file, f"gives {image_name!r} no width and height; export it again")
    top = file.parent
    for folder in (top / IMAGE_FOLDER, top / IMAGE_FOLDER / subset, top, top / subset):
        if image_name and (folder / image_name).is_file():
            return CvatSample(name, folder / image_name, file, (height, width), (image.start, image.end))
    return DataIssue.for_file(name, file, f"names the image {image_name!r}, which is not in images/: put it there")


class CvatDatasetWriter(ShapeDatasetWriter):
    """Writes annotations.xml, with images/[SPLIT/]NAME.jpg; splits are subsets.

    "rle" writes one `mask` for each object: the runs of its box's rows, which are lossless. "polygon" writes outlines
    that keep `min_iou`, one for each part, tied together by `group_id`; "both" writes both, the outlines exact, tied
    together too.
    """

    data_format: ClassVar[str] = "cvat"
    description: ClassVar[str] = "annotations.xml, images/[SPLIT/]NAME.jpg"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})
    dataset_files: ClassVar[tuple[str, ...]] = (FILE_NAME,)
    names_are_text: ClassVar[bool] = True

    def _image_file(self, image: LabeledImage) -> str:
        return join_path(IMAGE_FOLDER, image.split, image.name)

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result, texts = WriteResult(), list[str]()
        for number, obj in enumerate(image.objects, 1):
            crops, rings = self._to_shapes(obj.mask, result)
            shapes = [_mask_shape(*crop) for crop in crops]
            outlines = (";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist()) for ring in rings)
            shapes += [Element("polygon", points=outline) for outline in outlines]
            for shape in shapes:
                label = strip_xml_invalid(self._class_name(obj.class_id))
                shape.attrib |= {"label": label, "source": "auto", "occluded": "0", "z_order": "0"}
                shape.attrib |= {"group_id": str(number)} if len(shapes) > 1 else {}
                for name, value in zip(OBJECT_ATTRIBUTES, (obj.score, obj.track_id), strict=True):
                    if value is not None:
                        SubElement(shape, "attribute", name=name).text = repr(value)
                texts.append(tostring(shape, encoding="unicode"))
        result.record["shapes"] = texts
        return result

    def _finish(self) -> None:
        path, number = self.folder / FILE_NAME, 0
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
            file.write(self._meta_xml())
            for split in self._log.splits:
                for entry in self._log.entries(split):
                    height, width = entry.size
                    image = Element("image", id=str(number), name=path_in_split(entry))
                    image.attrib |= {"subset": entry.split} if entry.split else {}
                    image.attrib |= {"width": str(width), "height": str(height)}
                    image.text = "\n"
                    start_tag = tostring(image, encoding="unicode").removesuffix("</image>")
                    file.write("".join([start_tag, *(f"{shape}\n" for shape in entry.record["shapes"]), "</image>\n"]))
                    number += 1
            file.write("</annotations>\n")
        self.paths.append(path)

    def _meta_xml(self) -> str:
        meta = Element("meta")
        labels = SubElement(SubElement(meta, "task"), "labels")
        for name in self.names.values():
            label = SubElement(labels, "label")
            SubElement(label, "name").text = strip_xml_invalid(name)
            attributes = SubElement(label, "attributes")
            for attribute_name in OBJECT_ATTRIBUTES:
                attribute = SubElement(attributes, "attribute")
                fields = {"name": attribute_name, "mutable": "False", "input_type": "text", "values": ""}
                for tag, text in fields.items():
                    SubElement(attribute, tag).text = text
        indent(meta)
        return tostring(meta, encoding="unicode") + "\n"


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> Element:
    """Return a mask element: the runs of the rows of the box one after the other, background first."""
    flat = crop.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], [0] if flat[0] else [], changes, [flat.size]]).astype(int)
    shape = Element("mask", rle=", ".join(map(str, np.diff(edges).tolist())))
    height, width = crop.shape
    for key, value in {"left": left, "top": top, "width": width, "height": height}.items():
        shape.set(key, str(value))
    return shape
