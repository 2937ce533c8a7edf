"""The figures of DAVIS interactive: the curve of J&F over time, the area below it, and its height at 60 seconds.

See `masklet.evaluate.video_scribbles` for the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masklet.errors import SourceError
from masklet.evaluate.video_scribbles import Interaction, ScribbledRow, ScribbleOptions

__all__ = ["AT_S", "CurvePoint", "ScribblesReport", "scribbles_report"]

AT_S = 60.0
"""Seconds at which the challenge reads the curve."""


@dataclass(frozen=True)
class CurvePoint:
    """A point of the curve, after so many seconds, mean over samples; J&F, J and F are means over objects, 0 to 1."""

    seconds: float
    jf: float
    j: float
    f: float


@dataclass(frozen=True)
class ScribblesReport:
    """Figures over all samples, 0 to 1.

    Example:
        >>> found = scribbles_report(rows, ScribbleOptions())
        >>> found.auc, found.jf_at_60s
        (0.84, 0.85)
    """

    auc: float
    """Of J&F."""
    jf_at_60s: float
    j_auc: float
    j_at_60s: float
    sequences: int
    samples: int
    by_robot: int
    """Samples whose first scribble is the robot's."""
    objects: int
    """Of all samples."""
    out_of_time: int
    """Samples that did not have all their interactions."""
    seconds: float
    """That the interactions which count took, all together."""
    curve: tuple[CurvePoint, ...]
    """At no time, after each interaction, and at the end of the time that there is."""

    def to_dict(self) -> dict[str, Any]:
        """Under "figures" and "curve", as the JSON file has it."""
        figures = asdict(self)
        curve = figures.pop("curve")
        return {"figures": figures, "curve": curve}


def scribbles_report(rows: Sequence[ScribbledRow], options: ScribbleOptions | None = None) -> ScribblesReport:
    """Curve and figures of what `evaluate_scribbles` gave with these options.

    The mean of the time that there is, is over samples; that of the authors is over sequences, which is the same where
    each sequence has as many first scribbles.

    Raises:
        SourceError: no row.
    """
    if not rows:
        raise SourceError("no sequence was scribbled on, so there are no figures; name sequences of DAVIS")
    asked = options or ScribbleOptions()
    curve = _curve(rows, asked)
    return ScribblesReport(
        auc=_area(curve, lambda p: p.jf),
        jf_at_60s=_height(curve, lambda p: p.jf),
        j_auc=_area(curve, lambda p: p.j),
        j_at_60s=_height(curve, lambda p: p.j),
        sequences=len({row.sequence for row in rows}),
        samples=len(rows),
        by_robot=sum(row.scribble == 0 for row in rows),
        objects=sum(row.objects for row in rows),
        out_of_time=sum(row.out_of_time for row in rows),
        seconds=sum(one.seconds for row in rows for one in row.interactions),
        curve=curve,
    )


def _curve(rows: Sequence[ScribbledRow], options: ScribbleOptions) -> tuple[CurvePoint, ...]:
    points = [CurvePoint(0.0, 0.0, 0.0, 0.0)]
    for n in range(options.interactions):
        turns = [_turn(row, n) for row in rows]
        j, f = (float(np.mean([value for turn in turns for value in measure(turn)])) for measure in (_j, _f))
        seconds = points[-1].seconds + float(np.mean([turn.seconds for turn in turns]))
        points.append(CurvePoint(seconds, (j + f) / 2, j, f))
    whole = options.seconds * options.interactions * float(np.mean([row.objects for row in rows]))
    return (*points, CurvePoint(whole, points[-1].jf, points[-1].j, points[-1].f))


def _turn(row: ScribbledRow, n: int) -> Interaction:
    """The n-th interaction of a sample; where it has none, its last one, at no time."""
    if n < len(row.interactions):
        return row.interactions[n]
    nothing = (0.0,) * row.objects
    last = row.interactions[-1] if row.interactions else Interaction(-1, 0, 0.0, nothing, nothing)
    return Interaction(last.frame, last.strokes, 0.0, last.j, last.f)


def _j(turn: Interaction) -> tuple[float, ...]:
    return turn.j


def _f(turn: Interaction) -> tuple[float, ...]:
    return turn.f


def _area(curve: Sequence[CurvePoint], of: Callable[[CurvePoint], float]) -> float:
    """Below the curve, by trapezoids, over its length."""
    times, heights = np.array([p.seconds for p in curve]), np.array([of(p) for p in curve])
    return float((np.diff(times) * (heights[1:] + heights[:-1]) / 2).sum() / times[-1])


def _height(curve: Sequence[CurvePoint], of: Callable[[CurvePoint], float]) -> float:
    """At `AT_S`, straight from point to point; beyond the curve's end its last height."""
    return float(np.interp(AT_S, [p.seconds for p in curve], [of(p) for p in curve]))
