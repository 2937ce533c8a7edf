"""Where something has been found already, so that nobody need ask there again.

Shapes: N candidates or points, h and w of low-resolution logits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.pixels import Fit

__all__ = ["Explained"]

LARGEST = 0.25
"""Share of the network's input above which a mask explains nothing: other things may lie on it."""


class Explained:
    """The cells of a picture that lie in a mask that was found.

    Example:
        >>> explained = Explained(fit, threshold=0.0)
        >>> explained.add(candidates.logits_NHW)
        >>> points[explained.open(points)]  # still worth asking
    """

    def __init__(self, fit: Fit, threshold: float) -> None:
        self.fit, self.threshold = fit, threshold
        self.cells_HW: npt.NDArray[np.bool_] | None = None

    def add(self, logits_NHW: Tensor) -> None:
        """Masks that were found."""
        masks_NHW = (logits_NHW > self.threshold).cpu().numpy()
        small = masks_NHW.mean(axis=(1, 2)) <= LARGEST
        cells_HW = masks_NHW[small].any(axis=0)
        self.cells_HW = cells_HW if self.cells_HW is None else self.cells_HW | cells_HW

    def open(self, points_N2: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """(N,): which points, xy in pixels of the picture, lie in nothing that was found."""
        if self.cells_HW is None:
            return np.ones(len(points_N2), bool)
        side = len(self.cells_HW)
        x, y = (self.fit.xy(points_N2) * (side / self.fit.side)).astype(int).clip(0, side - 1).T
        return np.asarray(~self.cells_HW[y, x])
