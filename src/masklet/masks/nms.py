"""Of boxes that are nearly the same, the best one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["distinct"]


def distinct(
    xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    threshold: float,
    *,
    classes: npt.NDArray[np.integer[Any]] | None = None,
    most: int | None = None,
) -> npt.NDArray[np.intp]:
    """Indices of the (N, 4) boxes to keep, best score first: a box goes when a better one overlaps it by more.

    `threshold` is the IoU above which two boxes are the same. Of equal scores the first counts as better. With
    `classes` (N,) boxes of different classes are never the same; `most` ends the search at so many.

    Example:
        >>> distinct(np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9]]), np.array([0.8, 0.9, 0.7]), 0.7)
        array([1, 2])
    """
    assert xyxy.shape == (len(scores), 4), f"a box for every score, got {xyxy.shape} and {len(scores)}"
    order = np.argsort(-scores, kind="stable")
    boxes = np.asarray(xyxy, np.float32)[order]
    kinds = np.zeros(len(boxes), np.int64) if classes is None else np.asarray(classes)[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.arange(len(boxes))
    kept: list[int] = []
    while len(waiting) and len(kept) != most:
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        same = shared > threshold * (areas[best] + areas[rest] - shared)  # flat boxes overlap nothing
        waiting = rest[~(same & (kinds[rest] == kinds[best]))]
    return order[kept] if kept else order[:0]
