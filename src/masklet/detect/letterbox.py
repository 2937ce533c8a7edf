"""A picture within the network's input: scaled as it is, centred, with grey around it.

Coordinates are pixels, x to the right and y down; pixel (row, column) covers [column, column + 1) x [row, row + 1).
Shapes: N boxes, H and W of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["STRIDE", "Letterbox"]

GREY = (114, 114, 114)
"""What the networks were trained to see beside pictures."""
STRIDE = 32
"""Sides of the input are multiples of this."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in the input; all sizes are (height, width).

    Example:
        >>> box = Letterbox.of((480, 640), 640)
        >>> box.outer, box.top, box.left
        ((480, 640), 0, 0)
    """

    size: Size
    """Of the picture."""
    inner: Size
    """Of the picture within the input."""
    outer: Size
    """Of the input."""

    @classmethod
    def of(cls, size: Size, side: int) -> Letterbox:
        """For a picture of `size` whose longer side is brought to `side`, rounded up to a multiple of 32.

        The input is no larger than it needs to be: the shorter side is rounded up to a multiple of 32 too.
        """
        side = _multiple(side)
        ratio = side / max(size)
        height, width = (max(round(length * ratio), 1) for length in size)
        return cls(size, (height, width), (_multiple(height), _multiple(width)))

    @property
    def top(self) -> int:
        """Rows above the picture."""
        return (self.outer[0] - self.inner[0]) // 2

    @property
    def left(self) -> int:
        """Columns left of the picture."""
        return (self.outer[1] - self.inner[1]) // 2

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input for one of the picture, (x, y); the two differ by what rounding to pixels does."""
        return self.inner[1] / self.size[1], self.inner[0] / self.size[0]

    def draw(self, rgb_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The input, uint8, for a picture (H, W, 3) uint8."""
        assert rgb_HW3.shape[:2] == self.size, f"a picture of {self.size}, got {rgb_HW3.shape}"
        (height, width), (rows, columns) = self.inner, self.outer
        scaled = rgb_HW3 if self.inner == self.size else cv2.resize(rgb_HW3, (width, height))
        below, right = rows - height - self.top, columns - width - self.left
        framed = cv2.copyMakeBorder(scaled, self.top, below, self.left, right, cv2.BORDER_CONSTANT, value=GREY)
        return np.asarray(framed, np.uint8)

    def to_picture(self, xyxy_N4: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Boxes in pixels of the input to pixels of the picture, cut to it."""
        scale, corner = np.array(self.scale * 2), np.array([self.left, self.top] * 2)
        limits = np.array([self.size[1], self.size[0]] * 2)
        cut: npt.NDArray[np.float32] = np.clip((xyxy_N4 - corner) / scale, 0, limits).astype(np.float32)
        return cut

    def to_input(self, xyxy_N4: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Boxes in pixels of the picture to pixels of the input."""
        moved: npt.NDArray[np.float32] = (xyxy_N4 * np.array(self.scale * 2) + [self.left, self.top] * 2).astype(
            np.float32
        )
        return moved


def _multiple(length: int) -> int:
    return -(-length // STRIDE) * STRIDE
