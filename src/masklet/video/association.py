"""What a finder finds in one frame, and what becomes of it beside the objects that are followed already.

Pure NumPy on made masks: no network, no video. Masks are compared on a grid of at most `GRID` places a side, boxes are
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
from masklet.video.track_options import AutoTrackOptions

__all__ = ["Candidate", "Detection", "FrameDetector", "Match", "RegionDetector", "TrackAssociator", "candidates"]

BoolArray = npt.NDArray[np.bool_]
RgbArray = npt.NDArray[np.uint8]

GRID_SIZE = 512
"""Places a side, at most: finer than what the tracker itself sees of a frame."""
CONTAINED_FRACTION = 0.8
"""Share of an object that a larger find has to hold for both to be one, where the object entered cut by the edge."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One object in a frame: a mask, (H, W) bool or a run-length code, or a box x1, y1, x2, y2 in original pixels.

    Where there is a mask, the box is not looked at.

    Example:
        >>> Found(0.9, box=(10, 20, 110, 90), class_id=16, name="dog")

    Raises:
        InputError: neither mask nor box, or numbers that cannot be meant.
    """

    score: float
    mask: BoolArray | rle.Rle | None = None
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

    def full_mask(self, size: tuple[int, int]) -> BoolArray | None:
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

    def clipped_box(self, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """The box, (4,) xyxy, cut to the frame's (height, width); of a mask its tight box."""
        mask = self.full_mask(size)
        if mask is not None:
            corners: npt.NDArray[np.float32] = tight.masks_to_boxes(mask[None])[0]
            return corners
        height, width = size
        x1, y1, x2, y2 = np.asarray(self.box, np.float32)
        return np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)


FrameDetector = Callable[[RgbArray], Iterable[Detection]]
"""What finds objects in a frame, RGB (H, W, 3) uint8."""


@runtime_checkable
class RegionDetector(Protocol):
    """A finder that can leave out what is known, where looking everywhere takes long."""

    def __call__(self, rgb: RgbArray) -> Iterable[Detection]:
        """What there is in a frame."""

    def detect_outside(self, rgb: RgbArray, covered: BoolArray) -> Iterable[Detection]:
        """What there is outside `known`, a mask of the frame in any resolution; finds may reach into it."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A find, as it is compared: `mask` on the grid (None: a box only), `box` in pixels, `area` share of the frame."""

    detection: Detection
    mask: BoolArray | None
    box: npt.NDArray[np.float32]
    area: float


def candidates(detections: Iterable[Detection], size: tuple[int, int], options: AutoTrackOptions) -> list[Candidate]:
    """The finds that are large enough, in the order in which they are taken.

    Example:
        >>> [candidate.area for candidate in candidates(finder(rgb), (480, 640), FollowOptions(first="area"))]
        [0.4, 0.12, 0.03]
    """
    seen = [_make_candidate(found, size) for found in detections]
    large = [one for one in seen if one.area >= options.min_area and one.area > 0]
    if options.sort_by == "area":
        return sorted(large, key=lambda one: (-one.area, -one.detection.score))
    return sorted(large, key=lambda one: (-one.detection.score, -one.area))


def _make_candidate(detection: Detection, size: tuple[int, int]) -> Candidate:
    mask = detection.full_mask(size)
    if mask is None:
        box = detection.clipped_box(size)
        x1, y1, x2, y2 = box.tolist()
        inside = max(0.0, x2 - x1) * max(0.0, y2 - y1)
        return Candidate(detection, None, box, inside / (size[0] * size[1]) if min(x2 - x1, y2 - y1) >= 1 else 0.0)
    coarse = _downsample(mask)
    return Candidate(detection, coarse, tight.masks_to_boxes(mask[None])[0], np.count_nonzero(coarse) / coarse.size)


@dataclass(frozen=True, eq=False)
class _TrackMask:
    """Where one followed object is: mask on the grid, what of the grid it spans, box in pixels of the frame."""

    mask: BoolArray
    window: tuple[slice, slice]
    area: int
    box: npt.NDArray[np.float32]
    class_id: int


@dataclass(frozen=True)
class Match:
    """What a find is beside what is followed: new, or known: as the object `id`, or (None) as a part of some."""

    new: bool
    id: int | None = None
    iou: float = field(default=0.0, compare=False)
    """IoU with that object."""


