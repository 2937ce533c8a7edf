"""Everything that was found in an image, compactly; arrays and `Results` are made when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from masklet.image.amg_options import MaskGeneratorOptions, OutputMode
from masklet.masks import rle
from masklet.masks.rle import Rle
from masklet.results import Masks, Results

__all__ = ["GeneratedMasks", "MaskAnnotation", "UncompressedRle"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class UncompressedRle(TypedDict):
    """A run-length code with its runs as numbers: down the columns, background first."""

    size: list[int]
    counts: list[int]


class MaskAnnotation(TypedDict):
    """One mask as the published generator describes it; boxes are xywh, original pixels."""

    segmentation: Bools | Rle | UncompressedRle
    area: int
    bbox: list[float]
    predicted_iou: float
    point_coords: list[list[float]]
    stability_score: float
    crop_box: list[float]


@dataclass(frozen=True, eq=False, repr=False)
class GeneratedMasks:
    """N masks of one image of `size` (height, width).

    Example:
        >>> found = segment_everything(predictor, rgb)
        >>> len(found), found.coverage
        >>> found.masks.shape
        (57, 480, 640)
        >>> found.results(rgb, "dog.jpg").save("dog_everything.png")
    """

    size: tuple[int, int]
    rles: tuple[Rle, ...]
    """COCO run-length codes, lossless."""
    xyxy: Floats
    """(N, 4): the tight box of each mask, original pixels, right and bottom exclusive."""
    areas: npt.NDArray[np.int64]
    """(N,): pixels of each mask."""
    predicted_ious: Floats
    """(N,): what the network thinks of each mask, 0 to 1."""
    stability_scores: Floats
    """(N,): how little each mask changes when its threshold is moved, 0 to 1."""
    points: Floats
    """(N, 2): the point that was asked, xy, original pixels."""
    crop_boxes: Floats
    """(N, 4): the crop it was asked in, xyxy, original pixels."""
    coverage: float
    """Share of the image's pixels that lie in a mask, 0 to 1."""
    points_prompted: int
    """Points that were asked."""
    options: MaskGeneratorOptions = field(default_factory=MaskGeneratorOptions)

    def __len__(self) -> int:
        return len(self.rles)

    def __repr__(self) -> str:
        height, width = self.size
        return f"Everything({len(self)} masks in {width}x{height} pixels, {self.coverage:.0%} covered)"

    @cached_property
    def masks(self) -> Bools:
        """(N, H, W) bool, made when it is first asked for."""
        masks = np.zeros((len(self), *self.size), bool)
        for i, code in enumerate(self.rles):
            masks[i] = rle.decode(code)
        return masks

    def to_results(self, rgb: npt.NDArray[np.uint8], path: str = "", speed: dict[str, float] | None = None) -> Results:
        """As a `Results` of the image `rgb`; the scores are the predicted IoUs, the ids 0, 1, ... in order.

        Example:
            >>> found.results(rgb, "dog.jpg").boxes.xyxy
        """
        return Results(rgb, path, Masks(self.masks), self.predicted_ious, speed=speed or {})

    def to_annotations(self, output_mode: OutputMode | None = None) -> list[MaskAnnotation]:
        """A mapping a mask, with the published names; `output_mode` None: as in the options.

        Example:
            >>> found.records("coco_rle")[0]["segmentation"]["size"]
            [480, 640]
        """
        mode = output_mode or self.options.output_mode
        return [self._annotation(i, mode) for i in range(len(self))]

    def _annotation(self, i: int, mode: OutputMode) -> MaskAnnotation:
        return {
            "segmentation": self._segmentation(i, mode),
            "area": int(self.areas[i]),
            "bbox": _xywh(self.xyxy[i]),
            "predicted_iou": float(self.predicted_ious[i]),
            "point_coords": [self.points[i].tolist()],
            "stability_score": float(self.stability_scores[i]),
            "crop_box": _xywh(self.crop_boxes[i]),
        }

    def _segmentation(self, i: int, mode: OutputMode) -> Bools | Rle | UncompressedRle:
        if mode == "coco_rle":
            return self.rles[i]
        return (
            self.masks[i]
            if mode == "binary_mask"
            else {"size": list(self.size), "counts": rle.run_lengths(self.rles[i])}
        )


def _xywh(xyxy_4: Floats) -> list[float]:
    left, top, right, bottom = xyxy_4.tolist()
    return [left, top, right - left, bottom - top]
