"""What a finder finds in one frame, and what becomes of it beside the objects that are followed already.

Pure NumPy on made masks: no network, no film. Masks are compared on a grid of at most `GRID` places a side, boxes are
xyxy in pixels of the original frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import ops as tight
from masklet.masks import rle
from masklet.video.track_options import FollowOptions

__all__ = ["Candidate", "Finder", "Found", "Ground", "Searcher", "Verdict", "candidates"]

Bools = npt.NDArray[np.bool_]
Rgb = npt.NDArray[np.uint8]

GRID = 512
"""Places a side, at most: finer than what the tracker itself sees of a frame."""
SWALLOWED = 0.8
"""Share of an object that a larger find has to hold for both to be one, where the object entered cut by the edge."""


@dataclass(frozen=True, eq=False)
class Found:
    """One object in a frame: a mask, (H, W) bool or a run-length code, or a box x1, y1, x2, y2 in original pixels.

    Where there is a mask, the box is not looked at.

    Example:
        >>> Found(0.9, box=(10, 20, 110, 90), class_id=16, name="dog")

    Raises:
        InputError: neither mask nor box, or numbers that cannot be meant.
    """

    score: float
    mask: Bools | rle.Rle | None = None
    box: tuple[float, float, float, float] | npt.NDArray[np.floating[Any]] | None = None
    class_id: int = 0
    name: str = "object"

    def __post_init__(self) -> None:
        if self.mask is None and self.box is None:
            raise InputError("a find has neither mask nor box: give Found(score, mask=...) or Found(score, box=...)")
        if not math.isfinite(self.score):
            raise InputError(f"score {self.score!r} of a find must be a finite number, such as 0.9")
        if int(self.class_id) != self.class_id or self.class_id < 0:
            raise InputError(f"class_id {self.class_id!r} of a find must be a whole number, 0 or more")
        if self.mask is None and (np.shape(self.box) != (4,) or not np.isfinite(self.box).all()):  # type: ignore[arg-type]
            raise InputError(f"box {self.box!r} of a find must be four finite numbers, x1, y1, x2, y2")

    def full(self, size: tuple[int, int]) -> Bools | None:
        """The mask at the frame's (height, width), or None.

        Raises:
            InputError: a mask of another size, or a code that is none.
        """
        if self.mask is None:
            return None
        mask = rle.decode(self.mask) if isinstance(self.mask, dict) else np.asarray(self.mask, bool)
        if mask.shape != size:
            raise InputError(
                f"the finder gave a mask of {mask.shape} for a frame of {size} (height, width): masks are as large as "
                "the frame"
            )
        return mask

    def corners(self, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """The box, (4,) xyxy, cut to the frame's (height, width); of a mask its tight box."""
        mask = self.full(size)
        if mask is not None:
            corners: npt.NDArray[np.float32] = tight.from_masks(mask[None])[0]
            return corners
        height, width = size
        x1, y1, x2, y2 = np.asarray(self.box, np.float32)
        return np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)


Finder = Callable[[Rgb], Iterable[Found]]
"""What finds objects in a frame, RGB (H, W, 3) uint8."""


@runtime_checkable
class Searcher(Protocol):
    """A finder that can leave out what is known, where looking everywhere takes long."""

    def __call__(self, rgb: Rgb) -> Iterable[Found]:
        """What there is in a frame."""

    def beyond(self, rgb: Rgb, known: Bools) -> Iterable[Found]:
        """What there is outside `known`, a mask of the frame in any resolution; finds may reach into it."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A find, as it is compared: `mask` on the grid (None: a box only), `box` in pixels, `area` share of the frame."""

    found: Found
    mask: Bools | None
    box: npt.NDArray[np.float32]
    area: float


def candidates(finds: Iterable[Found], size: tuple[int, int], options: FollowOptions) -> list[Candidate]:
    """The finds that are large enough, in the order in which they are taken.

    Example:
        >>> [candidate.area for candidate in candidates(finder(rgb), (480, 640), FollowOptions(first="area"))]
        [0.4, 0.12, 0.03]
    """
    seen = [_candidate(found, size) for found in finds]
    large = [one for one in seen if one.area >= options.smallest and one.area > 0]
    if options.first == "area":
        return sorted(large, key=lambda one: (-one.area, -one.found.score))
    return sorted(large, key=lambda one: (-one.found.score, -one.area))


def _candidate(found: Found, size: tuple[int, int]) -> Candidate:
    mask = found.full(size)
    if mask is None:
        box = found.corners(size)
        x1, y1, x2, y2 = box.tolist()
        inside = max(0.0, x2 - x1) * max(0.0, y2 - y1)
        return Candidate(found, None, box, inside / (size[0] * size[1]) if min(x2 - x1, y2 - y1) >= 1 else 0.0)
    coarse = _on_grid(mask)
    return Candidate(found, coarse, tight.from_masks(mask[None])[0], np.count_nonzero(coarse) / coarse.size)


