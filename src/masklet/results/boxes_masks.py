"""The masks and boxes of one image, in original pixels (names ending in `n`: fractions of width and height)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.masks import polygons

__all__ = ["Boxes", "IndexLike", "Masks", "resolve_index"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
IndexLike = int | slice | Sequence[int] | Sequence[bool] | npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """N masks of one image: `data` (N, H, W) bool.

    Example:
        >>> masks = Masks(np.zeros((2, 480, 640), bool))
        >>> masks.data.shape, masks.orig_shape
        ((2, 480, 640), (480, 640))
    """

    data: Bools

    def __post_init__(self) -> None:
        assert self.data.ndim == 3, f"masks are (N, H, W), got {self.data.shape}"
        object.__setattr__(self, "data", np.asarray(self.data, bool))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: IndexLike) -> Masks:
        return Masks(self.data[resolve_index(index, len(self))])

    def __repr__(self) -> str:
        return f"Masks(shape={self.data.shape})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`: (N, H, W)."""
        return self.data.shape

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    @cached_property
    def polygons(self) -> list[list[polygons.Polygon]]:
        """The outlines of each mask with holes and separate parts, largest part first, lossless."""
        return [polygons.mask_to_polygons(mask) for mask in self.data]

    @cached_property
    def xy(self) -> list[Floats]:
        """One ring (K, 2) per mask, original pixels; holes and further parts are joined by zero-width bridges."""
        return [polygons.merge_to_ring(parts) for parts in self.polygons]

    @property
    def xyn(self) -> list[Floats]:
        """`xy` as fractions of width and height."""
        height, width = self.orig_shape
        scale = np.array([width, height], np.float32)
        return [np.divide(ring, scale, dtype=np.float32) for ring in self.xy]


@dataclass(frozen=True, eq=False, repr=False)
class Boxes:
    """N boxes of one image: `xyxy` (N, 4) with `conf` (N,) and `cls` (N,), all float32.

    Example:
        >>> xyxy, one = np.array([[10, 20, 30, 60]], np.float32), np.ones(1, np.float32)
        >>> Boxes(xyxy, conf=one, cls=one, orig_shape=(80, 100)).xywhn.round(2).tolist()
        [[0.20000000298023224, 0.5, 0.20000000298023224, 0.5]]
    """

    xyxy: Floats
    conf: Floats
    cls: Floats
    orig_shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: IndexLike) -> Boxes:
        rows = resolve_index(index, len(self))
        return Boxes(self.xyxy[rows], self.conf[rows], self.cls[rows], self.orig_shape)

    def __repr__(self) -> str:
        return f"Boxes(n={len(self)}, orig_shape={self.orig_shape})"

    @property
    def xywh(self) -> Floats:
        """Center x, center y, width, height in original pixels, (N, 4)."""
        corner, far = self.xyxy[:, :2], self.xyxy[:, 2:]
        return np.concatenate([(corner + far) / 2, far - corner], axis=1)

    @property
    def xyxyn(self) -> Floats:
        """`xyxy` as fractions of width and height."""
        return np.divide(self.xyxy, self.orig_shape[::-1] * 2, dtype=np.float32)

    @property
    def xywhn(self) -> Floats:
        """`xywh` as fractions of width and height."""
        return np.divide(self.xywh, self.orig_shape[::-1] * 2, dtype=np.float32)

    @property
    def data(self) -> Floats:
        """x1, y1, x2, y2, conf, cls in one (N, 6) array."""
        return np.concatenate([self.xyxy, self.conf[:, None], self.cls[:, None]], axis=1)


def resolve_index(index: IndexLike, count: int) -> npt.NDArray[np.intp]:
    """Convert an int, a slice, or a list or array of ints or bools to row numbers, always one-dimensional."""
    if isinstance(index, (int, np.integer)) and not -count <= index < count:
        raise IndexError(f"object {index} of {count}: there are objects 0 to {count - 1}")
    if isinstance(index, Sequence) and not len(index):
        index = slice(0)
    return np.atleast_1d(np.arange(count)[index])
