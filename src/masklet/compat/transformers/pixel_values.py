"""Between images and normalized `pixel_values`; images are resized as bytes, as transformers does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.types import PIXEL_MEAN, PIXEL_STD

__all__ = ["from_pixel_values", "resize_bytes", "to_pixel_values"]

MEAN_311, STD_311 = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))


def resize_bytes(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resize an image (H, W, 3) uint8 to `size`, (height, width).

    Example:
        >>> resize_bytes(np.zeros((40, 60, 3), np.uint8), (16, 16)).shape
        (16, 16, 3)
    """
    bytes_13HW = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].contiguous()
    resized_13HW = interpolate(bytes_13HW, size, mode="bilinear", antialias=True, align_corners=False)
    return resized_13HW[0].permute(1, 2, 0).contiguous().numpy()


def to_pixel_values(rgb: npt.NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Resize an image (H, W, 3) uint8 to `size`, (height, width), and normalize it: (1, 3, *size) float32."""
    pixels_3HW = torch.from_numpy(resize_bytes(rgb, size)).permute(2, 0, 1).float()
    return ((pixels_3HW - 255 * MEAN_311) / (255 * STD_311))[None]


def from_pixel_values(pixels_3HW: Tensor) -> npt.NDArray[np.uint8]:
    """Return the image (H, W, 3) uint8 that was normalized.

    Example:
        >>> rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        >>> bool((from_pixel_values(to_pixel_values(rgb, (4, 4))[0]) == rgb).all())
        True
    """
    values_3HW = (pixels_3HW.detach().cpu().float() * STD_311 + MEAN_311) * 255
    return values_3HW.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
