from __future__ import annotations

import numpy as np

from masklet.masks import ops


def test_boxes_end_after_the_last_pixel() -> None:
    masks = np.zeros((3, 6, 8), bool)
    masks[0, 2:4, 1:7] = True
    masks[1] = True
    boxes = ops.masks_to_boxes(masks)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[1, 2, 7, 4], [0, 0, 8, 6], [0, 0, 0, 0]]


def test_no_masks_have_no_boxes() -> None:
    assert ops.masks_to_boxes(np.zeros((0, 6, 8), bool)).shape == (0, 4)
    assert ops.masks_to_boxes(np.zeros((2, 0, 8), bool)).tolist() == [[0, 0, 0, 0]] * 2