@dataclass(frozen=True, eq=False)
class _Place:
    """Where one followed object is: mask on the grid, what of the grid it spans, box in pixels of the frame."""

    mask: Bools
    window: tuple[slice, slice]
    area: int
    box: npt.NDArray[np.float32]
    class_id: int


@dataclass(frozen=True)
class Verdict:
    """What a find is beside what is followed: new, or known: as the object `id`, or (None) as a part of some."""

    new: bool
    id: int | None = None
    alike: float = field(default=0.0, compare=False)
    """IoU with that object."""


@dataclass(eq=False)
class Ground:
    """What is followed on one frame, and how much of the frame it explains.

    Example:
        >>> ground = Ground(FollowOptions())
        >>> ground.put(1, mask, class_id=0)
        >>> ground.judge(mask, class_id=0)
        Verdict(new=False, id=1)
    """

    options: FollowOptions
    _places: dict[int, _Place] = field(default_factory=dict)
    _explained: dict[int, Bools] = field(default_factory=dict)
    """By class, the union of what is no background."""

    def put(self, id: int, mask: Bools, class_id: int) -> None:
        """Object `id` is here, `mask` (H, W); an empty mask is nowhere."""
        coarse = _on_grid(mask)
        area = int(np.count_nonzero(coarse))
        if not area:
            return
        self._places[id] = _Place(coarse, _window(coarse), area, tight.from_masks(mask[None])[0], class_id)
        if area < self.options.background * coarse.size:
            union = self._explained.setdefault(class_id, np.zeros_like(coarse))
            union |= coarse

    def drop(self, id: int) -> None:
        """Object `id` is followed no longer."""
        self._places.pop(id, None)

    def judge(self, mask: Bools, class_id: int) -> Verdict:
        """What a mask, on the grid or as large as the frame, is beside what is followed."""
        coarse = _on_grid(mask)
        area = int(np.count_nonzero(coarse))
        shared = {id: self._shared(place, coarse) for id, place in self._places.items()}
        alike = {id: both / (area + self._places[id].area - both) for id, both in shared.items() if both}
        verdict = self._most_alike(alike)
        if not verdict.new or self.options.parts:
            return verdict
        return Verdict(new=self.explained(coarse, class_id) < self.options.inside)

    def framed(self, box: npt.NDArray[np.float32], class_id: int, taken: Container[int]) -> Verdict:
        """What a box is beside the objects of its class that are not `taken`: only boxes are compared."""
        return self._most_alike(
            {
                id: _box_iou(box, place.box)
                for id, place in self._places.items()
                if place.class_id == class_id and id not in taken
            }
        )

    def _most_alike(self, alike: dict[int, float]) -> Verdict:
        best = max(alike, key=lambda id: alike[id], default=None)
        if best is None or alike[best] < self.options.same_iou:
            return Verdict(new=True)
        return Verdict(False, best, alike[best])

    def explained(self, mask: Bools, class_id: int) -> float:
        """The share of a mask that lies on followed objects of its class, leaving out backgrounds."""
        coarse = _on_grid(mask)
        union = self._explained.get(class_id)
        area = int(np.count_nonzero(coarse))
        return 0.0 if union is None or not area else int(np.count_nonzero(coarse & union)) / area

    @property
    def known(self) -> Bools | None:
        """All that lies on followed objects, leaving out backgrounds, on the grid; None: nothing does."""
        return np.logical_or.reduce(list(self._explained.values())) if self._explained else None

    def swallowed(self, mask: Bools, class_id: int) -> list[int]:
        """Followed objects of the class that lie in this mask, but for a little; in a background none do."""
        coarse = _on_grid(mask)
        if np.count_nonzero(coarse) >= self.options.background * coarse.size:
            return []
        return [
            id
            for id, place in self._places.items()
            if place.class_id == class_id and self._shared(place, coarse) >= SWALLOWED * place.area
        ]

    def twins(self) -> frozenset[tuple[int, int]]:
        """Pairs of ids, the lower first, whose masks are one and the same by now."""
        ids = sorted(self._places)
        pairs = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :]]
        return frozenset((a, b) for a, b in pairs if self._iou(a, b) >= self.options.same_iou)

    def _iou(self, a: int, b: int) -> float:
        one, other = self._places[a], self._places[b]
        both = self._shared(one, other.mask)
        return both / (one.area + other.area - both)

    def _shared(self, place: _Place, coarse: Bools) -> int:
        assert place.mask.shape == coarse.shape, f"one grid a frame, got {coarse.shape} and {place.mask.shape}"
        return int(np.count_nonzero(place.mask[place.window] & coarse[place.window]))


def _on_grid(mask: Bools) -> Bools:
    """Every n-th place of a mask, so that at most `GRID` a side are left; a mask on the grid stays as it is."""
    stride = -(-max(mask.shape) // GRID)
    return mask if stride == 1 else np.ascontiguousarray(mask[::stride, ::stride])


def _window(coarse: Bools) -> tuple[slice, slice]:
    x1, y1, x2, y2 = tight.from_masks(coarse[None])[0].astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)


def _box_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod((high - low).clip(0)))
    either = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - both
    return both / either if either > 0 else 0.0
