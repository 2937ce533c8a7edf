"""LabelMe: a JSON next to each image, with outlines and, since version 5, masks as PNG in base64.

    zoo/cat.jpg
    zoo/cat.json   {"shapes": [{"label": "cat", "points": [[1, 2], ...], "shape_type": "polygon"}, ...], ...}
    labels.txt     the classes in order; without it, all labels of the files, in alphabetical order

Polygons, rectangles, circles and masks are objects; shapes of one label and one `group_id` are one object. Points and
lines have no area and are ignored.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
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
from masklet.datasets.dataset import (
    DataError,
    DataIssue,
    Dataset,
    DatasetReader,
    ImageSample,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import (
    IMAGE_SUFFIXES,
    build_dataset,
    is_split_name,
    natural_sorted,
    read_lines,
    validate_choice,
)
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, probe_keys, read_bytes, read_json
from masklet.datasets.labeled_image import LabeledImage
from masklet.datasets.mask_decoding import (
    Shape,
    as_score,
    as_track_id,
    merge_groups,
    parse_polygon,
    paste_mask,
    rasterize_polygons,
)
from masklet.datasets.writer import ShapeDatasetWriter, WriteResult, collapse_whitespace, join_path
from masklet.media.image_source import natural_key

__all__ = ["LabelmeDatasetReader", "LabelmeDatasetWriter", "LabelmeSample", "LazyClassNames"]

Points = Sequence[tuple[float, float]]
CLASSES_FILE = "labels.txt"
IGNORED_LABELS = ("__ignore__", "_background_")
ZERO_AREA_TYPES = ("point", "points", "line", "linestrip", "linestring")
CIRCLE_CORNERS = 72
"""Corners of the polygon that approximates a circle."""
MAX_PROBED_FILES = 20
WRITTEN_VERSION = "5.4.1"
"""The version of LabelMe whose files are written."""
_LABEL_PATTERN = re.compile(rb'"label"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class LabelmeSample(ImageSample):
    """An image, and the JSON with its shapes."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        file = self.annotation_file
        content = as_json_object(read_json(file), file, "the whole file")
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if isinstance(height, int) and isinstance(width, int):
            check_same_size(file, (height, width), self.image_path, size, "imageHeight and imageWidth")
        records = [
            as_json_object(shape, file, "a shape") for shape in as_json_list(content.get("shapes"), file, "'shapes'")
        ]
        return merge_groups(
            self._parse_shape(record, f"shape {number}", size)
            for number, record in enumerate(records, 1)
            if record.get("shape_type") not in ZERO_AREA_TYPES
        )

    def _parse_shape(self, record: JsonObject, description: str, size: Size) -> Shape:
        label, group = record.get("label"), record.get("group_id")
        attributes = ObjectAttributes(
            label=None if label is None else str(label),
            score=as_score(record.get("score")),
            track_id=as_track_id(record.get("track_id")),
        )
        shape_type = str(record.get("shape_type") or "polygon")
        points = []
        for point in as_json_list(record.get("points"), self.annotation_file, f"'points' of {description}"):
            numbers = point if isinstance(point, list) else []
            if len(numbers) != 2 or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
                raise DataError.for_file(
                    self.annotation_file,
                    f"({description}) has the point {point!r:.40}; a point is [x, y] in pixels: fix or remove it",
                )
            points.append((float(numbers[0]), float(numbers[1])))
        rasterize: Callable[[], Mask]
        if shape_type == "mask":
            rasterize = self._mask_decoder(record.get("mask"), points, description, size)
        else:
            outline = self._to_outline(shape_type, points, description)
            ring = parse_polygon(outline, (1.0, 1.0), size, self.annotation_file, description)
            rasterize = partial(rasterize_polygons, [ring], size)
        return Shape(rasterize, attributes, None if group is None else str(group))

    def _to_outline(self, shape_type: str, points: Points, description: str) -> list[float]:
        """Return x, y, x, y ... of a shape that has an area."""
        if shape_type == "polygon":
            return [value for point in points for value in point]
        if shape_type not in ("rectangle", "circle"):
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) is of type {shape_type!r:.40}; polygon, rectangle, circle and mask have an area: "
                "remove or redraw it",
            )
        if len(points) != 2:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) is a {shape_type} of {len(points)} points; it has two: redraw it",
            )
        (x1, y1), (x2, y2) = points
        if shape_type == "rectangle":
            return [x1, y1, x2, y1, x2, y2, x1, y2]
        radius, angles = math.hypot(x2 - x1, y2 - y1), np.arange(CIRCLE_CORNERS) * (2 * math.pi / CIRCLE_CORNERS)
        ring = np.stack([x1 + radius * np.cos(angles), y1 + radius * np.sin(angles)], axis=1)
        return list(ring.ravel().tolist())

    def _mask_decoder(self, encoded_mask: object, points: Points, description: str, size: Size) -> Callable[[], Mask]:
        """Return a decoder of a PNG of the box whose first and last pixels are the two points."""
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

        def decode() -> Mask:
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
            except (OSError, SyntaxError, ValueError, EOFError, binascii.Error, Image.DecompressionBombError) as error:
                raise DataError.for_file(
                    file, f"({description}) has a mask that is no PNG in base64 ({error}): redraw it"
                ) from None
            return paste_mask(np.asarray(pixels > 0, bool), left, top, size)

        return decode


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

    An image has the name of its JSON, or the one in `imagePath`.
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
        for file in files:
            name = file.relative_to(root).with_suffix("").as_posix()
            try:
                samples.append(LabelmeSample(name, _find_image(file), file))
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


def _find_image(file: Path) -> Path:
    for suffix in IMAGE_SUFFIXES:
        for candidate in (file.with_suffix(suffix), file.with_suffix(suffix.upper())):
            if candidate.is_file():
                return candidate
    image_path = as_json_object(read_json(file), file, "the whole file").get("imagePath")
    image = file.parent / str(image_path or "").replace("\\", "/")
    if not image_path or not image.is_file():
        raise DataError.for_file(
            file, f"is of the image {str(image_path)!r:.60}, which is not there; put it next to the JSON"
        )
    return image


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
    dataset_files: ClassVar[tuple[str, ...]] = (CLASSES_FILE,)

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
