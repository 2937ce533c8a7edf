"""Select the earlier frames that a frame attends to: integers in, integers out.

This is the part of tracking that people most often want to change, so it is one small object. A custom rule has the
methods of `MemorySelector` and is passed as `TrackOptions(memory_selector=...)`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

__all__ = ["AvailableMemory", "MemorySelection", "MemorySelector", "RecentFrames"]


@dataclass(frozen=True)
class AvailableMemory:
    """The frame numbers of which something is stored for one object."""

    prompted: Collection[int]
    """Frames with a prompt."""
    tracked: Collection[int]
    """Other frames it was tracked through, of which at least the pointer is stored."""
    with_spatial: Collection[int] | None = None
    """Those of `tracked` whose spatial memory is stored too; None: all of them."""


@dataclass(frozen=True)
class MemorySelection:
    """The frames that one frame attends to."""

    spatial: tuple[tuple[int, int], ...]
    """(frame, age) of each spatial memory; age 0 for prompted frames, n for the n-th frame before."""
    pointers: tuple[tuple[int, int], ...]
    """(frame, offset) of each object pointer, `offset` frames before."""
    max_pointers: int
    """The largest possible number of pointers."""

    def limit(self, frame_idx: int, memories: int, pointers: int) -> MemorySelection:
        """Keep at most so many memories and pointers: of prompted frames the nearest, and the nearest pointers.

        Example:
            >>> MemorySelection(((0, 0), (40, 0), (49, 1)), ((0, 50), (49, 1)), 16).limit(50, 2, 1)
            MemorySelection(spatial=((40, 0), (49, 1)), pointers=((49, 1),), max_pointers=16)
        """
        distances = sorted((abs(frame - frame_idx), frame) for frame, age in self.spatial if age == 0)
        room = max(memories - len(self.spatial) + len(distances), 0)
        prompted = {frame for _, frame in distances[:room]}
        spatial = tuple(each for each in self.spatial if each[1] != 0 or each[0] in prompted)
        nearest = sorted(self.pointers, key=lambda each: abs(each[1]))[:pointers]
        kept = tuple(each for each in self.pointers if each in nearest)
        return MemorySelection(spatial[max(len(spatial) - memories, 0) :], kept, self.max_pointers)


class MemorySelector(Protocol):
    """Selects the memory of a frame, and bounds how long memory has to be stored."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Largest distance in frames at which a spatial memory, and a pointer, can still be selected."""
        ...

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """Select what `frame_idx` attends to.

        `reverse` tracks backward in time; `length` is the number of frames of the video, if known.
        """
        ...


@dataclass(frozen=True)
class RecentFrames:
    """The rule of SAM 2: every prompted frame, the six frames before, and the pointers of fifteen.

    Example:
        >>> available = AvailableMemory(prompted=(0,), tracked=range(1, 9))
        >>> RecentFrames().select(9, available, reverse=False, length=None).spatial
        ((0, 0), (3, 6), (4, 5), (5, 4), (6, 3), (7, 2), (8, 1))
    """

    memories: int = 6
    pointers: int = 16
    """Counts the pointer of the prompted frame."""
    prompted: int | None = None
    """Attend to at most this many prompted frames, the nearest ones; None: to all."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Largest distance in frames at which a spatial memory, and a pointer, can still be selected."""
        return self.memories, self.pointers - 1

    def select(
        self, frame_idx: int, available: AvailableMemory, *, reverse: bool, length: int | None
    ) -> MemorySelection:
        """Select what `frame_idx` attends to."""
        sign = -1 if reverse else 1
        chosen = sorted(available.prompted)
        if self.prompted is not None and len(chosen) > self.prompted:
            # The last prompted frame before, the first one from here on, then whichever is nearest.
            before, after = [f for f in chosen if f < frame_idx], [f for f in chosen if f >= frame_idx]
            first = [*before[-1:], *after[:1]]
            rest = sorted((f for f in chosen if f not in first), key=lambda f: abs(f - frame_idx))
            chosen = sorted([*first, *rest][: self.prompted])
        left_over = set(available.prompted) - set(chosen)
        others = left_over | set(available.tracked)
        with_spatial = others if available.with_spatial is None else left_over | set(available.with_spatial)
        recent = [(frame_idx - sign * age, age) for age in range(self.memories, 0, -1)]
        horizon = self.pointers if length is None else min(length, self.pointers)
        return MemorySelection(
            spatial=(*((f, 0) for f in chosen), *((f, age) for f, age in recent if f in with_spatial)),
            pointers=(
                *((f, sign * (frame_idx - f)) for f in chosen if sign * (frame_idx - f) >= 0),
                *((frame_idx - sign * back, back) for back in range(1, horizon) if frame_idx - sign * back in others),
            ),
            max_pointers=horizon,
        )