@dataclass(eq=False)
class TrackAssociator:
    """What is followed on one frame, and how much of the frame it explains.

    Example:
        >>> ground = Ground(FollowOptions())
        >>> ground.put(1, mask, class_id=0)
        >>> ground.judge(mask, class_id=0)
        Verdict(new=False, id=1)
    """

    options: AutoTrackOptions
    _track_masks: dict[int, _TrackMask] = field(default_factory=dict)
    _covered: dict[int, BoolArray] = field(default_factory=dict)
    """By class, the union of what is no background."""

    def add(self, track_id: int, mask: BoolArray, class_id: int) -> None:
        """Object `id` is here, `mask` (H, W); an empty mask is nowhere."""
        coarse = _downsample(mask)
        area = int(np.count_nonzero(coarse))
        if not area:
            return
        self._track_masks[track_id] = _TrackMask(
            coarse, _mask_window(coarse), area, tight.masks_to_boxes(mask[None])[0], class_id
        )
        if area < self.options.background_area * coarse.size:
            union = self._covered.setdefault(class_id, np.zeros_like(coarse))
            union |= coarse

    def remove(self, track_id: int) -> None:
        """Object `id` is followed no longer."""
        self._track_masks.pop(track_id, None)

    def match_mask(self, mask: BoolArray, class_id: int) -> Match:
        """What a mask, on the grid or as large as the frame, is beside what is followed."""
        coarse = _downsample(mask)
        area = int(np.count_nonzero(coarse))
        shared = {id: self._intersection(place, coarse) for id, place in self._track_masks.items()}
        alike = {id: both / (area + self._track_masks[id].area - both) for id, both in shared.items() if both}
        verdict = self._best_match(alike)
        if not verdict.new or self.options.parts:
            return verdict
        return Match(new=self.covered_fraction(coarse, class_id) < self.options.part_overlap)

    def match_box(self, box: npt.NDArray[np.float32], class_id: int, matched_ids: Container[int]) -> Match:
        """What a box is beside the objects of its class that are not `taken`: only boxes are compared."""
        return self._best_match(
            {
                id: _box_iou(box, place.box)
                for id, place in self._track_masks.items()
                if place.class_id == class_id and id not in matched_ids
            }
        )

    def _best_match(self, ious: dict[int, float]) -> Match:
        best = max(ious, key=lambda id: ious[id], default=None)
        if best is None or ious[best] < self.options.match_iou:
            return Match(new=True)
        return Match(False, best, ious[best])

    def covered_fraction(self, mask: BoolArray, class_id: int) -> float:
        """The share of a mask that lies on followed objects of its class, leaving out backgrounds."""
        coarse = _downsample(mask)
        union = self._covered.get(class_id)
        area = int(np.count_nonzero(coarse))
        return 0.0 if union is None or not area else int(np.count_nonzero(coarse & union)) / area

    @property
    def covered_mask(self) -> BoolArray | None:
        """All that lies on followed objects, leaving out backgrounds, on the grid; None: nothing does."""
        return np.logical_or.reduce(list(self._covered.values())) if self._covered else None

    def contained_tracks(self, mask: BoolArray, class_id: int) -> list[int]:
        """Followed objects of the class that lie in this mask, but for a little; in a background none do."""
        coarse = _downsample(mask)
        if np.count_nonzero(coarse) >= self.options.background_area * coarse.size:
            return []
        return [
            id
            for id, place in self._track_masks.items()
            if place.class_id == class_id and self._intersection(place, coarse) >= CONTAINED_FRACTION * place.area
        ]

    def duplicates(self) -> frozenset[tuple[int, int]]:
        """Pairs of ids, the lower first, whose masks are one and the same by now."""
        ids = sorted(self._track_masks)
        pairs = [(a, b) for i, a in enumerate(ids) for b in ids[i + 1 :]]
        return frozenset((a, b) for a, b in pairs if self._iou(a, b) >= self.options.match_iou)

    def _iou(self, a: int, b: int) -> float:
        one, other = self._track_masks[a], self._track_masks[b]
        both = self._intersection(one, other.mask)
        return both / (one.area + other.area - both)

    def _intersection(self, track_mask: _TrackMask, coarse: BoolArray) -> int:
        assert track_mask.mask.shape == coarse.shape, (
            f"one grid a frame, got {coarse.shape} and {track_mask.mask.shape}"
        )
        return int(np.count_nonzero(track_mask.mask[track_mask.window] & coarse[track_mask.window]))


def _downsample(mask: BoolArray) -> BoolArray:
    """Every n-th place of a mask, so that at most `GRID` a side are left; a mask on the grid stays as it is."""
    stride = -(-max(mask.shape) // GRID_SIZE)
    return mask if stride == 1 else np.ascontiguousarray(mask[::stride, ::stride])


def _mask_window(coarse: BoolArray) -> tuple[slice, slice]:
    x1, y1, x2, y2 = tight.masks_to_boxes(coarse[None])[0].astype(int).tolist()
    return slice(y1, y2), slice(x1, x2)


def _box_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = float(np.prod((high - low).clip(0)))
    either = float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - both
    return both / either if either > 0 else 0.0
