"""LabelMe: a JSON beside each picture, with outlines and, since its fifth version, masks as PNG in base64.

Shapes that have an area are objects: polygon, rectangle, circle, mask. Shapes of one label and one group_id are one
object.

LabelMe: a JSON beside each picture, with masks as PNG in base64, outlines, or both.
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
from masklet.datasets.dataset import Choice, DataError, Dataset, Finding, Mask, Size, Still, Tag, same_size
from masklet.datasets.files import PICTURE_SUFFIXES, chosen, in_order, is_split, lines_of
from masklet.datasets.json_reader import Record, as_list, as_record, keys_of_start, read_bytes, read_json
from masklet.datasets.labeled_image import LabelledObject, LabelledPicture
from masklet.datasets.mask_decoding import LazyNames, Shape, painted, pasted, ring_of, united
from masklet.datasets.write_log import Line, LogRecord
from masklet.datasets.writer import ShapeLayout, Written, one_line
from masklet.errors import SourceError
from masklet.masks.polygons import Ring
from masklet.media.image_source import natural_key

__all__ = ["LabelmeLayout", "LabelmeStill", "is_labelme", "open_labelme"]

_LABEL = re.compile(rb'"label"\s*:\s*("(?:[^"\\]|\\.)*")')
_NO_CLASS = ("__ignore__", "_background_")
_FLAT = ("point", "points", "line", "linestrip", "linestring")
_CORNERS = 72
"""Of the polygon that stands for a circle."""
_TRIED = 20


@dataclass(frozen=True)
class LabelmeStill(Still):
    """A picture, and the JSON with its shapes."""

    file: Path

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See Still."""
        content = as_record(read_json(self.file), self.file, "the whole file")
        said = (content.get("imageHeight"), content.get("imageWidth"))
        if isinstance(said[0], int) and isinstance(said[1], int):
            same_size(self.file, (said[0], said[1]), self.picture, size, "imageHeight and imageWidth")
        shapes = as_list(content.get("shapes"), self.file, "'shapes'")
        records = [as_record(shape, self.file, "a shape") for shape in shapes]
        return united(
            self._shape(record, f"shape {number}", size)
            for number, record in enumerate(records, 1)
            if record.get("shape_type") not in _FLAT
        )

    def _shape(self, record: Record, what: str, size: Size) -> Shape:
        label, group, kind = record.get("label"), record.get("group_id"), record.get("shape_type") or "polygon"
        score, track = record.get("score"), record.get("track_id")
        tag = Tag(
            label=str(label) if label is not None else None,
            score=float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else None,
            track=track if isinstance(track, int) else None,
        )
        points = self._points(record, what)
        if kind == "mask":
            paint = self._mask(record.get("mask"), points, what, size)
        else:
            ring = ring_of(self._outline(str(kind), points, what), (1.0, 1.0), size, self.file, what)
            paint = partial(painted, ring, size)
        return Shape(paint, tag, None if group is None else str(group))

    def _points(self, record: Record, what: str) -> list[tuple[float, float]]:
        found = []
        for point in as_list(record.get("points"), self.file, f"'points' of {what}"):
            if not isinstance(point, list) or len(point) != 2 or not all(_is_number(n) for n in point):
                raise DataError.of(
                    self.file, f"({what}) has the point {point!r:.40}; a point is [x, y] in pixels: mend or remove it"
                )
            found.append((float(point[0]), float(point[1])))
        return found

    def _outline(self, kind: str, points: Sequence[tuple[float, float]], what: str) -> list[object]:
        """x, y, x, y ... of a shape that has an area."""
        if kind == "polygon":
            return [n for point in points for n in point]
        if kind not in ("rectangle", "circle"):
            raise DataError.of(
                self.file,
                f"({what}) is of type {kind!r:.40}; polygon, rectangle, circle and mask have an area: remove or "
                "redraw it",
            )
        if len(points) != 2:
            raise DataError.of(self.file, f"({what}) is a {kind} of {len(points)} points; it has two: redraw it")
        (x1, y1), (x2, y2) = points
        if kind == "rectangle":
            return [x1, y1, x2, y1, x2, y2, x1, y2]
        reach, turns = math.hypot(x2 - x1, y2 - y1), np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
        ring = np.stack([x1 + reach * np.cos(turns), y1 + reach * np.sin(turns)], axis=1)
        return list(ring.ravel().tolist())

    def _mask(self, code: object, points: Sequence[tuple[float, float]], what: str, size: Size) -> partial[Mask]:
        """What decodes a mask: a PNG of the box whose first and last pixels are the two points."""
        if not isinstance(code, str) or len(points) != 2:
            raise DataError.of(
                self.file, f"({what}) is a mask without a picture in 'mask' or without two points: draw it anew"
            )
        (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
        inside = 0 <= left <= right < size[1] and 0 <= top <= bottom < size[0]
        if not inside:
            raise DataError.of(
                self.file,
                f"({what}) has a mask from {left}, {top} to {right}, {bottom}, which is not in a picture of "
                f"{size[1]} x {size[0]}: is it the right picture?",
            )
        return partial(_unpacked, code, (left, top, right + 1, bottom + 1), size, self.file, what)


def is_labelme(path: Path) -> bool:
    """Whether a path is a JSON of LabelMe, or a folder with some, at any depth."""
    if path.is_file():
        return path.suffix.lower() == ".json" and _fits(path)
    return any(_fits(file) for file, _ in zip(path.rglob("*.json"), range(_TRIED), strict=False))


def open_labelme(path: Path, choice: Choice) -> Dataset:
    """The pictures of all JSON files below a folder; a split is a folder directly below it.

    A picture has the name of its JSON, or the one that `imagePath` says. Classes are those of labels.txt, or else all
    labels there are, in alphabetical order: they are looked for when `names` is asked first.

    Example:
        >>> open_labelme(Path("photos"), Choice()).entries[0].name
        'zoo/cat'

    Raises:
        SourceError: no such split, or no JSON with a picture.
    """
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else in_order(_files_below(path))
    tops = {file: file.relative_to(root).parts[0] for file in files if file.parent != root}
    if choice.split is not None:
        split = chosen(path, choice.split, sorted(set(tops.values()), key=natural_key), "split")
        files = [file for file in files if tops.get(file) == split]
    entries: list[LabelmeStill] = []
    problems: list[Finding] = []
    for file in files:
        name = file.relative_to(root).with_suffix("").as_posix()
        try:
            entries.append(LabelmeStill(name, _picture_of(file), file))
        except DataError as problem:
            problems.append(Finding(name, problem.file, str(problem)))
    if not entries:
        first = f": {problems[0].reason}" if problems else ""
        raise SourceError(f"{path} holds no LabelMe data{first}; allowed are ID.jpg with ID.json: check the path")
    splits = {e.name: tops[e.file] for e in entries if e.file in tops and (choice.split or is_split(tops[e.file]))}
    names = LazyNames(partial(_labels, root, tuple(entry.file for entry in entries)))
    return Dataset("labelme", path, tuple(entries), tuple(problems), names, splits)


def _files_below(root: Path) -> list[Path]:
    return [
        file
        for file in root.rglob("*.json")
        if not any(part.startswith(".") for part in file.relative_to(root).parts) and _fits(file)
    ]


def _fits(file: Path) -> bool:
    keys = keys_of_start(file)
    return "shapes" in keys and bool({"imagePath", "imageHeight"} & keys)


def _picture_of(file: Path) -> Path:
    for suffix in PICTURE_SUFFIXES:
        for name in (file.with_suffix(suffix), file.with_suffix(suffix.upper())):
            if name.is_file():
                return name
    said = as_record(read_json(file), file, "the whole file").get("imagePath")
    picture = file.parent / str(said or "").replace("\\", "/")
    if not said or not picture.is_file():
        raise DataError.of(file, f"is of the picture {str(said)!r:.60}, which is not there; put it beside the JSON")
    return picture


def _labels(root: Path, files: Sequence[Path]) -> list[str]:
    """Class names: the lines of labels.txt, or every label of the files, in alphabetical order."""
    if (root / "labels.txt").is_file():
        return [name for name in lines_of(root / "labels.txt") if name not in _NO_CLASS]
    found: set[str] = set()
    for file in files:
        with suppress(ValueError):  # one that is broken is named when its entry is read
            found.update(str(json.loads(label)) for label in _LABEL.findall(read_bytes(file)))
    return sorted(found - set(_NO_CLASS))


def _unpacked(code: str, box: tuple[int, int, int, int], size: Size, file: Path, what: str) -> Mask:
    left, top, right, bottom = box
    try:
        with Image.open(io.BytesIO(base64.b64decode(code, validate=True))) as image:
            if image.size != (right - left, bottom - top):
                raise DataError.of(
                    file,
                    f"({what}) has a mask of {image.size[0]} x {image.size[1]} in a box of {right - left} x "
                    f"{bottom - top}; the two points are its first and last pixel: draw it anew",
                )
            piece: npt.NDArray[np.bool_] = np.asarray(image.convert("L") if image.mode != "P" else image) > 0
    except (OSError, SyntaxError, ValueError, EOFError, binascii.Error, Image.DecompressionBombError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError.of(file, f"({what}) has a mask that is no PNG in base64 ({problem}): draw it anew") from None
    return pasted(piece, left, top, size)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


VERSION = "5.4.1"
"""The version of LabelMe whose files these are: masks came with the fifth."""


class LabelmeLayout(ShapeLayout):
    """[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, and labels.txt.

    "rle" writes a shape of type `mask` an object, which loses nothing; "polygon" outlines that keep `min_iou`, a shape
    a part, tied together by `group_id`; "both" both, tied together. LabelMe joins what is tied, so that a part of an
    outline that runs outside its mask counts: "both" outlines are exact. `score` and `track_id` are written where they
    are known; LabelMe keeps them.
    """

    layout: ClassVar[str] = "labelme"
    about: ClassVar[str] = "[SPLIT/]NAME.json beside [SPLIT/]NAME.jpg, labels.txt"
    holds: ClassVar[frozenset[str]] = frozenset({"overlaps", "holes", "parts", "classes", "scores", "ids"})

    def _picture_file(self, picture: LabelledPicture) -> str:
        return _stem(picture.name, picture.split)

    def _is_there(self, line: Line) -> bool:
        return super()._is_there(line) and (self.folder / f"{_stem(line.name, line.split)}.json").exists()

    def _write(self, picture: LabelledPicture, file: str) -> Written:
        written, shapes = Written(), list[LogRecord]()
        for number, thing in enumerate(picture.objects, 1):
            shapes += self._shapes(thing, number, written)
        content: LogRecord = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(file).name,
            "imageData": None,
            "imageHeight": picture.size[0],
            "imageWidth": picture.size[1],
        }
        path = self.folder / f"{_stem(picture.name, picture.split)}.json"
        self.paths.append(write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n"))
        return written

    def _shapes(self, thing: LabelledObject, number: int, written: Written) -> list[LogRecord]:
        """The shapes of one object; several are tied together by its number."""
        windows, rings = self._drawn(thing.mask, written)
        found = [_mask_shape(*window) for window in windows] + [_outline_shape(ring) for ring in rings]
        said: LogRecord = {"label": self._name_of(thing.class_id), "group_id": number if len(found) > 1 else None}
        said |= {"description": "", "flags": {}}
        said |= {"score": thing.score} if thing.score is not None else {}
        said |= {"track_id": thing.id} if thing.id is not None else {}
        return [{**said, **shape} for shape in found]

    def _finish(self) -> None:
        lines = ["__ignore__", "_background_", *map(one_line, self.names.values())]
        self.paths.append(write_text(self.folder / "labels.txt", "".join(f"{line}\n" for line in lines)))


def _stem(name: str, split: str | None) -> str:
    return f"{split}/{name}" if split else name


def _mask_shape(crop: npt.NDArray[np.bool_], left: int, top: int) -> LogRecord:
    """The two points are the first and the last pixel of the box."""
    packed = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).convert("1").save(packed, "PNG")
    height, width = crop.shape
    return {
        "points": [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]],
        "shape_type": "mask",
        "mask": base64.b64encode(packed.getvalue()).decode("ascii"),
    }


def _outline_shape(ring: Ring) -> LogRecord:
    return {"points": ring.astype(float).tolist(), "shape_type": "polygon"}
