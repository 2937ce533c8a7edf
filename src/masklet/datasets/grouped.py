"""Objects of several shapes: LabelMe and CVAT tie shapes of one label together by the number of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from masklet.datasets.base import LazyMasks, Mask, Size, Tag
from masklet.masks.polygons import Polygon, Ring, to_mask

__all__ = ["LazyNames", "Shape", "painted", "pasted", "united"]


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
