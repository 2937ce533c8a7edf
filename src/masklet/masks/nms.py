"""Of boxes that are nearly the same, the best one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["distinct"]


def distinct(xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.floating], threshold: float) -> npt.NDArray[np.intp]:
    """Indices of the (N, 4) boxes to keep, best score first: a box goes when a better one overlaps it by more.

    `threshold` is the IoU above which two boxes are the same. Of equal scores the first counts as better.

    Example:
        >>> distinct(np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9]]), np.array([0.8, 0.9, 0.7]), 0.7)
        array([1, 2])
    """
    assert xyxy.shape == (len(scores), 4), f"a box for every score, got {xyxy.shape} and {len(scores)}"
    order = np.argsort(-scores, kind="stable")
    boxes = np.asarray(xyxy, np.float32)[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if alive[i]:
            rest = i + 1 + np.flatnonzero(alive[i + 1 :])
            low, high = np.maximum(boxes[i, :2], boxes[rest, :2]), np.minimum(boxes[i, 2:], boxes[rest, 2:])
            shared = (high - low).clip(min=0).prod(axis=1)
            alive[rest[shared > threshold * (areas[i] + areas[rest] - shared)]] = False  # flat boxes overlap nothing
    return order[alive]
