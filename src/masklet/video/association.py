"""Match the detections of one frame with the objects being tracked.

Pure NumPy, without a network or a video. Masks are compared on a grid of at most `GRID_SIZE` positions a side; boxes
are xyxy in pixels of the original frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError
from masklet.masks import rle
from masklet.masks.ops import box_iou, masks_to_boxes
from masklet.video.track_options import AutoTrackOptions

__all__ = ["Candidate", "Detection", "FrameDetector", "Match", "RegionDetector", "TrackAssociator", "candidates"]

BoolArray = npt.NDArray[np.bool_]
RgbArray = npt.NDArray[np.uint8]

GRID_SIZE = 512
"""Finer than what the tracker itself sees of a frame."""
CONTAINED_FRACTION = 0.8
"""Fraction of a truncated track that a larger detection has to cover for both to be one object."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One object in a frame: a mask, (H, W) bool or run lengths, or a box x1, y1, x2, y2 in original pixels.

    Where there is a mask, the box is ignored.

    Example:
        >>> Detection(0.9, box=(10, 20, 110, 90), class_id=16, name="dog").name
        'dog'

    Raises:
        InputError: if it has neither mask nor box, or numbers are malformed.
    """

    score: float
    mask: BoolArray | rle.Rle | None = None
    box: Sequence[float] | npt.NDArray[np.float32] | npt.NDArray[np.float64] | None = None
    class_id: int = 0
    name: str = "object"

    def __post_init__(self) -> None:
        if self.mask is None and self.box is None:
            raise InputError(
                "a detection has neither mask nor box: give Detection(score, mask=...) or Detection(score, box=...)"
            )
        if not math.isfinite(self.score):
            raise InputError(f"score {self.score!r} of a detection must be a finite number, such as 0.9")
        if int(self.class_id) != self.class_id or self.class_id < 0:
            raise InputError(f"class_id {self.class_id!r} of a detection must be a whole number, 0 or more")
        if (
            self.mask is None
            and self.box is not None
            and (np.shape(self.box) != (4,) or not np.isfinite(self.box).all())
        ):
            raise InputError(f"box {self.box!r} of a detection must be four finite numbers, x1, y1, x2, y2")

    def full_mask(self, size: tuple[int, int]) -> BoolArray | None:
        """Return the mask at the frame's (height, width), or None.

        Raises:
            InputError: if the mask has another size, or its run lengths are malformed.
        """
        if self.mask is None:
            return None
        mask = rle.decode(self.mask) if isinstance(self.mask, dict) else np.asarray(self.mask, bool)
        if mask.shape != size:
            raise InputError(
                f"the detector gave a mask of {mask.shape} for a frame of {size} (height, width): masks are as large "
                "as the frame"
            )
        return mask

    def clipped_box(self, size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Return the box, (4,) xyxy, clipped to the frame's (height, width); of a mask its tight box."""
        mask = self.full_mask(size)
        if mask is not None:
            box: npt.NDArray[np.float32] = masks_to_boxes(mask[None])[0]
            return box
        height, width = size
        x1, y1, x2, y2 = np.asarray(self.box, np.float32)
        return np.array([max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)], np.float32)


FrameDetector = Callable[[RgbArray], Iterable[Detection]]
"""Detects objects in a frame, RGB (H, W, 3) uint8."""


@runtime_checkable
class RegionDetector(Protocol):
    """A detector that can leave out a region, where searching the full frame takes long."""

    def __call__(self, rgb: RgbArray) -> Iterable[Detection]:
        """Detect objects in a frame."""

    def detect_outside(self, rgb: RgbArray, covered: BoolArray) -> Iterable[Detection]:
        """Detect objects outside `covered`, a mask of the frame in any resolution; they may reach into it."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A detection prepared for matching."""

    detection: Detection
    mask: BoolArray | None
    """On the grid; None: a box only."""
    box: npt.NDArray[np.float32]
    """In pixels of the frame."""
    area: float
    """Fraction of the frame."""


def candidates(detections: Iterable[Detection], size: tuple[int, int], options: AutoTrackOptions) -> list[Candidate]:
    """Return the detections that are large enough, in the order in which they are matched.

    Example:
        >>> boxes = [(0, 0, 64, 48), (0, 0, 320, 480)]
        >>> detections = [Detection(0.9, box=box) for box in boxes]
        >>> [candidate.area for candidate in candidates(detections, (480, 640), AutoTrackOptions(sort_by="area"))]
        [0.5, 0.01]
    """
    large = []
    for detection in detections:
        mask = detection.full_mask(size)
        if mask is None:
            box = detection.clipped_box(size)
            x1, y1, x2, y2 = box.tolist()
            inside = max(0.0, x2 - x1) * max(0.0, y2 - y1)
            area = inside / (size[0] * size[1]) if min(x2 - x1, y2 - y1) >= 1 else 0.0
            candidate = Candidate(detection, None, box, area)
        else:
            coarse = _downsample(mask)
            box, area = masks_to_boxes(mask[None])[0], np.count_nonzero(coarse) / coarse.size
            candidate = Candidate(detection, coarse, box, area)
        if candidate.area >= options.min_area and candidate.area > 0:
            large.append(candidate)
    if options.sort_by == "area":
        return sorted(large, key=lambda one: (-one.area, -one.detection.score))
    return sorted(large, key=lambda one: (-one.detection.score, -one.area))


