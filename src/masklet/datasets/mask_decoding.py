"""Objects of several shapes: LabelMe and CVAT tie shapes of one label together by the number of a group.

Rings of numbers, as label files hold outlines, checked and in pixels.

Masks out of COCO run-length codes, with the size checked at once and the runs when a mask is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.datasets.dataset import DataError, LazyMasks, Mask, ObjectAttributes, Size, check_same_size
from masklet.datasets.json_reader import JsonObject, as_json_object
from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.polygons import Polygon, Ring, polygons_to_mask
from masklet.media.image import format_size

__all__ = [
    "LazyClassNames",
    "Shape",
    "merge_groups",
    "parse_polygon",
    "paste_mask",
    "rasterize_polygon",
    "rle_decoder",
    "rle_masks",
]

MAX_COORDINATE = 1e9
BORDER_TOLERANCE = 0.1
"""Outlines may run over the border of the image by this share of its side; what is outside is cut off."""


def parse_polygon(
    coordinates: Sequence[object], scale: tuple[float, float], size: Size, file: Path, description: str
) -> Ring:
    """x, y, x, y ... as (K, 2) float32 in pixels; `scale` is what x and y are multiplied by.

    Raises:
        DataError: fewer than three points, an odd count, something that is no number, or points far outside.

    Example:
        >>> ring_of([0, 0, 4, 0, 4, 3], (1, 1), (480, 640), Path("a.json"), "annotation 1").shape
        (3, 2)
    """
    if len(coordinates) < 6 or len(coordinates) % 2:
        raise DataError.for_file(
            file,
            f"({description}) has an outline of {len(coordinates)} numbers; x and y of three points or more are an even "  # noqa: E501
            "number, six at least: mend or remove this object",
        )
    wrong = [
        n for n in coordinates if not isinstance(n, (int, float)) or not abs(n) < MAX_COORDINATE
    ]  # NaN is not less either
    if wrong:
        raise DataError.for_file(
            file,
            f"({description}) has {wrong[0]!r:.40} in its outline; coordinates are numbers: mend or remove this object",
        )
    ring: npt.NDArray[np.float64] = np.array(coordinates, np.float64).reshape(-1, 2) * scale
    _check_inside(ring, size, file, description)
    return ring.astype(np.float32)


def _check_inside(ring: npt.NDArray[np.float64], size: Size, file: Path, description: str) -> None:
    sides = np.array(size[::-1], np.float64)
    low, high = ring.min(axis=0), ring.max(axis=0)
    beyond = (low < -BORDER_TOLERANCE * sides).any() or (high > (1 + BORDER_TOLERANCE) * sides).any()
    if beyond or (high <= 0).any() or (low >= sides).any():
        raise DataError.for_file(
            file,
            f"({description}) lies outside its image: x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to {high[1]:.1f} in a "  # noqa: E501
            f"image of {format_size(size)}; coordinates count its pixels (or, in YOLO files, are shares of 0 to "
            "1): is it the right image, and of the right size?",
        )


def rle_masks(encoded_masks: Sequence[object], size: Size, file: Path, image_path: Path) -> LazyMasks:
    """Object n + 1 of code n, for an image of this size; `file` is where the codes come from.

    Raises:
        DataError: something that is no code, or a code of another size.

    Example:
        >>> coded_masks([{"size": [2, 3], "counts": "06"}], (2, 3), Path("a.json"), Path("a.jpg"))[1].all()
        True
    """
    return LazyMasks(
        {
            number: rle_decoder(code, size, file, image_path, f"mask {number}")
            for number, code in enumerate(encoded_masks, 1)
        }
    )


def rle_decoder(encoded_mask: object, size: Size, file: Path, image_path: Path, description: str) -> Callable[[], Mask]:
    """What decodes one code when it is called; `what` names it in errors.

    Raises:
        DataError: it is no code, or of another size than the image.
    """
    record = as_json_object(encoded_mask, file, description)
    said = record.get("size")
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(side, int) for side in said):
        raise DataError.for_file(
            file,
            f"({description}) has size {said!r:.40}; a run-length code has [height, width] in pixels: export it again",
        )
    if "counts" not in record:
        raise DataError.for_file(
            file, f"({description}) has no counts; a run-length code has size and counts: export it again"
        )
    check_same_size(file, said, image_path, size, description)
    return partial(_decode_rle, record, file, description)


def _decode_rle(encoded_mask: JsonObject, file: Path, description: str) -> Mask:
    try:
        return rle.decode(encoded_mask)
    except (InputError, OverflowError) as problem:
        raise DataError.for_file(file, f"({description}) cannot be decoded: {problem}") from problem


@dataclass(frozen=True)
class Shape:
    """One shape: what paints it, what is said of it, and the group it belongs to, if any."""

    rasterize: Callable[[], Mask]
    attributes: ObjectAttributes
    group_id: str | None = None


class LazyClassNames(Mapping[int, str]):
    """Class names by number, looked for when they are asked for first.

    Example:
        >>> names = LazyNames(partial(labels_in, files))
        >>> names[0]
        'dog'
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


def merge_groups(shapes: Iterable[Shape]) -> LazyMasks:
    """Objects 1 to N of shapes, in the order of their first shapes; what has one label and one group is one object.

    Example:
        >>> list(united([Shape(paint, Tag(label="dog"), "1"), Shape(paint, Tag(label="dog"), "1")]))
        [1]
    """
    objects: dict[object, list[Shape]] = {}
    for number, shape in enumerate(shapes):
        key = number if shape.group_id is None else (shape.attributes.label, shape.group_id)
        objects.setdefault(key, []).append(shape)
    numbered = dict(enumerate(objects.values(), 1))
    return LazyMasks(
        {n: partial(_union_masks, tuple(parts)) for n, parts in numbered.items()},
        {n: parts[0].attributes for n, parts in numbered.items()},
    )


def rasterize_polygon(ring: Ring, size: Size) -> Mask:
    """Pixels whose center lies in the ring."""
    return polygons_to_mask([Polygon(ring)], size)


def paste_mask(crop: Mask, left: int, top: int, size: Size) -> Mask:
    """A mask of `size` with `piece` in it, its upper left corner at (left, top)."""
    mask = np.zeros(size, bool)
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    return mask


def _union_masks(shapes: tuple[Shape, ...]) -> Mask:
    mask = shapes[0].rasterize()
    for part in shapes[1:]:
        mask = mask | part.rasterize()
    return mask
