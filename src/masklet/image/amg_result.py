"""The result of the automatic mask generator: run-length codes, converted to arrays or `Results` on demand."""

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
    """A run-length code with its runs as integers: down the columns, background first."""

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
        >>> generated = generate_masks(predictor, rgb)
        >>> generated.masks.shape
        (57, 480, 640)
        >>> generated.to_results(rgb, "dog.jpg").save("dog_masks.png")
    """

    size: tuple[int, int]
    rles: tuple[Rle, ...]
    """COCO run-length codes, lossless."""
    xyxy: Floats
    """(N, 4): the tight box of each mask, original pixels, right and bottom exclusive."""
    areas: npt.NDArray[np.int64]
    """(N,): pixels of each mask."""
    predicted_ious: Floats
    """(N,): predicted IoU of each mask, 0 to 1."""
    stability_scores: Floats
    """(N,): IoU of each mask at a higher and a lower threshold, 0 to 1."""
    points: Floats
    """(N, 2): the point of each prompt, xy, original pixels."""
    crop_boxes: Floats
    """(N, 4): the crop of each prompt, xyxy, original pixels."""
    coverage: float
    """Fraction of the image's pixels that lie in a mask, 0 to 1."""
    points_prompted: int
    """Number of points prompted."""
    options: MaskGeneratorOptions = field(default_factory=MaskGeneratorOptions)

    def __len__(self) -> int:
        return len(self.rles)

    def __repr__(self) -> str:
        height, width = self.size
        return f"GeneratedMasks({len(self)} masks in {width}x{height} pixels, {self.coverage:.0%} covered)"

    @cached_property
    def masks(self) -> Bools:
        """All masks (N, H, W) bool, decoded on first access."""
        masks = np.zeros((len(self), *self.size), bool)
        for i, code in enumerate(self.rles):
            masks[i] = rle.decode(code)
        return masks

    def to_results(self, rgb: npt.NDArray[np.uint8], path: str = "", speed: dict[str, float] | None = None) -> Results:
        """Convert to a `Results` of the image `rgb`; scores are the predicted IoUs, ids are 0, 1, ... in order.

        Example:
            >>> generated.to_results(rgb, "dog.jpg").boxes.xyxy
        """
        return Results(rgb, path, Masks(self.masks), self.predicted_ious, speed=speed or {})

    def to_annotations(self, output_mode: OutputMode | None = None) -> list[MaskAnnotation]:
        """Convert to one dictionary per mask, with the published keys; `output_mode` None: as in the options.

        Example:
            >>> generated.to_annotations("coco_rle")[0]["segmentation"]["size"]
            [480, 640]
        """
        mode = output_mode or self.options.output_mode
        annotations: list[MaskAnnotation] = []
        for i, code in enumerate(self.rles):
            x1, y1, x2, y2 = self.xyxy[i].tolist()
            left, top, right, bottom = self.crop_boxes[i].tolist()
            segmentation: Bools | Rle | UncompressedRle = code
            if mode == "binary_mask":
                segmentation = self.masks[i]
            elif mode == "uncompressed_rle":
                segmentation = {"size": list(self.size), "counts": rle.run_lengths(code)}
            annotations.append(
                {
                    "segmentation": segmentation,
                    "area": int(self.areas[i]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "predicted_iou": float(self.predicted_ious[i]),
                    "point_coords": [self.points[i].tolist()],
                    "stability_score": float(self.stability_scores[i]),
                    "crop_box": [left, top, right - left, bottom - top],
                }
            )
        return annotations
