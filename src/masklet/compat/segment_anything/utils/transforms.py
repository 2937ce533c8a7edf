"""`ResizeLongestSide`: between pixels of an image and those of the network's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

__all__ = ["ResizeLongestSide"]


class ResizeLongestSide:
    """Scale images, points and boxes so that the longer side has `target_length` pixels.

    Example:
        >>> ResizeLongestSide(1024).apply_coords(np.array([[100.0, 50]]), (256, 512)).tolist()
        [[200.0, 100.0]]
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize an image (H, W, 3) uint8."""
        height, width = self.get_preprocess_shape(image.shape[0], image.shape[1], self.target_length)
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized)  # writable, as PyTorch wants arrays

    def apply_coords(self, coords: npt.NDArray[Any], original_size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Scale points (..., 2) in pixels of an image of (height, width)."""
        return np.asarray(coords, np.float64) * self.scale(original_size)

    def apply_boxes(self, boxes: npt.NDArray[Any], original_size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Scale boxes (N, 4)."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """Scale points (..., 2)."""
        return coords.float() * coords.new_tensor(self.scale(original_size), dtype=coords.float().dtype)

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """Scale boxes (N, 4)."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def scale(self, original_size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return the factors of x and y, which differ by rounding."""
        height, width = original_size[:2]
        new_height, new_width = self.get_preprocess_shape(height, width, self.target_length)
        return np.array([new_width / width, new_height / height])

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Return the height and width of a resized image."""
        factor = long_side_length / max(oldh, oldw)
        return int(oldh * factor + 0.5), int(oldw * factor + 0.5)
