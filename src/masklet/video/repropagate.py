"""After a correction: follow the corrected objects again, only as far as anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from masklet.errors import InputError
from masklet.results import Results
from masklet.video.memory_bank import FrameState, TrackedObject
from masklet.video.tracker import Tracker

__all__ = ["repropagate_corrections"]


@dataclass
class Refinement:
    """One object being followed again, from one corrected frame in one direction."""

    obj: TrackedObject
    matching_frames: int = 0
    """Masks in a row that came out as they were."""
    changed_frames: list[int] = field(default_factory=list)


def repropagate_corrections(
    tracker: Tracker, changed_frames: dict[int, list[int]], *, min_iou: float, patience: int, bidirectional: bool
) -> Iterator[Results]:
    """Frames that are gone through again; `changed` is filled with the frames whose mask is another one now."""
    if not 0 < min_iou <= 1 or patience < 1:
        raise InputError(
            f"agree={min_iou!r} must be above 0 and at most 1, patience={patience!r} a whole number from 1"
        )
    return _repropagate(tracker, changed_frames, min_iou, patience, bidirectional)


def _repropagate(
    tracker: Tracker, changed_frames: dict[int, list[int]], min_iou: float, patience: int, bidirectional: bool
) -> Iterator[Results]:
    for origin in sorted({frame for one in tracker.objects.values() for frame in one.corrected_frames}):
        objects = [one for one in tracker.objects.values() if origin in one.corrected_frames]
        for one in objects:
            changed_frames.setdefault(one.id, []).append(origin)
        for reverse in (False, True):
            for mending, results in _repropagate_from(
                tracker, objects, origin, reverse, min_iou, patience, bidirectional
            ):
                for each in mending:
                    changed_frames[each.obj.id] = sorted({*changed_frames[each.obj.id], *each.changed_frames})
                yield results
        for one in objects:
            one.corrected_frames.discard(origin)


def _repropagate_from(
    tracker: Tracker,
    objects: list[TrackedObject],
    origin: int,
    reverse: bool,
    min_iou: float,
    patience: int,
    bidirectional: bool,
) -> Iterator[tuple[list[Refinement], Results]]:
    """One direction from one corrected frame."""
    step = -1 if reverse else 1
    active = [Refinement(one) for one in objects if _needs_update(one, origin + step, reverse, bidirectional)]
    every = list(active)
    if not active:
        return
    for frame in tracker.frames.iterate(origin + step, None, reverse):
        active = [m for m in active if m.matching_frames < patience and m.obj.bank.get(frame.index) is not None]
        if not active:
            return
        before = {m.obj.id: m.obj.bank[frame.index] for m in active}
        rows = {one.id: kept for one, kept in tracker.track_frame(frame, [m.obj for m in active], reverse)}
        for m in active:
            same = _mask_iou(before[m.obj.id], rows[m.obj.id]) >= min_iou
            m.matching_frames = m.matching_frames + 1 if same else 0
            if not same:
                m.changed_frames.append(frame.index)
        yield every, tracker.results_at(frame)


def _needs_update(obj: TrackedObject, neighbor: int, reverse: bool, bidirectional: bool) -> bool:
    """Whether the frame beside the corrected one was tracked from it, or is wanted anyway."""
    kept = obj.bank.get(neighbor)
    return kept is not None and (bidirectional or kept.reverse == reverse)


def _mask_iou(before: FrameState, after: FrameState) -> float:
    """IoU of what was there and what is there now; two empty masks agree."""
    assert before.logits_11HW is not None
    assert after.logits_11HW is not None
    old, new = _foreground(before.logits_11HW), _foreground(after.logits_11HW)
    either = int((old | new).sum())
    return 1.0 if either == 0 else int((old & new).sum()) / either


def _foreground(logits_11HW: Tensor) -> Tensor:
    return logits_11HW > 0
