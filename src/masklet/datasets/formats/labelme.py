"""LabelMe: a JSON next to each image, with outlines and, since version 5, masks as PNG in base64.

    zoo/cat.jpg
    zoo/cat.json   {"shapes": [{"label": "cat", "points": [[1, 2], ...], "shape_type": "polygon"}, ...], ...}
    labels.txt     the classes in order; without it, all labels of the files, in alphabetical order

Polygons, rectangles, rotated ones, circles, ellipses and masks are objects; shapes of one label and one `group_id` are
one object. What sticks out of the image is cut off. Points and lines have no area and are left out. An image that is
only inside its JSON (`imageData`) is read from there.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.atomic_files import write_text
from masklet.damaged_files import decoder_errors
from masklet.datasets.dataset import (
    AnnotatedFrame,
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
    check_frame_indices,
    check_same_size,
)
from masklet.datasets.files import (
    build_dataset,
    files_in,
    is_split_name,
    natural_sorted,
    read_lines,
    validate_choice,
)
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, probe_keys, read_bytes, read_json
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import Shape, as_score, merge_groups, paste_mask, rasterize_polygons
from masklet.datasets.writer import ShapeDatasetWriter, WriteResult, collapse_whitespace, join_path
from masklet.errors import SourceError
from masklet.media.image import format_size, from_bytes
from masklet.media.image_source import natural_key

__all__ = ["EmbeddedLabelmeSample", "LabelmeDatasetReader", "LabelmeDatasetWriter", "LabelmeSample", "LazyClassNames"]

Points = Sequence[tuple[float, float]]
CLASSES_FILE = "labels.txt"
IGNORED_LABELS = ("__ignore__", "_background_")
ZERO_AREA_RULES = {
    "point": "point", "points": "point", "line": "line", "linestrip": "line", "linestring": "line",
}  # fmt: skip
"""Types of shapes without an area, and the rule that leaves them out."""
OUTLINE_TYPES = ("polygon", "rotation", "quadrilateral", "oriented_rectangle")
"""Types whose points are the outline."""
CIRCLE_CORNERS = 72
"""Corners of the polygon that approximates a circle or an ellipse."""
MAX_COORDINATE = 1e9
MAX_TRACK_ID = 1 << 31
MAX_PROBED_FILES = 20
WRITTEN_VERSION = "5.4.1"
"""The version of LabelMe whose files are written."""
_LABEL_PATTERN = re.compile(rb'"label"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d{1,18}(?![\d.eE]))')


@dataclass(frozen=True)
class LabelmeSample(ImageSample):
    """An image, and the JSON with its shapes."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`. A shape is checked when its object is accessed."""
        file = self.annotation_file
        content = as_json_object(read_json(file), file, "the whole file")
        height, width = _to_number(content.get("imageHeight")), _to_number(content.get("imageWidth"))
        if math.isfinite(height) and math.isfinite(width):
            check_same_size(file, (int(height), int(width)), self.image_path, size, "imageHeight and imageWidth")
        shapes: list[Shape] = []
        left_out: list[LeftOutObject] = []
        for number, record in enumerate(as_json_list(content.get("shapes"), file, "'shapes'"), 1):
            fields = record if isinstance(record, dict) else {}
            label, group, track_id = fields.get("label"), fields.get("group_id"), _to_number(fields.get("track_id"))
            attributes = ObjectAttributes(
                label=None if label is None else str(label),
                score=as_score(_to_number(fields.get("score"))),
                track_id=int(track_id) if track_id.is_integer() and abs(track_id) < MAX_TRACK_ID else None,
            )
            rule = ZERO_AREA_RULES.get(str(fields.get("shape_type")))
            if rule is None:
                rasterize = partial(self._rasterize_shape, record, f"shape {number}", size)
                shapes.append(Shape(rasterize, attributes, None if group is None else str(group)))
            else:
                left_out.append(LeftOutObject(rule, attributes))
        masks = merge_groups(shapes)
        masks.left_out = tuple(left_out)
        return masks

    def _rasterize_shape(self, record: object, description: str, size: Size) -> Mask:
        """Return the mask of one shape that has an area."""
        file, shape = self.annotation_file, as_json_object(record, self.annotation_file, description)
        shape_type = str(shape.get("shape_type") or "polygon")
        points: list[tuple[float, float]] = []
        for point in as_json_list(shape.get("points"), file, f"'points' of {description}"):
            numbers = [_to_number(value) for value in point] if isinstance(point, list) else []
            if len(numbers) != 2 or not all(abs(number) < MAX_COORDINATE for number in numbers):  # NaN is not less
                raise DataError.for_file(
                    file, f"({description}) has the point {point!r:.40}; a point is [x, y] in pixels: fix or remove it"
                )
            points.append((numbers[0], numbers[1]))
        if shape_type == "mask":
            return self._decode_mask(shape.get("mask"), points, description, size)
        ring = self._to_ring(shape_type, points, description)
        low, high = ring.min(axis=0), ring.max(axis=0)
        if (high <= 0).any() or (low >= size[::-1]).any():
            raise DataError.for_file(
                file,
                f"({description}) lies outside its image: x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to "
                f"{high[1]:.1f} in an image of {format_size(size)}; points count its pixels: is it the right image?",
            )
        return rasterize_polygons([ring.astype(np.float32)], size)

    def _to_ring(self, shape_type: str, points: Points, description: str) -> npt.NDArray[np.float64]:
        """Return the (K, 2) outline of a shape that has an area and is no mask."""
        count, file = len(points), self.annotation_file
        corners = np.array(points, np.float64).reshape(-1, 2)
        if shape_type in OUTLINE_TYPES:
            if count < 3:
                raise DataError.for_file(
                    file,
                    f"({description}) has an outline of {2 * count} numbers; x and y of three points or more are "
                    "needed: fix or remove this object",
                )
            return corners
        if shape_type not in ("rectangle", "circle", "ellipse"):
            raise DataError.for_file(
                file,
                f"({description}) is of type {shape_type!r:.40}; polygon, rectangle, rotation, circle, ellipse and "
                "mask have an area: remove or redraw it",
            )
        if count != 2 and not (count == 4 and shape_type != "circle"):
            counts = "two" if shape_type == "circle" else "two or four"
            raise DataError.for_file(
                file, f"({description}) is a {shape_type} of {count} points; it has {counts}: redraw it"
            )
        angles = np.arange(CIRCLE_CORNERS) * (2 * math.pi / CIRCLE_CORNERS)
        cosines, sines = np.cos(angles)[:, None], np.sin(angles)[:, None]
        if shape_type == "circle":  # its center and a point on it
            radius = math.dist(points[0], points[1])
            return np.asarray(corners[0] + radius * np.concatenate([cosines, sines], axis=1))
        if count == 2:  # opposite corners; four are the outline of the box, which may be rotated
            (x1, y1), (x2, y2) = points
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        if shape_type == "rectangle":
            return corners
        axes = cosines * (corners[1] - corners[0]) + sines * (corners[2] - corners[1])
        return np.asarray(corners.mean(axis=0) + axes / 2)

    def _decode_mask(self, encoded_mask: object, points: Points, description: str, size: Size) -> Mask:
        """Return the mask of a PNG of the box whose first and last pixels are the two points."""
        file = self.annotation_file
        if not isinstance(encoded_mask, str) or len(points) != 2:
            raise DataError.for_file(
                file, f"({description}) is a mask without an image in 'mask' or without two points: redraw it"
            )
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
        if not (0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]):
            raise DataError.for_file(
                file,
                f"({description}) has a mask from {left}, {top} to {right}, {bottom}, which is not in an image of "
                f"{size[1]} x {size[0]}: is it the right image?",
            )
        box_size = (right - left + 1, bottom - top + 1)
        try:
            with Image.open(io.BytesIO(base64.b64decode(encoded_mask, validate=True))) as image:
                if image.size != box_size:
                    raise DataError.for_file(
                        file,
                        f"({description}) has a mask of {image.size[0]} x {image.size[1]} in a box of "
                        f"{box_size[0]} x {box_size[1]}; the two points are its first and last pixel: redraw it",
                    )
                pixels = np.asarray(image.convert("L") if image.mode != "P" else image)
        except DataError:
            raise
        except decoder_errors() as error:
            raise DataError.for_file(
                file, f"({description}) has a mask that is no PNG in base64 ({error}): redraw it"
            ) from None
        return paste_mask(np.asarray(pixels > 0, bool), left, top, size)


