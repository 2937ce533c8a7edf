from __future__ import annotations

import numpy as np
import pytest

from masklet.masks import iou, iou_matrix


def test_iou() -> None:
    a = np.array([[True, True, False]])
    assert iou(a, a) == 1.0
    assert iou(a, ~a) == 0.0
    assert iou(a, np.array([[False, True, True]])) == pytest.approx(1 / 3)
    assert iou(a & False, a & False) == 1.0
    assert iou(a, a & False) == 0.0


def test_iou_matrix() -> None:
    masks = np.eye(3, dtype=bool).reshape(3, 1, 3)
    assert iou_matrix(masks, masks[:2]).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert iou_matrix(masks, masks[:0]).shape == (3, 0)


def test_masks_of_different_sizes_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        iou(np.ones((2, 2), bool), np.ones((2, 3), bool))
