"""Decoders shared by the formats: polygons, COCO run-length codes, and objects made of several shapes.

Each decoder is called when a mask is accessed, and checks its own numbers and sizes: a bad object costs no other one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets.dataset import (
    DataError,
    LazyMasks,
    LeftOutObject,
    Mask,
    ObjectAttributes,
    Size,
    check_same_size,
)
from masklet.datasets.json_reader import as_json_object
from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.polygons import Polygon, Ring, polygons_to_mask
from masklet.media.image import format_size

__all__ = [
    "Shape",
    "as_id",
    "as_number",
    "as_score",
    "as_track_id",
    "merge_groups",
    "parse_polygon",
    "paste_mask",
    "rasterize_polygons",
    "rle_decoder",
    "rle_masks",
]

MAX_COORDINATE = 1e9
BORDER_TOLERANCE = 0.1
"""Outlines may leave the image by this fraction of its side; what is outside is cut off."""


def parse_polygon(
    coordinates: Sequence[object], scale: tuple[float, float], size: Size, file: Path, description: str
) -> Ring:
    """Parse x, y, x, y ... into a ring, (K, 2) float32 in pixels; `scale` multiplies x and y. Numbers may be text.

    Raises:
        DataError: if there are fewer than three points, an odd count, a value that is not a number, or points far
            outside the image. `file` and `description` name the outline.

    Example:
        >>> parse_polygon([0, 0, 4, 0, 4, 3], (1, 1), (480, 640), Path("a.json"), "annotation 1").shape
        (3, 2)
    """
    if len(coordinates) < 6 or len(coordinates) % 2:
        raise DataError.for_file(
            file,
            f"({description}) has an outline of {len(coordinates)} numbers; x and y of three points or more are an "
            "even number, six at least: fix or remove this object",
        )
    numbers = []
    for value in coordinates:
        number = as_number(value)
        if number is None or not abs(number) < MAX_COORDINATE:  # NaN is not less either
            raise DataError.for_file(
                file,
                f"({description}) has {value!r:.40} in its outline; coordinates are numbers: fix or remove this object",
            )
        numbers.append(number)
    ring: npt.NDArray[np.float64] = np.array(numbers, np.float64).reshape(-1, 2) * scale
    sides = np.array(size[::-1], np.float64)
    low, high = ring.min(axis=0), ring.max(axis=0)
    beyond = (low < -BORDER_TOLERANCE * sides).any() or (high > (1 + BORDER_TOLERANCE) * sides).any()
    if beyond or (high <= 0).any() or (low >= sides).any():
        raise DataError.for_file(
            file,
            f"({description}) lies outside its image: x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to "
            f"{high[1]:.1f} in an image of {format_size(size)}; coordinates count its pixels (or, in YOLO files, are "
            "fractions from 0 to 1): is it the right image, and of the right size?",
        )
    return ring.astype(np.float32)


def rasterize_polygons(rings: Iterable[Ring], size: Size) -> Mask:
    """Return the mask of the pixels whose center lies in one of the rings."""
    return polygons_to_mask([Polygon(ring) for ring in rings], size)


def rle_masks(encoded_masks: Sequence[object], size: Size, file: Path, image_path: Path) -> LazyMasks:
    """Return objects 1 to N of a list of run-length codes for an image of this size; `file` holds the codes.

    Access raises DataError where an item is not a code, or has another size.

    Example:
        >>> masks = rle_masks([{"size": [2, 3], "counts": "06"}], (2, 3), Path("a.json"), Path("a.jpg"))
        >>> int(masks[1].sum())
        6
    """
    return LazyMasks(
        {
            number: rle_decoder(code, size, file, image_path, f"mask {number}")
            for number, code in enumerate(encoded_masks, 1)
        },
        num_records=len(encoded_masks),
    )


def rle_decoder(encoded_mask: object, size: Size, file: Path, image_path: Path, description: str) -> Callable[[], Mask]:
    """Return a function that decodes one run-length code to (H, W) bool; `description` names it in errors.

    The function raises DataError where it is not a code, is damaged, or has another size than the image.
    """

    def decode() -> Mask:
        record = as_json_object(encoded_mask, file, description)
        code_size = record.get("size")
        if (
            not isinstance(code_size, list)
            or len(code_size) != 2
            or not all(isinstance(side, int) for side in code_size)
        ):
            raise DataError.for_file(
                file,
                f"({description}) has size {code_size!r:.40}; a run-length code has [height, width] in pixels: export "
                "it again",
            )
        if "counts" not in record:
            raise DataError.for_file(
                file, f"({description}) has no counts; a run-length code has size and counts: export it again"
            )
        check_same_size(file, code_size, image_path, size, description)
        try:
            return rle.decode(record)
        except (InputError, OverflowError) as problem:
            raise DataError.for_file(file, f"({description}) cannot be decoded: {problem}") from problem

    return decode


@dataclass(frozen=True)
class Shape:
    """One shape of an object: how to rasterize it, the annotations, and the group it belongs to, if any."""

    rasterize: Callable[[], Mask]
    attributes: ObjectAttributes
    group_id: str | None = None


def merge_groups(
    shapes: Sequence[Shape], left_out: Sequence[LeftOutObject] = (), num_records: int | None = None
) -> LazyMasks:
    """Return objects 1 to N of shapes, in the order of their first shapes; one label and group is one object.

    `left_out` are the objects besides, which a rule of the reader leaves out, and `num_records` the shapes in the file.

    Example:
        >>> shape = Shape(lambda: np.ones((2, 3), bool), ObjectAttributes(label="dog"), "1")
        >>> list(merge_groups([shape, shape]))
        [1]
    """
    groups: dict[object, list[Shape]] = {}
    for number, shape in enumerate(shapes):
        key = number if shape.group_id is None else (shape.attributes.label, shape.group_id)
        groups.setdefault(key, []).append(shape)

    def rasterize(parts: Sequence[Shape]) -> Mask:
        mask = parts[0].rasterize()
        for part in parts[1:]:
            mask = mask | part.rasterize()
        return mask

    objects = dict(enumerate(groups.values(), 1))
    return LazyMasks(
        {object_id: partial(rasterize, parts) for object_id, parts in objects.items()},
        {object_id: parts[0].attributes for object_id, parts in objects.items()},
        left_out,
        num_records=num_records,
        num_merged=len(shapes) - len(objects),
    )


def paste_mask(crop: Mask, left: int, top: int, size: Size) -> Mask:
    """Return a mask of `size` that contains `crop` with its upper left corner at (left, top)."""
    mask = np.zeros(size, bool)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask


def as_number(value: object) -> float | None:
    """Return a number, or a text that is one, as a float; None if it is neither, or infinite."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_id(value: object) -> int | str | None:
    """Return an id as whole number, also where it is written 1.0 or "1"; other texts as they are, else None.

    Example:
        >>> as_id("18"), as_id(18.0), as_id("018"), as_id(None)
        (18, 18, '018', None)
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"(0|-?[1-9][0-9]{0,17})(\.0+)?", value.strip())  # of 18 digits, which fit 64 bits
        return int(match[1]) if match else value
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def as_score(value: object) -> float | None:
    """Return `value` if it is a number from 0 to 1, else None."""
    number = as_number(value)
    return number if number is not None and 0 <= number <= 1 else None


def as_track_id(value: object) -> int | None:
    """Return `value` if it is a whole number, else None."""
    number = as_id(value)
    return number if isinstance(number, int) else None