@dataclass(frozen=True)
class EmbeddedLabelmeSample(LabelmeSample):
    """A sample whose image is nowhere but in `imageData` of its JSON; `image_path` is the JSON."""

    has_image_file: ClassVar[bool] = False

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        file = self.annotation_file
        data = str(as_json_object(read_json(file), file, "the whole file").get("imageData"))
        try:  # some tools write a data URL
            image = from_bytes(base64.b64decode(data.partition(",")[2] or data), f"{file} (imageData)")
        except binascii.Error as problem:
            raise DataError.for_file(file, f"has an imageData that is no base64 ({problem}); save it again") from None
        except SourceError as problem:
            raise DataError.from_error(file, problem) from problem
        return [AnnotatedFrame(image.rgb, self.masks(image.size))] * len(frame_indices)


def _to_number(value: object) -> float:
    """Return a number, or a number in a text, as a float; NaN for anything else."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else math.nan
    except (ValueError, OverflowError):
        return math.nan


class LazyClassNames(Mapping[int, str]):
    """Class names by number, read from the files at the first access.

    Example:
        >>> names = LazyClassNames(lambda: ["cat", "dog"])
        >>> names[0]
        'cat'
    """

    def __init__(self, find_names: Callable[[], Iterable[str]]) -> None:
        self._find_names = find_names
        self._cached_names: dict[int, str] | None = None

    @property
    def _names(self) -> dict[int, str]:
        if self._cached_names is None:
            self._cached_names = dict(enumerate(self._find_names()))
        return self._cached_names

    def __getitem__(self, class_id: int) -> str:
        return self._names[class_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class LabelmeDatasetReader(DatasetReader):
    """Reads the images of all JSON files below a folder, or of one; the split is a folder directly below it.

    An image has the name of its JSON, or the one in `imagePath`; without a file, it is read from `imageData`.
    """

    data_format: ClassVar[str] = "labelme"
    description: ClassVar[str] = "LabelMe: ID.jpg with ID.json beside it, folders of any depth"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Return whether a path is a JSON of LabelMe, or a folder with some, at any depth."""
        if path.is_file():
            return path.suffix.lower() == ".json" and _looks_like_labelme(path)
        first_files = zip(path.rglob("*.json"), range(MAX_PROBED_FILES), strict=False)
        return any(_looks_like_labelme(file) for file, _ in first_files)

    @classmethod
    def open(cls, path: Path, options: ReadOptions) -> Dataset:
        """See `DatasetReader`."""
        root, files = (path.parent, [path]) if path.is_file() else (path, [])
        for file in path.rglob("*.json"):
            hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
            if not hidden and _looks_like_labelme(file):
                files.append(file)
        files = natural_sorted(files)
        folders = {file: file.relative_to(root).parts[0] for file in files if file.parent != root}
        if options.split is not None:
            split = validate_choice(path, options.split, sorted(set(folders.values()), key=natural_key), "split")
            files = [file for file in files if folders.get(file) == split]
        samples: list[LabelmeSample] = []
        issues: list[DataIssue] = []
        splits: dict[str, str] = {}
        images_in: dict[Path, dict[str, list[Path]]] = {}
        for file in files:
            name = file.relative_to(root).with_suffix("").as_posix()
            if file.parent not in images_in:
                by_stem = images_in[file.parent] = {}
                for image in files_in(file.parent):
                    by_stem.setdefault(image.stem, []).append(image)
            try:
                samples.append(_find_image(name, file, images_in[file.parent].get(file.stem, [])))
            except DataError as problem:
                issues.append(DataIssue.from_error(name, problem))
                continue
            if file in folders and (options.split or is_split_name(folders[file])):
                splits[name] = folders[file]
        return build_dataset(
            cls.data_format,
            path,
            [(samples, issues)],
            missing="no LabelMe data",
            expected="ID.jpg with ID.json: check the path",
            names=LazyClassNames(partial(_read_class_names, root, tuple(sample.annotation_file for sample in samples))),
            splits=splits,
        )


