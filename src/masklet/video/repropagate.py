"""Track corrected objects again, only as far as their masks change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from masklet.errors import InputError
from masklet.results import Results
from masklet.video.memory_bank import TrackedObject
from masklet.video.tracker import Tracker

__all__ = ["repropagate_corrections"]


@dataclass
class Refinement:
    """One object tracked again, from one corrected frame in one direction."""

    obj: TrackedObject
    matching_frames: int = 0
    """Consecutive masks that agree with the earlier ones."""
    changed_frames: list[int] = field(default_factory=list)


def repropagate_corrections(
    tracker: Tracker, changed_frames: dict[int, list[int]], *, min_iou: float, patience: int, bidirectional: bool
) -> Iterator[Results]:
    """Track from every corrected frame, in both directions, and yield the frames that are tracked again.

    `changed_frames` is filled: by object id, the corrected frames and those whose mask has changed.
    """
    if not 0 < min_iou <= 1 or patience < 1:
        raise InputError(
            f"min_iou={min_iou!r} must be above 0 and at most 1, patience={patience!r} a whole number from 1"
        )

    def run() -> Iterator[Results]:
        for origin in sorted({frame for one in tracker.objects.values() for frame in one.corrected_frames}):
            objects = [one for one in tracker.objects.values() if origin in one.corrected_frames]
            for one in objects:
                changed_frames.setdefault(one.id, []).append(origin)
            for reverse in (False, True):
                neighbor, refinements = origin + (-1 if reverse else 1), []
                for one in objects:  # frames that were tracked from the corrected one, or all that were tracked
                    state = one.bank.get(neighbor)
                    if state is not None and (bidirectional or state.reverse == reverse):
                        refinements.append(Refinement(one))
                for results in _track_until_stable(tracker, refinements, neighbor, reverse, min_iou, patience):
                    for each in refinements:
                        known = changed_frames[each.obj.id]
                        changed_frames[each.obj.id] = sorted({*known, *each.changed_frames})
                    yield results
            for one in objects:
                one.corrected_frames.discard(origin)

    return run()


def _track_until_stable(
    tracker: Tracker, refinements: list[Refinement], start: int, reverse: bool, min_iou: float, patience: int
) -> Iterator[Results]:
    """Track in one direction, each object until its masks agree with the earlier ones."""
    active = refinements
    if not active:
        return
    for frame in tracker.frames.iterate(start, None, reverse):
        active = [r for r in active if r.matching_frames < patience and r.obj.bank.get(frame.index) is not None]
        if not active:
            return
        before = {r.obj.id: r.obj.bank[frame.index] for r in active}
        after = {one.id: state for one, state in tracker.track_frame(frame, [r.obj for r in active], reverse)}
        for r in active:
            old_11HW, new_11HW = before[r.obj.id].logits_11HW, after[r.obj.id].logits_11HW
            assert old_11HW is not None
            assert new_11HW is not None
            both = int(((old_11HW > 0) & (new_11HW > 0)).sum())
            either = int(((old_11HW > 0) | (new_11HW > 0)).sum())
            same = either == 0 or both / either >= min_iou  # two empty masks agree
            r.matching_frames = r.matching_frames + 1 if same else 0
            if not same:
                r.changed_frames.append(frame.index)
        yield tracker.results_at(frame)
