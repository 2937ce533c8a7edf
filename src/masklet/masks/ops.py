"""Of boxes that are nearly the same, the best one.

How much two masks agree.

The tight box of a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["iou", "iou_matrix", "masks_to_boxes", "nms"]

Bools = npt.NDArray[np.bool_]


def iou(a: Bools, b: Bools) -> float:
    """Intersection over union of two (H, W) masks, 0..1; two empty masks agree fully (1.0).

    Example:
        >>> iou(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    assert a.shape == b.shape, f"masks of one size are compared, got {a.shape} and {b.shape}"
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def iou_matrix(a: Bools, b: Bools) -> npt.NDArray[np.float32]:
    """IoU of every mask in `a` (N, H, W) with every mask in `b` (M, H, W), as (N, M) float32.

    Example:
        >>> iou_matrix(masks, masks).diagonal()  # every mask agrees with itself
        array([1., 1.], dtype=float32)
    """
    assert a.shape[1:] == b.shape[1:], f"masks of one size are compared, got {a.shape[1:]} and {b.shape[1:]}"
    table = [[iou(first, second) for second in b] for first in a]
    return np.array(table, dtype=np.float32).reshape(len(a), len(b))


def masks_to_boxes(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """The tight box of each (N, H, W) mask as (N, 4) float32 xyxy, original pixels.

    Right and bottom are exclusive (last column + 1, last row + 1), so x2 - x1 counts the columns.
    An empty mask has the box [0, 0, 0, 0].

    Example:
        >>> mask = np.zeros((1, 6, 8), bool)
        >>> mask[0, 2:4, 1:7] = True
        >>> from_masks(mask)
        array([[1., 2., 7., 4.]], dtype=float32)
    """
    assert masks.ndim == 3, f"masks are (N, H, W), got {masks.shape}"
    if masks.size == 0:
        return np.zeros((len(masks), 4), np.float32)
    left, right = _true_range(np.asarray(masks.any(axis=1)))
    top, bottom = _true_range(np.asarray(masks.any(axis=2)))
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def _true_range(hit: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and last + 1 true index of each (N, L) row; 0 and 0 where there is none."""
    first = hit.argmax(axis=1)
    end = (hit.shape[1] - hit[:, ::-1].argmax(axis=1)) * hit.any(axis=1)
    return first, end


def nms(
    xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.floating[Any]],
    iou_threshold: float,
    *,
    classes: npt.NDArray[np.integer[Any]] | None = None,
    max_count: int | None = None,
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
    while len(waiting) and len(kept) != max_count:
        best, rest = waiting[0], waiting[1:]
        kept.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        same = shared > iou_threshold * (areas[best] + areas[rest] - shared)  # flat boxes overlap nothing
        waiting = rest[~(same & (kinds[rest] == kinds[best]))]
    return order[kept] if kept else order[:0]
