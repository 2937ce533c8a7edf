"""IoU of masks, tight boxes of masks, and non-maximum suppression of boxes.

Boxes are xyxy in original pixels, right and bottom exclusive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["are_similar", "box_iou", "iou", "iou_matrix", "mask_nms", "masks_to_boxes", "nms", "true_spans"]

Bools = npt.NDArray[np.bool_]


def iou(a: Bools, b: Bools) -> float:
    """Compute the intersection over union of two (H, W) masks, 0..1; two empty masks have 1.0.

    Example:
        >>> iou(np.array([[True, True]]), np.array([[True, False]]))
        0.5
    """
    assert a.shape == b.shape, f"masks of one size are compared, got {a.shape} and {b.shape}"
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def box_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Compute the intersection over union of two xyxy boxes, 0..1; two empty boxes have 0.0.

    Example:
        >>> box_iou([0, 0, 2, 2], [1, 0, 3, 2])
        0.3333333333333333
    """
    first, second = np.asarray(a), np.asarray(b)
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    both = float(np.prod((high - low).clip(0)))
    either = float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - both
    return both / either if either > 0 else 0.0


def iou_matrix(a: Bools, b: Bools) -> npt.NDArray[np.float32]:
    """Compute the IoU of each mask of `a` (N, H, W) with each mask of `b` (M, H, W), as (N, M) float32.

    Example:
        >>> masks = np.eye(2, dtype=bool)[:, None]
        >>> iou_matrix(masks, masks).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    assert a.shape[1:] == b.shape[1:], f"masks of one size are compared, got {a.shape[1:]} and {b.shape[1:]}"
    rows = [[iou(first, second) for second in b] for first in a]
    return np.array(rows, dtype=np.float32).reshape(len(a), len(b))


def masks_to_boxes(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Compute the tight box of each (N, H, W) mask as (N, 4) float32 xyxy, original pixels.

    Right and bottom are exclusive (last column + 1, last row + 1), so x2 - x1 counts the columns.
    An empty mask has the box [0, 0, 0, 0].

    Example:
        >>> mask = np.zeros((1, 6, 8), bool)
        >>> mask[0, 2:4, 1:7] = True
        >>> masks_to_boxes(mask)
        array([[1., 2., 7., 4.]], dtype=float32)
    """
    assert masks.ndim == 3, f"masks are (N, H, W), got {masks.shape}"
    if masks.size == 0:
        return np.zeros((len(masks), 4), np.float32)
    left, right = true_spans(np.asarray(masks.any(axis=1)))
    top, bottom = true_spans(np.asarray(masks.any(axis=2)))
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def true_spans(hit: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and last + 1 true index of each (N, L) row; 0 and 0 if there is none."""
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
    thin_mask: Callable[[int], Bools] | None = None,
) -> npt.NDArray[np.intp]:
    """Select boxes by non-maximum suppression: return the indices of the (N, 4) boxes to keep, best score first.

    A box is suppressed if its IoU with a better one is above `iou_threshold`. Of equal scores the first counts as
    better. With `classes` (N,), boxes of different classes never suppress each other. `max_count` limits the result.
    With `thin_mask`, right and bottom are the last pixel, which IoU leaves out, as in the published mask generator. A
    box of zero area is then one pixel wide or high, so its IoU is that of the pixels; two of them are compared by their
    masks, `thin_mask(i)` cropped to box i: above `iou_threshold` of the smaller one must lie in the better one.

    Example:
        >>> nms(np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9]]), np.array([0.8, 0.9, 0.7]), 0.7)
        array([1, 2])
    """
    assert xyxy.shape == (len(scores), 4), f"a box for every score, got {xyxy.shape} and {len(scores)}"
    order = np.argsort(-scores, kind="stable")
    boxes = np.asarray(xyxy, np.float32)[order]
    sorted_classes = np.zeros(len(boxes), np.int64) if classes is None else np.asarray(classes)[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    candidates = np.arange(len(boxes))
    selected: list[int] = []
    while len(candidates) and len(selected) != max_count:
        best, rest = candidates[0], candidates[1:]
        selected.append(best)
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        intersection = (high - low).clip(min=0).prod(axis=1)
        overlaps = intersection > iou_threshold * (areas[best] + areas[rest] - intersection)  # never for empty boxes
        if thin_mask is not None and (thin := (areas[rest] == 0) | (areas[best] == 0)).any():
            both = (high - low + 1).clip(min=0).prod(axis=1)
            pixels = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
            overlaps = np.where(thin, both > iou_threshold * (pixels[best] + pixels[rest] - both), overlaps)
            for row in np.flatnonzero(both * (areas[rest] == 0) * (areas[best] == 0)).tolist():
                pair, shared = [thin_mask(int(order[i])) for i in (best, rest[row])], []
                for i, mask in zip((best, rest[row]), pair, strict=True):
                    left, top = (low[row] - boxes[i, :2]).astype(int).tolist()
                    right, bottom = (high[row] - boxes[i, :2] + 1).astype(int).tolist()
                    shared.append(mask[top:bottom, left:right])
                fewer, more = sorted(int(np.count_nonzero(mask)) for mask in pair)
                overlaps[row] = more == 0 or np.count_nonzero(shared[0] & shared[1]) > iou_threshold * fewer
        candidates = rest[~(overlaps & (sorted_classes[rest] == sorted_classes[best]))]
    return order[selected] if selected else order[:0]


def are_similar(
    masks_NHW: Bools,
    areas_N: npt.NDArray[np.integer[Any]],
    boxes_N4: npt.NDArray[np.integer[Any]],
    index: int,
    others: npt.NDArray[np.intp],
    iou_threshold: float,
) -> Bools:
    """Tell which of the masks `others` have a larger IoU with the mask `index` than the threshold.

    Areas and boxes are those of the masks; with them only few masks are compared, and only in the box of `index`.
    """
    smaller, larger = np.minimum(areas_N[others], areas_N[index]), np.maximum(areas_N[others], areas_N[index])
    possible = np.flatnonzero(smaller > iou_threshold * larger)  # no other can have such an IoU
    left, top, right, bottom = boxes_N4[index].tolist()
    window = np.s_[top:bottom, left:right]
    shared = np.count_nonzero(masks_NHW[(others[possible], *window)] & masks_NHW[(index, *window)], axis=(1, 2))
    similar = np.zeros(len(others), bool)
    similar[possible] = shared > iou_threshold * (areas_N[others[possible]] + areas_N[index] - shared)
    return similar


def mask_nms(
    masks_NHW: Bools, scores: npt.NDArray[np.floating[Any]], iou_threshold: float, max_count: int | None = None
) -> npt.NDArray[np.intp]:
    """Select masks by non-maximum suppression: return the indices of the (N, H, W) masks to keep, best score first.

    A mask is suppressed if its IoU with a better one is above `iou_threshold`. Of equal scores the first counts as
    better. Empty masks suppress nothing and are not suppressed. `max_count` limits the result.

    Example:
        >>> mask_nms(np.array([[[1, 1, 0]], [[1, 1, 1]], [[0, 0, 1]]], bool), np.array([0.8, 0.9, 0.7]), 0.5)
        array([1, 2])
    """
    assert masks_NHW.shape[:1] == scores.shape, f"a mask for every score, got {masks_NHW.shape} and {scores.shape}"
    areas, boxes = np.count_nonzero(masks_NHW, axis=(1, 2)), masks_to_boxes(masks_NHW).astype(int)
    candidates = np.argsort(-scores, kind="stable")
    selected: list[int] = []
    while len(candidates) and len(selected) != max_count:
        best, candidates = int(candidates[0]), candidates[1:]
        selected.append(best)
        candidates = candidates[~are_similar(masks_NHW, areas, boxes, best, candidates, iou_threshold)]
    return np.array(selected, np.intp)
