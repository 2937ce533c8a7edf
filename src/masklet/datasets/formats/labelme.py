"""LabelMe: a JSON beside each image, with outlines and, since its fifth version, masks as PNG in base64.

Shapes that have an area are objects: polygon, rectangle, circle, mask. Shapes of one label and one group_id are one
object.

LabelMe: a JSON beside each image, with masks as PNG in base64, outlines, or both.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
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
    ImageSample,
    Mask,
    ObjectAttributes,
    ReadOptions,
    Size,
    check_same_size,
)
from masklet.datasets.files import IMAGE_SUFFIXES, is_split_name, natural_sorted, read_lines, validate_choice
from masklet.datasets.json_reader import JsonObject, as_json_list, as_json_object, probe_keys, read_bytes, read_json
from masklet.datasets.labeled_image import LabeledImage, LabeledObject
from masklet.datasets.mask_decoding import (
    LazyClassNames,
    Shape,
    merge_groups,
    parse_polygon,
    paste_mask,
    rasterize_polygon,
)
from masklet.datasets.write_log import LogEntry
from masklet.datasets.writer import ShapeDatasetWriter, WriteResult, collapse_whitespace
from masklet.errors import SourceError
from masklet.masks.polygons import Ring
from masklet.media.image_source import natural_key

__all__ = ["LabelmeDatasetWriter", "LabelmeImage", "is_labelme", "open_labelme"]

_LABEL_PATTERN = re.compile(rb'"label"\s*:\s*("(?:[^"\\]|\\.)*")')
_IGNORED_LABELS = ("__ignore__", "_background_")
_ZERO_AREA_TYPES = ("point", "points", "line", "linestrip", "linestring")
_CIRCLE_CORNERS = 72
"""Of the polygon that stands for a circle."""
_MAX_PROBED_FILES = 20


@dataclass(frozen=True)
class LabelmeImage(ImageSample):
    """An image, and the JSON with its shapes."""

    annotation_file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        content = as_json_object(read_json(self.annotation_file), self.annotation_file, "the whole file")
        said = (content.get("imageHeight"), content.get("imageWidth"))
        if isinstance(said[0], int) and isinstance(said[1], int):
            check_same_size(
                self.annotation_file, (said[0], said[1]), self.image_path, size, "imageHeight and imageWidth"
            )
        shapes = as_json_list(content.get("shapes"), self.annotation_file, "'shapes'")
        records = [as_json_object(shape, self.annotation_file, "a shape") for shape in shapes]
        return merge_groups(
            self._parse_shape(record, f"shape {number}", size)
            for number, record in enumerate(records, 1)
            if record.get("shape_type") not in _ZERO_AREA_TYPES
        )

    def _parse_shape(self, record: JsonObject, description: str, size: Size) -> Shape:
        label, group, kind = record.get("label"), record.get("group_id"), record.get("shape_type") or "polygon"
        score, track = record.get("score"), record.get("track_id")
        tag = ObjectAttributes(
            label=str(label) if label is not None else None,
            score=float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None,
            track_id=track if isinstance(track, int) else None,
        )
        points = self._parse_points(record, description)
        if kind == "mask":
            paint = self._mask_decoder(record.get("mask"), points, description, size)
        else:
            ring = parse_polygon(
                self._parse_outline(str(kind), points, description), (1.0, 1.0), size, self.annotation_file, description
            )
            paint = partial(rasterize_polygon, ring, size)
        return Shape(paint, tag, None if group is None else str(group))

    def _parse_points(self, record: JsonObject, description: str) -> list[tuple[float, float]]:
        found = []
        for point in as_json_list(record.get("points"), self.annotation_file, f"'points' of {description}"):
            if not isinstance(point, list) or len(point) != 2 or not all(_is_number(n) for n in point):
                raise DataError.for_file(
                    self.annotation_file,
                    f"({description}) has the point {point!r:.40}; a point is [x, y] in pixels: mend or remove it",
                )
            found.append((float(point[0]), float(point[1])))
        return found

    def _parse_outline(self, shape_type: str, points: Sequence[tuple[float, float]], description: str) -> list[object]:
        """x, y, x, y ... of a shape that has an area."""
        if shape_type == "polygon":
            return [n for point in points for n in point]
        if shape_type not in ("rectangle", "circle"):
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) is of type {shape_type!r:.40}; polygon, rectangle, circle and mask have an area: remove or "  # noqa: E501
                "redraw it",
            )
        if len(points) != 2:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) is a {shape_type} of {len(points)} points; it has two: redraw it",
            )
        (x1, y1), (x2, y2) = points
        if shape_type == "rectangle":
            return [x1, y1, x2, y1, x2, y2, x1, y2]
        reach, turns = math.hypot(x2 - x1, y2 - y1), np.arange(_CIRCLE_CORNERS) * (2 * math.pi / _CIRCLE_CORNERS)
        ring = np.stack([x1 + reach * np.cos(turns), y1 + reach * np.sin(turns)], axis=1)
        return list(ring.ravel().tolist())

    def _mask_decoder(
        self, encoded_mask: object, points: Sequence[tuple[float, float]], description: str, size: Size
    ) -> partial[Mask]:
        """What decodes a mask: a PNG of the box whose first and last pixels are the two points."""
        if not isinstance(encoded_mask, str) or len(points) != 2:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) is a mask without an image in 'mask' or without two points: draw it anew",
            )
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
        inside = 0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]
        if not inside:
            raise DataError.for_file(
                self.annotation_file,
                f"({description}) has a mask from {left}, {top} to {right}, {bottom}, which is not in an image of "
                f"{size[1]} x {size[0]}: is it the right image?",
            )
        return partial(
            _decode_png_mask, encoded_mask, (left, top, right + 1, bottom + 1), size, self.annotation_file, description
        )


def is_labelme(path: Path) -> bool:
    """Whether a path is a JSON of LabelMe, or a folder with some, at any depth."""
    if path.is_file():
        return path.suffix.lower() == ".json" and _looks_like_labelme(path)
    return any(
        _looks_like_labelme(file) for file, _ in zip(path.rglob("*.json"), range(_MAX_PROBED_FILES), strict=False)
    )


def open_labelme(path: Path, options: ReadOptions) -> Dataset:
    """The images of all JSON files below a folder; a split is a folder directly below it.

    An image has the name of its JSON, or the one that `imagePath` says. Classes are those of labels.txt, or else all
    labels there are, in alphabetical order: they are looked for when `names` is asked first.

    Example:
        >>> open_labelme(Path("photos"), Choice()).entries[0].name
        'zoo/cat'

    Raises:
        SourceError: no such split, or no JSON with an image.
    """
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else natural_sorted(_files_below(path))
    tops = {file: file.relative_to(root).parts[0] for file in files if file.parent != root}
    if options.split is not None:
        split = validate_choice(path, options.split, sorted(set(tops.values()), key=natural_key), "split")
        files = [file for file in files if tops.get(file) == split]
    entries: list[LabelmeImage] = []
    problems: list[DataIssue] = []
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        try:
            entries.append(LabelmeImage(name, _find_image(file), file))
        except DataError as problem:
            problems.append(DataIssue(name, problem.file, str(problem)))
    if not entries:
        first = f": {problems[0].reason}" if problems else ""
        raise SourceError(f"{path} holds no LabelMe data{first}; allowed are ID.jpg with ID.json: check the path")
    splits = {
        e.name: tops[e.annotation_file]
        for e in entries
        if e.annotation_file in tops and (options.split or is_split_name(tops[e.annotation_file]))
    }
    names = LazyClassNames(partial(_read_class_names, root, tuple(entry.annotation_file for entry in entries)))
    return Dataset("labelme", path, tuple(entries), tuple(problems), names, splits)


def _files_below(root: Path) -> list[Path]:
    return [
        file
        for file in root.rglob("*.json")
        if not any(part.startswith(".") for part in file.relative_to(root).parts) and _looks_like_labelme(file)
    ]


def _looks_like_labelme(file: Path) -> bool:
    keys = probe_keys(file)
    return "shapes" in keys and bool({"imagePath", "imageHeight"} & keys)


def _find_image(file: Path) -> Path:
    for suffix in IMAGE_SUFFIXES:
        for name in (file.with_suffix(suffix), file.with_suffix(suffix.upper())):
            if name.is_file():
                return name
    said = as_json_object(read_json(file), file, "the whole file").get("imagePath")
    image = file.parent / str(said or "").replace("\\", "/")
    if not said or not image.is_file():
        raise DataError.for_file(file, f"is of the image {str(said)!r:.60}, which is not there; put it beside the JSON")
    return image


def _read_class_names(root: Path, files: Sequence[Path]) -> list[str]:
    """Class names: the lines of labels.txt, or every label of the files, in alphabetical order."""
    if (root / "labels.txt").is_file():
        return [name for name in read_lines(root / "labels.txt") if name not in _IGNORED_LABELS]
    found: set[str] = set()
    for file in files:
        with suppress(ValueError):  # one that is broken is named when its entry is read
            found.update(str(json.loads(label)) for label in _LABEL_PATTERN.findall(read_bytes(file)))
    return sorted(found - set(_IGNORED_LABELS))


def _decode_png_mask(
    encoded_mask: str, box: tuple[int, int, int, int], size: Size, file: Path, description: str
) -> Mask:
    left, top, right, bottom = box
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded_mask, validate=True))) as image:
            if image.size != (right - left, bottom - top):
                raise DataError.for_file(
                    file,
                    f"({description}) has a mask of {image.size[0]} x {image.size[1]} in a box of {right - left} x "
                    f"{bottom - top}; the two points are its first and last pixel: draw it anew",
                )
            piece: npt.NDArray[np.bool_] = np.asarray(image.convert("L") if image.mode != "P" else image) > 0
    except (OSError, SyntaxError, ValueError, EOFError, binascii.Error, Image.DecompressionBombError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError.for_file(
            file, f"({description}) has a mask that is no PNG in base64 ({problem}): draw it anew"
        ) from None
    return paste_mask(piece, left, top, size)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


LABELME_VERSION = "5.4.1"
"""The version of LabelMe whose files these are: masks came with the fifth."""


class LabelmeDatasetWriter(ShapeDatasetWriter):
    """[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, and labels.txt.

    "rle" writes a shape of type `mask` an object, which loses nothing; "polygon" outlines that keep `min_iou`, a shape
    a part, tied together by `group_id`; "both" both, tied together. LabelMe joins what is tied, so that a part of an
    outline that runs outside its mask counts: "both" outlines are exact. `score` and `track_id` are written where they
    are known; LabelMe keeps them.
    """

    data_format: ClassVar[str] = "labelme"
    description: ClassVar[str] = "[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, labels.txt"
    supports: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _image_file(self, image: LabeledImage) -> str:
        return _file_stem(image.name, image.split)

    def _files_exist(self, entry: LogEntry) -> bool:
        return super()._files_exist(entry) and (self.folder / f"{_file_stem(entry.name, entry.split)}.json").exists()

    def _write(self, image: LabeledImage, file: str) -> WriteResult:
        written, shapes = WriteResult(), list[JsonObject]()
        for number, thing in enumerate(image.objects, 1):
            shapes += self._object_shapes(thing, number, written)
        content: JsonObject = {
            "version": LABELME_VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(file).name,
            "imageData": None,
            "imageHeight": image.size[0],
            "imageWidth": image.size[1],
        }
        path = self.folder / f"{_file_stem(image.name, image.split)}.json"
        self.paths.append(write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n"))
        return written

    def _object_shapes(self, obj: LabeledObject, number: int, result: WriteResult) -> list[JsonObject]:
        """The shapes of one object; several are tied together by its number."""
        windows, rings = self._to_shapes(obj.mask, result)
        found = [_mask_shape(*window) for window in windows] + [_outline_shape(ring) for ring in rings]
        said: JsonObject = {"label": self._class_name(obj.class_id), "group_id": number if len(found) > 1 else None}
        said |= {"description": "", "flags": {}}
        said |= {"score": obj.score} if obj.score is not None else {}
        said |= {"track_id": obj.track_id} if obj.track_id is not None else {}
        return [{**said, **shape} for shape in found]

    def _finish(self) -> None:
        lines = ["__ignore__", "_background_", *map(collapse_whitespace, self.names.values())]
        self.paths.append(write_text(self.folder / "labels.txt", "".join(f"{line}\n" for line in lines)))


def _file_stem(name: str, split: str | None) -> str:
    return f"{split}/{name}" if split else name


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> JsonObject:
    """The two points are the first and the last pixel of the box."""
    packed = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).convert("1").save(packed, "PNG")
    height, width = crop.shape
    return {
        "points": [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]],
        "shape_type": "mask",
        "mask": base64.b64encode(packed.getvalue()).decode("ascii"),
    }


def _outline_shape(ring: Ring) -> JsonObject:
    return {"points": ring.astype(float).tolist(), "shape_type": "polygon"}
