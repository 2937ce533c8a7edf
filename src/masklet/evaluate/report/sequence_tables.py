"""Tables of a score: the sequences with their bars, a curve for each object, and the worst frames.

Figures are 0 to 1; J&F is the mean of J and F.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from masklet.evaluate.benchmark_scoring import BenchmarkScore, ObjectScore
from masklet.masks.drawing import palette_color

__all__ = ["MIN_FRAME_DISTANCE", "ObjectCurve", "ScoredFrame", "SequenceSummary", "summarize_sequences", "worst_frames"]

MIN_FRAME_DISTANCE = 5
"""Shown frames of one sequence are at least so many measured frames apart, since neighbors are alike."""
CURVE_WIDTH, CURVE_HEIGHT = 640, 100
"""Of a curve, in SVG units."""
SPARKLINE_WIDTH = 40
"""Blocks, at most."""


@dataclass(frozen=True)
class ObjectCurve:
    """J&F of one object over time: the points of an SVG polyline, and a sparkline as text."""

    id: str
    color: str
    jf: float
    points: str
    sparkline: str


@dataclass(frozen=True)
class SequenceSummary:
    """One sequence: means over its objects, and their curves from the first to the last measured frame."""

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
    """Summarize the sequences of a score, the worst first.

    Example:
        >>> [row.name for row in summarize_sequences(score)]
        ['motorbike', 'lucia']
    """
    rows = []
    for name, objects, frames in _sequences(score):
        j, f = float(np.mean([one.j.mean for one in objects])), float(np.mean([one.f.mean for one in objects]))
        times = {frame: n / max(1, len(frames) - 1) for n, frame in enumerate(frames)}
        curves = []
        for number, one in enumerate(objects):
            values = [(frame.j + frame.f) / 2 for frame in one.per_frame]
            corners = list(zip([times[frame.frame] for frame in one.per_frame], values, strict=True))
            if len(corners) == 1:  # one frame is a level line
                corners = [(0.0, values[0]), (1.0, values[0])]
            blocks = np.array_split(np.asarray(values), min(SPARKLINE_WIDTH, len(values)))
            curve = ObjectCurve(
                id=one.id,
                color="#{:02x}{:02x}{:02x}".format(*palette_color(number)),
                jf=(one.j.mean + one.f.mean) / 2,
                points=" ".join(f"{x * CURVE_WIDTH:.1f},{(1 - y) * CURVE_HEIGHT:.1f}" for x, y in corners),
                sparkline="".join("▁▂▃▄▅▆▇█"[min(7, int(block.mean() * 8))] for block in blocks),
            )
            curves.append(curve)
        rows.append(SequenceSummary(name, (j + f) / 2, j, f, tuple(curves), frames[0], frames[-1]))
    return sorted(rows, key=lambda row: (row.jf, row.name))


def worst_frames(score: BenchmarkScore, count: int) -> list[ScoredFrame]:
    """Return at most `count` frames of the lowest J&F, the worst first, without neighbors in a sequence.

    Example:
        >>> worst_frames(score, 12)[0].frame_name
        '00021'
    """
    frames: list[tuple[int, ScoredFrame]] = []
    for name, objects, frame_names in _sequences(score):
        jf_by_frame: dict[str, list[tuple[str, float]]] = defaultdict(list)
        for one in objects:
            for frame in one.per_frame:
                jf_by_frame[frame.frame].append((one.id, (frame.j + frame.f) / 2))
        for index, frame_name in enumerate(frame_names):
            jf = float(np.mean([jf for _, jf in jf_by_frame[frame_name]]))
            frames.append((index, ScoredFrame(name, frame_name, jf, tuple(jf_by_frame[frame_name]))))
    worst: list[ScoredFrame] = []
    shown: dict[str, list[int]] = defaultdict(list)
    for index, scored in sorted(frames, key=lambda frame: (frame[1].jf, frame[1].sequence, frame[0])):
        if len(worst) == count:
            break
        if all(abs(index - other) >= MIN_FRAME_DISTANCE for other in shown[scored.sequence]):
            shown[scored.sequence].append(index)
            worst.append(scored)
    return worst


def _sequences(score: BenchmarkScore) -> Iterator[tuple[str, list[ObjectScore], list[str]]]:
    """Yield each sequence with its objects and its measured frames, in order."""
    groups: dict[str, list[ObjectScore]] = defaultdict(list)
    for one in score.objects:
        groups[one.sequence].append(one)
    for name, objects in groups.items():
        yield name, objects, sorted({frame.frame for one in objects for frame in one.per_frame})
