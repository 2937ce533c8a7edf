"""Which earlier frames to look at: integers in, integers out.

This is the one thing about tracking that people want to change, so it is one small object. A rule of one's own has
the methods of `RecallRule` and goes into `TrackOptions(recall=...)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AvailableMemory", "MemorySelection", "MemorySelector", "RecentFrames"]


@dataclass(frozen=True)
class AvailableMemory:
    """What is known of one object, by frame number."""

    prompted: Collection[int]
    """Frames on which a person said something."""
    tracked: Collection[int]
    """Other frames it was followed through, of which at least a pointer is left."""
    with_spatial: Collection[int] | None = None
    """Those of `tracked` whose whole memory is left; None: all."""


@dataclass(frozen=True)
class MemorySelection:
    """The frames to look at, from one frame."""

    spatial: tuple[tuple[int, int], ...]
    """(frame, age): whole memories; age 0 for prompted frames, n for the n-th frame before."""
    pointers: tuple[tuple[int, int], ...]
    """(frame, offset): object pointers, `offset` frames before."""
    max_pointers: int
    """How many pointers there could be."""


class MemorySelector(Protocol):
    """Chooses what a frame looks back at, and says what may be forgotten."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Frames back that a whole memory, and that a pointer, can still be looked at."""
        ...

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """What to look at from `frame`; time runs backwards if `reverse`; the video has `length` frames, if known."""
        ...


@dataclass(frozen=True)
class RecentFrames:
    """SAM 2's own rule: every prompted frame, the six frames before, and the pointers of fifteen.

    Example:
        >>> Recent().look(9, History(prompted=(0,), tracked=range(1, 9)), reverse=False, length=None).spatial
        ((0, 0), (3, 6), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1))
    """

    memories: int = 6
    pointers: int = 16
    """The object at its prompted frame counts as one of them."""
    prompted: int | None = None
    """Look at no more than so many prompted frames, the nearest; None: at all."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Frames back that a whole memory, and that a pointer, can still be looked at."""
        return self.memories, self.pointers - 1

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """What to look at from `frame`."""
        sign = -1 if reverse else 1
        chosen = self._nearest(frame_idx, available.prompted)
        left_over = set(available.prompted) - set(chosen)
        others = left_over | set(available.tracked)
        whole = others if available.with_spatial is None else left_over | set(available.with_spatial)
        recent = [(frame_idx - sign * age, age) for age in range(self.memories, 0, -1)]
        horizon = self.pointers if length is None else min(length, self.pointers)
        return MemorySelection(
            spatial=(*((f, 0) for f in chosen), *((f, age) for f, age in recent if f in whole)),
            pointers=(
                *((f, sign * (frame_idx - f)) for f in chosen if sign * (frame_idx - f) >= 0),
                *((frame_idx - sign * back, back) for back in range(1, horizon) if frame_idx - sign * back in others),
            ),
            max_pointers=horizon,
        )

    def _nearest(self, frame_idx: int, prompted: Iterable[int]) -> list[int]:
        """The last prompted frame before, the first from here on, then whichever is nearest, in order of time."""
        every = sorted(prompted)
        if self.prompted is None or len(every) <= self.prompted:
            return every
        before, after = [f for f in every if f < frame_idx], [f for f in every if f >= frame_idx]
        first = [*before[-1:], *after[:1]]
        rest = sorted((f for f in every if f not in first), key=lambda f: abs(f - frame_idx))
        return sorted([*first, *rest][: self.prompted])
