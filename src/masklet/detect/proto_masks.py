"""Decode masks from prototypes: each is a weighted sum of the same few maps, cropped to its box.

Shapes: N objects, M prototypes, h and w of the prototypes, H and W of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.detect.letterbox import Letterbox

__all__ = ["MaskCrop", "decode_proto_masks", "paste_masks"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """The part of a mask inside its box, with its upper left corner; outside of it the mask is empty."""

    mask: npt.NDArray[np.bool_]
    left: int
    top: int


def decode_proto_masks(
    coefficients_NM: Floats, prototypes_Mhw: Floats, xyxy_N4: Floats, letterbox: Letterbox
) -> list[MaskCrop]:
    """Decode a mask for every box (xyxy, original pixels) at the resolution of the image.

    The sums are upsampled to the image directly, not through the input; a mask is where they are above 0. A pixel is
    in a box if its center is.
    """
    prototypes, height, width = prototypes_Mhw.shape
    sums_Nhw = (coefficients_NM @ prototypes_Mhw.reshape(prototypes, -1)).reshape(-1, height, width)
    (rows, columns), scale = letterbox.input_size, letterbox.scale
    step_x, step_y = scale[0] * width / columns, scale[1] * height / rows
    crops = []
    for sums_hw, xyxy_4 in zip(sums_Nhw, xyxy_N4, strict=True):
        x1, y1, x2, y2 = (int(edge) for edge in np.ceil(xyxy_4 - 0.5))
        if x2 <= x1 or y2 <= y1:
            crops.append(MaskCrop(np.zeros((0, 0), bool), 0, 0))
            continue
        start_x = ((x1 + 0.5) * scale[0] + letterbox.left) * width / columns - 0.5
        start_y = ((y1 + 0.5) * scale[1] + letterbox.top) * height / rows - 0.5
        values = cv2.warpAffine(  # sampled bilinearly at the centers of the pixels in the box
            sums_hw,
            np.array([[step_x, 0, start_x], [0, step_y, start_y]]),
            (x2 - x1, y2 - y1),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        crops.append(MaskCrop(np.asarray(values) > 0, x1, y1))
    return crops


def paste_masks(crops: Sequence[MaskCrop], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Paste crops into one (N, H, W) array for an image of (height, width)."""
    masks = np.zeros((len(crops), *size), bool)
    for mask, crop in zip(masks, crops, strict=True):
        rows, columns = crop.mask.shape
        mask[crop.top : crop.top + rows, crop.left : crop.left + columns] = crop.mask
    return masks
