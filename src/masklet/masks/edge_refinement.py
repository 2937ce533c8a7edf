"""Let soft masks follow the edges of their image: a guided filter on twice the grid of the masks.

Within a small window the mask becomes a linear function of the image's color (He, Sun and Tang 2010, "Guided image
filtering"), so that an edge that is a cell off moves to where the color changes. Where it does not change, curves are
rounded off by a fraction of a cell.
Shapes: H and W of the guide, N masks.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["GUIDE_SCALE", "EdgeGuide", "refine_edges"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

GUIDE_SCALE = 2
"""Cells of the guide along a cell of the mask."""
EPSILON = 1e-4
"""Variance of color, of 1, below which an edge of the image counts little."""
MIN_SOFT = 0.02
"""A soft mask is refined around the cells above this value."""
MIN_AGREEMENT = 0.85
"""IoU of a mask before and after, below which it stays as it was: it is thinner or smaller than a window."""


class EdgeGuide:
    """The colors of an image (H, W, 3), 0 to 1, and their statistics in windows of `2 * radius + 1` cells.

    Example:
        >>> image = np.zeros((16, 16, 3), np.float32)
        >>> image[:, 9:] = 1
        >>> soft = np.repeat(np.linspace(-0.5, 1.5, 16, dtype=np.float32).clip(0, 1)[None], 16, 0)
        >>> (EdgeGuide(image, radius=3).refine(soft)[8] > 0.5).nonzero()[0].tolist()
        [9, 10, 11, 12, 13, 14, 15]
    """

    def __init__(self, image_HW3: Floats, radius: int) -> None:
        self.side = 2 * radius + 1
        self.image = [np.ascontiguousarray(image_HW3[..., channel]) for channel in range(3)]
        self.mean = [self._window_mean(plane) for plane in self.image]
        rr, rg, rb, gg, gb, bb = (
            self._window_mean(self.image[i] * self.image[j]) - self.mean[i] * self.mean[j]
            for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
        )
        for variance in (rr, gg, bb):
            variance += EPSILON
        rows = [
            [gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg],
            [rb * gb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb],
            [rg * gb - rb * gg, rb * rg - rr * gb, rr * gg - rg * rg],
        ]
        scale = 1 / (rr * rows[0][0] + rg * rows[0][1] + rb * rows[0][2])
        self.inverse = [[minor * scale for minor in row] for row in rows]
        """The inverse covariance of color at each cell, 3 x 3 planes."""

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        height, width = self.image[0].shape
        return height, width

    def refine(self, soft_HW: Floats) -> Floats | None:
        """Return a soft mask, about 0 to 1, whose edges follow those of the image; None: it is too small or thin."""
        rows, columns = (np.flatnonzero((soft_HW > MIN_SOFT).any(axis)) for axis in (1, 0))
        if not len(rows):
            return None
        top, left = max(int(rows[0]) - self.side, 0), max(int(columns[0]) - self.side, 0)
        part = np.s_[top : int(rows[-1]) + self.side + 1, left : int(columns[-1]) + self.side + 1]
        soft, image = soft_HW[part], [plane[part] for plane in self.image]
        mean, mean_soft = [plane[part] for plane in self.mean], self._window_mean(soft)
        red, green, blue = (self._window_mean(image[i] * soft) - mean[i] * mean_soft for i in range(3))
        shift, refined_part = mean_soft, np.zeros_like(soft)
        for i, (to_red, to_green, to_blue) in enumerate(self.inverse):
            slope = to_red[part] * red + to_green[part] * green + to_blue[part] * blue
            shift = shift - slope * mean[i]
            refined_part += self._window_mean(slope) * image[i]
        refined_part += self._window_mean(shift)
        before, after = soft > 0.5, refined_part > 0.5
        agree = np.count_nonzero(before & after) >= MIN_AGREEMENT * np.count_nonzero(before | after)
        if not agree or np.count_nonzero(before) < self.side**2:
            return None
        refined = soft_HW.copy()
        refined[part] = refined_part
        return refined

    def _window_mean(self, plane: Floats) -> Floats:
        return np.asarray(cv2.blur(plane, (self.side, self.side)), np.float32)


def refine_edges(masks_NHW: Bools, soft_NHW: Floats, guide: EdgeGuide) -> None:
    """Let masks of any size follow the edges of `guide`, in place; `soft_NHW` are the same masks on its grid, 0 to 1.

    A mask that is smaller than a window, or that would change much because it is thinner, stays as it is.
    """
    for mask, soft_HW in zip(masks_NHW, soft_NHW, strict=True):
        refined = guide.refine(np.ascontiguousarray(soft_HW, np.float32))
        if refined is not None:
            np.greater(cv2.resize(refined, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), 0.5, out=mask)
