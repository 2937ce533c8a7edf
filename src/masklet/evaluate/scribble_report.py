"""Summarize DAVIS interactive: the curve of J&F over time, the area below it, and its height at 60 seconds.

See `masklet.evaluate.video_scribbles` for the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.video_scribbles import Interaction, ScribbleOptions, ScribbleResult

__all__ = ["READOUT_SECONDS", "CurvePoint", "ScribblesReport", "scribbles_report"]

READOUT_SECONDS = 60.0
"""Where the challenge reads the curve."""


@dataclass(frozen=True)
class CurvePoint:
    """A point of the curve at a time, mean over samples; J&F, J and F are means over objects, 0 to 1."""

    seconds: float
    jf: float
    j: float
    f: float


@dataclass(frozen=True)
class ScribblesReport:
    """Figures over all samples, 0 to 1.

    Example:
        >>> report = scribbles_report(results, ScribbleOptions())
        >>> report.auc, report.jf_at_60s
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
    """Of all interactions that count."""
    curve: tuple[CurvePoint, ...]
    """At time 0, after each interaction, and at the time limit."""

    def to_dict(self) -> dict[str, Any]:
        """Return "figures" and "curve", as the JSON file has them."""
        figures = asdict(self)
        curve = figures.pop("curve")
        return {"figures": figures, "curve": curve}


def scribbles_report(results: Sequence[ScribbleResult], options: ScribbleOptions | None = None) -> ScribblesReport:
    """Summarize the results of `evaluate_scribbles` with these options.

    The mean time limit is over samples; that of the authors is over sequences, which is the same if each sequence has
    the same number of first scribbles.

    Raises:
        SourceError: if there is no result.
    """
    if not results:
        raise SourceError("no sequence was scribbled on, so there are no figures; name sequences of DAVIS")
    curve = _build_curve(results, options or ScribbleOptions())
    seconds, jf, j = (np.array([getattr(p, name) for p in curve]) for name in ("seconds", "jf", "j"))

    def area(heights: npt.NDArray[np.float64]) -> float:
        """Return the area below a curve, by trapezoids, over its length."""
        return float((np.diff(seconds) * (heights[1:] + heights[:-1]) / 2).sum() / seconds[-1])

    return ScribblesReport(
        auc=area(jf),
        jf_at_60s=float(np.interp(READOUT_SECONDS, seconds, jf)),
        j_auc=area(j),
        j_at_60s=float(np.interp(READOUT_SECONDS, seconds, j)),
        sequences=len({one.sequence for one in results}),
        samples=len(results),
        robot_samples=sum(one.scribble_number == 0 for one in results),
        objects=sum(one.objects for one in results),
        timed_out=sum(one.timed_out for one in results),
        seconds=sum(interaction.seconds for one in results for interaction in one.interactions),
        curve=curve,
    )


def _build_curve(results: Sequence[ScribbleResult], options: ScribbleOptions) -> tuple[CurvePoint, ...]:
    points = [CurvePoint(0.0, 0.0, 0.0, 0.0)]
    for n in range(options.interactions):
        interactions = []
        for one in results:
            zeros = (0.0,) * one.objects
            last = one.interactions[-1] if one.interactions else Interaction(-1, 0, 0.0, zeros, zeros)
            # one that was not reached is the last one again, which then takes no time
            interactions.append(one.interactions[n] if n < len(one.interactions) else replace(last, seconds=0.0))
        j = float(np.mean([value for interaction in interactions for value in interaction.j]))
        f = float(np.mean([value for interaction in interactions for value in interaction.f]))
        seconds = points[-1].seconds + float(np.mean([interaction.seconds for interaction in interactions]))
        points.append(CurvePoint(seconds, (j + f) / 2, j, f))
    objects = float(np.mean([one.objects for one in results]))
    limit = options.seconds_per_interaction * options.interactions * objects
    return (*points, CurvePoint(limit, points[-1].jf, points[-1].j, points[-1].f))
