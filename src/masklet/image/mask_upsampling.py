"""Upsample low-resolution logits to masks at the image's size, and measure them there.

Nothing is estimated. Every pixel that could be inside is computed, one strip of rows at a time, which stays in the
processor's cache until it is counted; where all logits around are too low, no pixel can be inside. Complete masks are
computed only for the candidates that remain.

Boxes here are those of the published generator: xyxy of the first and the last pixel of a mask, both inclusive.
Shapes: N candidates, H and W of the image, h and w of low-resolution logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from masklet.cpu_threads import adapt_threads
from masklet.masks.ops import true_spans
from masklet.tensors import Tensor
from masklet.transforms import ImageTransform

__all__ = ["MaskStats", "MaskUpsampler"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
STRIP_ROWS = 64
"""Rows per strip."""


@dataclass(frozen=True)
class MaskStats:
    """Stability and boxes of candidates at the image's size."""

    stability_N: Floats
    """IoU of the masks at the higher and the lower threshold; NaN if both are empty."""
    boxes_N4: Floats
    """Both ends inclusive; four zeros for an empty mask."""


@dataclass(eq=False)
class MaskUpsampler:
    """Upsampling from low-resolution logits to masks of one image.

    Example:
        >>> stats = MaskUpsampler(transform, threshold=0.0, offset=1.0).measure(logits_NHW)
    """

    transform: ImageTransform
    threshold: float
    offset: float
    _axes: tuple[InterpolationAxis, InterpolationAxis] | None = field(default=None, init=False)

    def measure(self, logits_NHW: Tensor) -> MaskStats:
        """Compute stability and box of every candidate."""
        stability, boxes = [], []
        for logits_hw in logits_NHW.cpu():
            adapt_threads()
            rows, columns = self._get_axes(logits_hw)
            hit_hw = logits_hw.numpy() > self.threshold - self.offset
            top, bottom = rows.pixel_range(np.asarray(hit_hw.any(axis=1)))
            left, right = columns.pixel_range(np.asarray(hit_hw.any(axis=0)))
            wide_hW = logits_hw @ columns.weights_PC[left:right].t()
            inner = outer = 0
            row_hits, column_hits = np.zeros(bottom - top, bool), np.zeros(right - left, bool)
            for strip, pixels in rows.interpolate_strips(top, bottom, wide_hW):
                outer += int(np.count_nonzero(pixels > self.threshold - self.offset))
                inner += int(np.count_nonzero(pixels > self.threshold + self.offset))
                inside = pixels > self.threshold
                row_hits[strip.start - top : strip.stop - top] = inside.any(axis=1)
                column_hits |= inside.any(axis=0)
            stability.append(inner / outer if outer else float("nan"))
            y, x = np.flatnonzero(row_hits) + top, np.flatnonzero(column_hits) + left
            boxes.append((x[0], y[0], x[-1], y[-1]) if len(y) else (0, 0, 0, 0))
        return MaskStats(np.array(stability, np.float32), np.array(boxes, np.float32).reshape(-1, 4))

    def crop_mask(self, logits_hw: Tensor, box_4: Floats) -> Bools:
        """Compute one mask, cropped to its box."""
        left, top, right, bottom = box_4.astype(int).tolist()
        rows, columns = self._get_axes(logits_hw)
        wide_hW = logits_hw.cpu() @ columns.weights_PC[left : right + 1].t()
        mask = np.empty((bottom + 1 - top, right + 1 - left), bool)
        for strip, pixels in rows.interpolate_strips(top, bottom + 1, wide_hW):
            mask[strip.start - top : strip.stop - top] = pixels > self.threshold
        return mask

    def _get_axes(self, logits_hw: Tensor) -> tuple[InterpolationAxis, InterpolationAxis]:
        if self._axes is None:
            rows, columns = self.transform.interpolation_weights(logits_hw.shape[-1])
            self._axes = InterpolationAxis(rows), InterpolationAxis(columns)
        return self._axes


class InterpolationAxis:
    """Interpolation along one axis: each of P pixels is a mixture of a few successive cells of C."""

    def __init__(self, weights_PC: Tensor) -> None:
        self.weights_PC = weights_PC
        used = weights_PC.numpy() > 0
        self.first_C, self.end_C = true_spans(used.T)
        self.first_P, self.end_P = true_spans(used)

    def pixel_range(self, hit_C: Bools) -> tuple[int, int]:
        """Return the first and the last + 1 pixel that depends on a cell in `hit_C`."""
        cells = np.flatnonzero(hit_C & (self.end_C > 0))
        return (int(self.first_C[cells].min()), int(self.end_C[cells].max())) if len(cells) else (0, 0)

    def interpolate_strips(self, start: int, stop: int, cells_CW: Tensor) -> Iterator[tuple[slice, Floats]]:
        """Interpolate the rows from `start` to `stop`, strip by strip; yields each strip and its pixels (rows, W)."""
        for row in range(start, stop, STRIP_ROWS):
            strip = slice(row, min(row + STRIP_ROWS, stop))
            low, high = int(self.first_P[strip.start]), int(self.end_P[strip.stop - 1])
            yield strip, (self.weights_PC[strip, low:high] @ cells_CW[low:high]).numpy()
