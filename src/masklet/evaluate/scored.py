"""Objects that were scored, and the figures that a benchmark makes of all of them; from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from masklet.evaluate.metrics import Statistics

__all__ = ["Measured", "ScoredObject", "sum_davis", "sum_lvos", "sum_sav", "sum_ytvos"]


class Measured(NamedTuple):
    """J and F of an object on one frame, which is named as its file, without the suffix."""

    frame: str
    j: float
    f: float


@dataclass(frozen=True)
class ScoredObject:
    """One object of one sequence, over its measured frames; `seen` is None where nobody asked, `each` is by frame."""

    sequence: str
    id: str
    frames: int
    j: Statistics
    f: Statistics
    seen: bool | None = None
    each: tuple[Measured, ...] = ()


def _mean(objects: Iterable[ScoredObject], measure: str, figure: str = "mean") -> float:
    return float(np.mean([getattr(getattr(one, measure), figure) for one in objects]))


def sum_davis(objects: Sequence[ScoredObject]) -> dict[str, float]:
    """J&F, and mean, recall and decay of J and of F: means over objects."""
    names = [(m, s) for m in ("j", "f") for s in Statistics._fields]
    parts = {f"{measure.upper()} {figure}": _mean(objects, measure, figure) for measure, figure in names}
    return {"J&F": (parts["J mean"] + parts["F mean"]) / 2, **parts}


def sum_sav(objects: Sequence[ScoredObject]) -> dict[str, float]:
    """J&F, J and F: means over objects."""
    j, f = _mean(objects, "j"), _mean(objects, "f")
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def sum_ytvos(objects: Sequence[ScoredObject]) -> dict[str, float]:
    """J and F of seen and of unseen categories and their mean; of all, where nobody said what was seen."""
    groups = _groups(objects)
    parts = {f"{m.upper()} {name}": _mean(own, m) for name, own in groups.items() for m in ("j", "f")}
    return {"overall": float(np.mean(list(parts.values()))), **parts}


def sum_lvos(objects: Sequence[ScoredObject]) -> dict[str, float]:
    """J&F, J, F and V: means over objects, or over the figures of seen and of unseen films."""
    groups = _groups(objects)
    parts: dict[str, float] = {}
    for measure, mean in (("J", partial(_mean, measure="j")), ("F", partial(_mean, measure="f")), ("V", _deviation)):
        own = {name: mean(some) for name, some in groups.items()}
        parts[measure] = float(np.mean(list(own.values())))
        parts |= {f"{measure} {name}": value for name, value in own.items() if name != "all"}
    return {"J&F": (parts["J"] + parts["F"]) / 2, **parts}


def _deviation(objects: Sequence[ScoredObject]) -> float:
    """How far J&F of an object is from its mean over time, mean over objects; rounded as LVOS's authors do it."""
    every = [np.mean([(one.j, one.f) for one in own.each], axis=1) for own in objects]
    return float(np.mean([math.sqrt(round(float(np.var(jf)), 4)) for jf in every]))


def _groups(objects: Sequence[ScoredObject]) -> dict[str, Sequence[ScoredObject]]:
    """Those seen in training and those unseen, as far as there are any; all, where it is not known of every object."""
    if any(one.seen is None for one in objects):
        return {"all": objects}
    groups = {"seen": [one for one in objects if one.seen], "unseen": [one for one in objects if not one.seen]}
    return {name: own for name, own in groups.items() if own}
