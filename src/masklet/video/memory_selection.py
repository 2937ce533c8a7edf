"""Select the earlier frames that a frame attends to: integers in, integers out.

This is the part of tracking that people most often want to change, so it is one small object. A custom rule has the
methods of `MemorySelector` and is passed as `TrackOptions(memory_selector=...)`. `memory_policies` has the published
rules that judge frames by how well the object was found there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["AvailableMemory", "FrameScores", "MemorySelection", "MemorySelector", "RecentFrames"]


class FrameScores(Protocol):
    """How well an object was found on a stored frame; the frames of a `MemoryBank` have it."""

    @property
    def iou(self) -> float:
        """Predicted IoU of its mask."""

    @property
    def object_score(self) -> float:
        """A logit; above 0 the object is in the image."""

    @property
    def area(self) -> int | None:
        """Cells of its mask at stride 4; None: not measured, as the policy does not ask for it."""

    @property
    def box_agreement(self) -> float | None:
        """IoU of its box with the box that its motion predicted; None: no motion was known."""

    @property
    def is_anchor(self) -> bool:
        """Whether the frame shows what tells the object from a similar one."""


@dataclass(frozen=True)
class AvailableMemory:
    """The frame numbers of which something is stored for one object."""

    prompted: Collection[int]
    """Frames with a prompt."""
    tracked: Collection[int]
    """Other frames it was tracked through, of which at least the pointer is stored."""
    with_spatial: Collection[int] | None = None
    """Those of `tracked` whose spatial memory is stored too; None: all of them."""
    scores: Mapping[int, FrameScores] = field(default_factory=dict)
    """By frame number, for rules that judge frames."""

    def tracked_before(self, frame_idx: int, *, reverse: bool) -> list[int]:
        """Return the tracked frames that tracking passes before a frame, the nearest first.

        Example:
            >>> AvailableMemory(prompted=(0,), tracked=range(1, 9)).tracked_before(4, reverse=False)
            [3, 2, 1]
        """
        if reverse:
            return sorted(frame for frame in self.tracked if frame > frame_idx)
        return sorted((frame for frame in self.tracked if frame < frame_idx), reverse=True)

    def has_spatial(self, frame_idx: int) -> bool:
        """Whether the spatial memory of a tracked frame is stored."""
        return self.with_spatial is None or frame_idx in self.with_spatial


@dataclass(frozen=True)
class MemorySelection:
    """The frames that one frame attends to."""

    spatial: tuple[tuple[int, int], ...]
    """(frame, age) of each spatial memory; age 0 for prompted frames, n for the n-th frame before."""
    pointers: tuple[tuple[int, int], ...]
    """(frame, offset) of each object pointer, `offset` frames before."""
    max_pointers: int
    """The largest possible number of pointers."""
    spatial_weights: tuple[float, ...] = ()
    """The factor of each spatial memory's keys; empty: all are 1."""
    pointer_weights: tuple[float, ...] = ()
    """The factor of each pointer's keys; empty: all are 1."""
    held: tuple[int, ...] = ()
    """Frames that stay stored because a later frame may select them, though this one does not."""

    def limit(self, frame_idx: int, memories: int, pointers: int) -> MemorySelection:
        """Keep at most so many memories and pointers: of prompted frames the nearest, and the nearest pointers.

        Example:
            >>> MemorySelection(((0, 0), (40, 0), (49, 1)), ((0, 50), (49, 1)), 16).limit(50, 2, 1)
            MemorySelection(spatial=((40, 0), (49, 1)), pointers=((49, 1),), max_pointers=16)
        """
        distances = sorted((abs(frame - frame_idx), frame) for frame, age in self.spatial if age == 0)
        room = max(memories - len(self.spatial) + len(distances), 0)
        prompted = {frame for _, frame in distances[:room]}
        spatial = [i for i, (frame, age) in enumerate(self.spatial) if age != 0 or frame in prompted]
        spatial = spatial[max(len(spatial) - memories, 0) :]
        nearest = sorted(self.pointers, key=lambda each: abs(each[1]))[:pointers]
        kept = [i for i, each in enumerate(self.pointers) if each in nearest]
        return MemorySelection(
            tuple(self.spatial[i] for i in spatial),
            tuple(self.pointers[i] for i in kept),
            self.max_pointers,
            tuple(self.spatial_weights[i] for i in spatial if self.spatial_weights),
            tuple(self.pointer_weights[i] for i in kept if self.pointer_weights),
            self.held,
        )


class MemorySelector(Protocol):
    """Selects the memory of a frame, and bounds how long memory has to be stored."""

    @property
    def max_distance(self) -> tuple[int, int]:
        """Distance in frames up to which spatial memories, and pointers, stay stored.

        What lies further back stays stored as long as every next frame selects it.
        """
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
