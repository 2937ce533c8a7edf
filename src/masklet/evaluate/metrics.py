"""Measure how well masks agree with the ground truth, as DAVIS does, and summarize the scores of a benchmark's objects.

J, region similarity, is the intersection over union. F, the boundary measure, is the harmonic mean of how much of the
predicted boundary lies near the true one (precision) and how much of the true boundary lies near the predicted one
(recall). Both are 0 to 1, by the rules of the benchmark's authors (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017).

Shapes: H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
"""How far apart two boundaries may lie and still agree, in image diagonals; rounded up to pixels."""


def region_similarity(predicted: Mask, truth: Mask) -> float:
    """Return J, the intersection over union of two masks (H, W), 0 to 1; two empty masks agree fully (1.0).

    Example:
        >>> region_similarity(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    return iou(predicted, truth)


def boundary_f_score(predicted: Mask, truth: Mask, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """Return F, the agreement of the boundaries of two masks (H, W), 0 to 1; 1.0 if neither has a boundary.

    Pixels agree up to `tolerance` image diagonals, rounded up to pixels.

    Example:
        >>> boundary_f_score(mask, np.roll(mask, 1, axis=1))  # one pixel off is within the tolerance
        1.0
    """
    assert predicted.shape == truth.shape, f"masks of one size are compared, got {predicted.shape} and {truth.shape}"
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    edge, true_edge = mask_boundary(predicted), mask_boundary(truth)
    if not edge.any() or not true_edge.any():
        return float(edge.any() == true_edge.any())
    both = edge | true_edge  # nothing outside their bounding box can agree with anything
    rows, columns = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edge, true_edge = edge[box], true_edge[box]
    step = np.arange(-radius, radius + 1)
    disk = (step[:, None] ** 2 + step**2 <= radius**2).astype(np.uint8)
    near_edge, near_true = (cv2.dilate(one.astype(np.uint8), disk).astype(bool) for one in (edge, true_edge))
    precision, recall = (edge & near_true).sum() / edge.sum(), (true_edge & near_edge).sum() / true_edge.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def mask_boundary(mask: Mask) -> Mask:
    """Return the boundary pixels (H, W) of a mask: those that differ from the pixel right, below, or right below.

    The boundary is one pixel wide, and a mask has none where it leaves the image.

    Example:
        >>> mask_boundary(np.array([[False, True, False]]))
        array([[ True,  True, False]])
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")  # beyond the image everything is as at its edge
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


class Statistics(NamedTuple):
    """J or F of one object over the frames of a video; nan without frames."""

    mean: float
    recall: float
    """The fraction of frames above 0.5."""
    decay: float
    """The mean of the first quarter minus that of the last; neighboring quarters have one frame in common."""


def davis_statistics(values_per_frame: Sequence[float] | npt.NDArray[np.float64]) -> Statistics:
    """Return mean, recall and decay of the J or F of each frame, as the authors of DAVIS define them.

    Example:
        >>> davis_statistics([1.0, 1.0, 0.6, 0.2, 0.2])
        Statistics(mean=0.6, recall=0.6, decay=0.8)
    """
    values = np.asarray(values_per_frame, float)
    if not len(values):
        return Statistics(math.nan, math.nan, math.nan)
    ends = np.floor(np.linspace(1, len(values), 5) + 0.5 + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean()))


class FrameScore(NamedTuple):
    """J and F of an object on one frame, which is named like its file, without the suffix."""

    frame: str
    j: float
    f: float


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object of one sequence over its measured frames."""

    sequence: str
    id: str
    frames: int
    j: Statistics
    f: Statistics
    seen: bool | None = None
    """Whether its category (LVOS: its video) is one of the training set; None: unknown."""
    per_frame: tuple[FrameScore, ...] = ()


def summarize_davis(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """Average over objects: J&F, and mean, recall and decay of J and of F."""
    names = [(metric, statistic) for metric in ("j", "f") for statistic in Statistics._fields]
    parts = {f"{metric.upper()} {name}": _mean_statistic(objects, metric, name) for metric, name in names}
    return {"J&F": (parts["J mean"] + parts["F mean"]) / 2, **parts}


def summarize_sav(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """Average over objects: J&F, J and F."""
    j, f = _mean_statistic(objects, "j"), _mean_statistic(objects, "f")
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def summarize_ytvos(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """Average J and F over seen and over unseen categories, and these; over all objects if that is unknown."""
    groups = _split_seen_unseen(objects)
    parts = {f"{m.upper()} {name}": _mean_statistic(group, m) for name, group in groups.items() for m in ("j", "f")}
    return {"overall": float(np.mean(list(parts.values()))), **parts}


def summarize_lvos(objects: Sequence[ObjectScore]) -> dict[str, float]:
    """Average J&F, J, F and V over objects, or over the means of seen and of unseen videos."""
    groups = _split_seen_unseen(objects)
    values = {m.upper(): {name: _mean_statistic(group, m) for name, group in groups.items()} for m in ("j", "f")}
    values["V"] = {}
    for name, group in groups.items():  # how far J&F is from its mean over time, rounded as LVOS's authors do
        jf_per_object = [np.mean([(frame.j, frame.f) for frame in one.per_frame], axis=1) for one in group]
        values["V"][name] = float(np.mean([math.sqrt(round(float(np.var(jf)), 4)) for jf in jf_per_object]))
    parts: dict[str, float] = {}
    for metric, by_group in values.items():
        parts[metric] = float(np.mean(list(by_group.values())))
        parts |= {f"{metric} {name}": value for name, value in by_group.items() if name != "all"}
    return {"J&F": (parts["J"] + parts["F"]) / 2, **parts}


def _mean_statistic(objects: Iterable[ObjectScore], metric: str, statistic: str = "mean") -> float:
    return float(np.mean([getattr(getattr(one, metric), statistic) for one in objects]))


def _split_seen_unseen(objects: Sequence[ObjectScore]) -> dict[str, Sequence[ObjectScore]]:
    """Group objects into seen and unseen ones, without empty groups; "all" if it is unknown of any object."""
    if any(one.seen is None for one in objects):
        return {"all": objects}
    groups = {"seen": [one for one in objects if one.seen], "unseen": [one for one in objects if not one.seen]}
    return {name: group for name, group in groups.items() if group}
