"""Letterbox an image into the network's input: scaled with its aspect ratio, centered, padded with gray.

Coordinates are pixels, x to the right and y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).
Shapes: N boxes, H and W of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["STRIDE", "Letterbox"]

PAD_COLOR = (114, 114, 114)
"""The gray of the padding that the networks were trained with."""
STRIDE = 32
"""Sides of the input are multiples of this."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Letterbox:
    """Position and scale of an image in the input; all sizes are (height, width).

    Example:
        >>> box = Letterbox.from_size((480, 640), 640)
        >>> box.input_size, box.top, box.left
        ((480, 640), 0, 0)
    """

    original_size: Size
    resized_size: Size
    """Of the image within the input."""
    input_size: Size
    top: int
    """Rows above the image."""
    left: int
    """Columns left of the image."""
    scale: tuple[float, float]
    """Pixels of the input per pixel of the image, (x, y); the two differ by rounding."""

    @classmethod
    def from_size(cls, size: Size, input_side: int) -> Letterbox:
        """Fit an image of `size` whose longer side becomes `input_side`, rounded up to a multiple of 32.

        The shorter side is rounded up to a multiple of 32 too, so the input is no larger than necessary.
        """
        ratio = -(-input_side // STRIDE) * STRIDE / max(size)
        height, width = (max(round(length * ratio), 1) for length in size)
        rows, columns = (-(-length // STRIDE) * STRIDE for length in (height, width))
        top, left = (rows - height) // 2, (columns - width) // 2
        return cls(size, (height, width), (rows, columns), top, left, (width / size[1], height / size[0]))

    def apply(self, rgb_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Convert an image (H, W, 3) uint8 to the input, uint8."""
        assert rgb_HW3.shape[:2] == self.original_size, f"an image of {self.original_size}, got {rgb_HW3.shape}"
        (height, width), (rows, columns) = self.resized_size, self.input_size
        scaled = rgb_HW3 if self.resized_size == self.original_size else cv2.resize(rgb_HW3, (width, height))
        below, right = rows - height - self.top, columns - width - self.left
        framed = cv2.copyMakeBorder(scaled, self.top, below, self.left, right, cv2.BORDER_CONSTANT, value=PAD_COLOR)
        return np.asarray(framed, np.uint8)

    def boxes_to_original(self, xyxy_N4: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Convert boxes from pixels of the input to pixels of the image, clipped to it."""
        scale, corner = np.array(self.scale * 2), np.array([self.left, self.top] * 2)
        limits = np.array([self.original_size[1], self.original_size[0]] * 2)
        clipped: npt.NDArray[np.float32] = np.clip((xyxy_N4 - corner) / scale, 0, limits).astype(np.float32)
        return clipped
