"""What the layouts of drawing tools have in common: an object is a mask, outlines, or both, tied together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from masklet.layouts.base import NO_PIXEL, LayoutWriter, Written
from masklet.layouts.journal import Record
from masklet.layouts.tracing import trace, window_of
from masklet.masks.polygons import Ring

__all__ = ["ShapeLayout", "Window"]

Bools = npt.NDArray[np.bool_]
Window = tuple[Bools, int, int]
"""What is in the tight box of a mask, and the box's left and top."""


class ShapeLayout(LayoutWriter):
    """Writes shapes: "rle" a mask, "polygon" outlines that keep `min_iou`, "both" a mask and exact outlines."""

    def _asked(self) -> Record:
        shape = self.options.segmentation
        promised = self.options.min_iou if shape == "polygon" else None
        return {**super()._asked(), "segmentation": shape, "min_iou": promised}

    def _drawn(self, mask: Bools, written: Written) -> tuple[list[Window], tuple[Ring, ...]]:
        """The mask (H, W) as a shape, if it is to be one, and its outlines; none of either without any pixel.

        How much of the mask they keep is noted in `written`.
        """
        left, top, crop = window_of(mask)
        if not crop.size:
            written.ious.append(1.0)
            written.notes[NO_PIXEL] += 1
            return [], ()
        how = self.options.segmentation
        outline = None if how == "rle" else trace(mask, self.options.min_iou if how == "polygon" else 1.0)
        if outline is None:
            written.ious.append(1.0)
            return [(crop, left, top)], ()
        written.ious.append(outline.iou if how == "polygon" else 1.0)
        return [] if how == "polygon" else [(crop, left, top)], outline.rings
