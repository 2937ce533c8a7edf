"""Operations on boolean masks in NumPy and OpenCV; no network is needed.

    rle               COCO run-length encoding, lossless
    polygons          outlines with holes and separate parts
    polygon_simplify  outlines with fewer points that keep a given IoU
    ops               IoU, tight boxes, non-maximum suppression
    morphology        fill small holes, remove small islands
    label_map         label maps as indexed PNG files
    drawing           masks, boxes and labels drawn on an image

Coordinates are original pixels, x right and y down. Pixel (row, column) covers the square
[column, column + 1) x [row, row + 1), so the box and the outline of a mask end at its last column plus one.
"""

from __future__ import annotations

from masklet.masks.ops import iou, iou_matrix

__all__ = ["iou", "iou_matrix"]
