"""`SamAutomaticMaskGenerator` with the options and records of segment_anything."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from masklet.compat.prompted_image import published_records
from masklet.compat.segment_anything.predictor import SamPredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.models.sam1 import SAM1

__all__ = ["SamAutomaticMaskGenerator"]


class SamAutomaticMaskGenerator:
    """Segment everything in an image; `options` are `masklet.image.automatic_mask_generator.MaskGeneratorOptions`.

    Example:
        >>> generator = SamAutomaticMaskGenerator(sam_model_registry["vit_b"](checkpoint="sam_b.pt"))  # doctest: +SKIP
        >>> records = generator.generate(rgb)  # doctest: +SKIP

    Raises:
        InputError: if an option is invalid.
    """

    def __init__(
        self,
        model: SAM1,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[npt.NDArray[np.floating[Any]]] | None = None,
        min_mask_region_area: float = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        self.predictor = SamPredictor(model)
        self.options = MaskGeneratorOptions(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=math.ceil(min_mask_region_area),
            output_mode=output_mode,  # type: ignore[arg-type]  # checked there
        )

    def generate(self, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Segment everything in (H, W, 3) RGB uint8: one record per mask, with the published keys.

        Raises:
            InputError: if shape or type of the image is different.
        """
        return published_records(generate_masks(self.predictor.native, image, self.options), whole_numbers=True)
