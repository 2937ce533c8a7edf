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

from masklet.datasets.dataset import DataError, LazyMasks, Mask, Size, Tag, same_size
from masklet.datasets.json_reader import Record, as_record
from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.polygons import Polygon, Ring, to_mask
from masklet.media.image import said_size

__all__ = ["LazyNames", "Shape", "code_decoder", "coded_masks", "painted", "pasted", "ring_of", "united"]

MOST = 1e9
SLACK = 0.1
"""Outlines may run over the border of the picture by this share of its side; what is outside is cut off."""


def ring_of(numbers: Sequence[object], scale: tuple[float, float], size: Size, file: Path, what: str) -> Ring:
    """x, y, x, y ... as (K, 2) float32 in pixels; `scale` is what x and y are multiplied by.

    Raises:
        DataError: fewer than three points, an odd count, something that is no number, or points far outside.

    Example:
        >>> ring_of([0, 0, 4, 0, 4, 3], (1, 1), (480, 640), Path("a.json"), "annotation 1").shape
        (3, 2)
    """
    if len(numbers) < 6 or len(numbers) % 2:
        raise DataError.of(
            file,
            f"({what}) has an outline of {len(numbers)} numbers; x and y of three points or more are an even "
            "number, six at least: mend or remove this object",
        )
    wrong = [n for n in numbers if not isinstance(n, (int, float)) or not abs(n) < MOST]  # NaN is not less either
    if wrong:
        raise DataError.of(
            file, f"({what}) has {wrong[0]!r:.40} in its outline; coordinates are numbers: mend or remove this object"
        )
    ring: npt.NDArray[np.float64] = np.array(numbers, np.float64).reshape(-1, 2) * scale
    _check_inside(ring, size, file, what)
    return ring.astype(np.float32)


def _check_inside(ring: npt.NDArray[np.float64], size: Size, file: Path, what: str) -> None:
    sides = np.array(size[::-1], np.float64)
    low, high = ring.min(axis=0), ring.max(axis=0)
    beyond = (low < -SLACK * sides).any() or (high > (1 + SLACK) * sides).any()
    if beyond or (high <= 0).any() or (low >= sides).any():
        raise DataError.of(
            file,
            f"({what}) lies outside its picture: x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to {high[1]:.1f} in a "
            f"picture of {said_size(size)}; coordinates count its pixels (or, in YOLO files, are shares of 0 to "
            "1): is it the right picture, and of the right size?",
        )


def coded_masks(codes: Sequence[object], size: Size, file: Path, picture: Path) -> LazyMasks:
    """Object n + 1 of code n, for a picture of this size; `file` is where the codes come from.

    Raises:
        DataError: something that is no code, or a code of another size.

    Example:
        >>> coded_masks([{"size": [2, 3], "counts": "06"}], (2, 3), Path("a.json"), Path("a.jpg"))[1].all()
        True
    """
    return LazyMasks(
        {number: code_decoder(code, size, file, picture, f"mask {number}") for number, code in enumerate(codes, 1)}
    )


def code_decoder(code: object, size: Size, file: Path, picture: Path, what: str) -> Callable[[], Mask]:
    """What decodes one code when it is called; `what` names it in errors.

    Raises:
        DataError: it is no code, or of another size than the picture.
    """
    record = as_record(code, file, what)
    said = record.get("size")
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(side, int) for side in said):
        raise DataError.of(
            file, f"({what}) has size {said!r:.40}; a run-length code has [height, width] in pixels: export it again"
        )
    if "counts" not in record:
        raise DataError.of(file, f"({what}) has no counts; a run-length code has size and counts: export it again")
    same_size(file, said, picture, size, what)
    return partial(_decoded, record, file, what)


def _decoded(code: Record, file: Path, what: str) -> Mask:
    try:
        return rle.decode(code)
    except (InputError, OverflowError) as problem:
        raise DataError.of(file, f"({what}) cannot be decoded: {problem}") from problem


@dataclass(frozen=True)
class Shape:
    """One shape: what paints it, what is said of it, and the group it belongs to, if any."""

    paint: Callable[[], Mask]
    tag: Tag
    group: str | None = None


class LazyNames(Mapping[int, str]):
    """Class names by number, looked for when they are asked for first.

    Example:
        >>> names = LazyNames(partial(labels_in, files))
        >>> names[0]
        'dog'
    """

    def __init__(self, find: Callable[[], Iterable[str]]) -> None:
        self._find = find
        self._found: dict[int, str] | None = None

    @property
    def _names(self) -> dict[int, str]:
        if self._found is None:
            self._found = dict(enumerate(self._find()))
        return self._found

    def __getitem__(self, number: int) -> str:
        return self._names[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def united(shapes: Iterable[Shape]) -> LazyMasks:
    """Objects 1 to N of shapes, in the order of their first shapes; what has one label and one group is one object.

    Example:
        >>> list(united([Shape(paint, Tag(label="dog"), "1"), Shape(paint, Tag(label="dog"), "1")]))
        [1]
    """
    objects: dict[object, list[Shape]] = {}
    for number, shape in enumerate(shapes):
        key = number if shape.group is None else (shape.tag.label, shape.group)
        objects.setdefault(key, []).append(shape)
    numbered = dict(enumerate(objects.values(), 1))
    return LazyMasks(
        {n: partial(_together, tuple(parts)) for n, parts in numbered.items()},
        {n: parts[0].tag for n, parts in numbered.items()},
    )


def painted(ring: Ring, size: Size) -> Mask:
    """Pixels whose centre lies in the ring."""
    return to_mask([Polygon(ring)], size)


def pasted(piece: Mask, left: int, top: int, size: Size) -> Mask:
    """A mask of `size` with `piece` in it, its upper left corner at (left, top)."""
    mask = np.zeros(size, bool)
    mask[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return mask


def _together(parts: tuple[Shape, ...]) -> Mask:
    mask = parts[0].paint()
    for part in parts[1:]:
        mask = mask | part.paint()
    return mask
