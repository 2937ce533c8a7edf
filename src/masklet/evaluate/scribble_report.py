"""The figures of DAVIS interactive: the curve of J&F over time, the area below it, and its height at 60 seconds.

See `masklet.evaluate.video_scribbles` for the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masklet.errors import SourceError
from masklet.evaluate.video_scribbles import Interaction, ScribbleOptions, ScribbleResult

__all__ = ["READOUT_SECONDS", "CurvePoint", "ScribblesReport", "scribbles_report"]

READOUT_SECONDS = 60.0
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
    robot_samples: int
    """Samples whose first scribble is the robot's."""
    objects: int
    """Of all samples."""
    timed_out: int
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


def scribbles_report(results: Sequence[ScribbleResult], options: ScribbleOptions | None = None) -> ScribblesReport:
    """Curve and figures of what `evaluate_scribbles` gave with these options.

    The mean of the time that there is, is over samples; that of the authors is over sequences, which is the same where
    each sequence has as many first scribbles.

    Raises:
        SourceError: no row.
    """
    if not results:
        raise SourceError("no sequence was scribbled on, so there are no figures; name sequences of DAVIS")
    asked = options or ScribbleOptions()
    curve = _build_curve(results, asked)
    return ScribblesReport(
        auc=_area_under_curve(curve, lambda p: p.jf),
        jf_at_60s=_value_at_readout(curve, lambda p: p.jf),
        j_auc=_area_under_curve(curve, lambda p: p.j),
        j_at_60s=_value_at_readout(curve, lambda p: p.j),
        sequences=len({row.sequence for row in results}),
        samples=len(results),
        robot_samples=sum(row.scribble_number == 0 for row in results),
        objects=sum(row.objects for row in results),
        timed_out=sum(row.timed_out for row in results),
        seconds=sum(one.seconds for row in results for one in row.interactions),
        curve=curve,
    )


def _build_curve(results: Sequence[ScribbleResult], options: ScribbleOptions) -> tuple[CurvePoint, ...]:
    points = [CurvePoint(0.0, 0.0, 0.0, 0.0)]
    for n in range(options.interactions):
        turns = [_interaction_at(row, n) for row in results]
        j, f = (float(np.mean([value for turn in turns for value in measure(turn)])) for measure in (_get_j, _get_f))
        seconds = points[-1].seconds + float(np.mean([turn.seconds for turn in turns]))
        points.append(CurvePoint(seconds, (j + f) / 2, j, f))
    whole = options.seconds_per_interaction * options.interactions * float(np.mean([row.objects for row in results]))
    return (*points, CurvePoint(whole, points[-1].jf, points[-1].j, points[-1].f))


def _interaction_at(result: ScribbleResult, n: int) -> Interaction:
    """The n-th interaction of a sample; where it has none, its last one, at no time."""
    if n < len(result.interactions):
        return result.interactions[n]
    nothing = (0.0,) * result.objects
    last = result.interactions[-1] if result.interactions else Interaction(-1, 0, 0.0, nothing, nothing)
    return Interaction(last.frame_idx, last.strokes, 0.0, last.j, last.f)


def _get_j(interaction: Interaction) -> tuple[float, ...]:
    return interaction.j


def _get_f(interaction: Interaction) -> tuple[float, ...]:
    return interaction.f


def _area_under_curve(curve: Sequence[CurvePoint], value: Callable[[CurvePoint], float]) -> float:
    """Below the curve, by trapezoids, over its length."""
    times, heights = np.array([p.seconds for p in curve]), np.array([value(p) for p in curve])
    return float((np.diff(times) * (heights[1:] + heights[:-1]) / 2).sum() / times[-1])


def _value_at_readout(curve: Sequence[CurvePoint], value: Callable[[CurvePoint], float]) -> float:
    """At `AT_S`, straight from point to point; beyond the curve's end its last height."""
    return float(np.interp(READOUT_SECONDS, [p.seconds for p in curve], [value(p) for p in curve]))