def _looks_like_labelme(file: Path) -> bool:
    keys = probe_keys(file)
    return "shapes" in keys and bool({"imagePath", "imageHeight"} & keys)


def _find_image(name: str, file: Path, beside: Sequence[Path]) -> LabelmeSample:
    """Return the sample of a JSON; `beside` are the images of its stem. Of several, `imagePath` decides."""
    if len(beside) == 1:
        return LabelmeSample(name, beside[0], file)
    content = as_json_object(read_json(file), file, "the whole file")
    image_path = str(content.get("imagePath") or "").replace("\\", "/")
    file_name = PurePosixPath(image_path).name
    if beside:
        for image in beside:
            if image.name.lower() == file_name.lower():
                return LabelmeSample(name, image, file)
        both = " or ".join(image.name for image in beside)
        raise DataError.for_file(
            file, f"is of {both}, and imagePath ({image_path!r:.60}) names none of them; correct it, or rename an image"
        )
    for candidate in (file.parent / image_path, file.parent / file_name):
        if file_name and os.path.isfile(candidate):
            return LabelmeSample(name, candidate, file)
    if content.get("imageData"):
        return EmbeddedLabelmeSample(name, file, file)
    raise DataError.for_file(file, f"is of the image {image_path!r:.60}, which is not there; put it next to the JSON")