@dataclass(frozen=True, eq=False)
class TrackMask:
    """Where one tracked object is."""

    mask: BoolArray
    """On the grid."""
    window: tuple[slice, slice]
    """The part of the grid that holds the mask."""
    area: int
    """Positions of the grid."""
    box: npt.NDArray[np.float32]
    """In pixels of the frame."""
    class_id: int

    def intersection(self, coarse: BoolArray) -> int:
        """Count the positions shared with another mask on the grid."""
        assert self.mask.shape == coarse.shape, f"one grid a frame, got {coarse.shape} and {self.mask.shape}"
        return int(np.count_nonzero(self.mask[self.window] & coarse[self.window]))


@dataclass(frozen=True)
class Match:
    """The outcome for a detection: a new object, the track `id`, or (`new` False, `id` None) a part of a track."""

    new: bool
    id: int | None = None
    iou: float = field(default=0.0, compare=False)
    """IoU with the track."""


@dataclass(eq=False)
class TrackAssociator:
    """The objects tracked on one frame, and how much of the frame they cover.

    Example:
        >>> mask = np.zeros((48, 64), bool)
        >>> mask[10:20, 10:20] = True
        >>> tracks = TrackAssociator(AutoTrackOptions())
        >>> tracks.add(1, mask, class_id=0)
        >>> tracks.match_mask(mask, class_id=0)
        Match(new=False, id=1, iou=1.0)
    """

    options: AutoTrackOptions
    _track_masks: dict[int, TrackMask] = field(default_factory=dict)
    covered: dict[int, BoolArray] = field(default_factory=dict)
    """By class, the union of all masks on the grid that are no background."""

    def add(self, track_id: int, mask: BoolArray, class_id: int) -> None:
        """Add a track with its mask, (H, W); an empty mask is left out."""
        coarse = _downsample(mask)
        area = int(np.count_nonzero(coarse))
        if not area:
            return
        x1, y1, x2, y2 = masks_to_boxes(coarse[None])[0].astype(int).tolist()
        window = slice(y1, y2), slice(x1, x2)
        self._track_masks[track_id] = TrackMask(coarse, window, area, masks_to_boxes(mask[None])[0], class_id)
        if area < self.options.background_area * coarse.size:
            union = self.covered.setdefault(class_id, np.zeros_like(coarse))
            union |= coarse

    def remove(self, track_id: int) -> None:
        """Remove a track that has ended; what it covers stays covered on this frame."""
        self._track_masks.pop(track_id, None)

    def match_mask(self, mask: BoolArray, class_id: int) -> Match:
        """Match a mask, on the grid or as large as the frame, with the tracks of any class."""
        coarse = _downsample(mask)
        area = int(np.count_nonzero(coarse))
        shared = {id: track.intersection(coarse) for id, track in self._track_masks.items()}
        ious = {id: both / (area + self._track_masks[id].area - both) for id, both in shared.items() if both}
        match = self._best_match(ious)
        if not match.new or self.options.parts:
            return match
        union = self.covered.get(class_id)
        on_tracks = 0.0 if union is None or not area else int(np.count_nonzero(coarse & union)) / area
        return Match(new=on_tracks < self.options.part_overlap)

    def match_box(self, box: npt.NDArray[np.float32], class_id: int, matched_ids: Container[int]) -> Match:
        """Match a box with the boxes of the tracks of its class that are not in `matched_ids`."""
        ious = {
            id: box_iou(box, track.box)
            for id, track in self._track_masks.items()
            if track.class_id == class_id and id not in matched_ids
        }
        return self._best_match(ious)

    def _best_match(self, ious: dict[int, float]) -> Match:
        best = max(ious, key=lambda id: ious[id], default=None)
        if best is None or ious[best] < self.options.match_iou:
            return Match(new=True)
        return Match(False, best, ious[best])

    def contained_tracks(self, mask: BoolArray, class_id: int) -> list[int]:
        """Return the tracks of the class that lie almost completely in a mask; in a background none do."""
        coarse = _downsample(mask)
        if np.count_nonzero(coarse) >= self.options.background_area * coarse.size:
            return []
        return [
            id
            for id, track in self._track_masks.items()
            if track.class_id == class_id and track.intersection(coarse) >= CONTAINED_FRACTION * track.area
        ]

    def duplicates(self) -> frozenset[tuple[int, int]]:
        """Return the pairs of track ids, the lower first, whose masks have become one and the same."""
        ids, pairs = sorted(self._track_masks), set()
        for i, a in enumerate(ids):
            for b in ids[i + 1 :]:
                one, other = self._track_masks[a], self._track_masks[b]
                both = one.intersection(other.mask)
                if both / (one.area + other.area - both) >= self.options.match_iou:
                    pairs.add((a, b))
        return frozenset(pairs)


def _downsample(mask: BoolArray) -> BoolArray:
    """Take every n-th position, so that at most `GRID_SIZE` a side are left; a mask on the grid stays as it is."""
    stride = -(-max(mask.shape) // GRID_SIZE)
    return mask if stride == 1 else np.ascontiguousarray(mask[::stride, ::stride])
