"""Masks out of prototypes: each a weighted sum of the same few maps, cut to its box.

Shapes: N objects, M prototypes, h and w of the prototypes, H and W of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.detect.letterbox import Letterbox
from masklet.masks import rle

__all__ = ["MaskPiece", "assemble", "dense"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MaskPiece:
    """The part of a mask that its box holds; outside of it the mask is empty."""

    pixels: npt.NDArray[np.bool_]
    left: int
    top: int

    def rle(self, size: tuple[int, int]) -> rle.Rle:
        """The run-length code of the whole mask in a picture of (height, width)."""
        return rle.encode_at(self.pixels, (self.left, self.top), size)


def assemble(coefficients_NM: Floats, prototypes_Mhw: Floats, xyxy_N4: Floats, box: Letterbox) -> list[MaskPiece]:
    """A mask for every box (original pixels), in the picture's own resolution.

    The sums are enlarged to the picture's pixels without going through the input's, and are inside above 0. A pixel
    belongs to a box that holds its centre.
    """
    prototypes, height, width = prototypes_Mhw.shape
    sums_Nhw = (coefficients_NM @ prototypes_Mhw.reshape(prototypes, -1)).reshape(-1, height, width)
    return [_enlarged(sums_hw, xyxy_4, box) for sums_hw, xyxy_4 in zip(sums_Nhw, xyxy_N4, strict=True)]


def dense(pieces: Sequence[MaskPiece], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The masks as one (N, H, W) array for a picture of (height, width)."""
    masks = np.zeros((len(pieces), *size), bool)
    for mask, piece in zip(masks, pieces, strict=True):
        rows, columns = piece.pixels.shape
        mask[piece.top : piece.top + rows, piece.left : piece.left + columns] = piece.pixels
    return masks


def _enlarged(sums_hw: Floats, xyxy_4: Floats, box: Letterbox) -> MaskPiece:
    """The sums at the centres of the pixels whose centres lie in the box, bilinear."""
    x1, y1, x2, y2 = (int(edge) for edge in np.ceil(xyxy_4 - 0.5))
    if x2 <= x1 or y2 <= y1:
        return MaskPiece(np.zeros((0, 0), bool), 0, 0)
    (height, width), (rows, columns) = sums_hw.shape, box.outer
    step_x, step_y = box.scale[0] * width / columns, box.scale[1] * height / rows
    start_x = ((x1 + 0.5) * box.scale[0] + box.left) * width / columns - 0.5
    start_y = ((y1 + 0.5) * box.scale[1] + box.top) * height / rows - 0.5
    values = cv2.warpAffine(
        sums_hw,
        np.array([[step_x, 0, start_x], [0, step_y, start_y]]),
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return MaskPiece(np.asarray(values) > 0, x1, y1)