def _read_class_names(root: Path, files: Sequence[Path]) -> list[str]:
    """Return the lines of labels.txt, or every label of the files, in alphabetical order."""
    if (root / CLASSES_FILE).is_file():
        return [name for name in read_lines(root / CLASSES_FILE) if name not in IGNORED_LABELS]
    names: set[str] = set()
    for file in files:
        with suppress(ValueError):  # a broken file is reported when its sample is read
            names.update(str(json.loads(label)) for label in _LABEL_PATTERN.findall(read_bytes(file)))
    return sorted(names - set(IGNORED_LABELS))


class LabelmeDatasetWriter(ShapeDatasetWriter):
    """Writes [SPLIT/]NAME.json next to [SPLIT/]NAME.jpg, and labels.txt.

    "rle" writes a shape of type `mask` for each object, which is lossless; "polygon" outlines that keep `min_iou`, one
    shape for each part, tied together by `group_id`; "both" both, tied together. LabelMe joins tied shapes, so a part
    of an outline that runs outside its mask counts: "both" outlines are exact. `score` and `track_id` are written where
    they are known; LabelMe keeps them.
    """

    data_format: ClassVar[str] = "labelme"
    description: ClassVar[str] = "[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, labels.txt"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _image_file(self, image: LabeledImage) -> str:
        return join_path(image.split, image.name)

    def _annotation_files(self, name: str, split: str | None, file: str) -> tuple[Path]:
        return (self.folder / f"{join_path(split, name)}.json",)

    def _write(self, image: LabeledImage, file: str, annotation_files: Sequence[Path]) -> WriteResult:
        result, shapes = WriteResult(), list[JsonObject]()
        for number, obj in enumerate(image.objects, 1):
            crops, rings = self._to_shapes(obj.mask, result)
            parts = [_mask_shape(*crop) for crop in crops]
            parts += [{"points": ring.astype(float).tolist(), "shape_type": "polygon"} for ring in rings]
            fields: JsonObject = {
                "label": self._class_name(obj.class_id),
                "group_id": number if len(parts) > 1 else None,
                "description": "",
                "flags": {},
            }
            fields |= {"score": obj.score} if obj.score is not None else {}
            fields |= {"track_id": obj.track_id} if obj.track_id is not None else {}
            shapes += [{**fields, **part} for part in parts]
        content: JsonObject = {
            "version": WRITTEN_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(file).name,
            "imageData": None,
            "imageHeight": image.size[0],
            "imageWidth": image.size[1],
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        self.paths.append(write_text(annotation_files[0], text))
        return result

    def _finish(self) -> None:
        lines = [*IGNORED_LABELS, *map(collapse_whitespace, self.names.values())]
        self.paths.append(write_text(self.folder / CLASSES_FILE, "".join(f"{line}\n" for line in lines)))


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> JsonObject:
    """Return a shape of type mask; its two points are the first and the last pixel of the box."""
    png = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).convert("1").save(png, "PNG")
    height, width = crop.shape
    return {
        "points": [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]],
        "shape_type": "mask",
        "mask": base64.b64encode(png.getvalue()).decode("ascii"),
    }
