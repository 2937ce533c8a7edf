"""How much two masks agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["iou", "iou_matrix"]

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
