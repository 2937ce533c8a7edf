"""What a format that gives each pixel one object loses where masks overlap, said once."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from masklet.errors import MaskletWarning
from masklet.results import KEPT_ENOUGH, Results

__all__ = ["OverlapNotice", "least_kept"]

Labels = npt.NDArray[np.uint16]


class OverlapNotice:
    """Warns at the first frame in which a label map keeps less than IoU 0.95 of a mask, and never again.

    Example:
        >>> notice = OverlapNotice("the label map")
        >>> notice.look(results, label_map(results), frame=12)
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = False

    def look(self, results: Results, labels: Labels, frame: int) -> None:
        """Compare the masks with `labels` (H, W), where n + 1 is row n of the results."""
        if self._said or results.masks is None:
            return
        if np.count_nonzero(results.masks.data) == np.count_nonzero(labels):  # masks apart: nothing is lost
            return
        row, kept = least_kept(results.masks.data, labels)
        if kept < KEPT_ENOUGH:
            self._said = True
            warnings.warn(
                f"object {results.ids[row]} of frame {frame}: {self._what} keeps IoU {kept:.2f} of its mask (under "
                f"{KEPT_ENOUGH}), because masks overlap and the smaller one is kept; masks or coco keep all of it "
                "(said once a run)",
                MaskletWarning,
                stacklevel=5,
            )


def least_kept(masks: npt.NDArray[np.bool_], labels: Labels) -> tuple[int, float]:
    """The row of `masks` (N, H, W), N > 0, of which `labels` keep the smallest share, and that share as IoU.

    Example:
        >>> least_kept(masks, label_map(results))
        (0, 1.0)
    """
    left = np.bincount(labels.ravel(), minlength=len(masks) + 1)[1:]
    whole = masks.sum(axis=(1, 2))
    kept = np.where(whole > 0, left / np.maximum(whole, 1), 1.0)  # a part of a mask: its IoU is its share
    row = int(kept.argmin())
    return row, float(kept[row])
