"""From logits at low resolution to masks at the image's size, and what is measured there.

Nothing is estimated: every pixel that could be inside is made, a strip of rows at a time, which stays in the
processor's cache until it is counted; where all logits around are too low, no pixel can be inside. Whole masks are made
only of what is left in the end.

Boxes here are those of the published generator: xyxy of the first and the last pixel of a mask, both inclusive.
Shapes: N candidates, H and W of the image, h and w of low-resolution logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from masklet.transforms import ImageTransform

__all__ = ["MaskStats", "MaskUpsampler"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
STRIP_ROWS = 64
"""Rows of a strip."""


@dataclass(frozen=True)
class MaskStats:
    """What is known of candidates at the image's size."""

    stability_N: Floats
    """Share of the mask at the lower threshold that stays at the higher one; not a number where both are empty."""
    boxes_N4: Floats
    """Inclusive; four zeros where the mask is empty."""


class MaskUpsampler:
    """Masks of one image.

    Example:
        >>> measured = Enlarger(fit, threshold=0.0, offset=1.0).measured(logits)
    """

    def __init__(self, transform: ImageTransform, threshold: float, offset: float) -> None:
        self.transform, self.threshold, self.offset = transform, threshold, offset
        self._axes: tuple[InterpolationAxis, InterpolationAxis] | None = None

    def measure(self, logits_NHW: Tensor) -> MaskStats:
        """Stability and box of every candidate."""
        found = [self._measure_mask(logits_HW) for logits_HW in logits_NHW.cpu()]
        stability = np.array([stability for stability, _ in found], np.float32)
        return MaskStats(stability, np.array([box for _, box in found], np.float32).reshape(-1, 4))

    def crop_mask(self, logits_HW: Tensor, box_4: Floats) -> Bools:
        """The mask in its box."""
        left, top, right, bottom = box_4.astype(int).tolist()
        rows, columns = self._get_axes(logits_HW)
        wide_hW = logits_HW.cpu() @ columns.weights_PC[left : right + 1].t()
        piece = np.empty((bottom + 1 - top, right + 1 - left), bool)
        for strip in row_strips(top, bottom + 1):
            piece[strip.start - top : strip.stop - top] = rows.interpolate_rows(strip, wide_hW) > self.threshold
        return piece

    def _measure_mask(self, logits_HW: Tensor) -> tuple[float, tuple[int, int, int, int]]:
        rows, columns = self._get_axes(logits_HW)
        hit_HW = logits_HW.numpy() > self.threshold - self.offset
        top, bottom = rows.pixel_range(np.asarray(hit_HW.any(axis=1)))
        left, right = columns.pixel_range(np.asarray(hit_HW.any(axis=0)))
        wide_hW = logits_HW @ columns.weights_PC[left:right].t()
        inner = outer = 0
        row_hits, column_hits = np.zeros(bottom - top, bool), np.zeros(right - left, bool)
        for strip in row_strips(top, bottom):
            pixels = rows.interpolate_rows(strip, wide_hW)
            outer += int(np.count_nonzero(pixels > self.threshold - self.offset))
            inner += int(np.count_nonzero(pixels > self.threshold + self.offset))
            inside = pixels > self.threshold
            row_hits[strip.start - top : strip.stop - top] = inside.any(axis=1)
            column_hits |= inside.any(axis=0)
        return inner / outer if outer else float("nan"), _box(row_hits, column_hits, top, left)

    def _get_axes(self, logits_HW: Tensor) -> tuple[InterpolationAxis, InterpolationAxis]:
        if self._axes is None:
            rows, columns = self.transform.interpolation_weights(logits_HW.shape[-1])
            self._axes = InterpolationAxis(rows), InterpolationAxis(columns)
        return self._axes


class InterpolationAxis:
    """How pixels along one axis are mixed from low-resolution cells: few for each, and they follow each other."""

    def __init__(self, weights_PC: Tensor) -> None:
        self.weights_PC = weights_PC
        used = weights_PC.numpy() > 0
        self.first_C, self.end_C = _true_spans(used.T)
        self.first_P, self.end_P = _true_spans(used)

    def pixel_range(self, hit_C: Bools) -> tuple[int, int]:
        """First and last + 1 pixel that has a share of a cell that was hit."""
        cells = np.flatnonzero(hit_C & (self.end_C > 0))
        return (int(self.first_C[cells].min()), int(self.end_C[cells].max())) if len(cells) else (0, 0)

    def interpolate_rows(self, strip: slice, cells_CW: Tensor) -> Floats:
        """(len(strip), W): pixels of a strip."""
        low, high = int(self.first_P[strip.start]), int(self.end_P[strip.stop - 1])
        pixels: Floats = (self.weights_PC[strip, low:high] @ cells_CW[low:high]).numpy()
        return pixels


def row_strips(start: int, stop: int) -> list[slice]:
    """Rows from `start` to `stop`, a few at a time."""
    return [slice(row, min(row + STRIP_ROWS, stop)) for row in range(start, stop, STRIP_ROWS)]


def _true_spans(used: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and last + 1 true index of each row; 0 and 0 where there is none."""
    first = used.argmax(axis=1)
    return first, (used.shape[1] - used[:, ::-1].argmax(axis=1)) * used.any(axis=1)


def _box(row_hits: Bools, column_hits: Bools, top: int, left: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(row_hits), np.flatnonzero(column_hits)
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]) + left, int(rows[0]) + top, int(columns[-1]) + left, int(rows[-1]) + top
