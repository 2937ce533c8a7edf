"""Between pictures as arrays and pictures as networks see them.

Shapes: H and W of the picture, S side of the network's square input.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD

__all__ = ["mask_logits", "to_input", "to_size"]

SURE = 10.0
"""The logit that a mask prompt stands for, inside; minus it outside."""


def to_input(rgb_HW3: npt.NDArray[np.uint8], side: int) -> Tensor:
    """RGB (H, W, 3) uint8 to (1, 3, S, S): 0..1, antialiased bilinear, normalised."""
    pixels = torch.from_numpy(rgb_HW3.astype(np.float32)).permute(2, 0, 1)[None] / 255
    square = interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (square - mean) / deviation


def mask_logits(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    """A mask at the picture's size to logits (1, 1, S, S) as the prompt encoder reads them."""
    share = torch.from_numpy(mask_HW.astype(np.float32))[None, None]
    return (interpolate(share, (side, side), mode="bilinear", antialias=True) * 2 - 1) * SURE


def to_size(logits_BKHW: Tensor, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Low-resolution logits to masks (B, K, H, W) at the picture's size."""
    full = interpolate(logits_BKHW.float(), size, mode="bilinear", align_corners=False)
    return (full > 0).cpu().numpy()
