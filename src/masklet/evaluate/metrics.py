"""How well a mask agrees with the truth: the two measures of DAVIS, for one object on one frame.

J, the region measure, is the intersection over union. F, the boundary measure, is the harmonic mean of how much of
the answer's boundary lies near the truth's (precision) and how much of the truth's lies near the answer's (recall).
Both are 0 to 1. Rules are those of the benchmark's authors (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017).
Of a video's frames an object has three figures of each, `statistics`: mean, recall and decay.

Objects that were scored, and the figures that a benchmark makes of all of them; from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from masklet.masks.ops import iou

__all__ = [
    "BOUNDARY_TOLERANCE",
    "FrameScore",
    "ObjectScore",
    "Statistics",
    "boundary_f_score",
    "davis_statistics",
    "mask_boundary",
    "region_similarity",
    "summarize_davis",
    "summarize_lvos",
    "summarize_sav",
    "summarize_ytvos",
]

Mask = npt.NDArray[np.bool_]

BOUNDARY_TOLERANCE = 0.008
"""How far two boundaries may lie apart and still agree, in diagonals of the image; rounded up to whole pixels."""


class Statistics(NamedTuple):
    """What J or F of one object are over the frames of a video; nan of no frame."""

    mean: float
    recall: float
    """The share of frames on which it is above 0.5."""
    decay: float
    """The mean of the first quarter less that of the last; quarters share the frame between them."""


def davis_statistics(values_per_frame: Sequence[float] | npt.NDArray[np.float64]) -> Statistics:
    """Mean, recall and decay of J or F of each frame, as the authors of DAVIS define them.

    Example:
        >>> statistics([1.0, 1.0, 0.6, 0.2, 0.2])
        Statistics(mean=0.6, recall=0.6, decay=0.8)
    """
    values = np.asarray(values_per_frame, float)
    if not len(values):
        return Statistics(math.nan, math.nan, math.nan)
    ends = np.floor(np.linspace(1, len(values), 5) + 0.5 + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


def region_similarity(predicted: Mask, truth: Mask) -> float:
    """Intersection over union of two (H, W) masks, 0 to 1; two empty masks agree fully (1.0).

    Example:
        >>> region_j(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    return iou(predicted, truth)


def mask_boundary(mask: Mask) -> Mask:
    """The pixels (H, W) of the boundary of a mask: those that differ from the one right, below, or right below.

    The boundary is one pixel wide, and a mask has none where it runs out of the image.

    Example:
        >>> boundary(np.array([[False, True, False]]))
        array([[ True,  True, False]])
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")  # beyond the image all is as at its edge: no difference
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def boundary_f_score(predicted: Mask, truth: Mask, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """Agreement of the boundaries of two (H, W) masks, 0 to 1; 1.0 where neither has one.

    Pixels agree up to `tolerance` diagonals of the image, rounded up to whole pixels.

    Example:
        >>> boundary_f(mask, np.roll(mask, 1, axis=1))  # a pixel off is nothing
        1.0
    """
    assert predicted.shape == truth.shape, f"masks of one size are compared, got {predicted.shape} and {truth.shape}"
    reach = math.ceil(tolerance * math.hypot(*truth.shape))
    edge, true_edge = mask_boundary(predicted), mask_boundary(truth)
    if not edge.any() or not true_edge.any():
        return float(edge.any() == true_edge.any())
    part = _bounding_slices(edge | true_edge)
    edge, true_edge = edge[part], true_edge[part]
    precision = (edge & _dilate(true_edge, reach)).sum() / edge.sum()
    recall = (true_edge & _dilate(edge, reach)).sum() / true_edge.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _bounding_slices(mask: Mask) -> tuple[slice, slice]:
    """The smallest part of the image that holds a mask; nothing outside it can agree with anything."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _dilate(edge: Mask, radius: int) -> Mask:
    """Every pixel at most `reach` pixels (Euclidean) from one of `edge`."""
    step = np.arange(-radius, radius + 1)
    disk = (step[:, None] ** 2 + step**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(edge.astype(np.uint8), disk).astype(bool)


class FrameScore(NamedTuple):
    """J and F of an object on one frame, which is named as its file, without the suffix."""

    frame: str
    j: float
    f: float


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence, over its measured frames; `seen` is None where nobody asked, `each` is by frame."""

    sequence: str
    id: str
    frames: int
    j: Statistics
    f: Statistics
    seen: bool | None = None
    per_frame: tuple[FrameScore, ...] = ()


def _mean_statistic(objects: Iterable[ObjectScore], metric: str, statistic: str = "mean") -> float:
    return float(np.mean([getattr(getattr(one, metric), statistic) for one in objects]))


def summarize_davis(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """J&F, and mean, recall and decay of J and of F: means over objects."""
    names = [(m, s) for m in ("j", "f") for s in Statistics._fields]
    parts = {f"{measure.upper()} {figure}": _mean_statistic(objects, measure, figure) for measure, figure in names}
    return {"J&F": (parts["J mean"] + parts["F mean"]) / 2, **parts}


def summarize_sav(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """J&F, J and F: means over objects."""
    j, f = _mean_statistic(objects, "j"), _mean_statistic(objects, "f")
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def summarize_ytvos(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """J and F of seen and of unseen categories and their mean; of all, where nobody said what was seen."""
    groups = _split_seen_unseen(objects)
    parts = {f"{m.upper()} {name}": _mean_statistic(own, m) for name, own in groups.items() for m in ("j", "f")}
    return {"overall": float(np.mean(list(parts.values()))), **parts}


def summarize_lvos(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """J&F, J, F and V: means over objects, or over the figures of seen and of unseen videos."""
    groups = _split_seen_unseen(objects)
    parts: dict[str, float] = {}
    for measure, mean in (
        ("J", partial(_mean_statistic, metric="j")),
        ("F", partial(_mean_statistic, metric="f")),
        ("V", _temporal_deviation),
    ):
        own = {name: mean(some) for name, some in groups.items()}
        parts[measure] = float(np.mean(list(own.values())))
        parts |= {f"{measure} {name}": value for name, value in own.items() if name != "all"}
    return {"J&F": (parts["J"] + parts["F"]) / 2, **parts}


def _temporal_deviation(objects: Sequence[ObjectScore]) -> float:
    """How far J&F of an object is from its mean over time, mean over objects; rounded as LVOS's authors do it."""
    every = [np.mean([(one.j, one.f) for one in own.per_frame], axis=1) for own in objects]
    return float(np.mean([math.sqrt(round(float(np.var(jf)), 4)) for jf in every]))


def _split_seen_unseen(objects: Sequence[ObjectScore]) -> dict[str, Sequence[ObjectScore]]:
    """Those seen in training and those unseen, as far as there are any; all, where it is not known of every object."""
    if any(one.seen is None for one in objects):
        return {"all": objects}
    groups = {"seen": [one for one in objects if one.seen], "unseen": [one for one in objects if not one.seen]}
    return {name: own for name, own in groups.items() if own}
