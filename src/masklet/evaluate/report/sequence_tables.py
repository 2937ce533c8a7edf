"""What a report shows of a score: a bar a sequence, a curve an object, and the frames that went worst.

Figures are 0 to 1; J&F is the mean of J and F.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from masklet.evaluate.benchmark_scoring import BenchmarkScore, ObjectScore
from masklet.masks.drawing import palette_color

__all__ = ["MIN_FRAME_DISTANCE", "ObjectCurve", "ScoredFrame", "SequenceSummary", "summarize_sequences", "worst_frames"]

MIN_FRAME_DISTANCE = 5
"""Of one sequence, frames that are shown lie at least so many measured frames apart: neighbors look the same."""
CURVE_WIDTH, CURVE_HEIGHT = 640, 100
"""Of a curve, in its own units."""


@dataclass(frozen=True)
class ObjectCurve:
    """J&F of one object over time: `points` are of an SVG polyline, `bars` is the same as a line of text."""

    id: str
    color: str
    jf: float
    points: str
    sparkline: str


@dataclass(frozen=True)
class SequenceSummary:
    """One sequence: means over its objects, and their curves between its first and its last measured frame."""

    name: str
    jf: float
    j: float
    f: float
    curves: tuple[ObjectCurve, ...]
    first_frame: str
    last_frame: str


@dataclass(frozen=True)
class ScoredFrame:
    """One measured frame of one sequence, with J&F of its objects and their mean."""

    sequence: str
    frame_name: str
    jf: float
    objects: tuple[tuple[str, float], ...]


def summarize_sequences(score: BenchmarkScore) -> list[SequenceSummary]:
    """The sequences of a score, the worst first.

    Example:
        >>> [row.name for row in sequences(score)]
        ['motorbike', 'lucia']
    """
    rows = [_summarize_sequence(name, own) for name, own in _group_by_sequence(score).items()]
    return sorted(rows, key=lambda row: (row.jf, row.name))


def worst_frames(score: BenchmarkScore, count: int) -> list[ScoredFrame]:
    """At most `count` frames of the lowest J&F, the worst first; of frames of a sequence near each other only one.

    Example:
        >>> worst_frames(score, 12)[0].frame
        '00021'
    """
    shown: list[ScoredFrame] = []
    taken: dict[str, list[int]] = defaultdict(list)
    for place, frame in sorted(_iter_scored_frames(score), key=lambda one: (one[1].jf, one[1].sequence, one[0])):
        if len(shown) == count:
            break
        if all(abs(place - other) >= MIN_FRAME_DISTANCE for other in taken[frame.sequence]):
            taken[frame.sequence].append(place)
            shown.append(frame)
    return shown


def _group_by_sequence(score: BenchmarkScore) -> dict[str, list[ObjectScore]]:
    found: dict[str, list[ObjectScore]] = defaultdict(list)
    for one in score.objects:
        found[one.sequence].append(one)
    return found


def _frame_names(objects: Sequence[ObjectScore]) -> list[str]:
    """The measured frames of a sequence, in order."""
    return sorted({one.frame for own in objects for one in own.per_frame})


def _summarize_sequence(name: str, objects: Sequence[ObjectScore]) -> SequenceSummary:
    j, f = (float(np.mean([getattr(one, measure).mean for one in objects])) for measure in ("j", "f"))
    frames = _frame_names(objects)
    places = {frame: n / max(1, len(frames) - 1) for n, frame in enumerate(frames)}
    curves = tuple(_make_curve(one, places, n) for n, one in enumerate(objects))
    return SequenceSummary(name, (j + f) / 2, j, f, curves, frames[0], frames[-1])


def _make_curve(scored_object: ObjectScore, places: dict[str, float], number: int) -> ObjectCurve:
    values = [((one.j + one.f) / 2, places[one.frame]) for one in scored_object.per_frame]
    drawn = values if len(values) > 1 else [(values[0][0], 0.0), (values[0][0], 1.0)]  # one frame is a level line
    points = " ".join(f"{x * CURVE_WIDTH:.1f},{(1 - y) * CURVE_HEIGHT:.1f}" for y, x in drawn)
    color = "#{:02x}{:02x}{:02x}".format(*palette_color(number))
    return ObjectCurve(
        scored_object.id,
        color,
        (scored_object.j.mean + scored_object.f.mean) / 2,
        points,
        _sparkline([value for value, _ in values]),
    )


def _sparkline(values: Sequence[float], width: int = 40) -> str:
    """At most `width` blocks, each as high as the mean of its part."""
    parts = np.array_split(np.asarray(values), min(width, len(values)))
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(part.mean() * 8))] for part in parts)


def _iter_scored_frames(score: BenchmarkScore) -> Iterator[tuple[int, ScoredFrame]]:
    """Every measured frame, with its place among those of its sequence."""
    for name, objects in _group_by_sequence(score).items():
        found: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for own in objects:
            for one in own.per_frame:
                found[one.frame].append((own.id, (one.j + one.f) / 2))
        for place, frame in enumerate(_frame_names(objects)):
            own_frame = tuple(found[frame])
            yield place, ScoredFrame(name, frame, float(np.mean([jf for _, jf in own_frame])), own_frame)
