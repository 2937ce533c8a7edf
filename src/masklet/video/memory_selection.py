"""Which earlier frames to look at: integers in, integers out.

This is the one thing about tracking that people want to change, so it is one small object. A rule of one's own has
the methods of `RecallRule` and goes into `TrackOptions(recall=...)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["History", "Recall", "RecallRule", "Recent"]


@dataclass(frozen=True)
class History:
    """What is known of one object, by frame number."""

    prompted: Collection[int]
    """Frames on which a person said something."""
    tracked: Collection[int]
    """Other frames it was followed through, of which at least a pointer is left."""
    whole: Collection[int] | None = None
    """Those of `tracked` whose whole memory is left; None: all."""


@dataclass(frozen=True)
class Recall:
    """The frames to look at, from one frame."""

    spatial: tuple[tuple[int, int], ...]
    """(frame, age): whole memories; age 0 for prompted frames, n for the n-th frame before."""
    pointers: tuple[tuple[int, int], ...]
    """(frame, offset): object pointers, `offset` frames before."""
    horizon: int
    """How many pointers there could be."""


class RecallRule(Protocol):
    """Chooses what a frame looks back at, and says what may be forgotten."""

    @property
    def reach(self) -> tuple[int, int]:
        """Frames back that a whole memory, and that a pointer, can still be looked at."""
        ...

    def look(self, frame: int, history: History, *, reverse: bool, length: int | None) -> Recall:
        """What to look at from `frame`; time runs backwards if `reverse`; the film has `length` frames, if known."""
        ...


@dataclass(frozen=True)
class Recent:
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
    def reach(self) -> tuple[int, int]:
        """Frames back that a whole memory, and that a pointer, can still be looked at."""
        return self.memories, self.pointers - 1

    def look(self, frame: int, history: History, *, reverse: bool, length: int | None) -> Recall:
        """What to look at from `frame`."""
        sign = -1 if reverse else 1
        chosen = self._nearest(frame, history.prompted)
        left_over = set(history.prompted) - set(chosen)
        others = left_over | set(history.tracked)
        whole = others if history.whole is None else left_over | set(history.whole)
        recent = [(frame - sign * age, age) for age in range(self.memories, 0, -1)]
        horizon = self.pointers if length is None else min(length, self.pointers)
        return Recall(
            spatial=(*((f, 0) for f in chosen), *((f, age) for f, age in recent if f in whole)),
            pointers=(
                *((f, sign * (frame - f)) for f in chosen if sign * (frame - f) >= 0),
                *((frame - sign * back, back) for back in range(1, horizon) if frame - sign * back in others),
            ),
            horizon=horizon,
        )

    def _nearest(self, frame: int, prompted: Iterable[int]) -> list[int]:
        """The last prompted frame before, the first from here on, then whichever is nearest, in order of time."""
        every = sorted(prompted)
        if self.prompted is None or len(every) <= self.prompted:
            return every
        before, after = [f for f in every if f < frame], [f for f in every if f >= frame]
        first = [*before[-1:], *after[:1]]
        rest = sorted((f for f in every if f not in first), key=lambda f: abs(f - frame))
        return sorted([*first, *rest][: self.prompted])
