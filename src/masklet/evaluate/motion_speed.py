"""Measure J&F by how fast objects move.

The speed of an object on a frame is the displacement of the center of its true mask since the frame before, divided by
the square root of the mask's area there: 1 means that it moves by its own side from one frame to the next. So it
depends on the frame rate, and on the camera as well as on the object: what the camera follows is slow. A part that is
hidden moves the center, too. Like the classes of object speed of ImageNet VID (Zhu et al., "Flow-Guided Feature
Aggregation", 2017: by the IoU of an object's boxes in nearby frames) it is relative to the object's size, but it goes
on where masks no longer overlap, and it compares the two frames that a tracker compares.

A frame has no speed, and counts in no class, where the object is not visible in it or in the frame before. Every
measured frame of an object counts the same, in whichever video it is; means by class are therefore no parts of the
mean over objects.

Shapes: T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SPEED_CLASSES", "SpeedMetrics", "mean_by_speed", "metrics_by_speed", "motion_speeds", "speed_class"]

SPEED_CLASSES = {"still": 0.02, "slow": 0.1, "fast": 0.25, "very fast": math.inf}
"""Classes, and the speed below which a frame belongs to them."""


@dataclass(frozen=True)
class SpeedMetrics:
    """Means over the frames of objects in one class of speed, 0 to 1."""

    frames: int
    j: float
    f: float
    jf: float


def motion_speeds(masks_THW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the speed (T,) of an object on each frame; nan where it is not visible there or on the frame before.

    Example:
        >>> masks = np.zeros((3, 20, 40), bool)
        >>> masks[0, :10, :10] = masks[1, :10, 5:15] = True
        >>> motion_speeds(masks)
        array([nan, 0.5, nan])
    """
    area_T = masks_THW.sum((1, 2)).astype(np.float64)
    area_T[area_T == 0] = np.nan
    x_T = masks_THW.sum(1) @ np.arange(masks_THW.shape[2]) / area_T
    y_T = masks_THW.sum(2) @ np.arange(masks_THW.shape[1]) / area_T
    moved_T = np.hypot(np.diff(x_T, prepend=np.nan), np.diff(y_T, prepend=np.nan))
    moved_T[1:] /= np.sqrt(area_T[:-1])
    return np.asarray(moved_T, np.float64)


def speed_class(speed: float) -> str:
    """Return the class of a speed.

    Example:
        >>> speed_class(0.12)
        'fast'
    """
    return next(name for name, limit in SPEED_CLASSES.items() if speed < limit)


def metrics_by_speed(speeds: Iterable[float], j: Sequence[float], f: Sequence[float]) -> dict[str, SpeedMetrics]:
    """Average the J and F of frames by the class of their speed, which may be nan; classes without frames are left out.

    Example:
        >>> metrics_by_speed([math.nan, 0.3, 0.0], [0.1, 0.5, 0.9], [0.1, 0.7, 1.0])["very fast"]
        SpeedMetrics(frames=1, j=0.5, f=0.7, jf=0.6)
    """
    return mean_by_speed(
        {speed_class(speed): SpeedMetrics(1, frame_j, frame_f, (frame_j + frame_f) / 2)}
        for speed, frame_j, frame_f in zip(speeds, j, f, strict=True)
        if not math.isnan(speed)
    )


def mean_by_speed(parts: Iterable[Mapping[str, SpeedMetrics]]) -> dict[str, SpeedMetrics]:
    """Average metrics by class over objects or videos, each weighted by its frames.

    Example:
        >>> mean_by_speed([{"slow": SpeedMetrics(3, 1.0, 1.0, 1.0)}, {"slow": SpeedMetrics(1, 0.0, 0.0, 0.0)}])
        {'slow': SpeedMetrics(frames=4, j=0.75, f=0.75, jf=0.75)}
    """
    by_class: dict[str, list[SpeedMetrics]] = {name: [] for name in SPEED_CLASSES}
    for part in parts:
        for name, metrics in part.items():
            by_class[name].append(metrics)
    means = {}
    for name, own in by_class.items():
        if own:
            weights = [one.frames for one in own]
            j, f = (float(np.average([getattr(one, key) for one in own], weights=weights)) for key in ("j", "f"))
            means[name] = SpeedMetrics(sum(weights), j, f, (j + f) / 2)
    return means
