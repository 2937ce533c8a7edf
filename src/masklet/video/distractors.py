"""Notice frames on which something similar stands beside an object: they tell the two apart later.

The three candidate masks of a frame usually agree. Where one of them reaches over to something else, that is what the
object could be confused with, and the frame is an anchor if the chosen mask is sure.
Shapes: K candidates, H and W at stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from masklet.masks.ops import box_iou, masks_to_boxes

__all__ = ["AnchorRule", "distractor_agreement"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AnchorRule:
    """When a frame becomes an anchor: a sure mask of the usual size, with something similar beside it."""

    min_iou: float = 0.8
    """Predicted IoU that the mask has to exceed."""
    area_tolerance: float = 0.2
    """Fraction by which its area may differ from the median of this area and those of the frames before."""
    areas: int = 10
    """Areas, at most, of which the median is taken."""
    min_distance: int = 5
    """It has to lie more than this many frames after the last anchor."""
    max_agreement: float = 0.7
    """`distractor_agreement` up to which something similar is in view."""

    def is_anchor(
        self, mask_HW: Mask, iou: float, candidates_KHW: Mask, areas: Sequence[int], distance: int | None
    ) -> bool:
        """Whether a frame is an anchor.

        `areas` are those of the frames tracked before, the nearest first, 0 where it was not visible; the first tracked
        frame is no anchor. `distance` is that to the nearest anchor before (None: there is none).
        """
        area = int(mask_HW.sum())
        if not area or not areas or iou <= self.min_iou or (distance is not None and distance <= self.min_distance):
            return False
        usual = float(np.median([area, *(each for each in areas if each)][: self.areas]))
        if abs(area - usual) > self.area_tolerance * usual:
            return False
        return distractor_agreement(mask_HW, candidates_KHW) <= self.max_agreement


def distractor_agreement(mask_HW: Mask, candidates_KHW: Mask) -> float:
    """Return how little other candidates reach beyond a mask: the smallest IoU of its box with a box around both.

    Of what a candidate has beside the mask, the largest connected part counts. 1: no candidate reaches beyond.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:4, 0:4] = True
        >>> other = mask.copy()
        >>> other[2:4, 6:8] = True
        >>> distractor_agreement(mask, other[None])
        0.5
    """
    [box_4] = masks_to_boxes(mask_HW[None])
    lowest = 1.0
    for candidate_HW in candidates_KHW:
        _, labels_HW, stats, _ = cv2.connectedComponentsWithStats((candidate_HW & ~mask_HW).astype(np.uint8))
        if len(stats) < 2:
            continue
        largest_HW = labels_HW == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        lowest = min(lowest, box_iou(box_4, masks_to_boxes((mask_HW | largest_HW)[None])[0]))
    return lowest
