"""`SAM2AutomaticMaskGenerator` with the options and records of sam2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from masklet.compat.prompted_image import published_records
from masklet.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.models.sam2 import SAM2

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SAM2AutomaticMaskGenerator"]


class SAM2AutomaticMaskGenerator:
    """Segment everything in an image; `options` are `masklet.image.automatic_mask_generator.MaskGeneratorOptions`.

    Example:
        >>> generator = SAM2AutomaticMaskGenerator(build_sam2(config, checkpoint))  # doctest: +SKIP
        >>> sorted(generator.generate(rgb)[0])  # doctest: +SKIP
        ['area', 'bbox', 'crop_box', 'point_coords', 'predicted_iou', 'segmentation', 'stability_score']

    Raises:
        InputError: if an option is invalid.
    """

    def __init__(
        self,
        model: SAM2,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[npt.NDArray[np.floating[Any]]] | None = None,
        min_mask_region_area: float = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: object,
    ) -> None:
        self.predictor = SAM2ImagePredictor(model)
        self.options = MaskGeneratorOptions(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            mask_threshold=mask_threshold,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=math.ceil(min_mask_region_area),
            output_mode=output_mode,  # type: ignore[arg-type]  # checked there
            use_m2m=use_m2m,
            multimask_output=multimask_output,
        )

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> Self:
        """Open a model by its name on the hub; `kwargs` are options."""
        from masklet.compat.sam2.build_sam import build_sam2_hf

        return cls(build_sam2_hf(model_id), **kwargs)

    def generate(self, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Segment everything in (H, W, 3) RGB uint8: one record per mask, with the published keys.

        Raises:
            InputError: if shape or type of the image is different.
        """
        return published_records(generate_masks(self.predictor.native, image, self.options))
