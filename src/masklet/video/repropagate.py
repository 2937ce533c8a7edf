"""After a correction: follow the corrected objects again, only as far as anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from masklet.errors import InputError
from masklet.results import Results
from masklet.video.memory_bank import Kept, TrackedObject
from masklet.video.tracker import Engine

__all__ = ["updated"]


@dataclass
class Mending:
    """One object being followed again, from one corrected frame in one direction."""

    one: TrackedObject
    agreed: int = 0
    """Masks in a row that came out as they were."""
    changed: list[int] = field(default_factory=list)


def updated(
    engine: Engine, changed: dict[int, list[int]], *, agree: float, patience: int, both: bool
) -> Iterator[Results]:
    """Frames that are gone through again; `changed` is filled with the frames whose mask is another one now."""
    if not 0 < agree <= 1 or patience < 1:
        raise InputError(f"agree={agree!r} must be above 0 and at most 1, patience={patience!r} a whole number from 1")
    return _updated(engine, changed, agree, patience, both)


def _updated(
    engine: Engine, changed: dict[int, list[int]], agree: float, patience: int, both: bool
) -> Iterator[Results]:
    for origin in sorted({frame for one in engine.objects.values() for frame in one.stale}):
        objects = [one for one in engine.objects.values() if origin in one.stale]
        for one in objects:
            changed.setdefault(one.id, []).append(origin)
        for reverse in (False, True):
            for mending, results in _walk(engine, objects, origin, reverse, agree, patience, both):
                for each in mending:
                    changed[each.one.id] = sorted({*changed[each.one.id], *each.changed})
                yield results
        for one in objects:
            one.stale.discard(origin)


def _walk(
    engine: Engine,
    objects: list[TrackedObject],
    origin: int,
    reverse: bool,
    agree: float,
    patience: int,
    both: bool,
) -> Iterator[tuple[list[Mending], Results]]:
    """One direction from one corrected frame."""
    step = -1 if reverse else 1
    active = [Mending(one) for one in objects if _depends(one, origin + step, reverse, both)]
    every = list(active)
    if not active:
        return
    for frame in engine.frames.walk(origin + step, None, reverse):
        active = [m for m in active if m.agreed < patience and m.one.bank.get(frame.index) is not None]
        if not active:
            return
        before = {m.one.id: m.one.bank[frame.index] for m in active}
        rows = {one.id: kept for one, kept in engine.advance(frame, [m.one for m in active], reverse)}
        for m in active:
            same = _overlap(before[m.one.id], rows[m.one.id]) >= agree
            m.agreed = m.agreed + 1 if same else 0
            if not same:
                m.changed.append(frame.index)
        yield every, engine.known_at(frame)


def _depends(one: TrackedObject, neighbour: int, reverse: bool, both: bool) -> bool:
    """Whether the frame beside the corrected one was tracked from it, or is wanted anyway."""
    kept = one.bank.get(neighbour)
    return kept is not None and (both or kept.reverse == reverse)


def _overlap(before: Kept, after: Kept) -> float:
    """IoU of what was there and what is there now; two empty masks agree."""
    assert before.logits_11HW is not None
    assert after.logits_11HW is not None
    old, new = _inside(before.logits_11HW), _inside(after.logits_11HW)
    either = int((old | new).sum())
    return 1.0 if either == 0 else int((old & new).sum()) / either


def _inside(logits_11HW: Tensor) -> Tensor:
    return logits_11HW > 0
