"""What can be done with a boolean mask in plain NumPy and OpenCV; no network needed.

    rle       COCO run-length codes, lossless
    polygons  outlines with holes and separate parts, and how much a simpler outline would lose
    boxes     the tight box of each mask
    regions   small holes filled, small islands removed
    overlap   intersection over union
    drawing   masks, boxes and labels painted on an image

Coordinates are original pixels, x right and y down; pixel (row, column) covers the square
[column, column + 1) x [row, row + 1), so a mask's box and outline reach its last column plus one.
"""

from __future__ import annotations

from masklet.masks.ops import iou, iou_matrix

__all__ = ["iou", "iou_matrix"]
