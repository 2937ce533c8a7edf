"""`Sam`: the network of segment_anything, which is called with a list of prepared images and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import device as TorchDevice
from torch.nn.functional import pad

from masklet.models.heads.mask_selection import select_masks
from masklet.models.sam1 import SAM1, SAM1Config
from masklet.models.types import PIXEL_MEAN, PIXEL_STD, PromptTensors
from masklet.transforms import ImageTransform

__all__ = ["Sam"]

CELL = 16
"""Pixels of the network's input per cell of its features."""


class Sam(SAM1):
    """A `SAM1` with the names and the call of segment_anything.

    Example:
        >>> sam = sam_model_registry["vit_b"](checkpoint="sam_b.pt")  # doctest: +SKIP
        >>> resize = ResizeLongestSide(sam.image_encoder.img_size)  # doctest: +SKIP
        >>> image = torch.as_tensor(resize.apply_image(rgb)).permute(2, 0, 1)  # doctest: +SKIP
        >>> boxes = resize.apply_boxes_torch(torch.tensor([[75, 275, 1725, 850]]), rgb.shape[:2])  # doctest: +SKIP
        >>> prepared = [{"image": image, "boxes": boxes, "original_size": rgb.shape[:2]}]  # doctest: +SKIP
        >>> sam(prepared, multimask_output=False)[0]["masks"].shape  # doctest: +SKIP
        torch.Size([1, 1, 1200, 1800])
    """

    mask_threshold = 0.0
    image_format = "RGB"

    def __init__(self, config: SAM1Config) -> None:
        super().__init__(config)
        side: Any = config.image_size
        self.image_encoder.img_size = side
        names: dict[str, Any] = {"embed_dim": config.width, "image_embedding_size": (side // CELL, side // CELL)}
        for name, value in names.items():
            setattr(self.prompt_encoder, name, value)

    @property
    def device(self) -> TorchDevice:
        """Where the network is."""
        return next(self.parameters()).device

    @torch.no_grad()
    def forward(self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """Segment the prompted objects of several images.

        Each is a dictionary with `image` (3, h, w), RGB 0..255 whose longer side is that of the network's input,
        `original_size` (height, width), and of N objects `point_coords` (N, P, 2) with `point_labels` (N, P), `boxes`
        (N, 4) and `mask_inputs` (N, 1, 256, 256); points and boxes are in pixels of `image`.

        Returns:
            For each image `masks` (N, C, H, W) bool, `iou_predictions` (N, C) and `low_res_logits` (N, C, 256, 256).
        """
        return [self._segment(record, multimask_output) for record in batched_input]

    def _segment(self, record: Mapping[str, Any], multimask: bool) -> dict[str, Tensor]:
        side, image_3HW = self.still_image_size, record["image"].float()
        mean_311, std_311 = (255 * torch.tensor(v, device=self.device)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
        around = (0, side - image_3HW.shape[2], 0, side - image_3HW.shape[1])
        features = self.encode_image(pad((image_3HW - mean_311) / std_311, around)[None])
        prompts = _prompt_tensors(record, self.device)
        rows = torch.zeros(len(prompts.points_BN2), dtype=torch.long, device=self.device)
        found = select_masks(
            self.decode(features.index_select(rows), prompts), multimask, threshold=self.stability_threshold
        )
        height, width = record["original_size"][:2]
        transform = ImageTransform((int(height), int(width)), side, keep_aspect_ratio=True)
        return {
            "masks": transform.upsample_logits(found.logits_BKHW) > self.mask_threshold,
            "iou_predictions": found.iou_BK,
            "low_res_logits": found.logits_BKHW,
        }


def _prompt_tensors(record: Mapping[str, Any], device: TorchDevice) -> PromptTensors:
    """Return the prompts of one image; corners of a box come before points."""
    coords, labels = [], []
    if record.get("boxes") is not None:
        corners_N22 = record["boxes"].float().reshape(-1, 2, 2)
        coords.append(corners_N22)
        labels.append(torch.tensor([[2, 3]], device=device).expand(len(corners_N22), 2))
    if record.get("point_coords") is not None:
        coords.append(record["point_coords"].float())
        labels.append(record["point_labels"].long())
    mask = record.get("mask_inputs")
    if not coords:
        count = 1 if mask is None else len(mask)
        coords, labels = [torch.zeros(count, 0, 2, device=device)], [torch.zeros(count, 0, device=device).long()]
    return PromptTensors(torch.cat(coords, 1), torch.cat(labels, 1), mask)
