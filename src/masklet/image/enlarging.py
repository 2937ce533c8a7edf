"""From logits at low resolution to masks at the picture's size, and what is measured there.

Boxes here are those of the published generator: xyxy of the first and the last pixel of a mask, both inclusive.
Shapes: N candidates, H and W of the picture, h and w of low-resolution logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.masks import boxes as tight
from masklet.pixels import Fit

__all__ = ["Enlarger", "Measured"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
PIXELS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Measured:
    """What is known of candidates at the picture's size."""

    stability_N: Floats
    """Share of the mask at the lower threshold that stays at the higher one; not a number where both are empty."""
    boxes_N4: Floats
    """Inclusive; four noughts where the mask is empty."""


class Enlarger:
    """Masks of one picture.

    Example:
        >>> measured = Enlarger(fit, threshold=0.0, offset=1.0).measured(logits)
    """

    def __init__(self, fit: Fit, threshold: float, offset: float) -> None:
        self.fit, self.threshold, self.offset = fit, threshold, offset

    def measured(self, logits_NHW: Tensor) -> Measured:
        """Stability and box of every candidate, from every pixel."""
        stability, boxes = [np.zeros(0, np.float32)], [np.zeros((0, 4), np.float32)]
        step = max(1, PIXELS_AT_ONCE // (self.fit.size[0] * self.fit.size[1]))
        for start in range(0, len(logits_NHW), step):
            full = self._full(logits_NHW[start : start + step])
            inner, outer = (
                np.count_nonzero(full > self.threshold + move, axis=(1, 2)) for move in (self.offset, -self.offset)
            )
            with np.errstate(invalid="ignore"):
                stability.append((inner / outer).astype(np.float32))
            boxes.append(inclusive(tight.from_masks(full > self.threshold)))
        return Measured(np.concatenate(stability), np.concatenate(boxes))

    def mask(self, logits_HW: Tensor) -> Bools:
        """(H, W)."""
        mask: Bools = self._full(logits_HW[None])[0] > self.threshold
        return mask

    def _full(self, logits_NHW: Tensor) -> Floats:
        full: Floats = self.fit.enlarged(logits_NHW[:, None])[:, 0].cpu().numpy()
        return full


def inclusive(xyxy_N4: Floats) -> Floats:
    """Boxes with an exclusive right and bottom as boxes of first and last pixels."""
    return np.maximum(xyxy_N4 - np.array([0, 0, 1, 1], np.float32), 0)
