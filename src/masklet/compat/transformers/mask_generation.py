"""`pipeline("mask-generation")`: everything in an image, with the options and the answer of transformers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import pad

from masklet.compat.transformers.auto_model import AutoModel
from masklet.compat.transformers.pixel_values import to_pixel_values
from masklet.compat.transformers.promptable_model import PretrainedModel
from masklet.errors import InputError
from masklet.image import ImagePredictor
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks
from masklet.media import open_images
from masklet.runtime import DeviceLike

__all__ = ["MaskGenerationPipeline", "pipeline"]

TASK = "mask-generation"
OPTION_NAMES: Mapping[str, str] = {
    "points_per_batch": "points_per_batch",
    "points_per_crop": "points_per_side",
    "crops_n_layers": "crop_n_layers",
    "crop_overlap_ratio": "crop_overlap_ratio",
    "crop_n_points_downscale_factor": "crop_n_points_downscale_factor",
    "pred_iou_thresh": "pred_iou_thresh",
    "stability_score_thresh": "stability_score_thresh",
    "stability_score_offset": "stability_score_offset",
    "mask_threshold": "mask_threshold",
    "crops_nms_thresh": "box_nms_thresh",
}
"""Options of transformers, and their names in `MaskGeneratorOptions`."""


class BytesPredictor(ImagePredictor):
    """An `ImagePredictor` whose images are resized as transformers does."""

    def set_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Encode an RGB image (H, W, 3) uint8."""
        transform = self._image_transform((rgb.shape[0], rgb.shape[1]))
        (height, width), side = transform.valid_size, self.model.still_image_size
        pixels = pad(to_pixel_values(rgb, (height, width)), (0, side - width, 0, side - height))
        self._set_preprocessed(pixels, transform.original_size)


class MaskGenerationPipeline:
    """Segment everything in images; `model` is a `SamModel`, `Sam2Model` or `EdgeTamModel`.

    Example:
        >>> generator = pipeline("mask-generation", model="facebook/sam2.1-hiera-tiny")  # doctest: +SKIP
        >>> outputs = generator("truck.jpg", points_per_batch=64)  # doctest: +SKIP
        >>> len(outputs["masks"]), outputs["scores"].shape  # doctest: +SKIP
        (39, torch.Size([39]))
    """

    def __init__(self, model: PretrainedModel, **options: Any) -> None:
        self.model, self.options = model, options
        self.predictor = BytesPredictor(model.network, model.device)

    def __call__(self, image: Any, **options: Any) -> Any:
        """Segment everything in an image, or in each of a list: a dictionary, or a list of them.

        Options are `points_per_batch`, `points_per_crop`, `crops_n_layers`, `crop_overlap_ratio`,
        `crop_n_points_downscale_factor`, `pred_iou_thresh`, `stability_score_thresh`, `stability_score_offset`,
        `mask_threshold`, `crops_nms_thresh`, `output_rle_mask` and `output_bboxes_mask`.

        Returns:
            `masks`, a list of bool tensors (H, W), `scores` (N,), and if wanted `rle_mask` with `size` and `counts` of
            columns, and `bounding_boxes` (N, 4), left, top, right and bottom of the outermost pixels.

        Raises:
            InputError: if an option is unknown, invalid, or not possible here.
            SourceError: if an image cannot be read.
        """
        wanted = {**self.options, **options}
        with_rle, with_boxes = wanted.pop("output_rle_mask", False), wanted.pop("output_bboxes_mask", False)
        unknown = [name for name in wanted if name not in OPTION_NAMES]
        if unknown:
            raise InputError(f"{', '.join(unknown)} is not possible here; there are {', '.join(OPTION_NAMES)}")
        given = {"pred_iou_thresh": 0.88, **{OPTION_NAMES[name]: value for name, value in wanted.items()}}
        generator_options = MaskGeneratorOptions(**given)
        found = [
            self._generate(one.rgb, generator_options, with_rle=with_rle, with_boxes=with_boxes)
            for one in open_images(image)
        ]
        return found if isinstance(image, (list, tuple)) else found[0]

    def _generate(
        self, rgb: npt.NDArray[np.uint8], options: MaskGeneratorOptions, *, with_rle: bool, with_boxes: bool
    ) -> dict[str, Any]:
        generated = generate_masks(self.predictor, rgb, options)
        output: dict[str, Any] = {
            "masks": [torch.from_numpy(mask) for mask in generated.masks],
            "scores": torch.from_numpy(generated.predicted_ious).float(),
        }
        if with_rle:
            output["rle_mask"] = [one["segmentation"] for one in generated.to_annotations("uncompressed_rle")]
        if with_boxes:
            output["bounding_boxes"] = torch.from_numpy(generated.xyxy).long() - torch.tensor([0, 0, 1, 1])
        return output


def pipeline(
    task: str | None = None,
    model: str | os.PathLike[str] | PretrainedModel = "facebook/sam-vit-huge",
    *,
    device: DeviceLike | None = None,
    device_map: DeviceLike | None = None,
    **options: Any,
) -> MaskGenerationPipeline:
    """Make the pipeline of a task, which is "mask-generation"; `options` are those of its calls.

    Raises:
        InputError: if it is another task.
        UnknownModelError, DownloadError, CheckpointError: if the model cannot be opened.
    """
    if task != TASK:
        raise InputError(
            f"task={task!r:.40} is not possible here; {TASK!r} is, and masklet.detect.open_detector opens detectors"
        )
    if not isinstance(model, PretrainedModel):
        where = device_map if device is None else device
        model = AutoModel.from_pretrained(model, device_map="cpu" if where is None else where)
    return MaskGenerationPipeline(model, **options)
