"""`SamOnnxModel`: prompts and masks of SAM as one module that `torch.onnx.export` takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from masklet.compat.segment_anything.sam_network import Sam
from masklet.models.heads.mask_selection import stability_score
from masklet.models.types import ImageFeatures, PromptTensors

__all__ = ["SamOnnxModel"]

STABILITY_OFFSET = 1.0
SINGLE_MASK_POINTS = 2.5
"""Tokens of a prompt, padding included, from which the single mask is taken, and not the best of three."""
PREFERENCE = 1000.0
"""Added to the score of the single mask for each token more, and subtracted for each token less."""


class SamOnnxModel(nn.Module):
    """Decode prompts about an image that was encoded before.

    With `return_single_mask` one mask is chosen: that of an unambiguous prompt, or the best of three for a single
    click. With `return_extra_metrics` stability scores and areas are returned too, with `use_stability_score` they are
    the scores.

    Example:
        >>> onnx_model = SamOnnxModel(sam, return_single_mask=True)  # doctest: +SKIP
        >>> torch.onnx.export(onnx_model, tuple(dummy_inputs.values()), "sam.onnx", dynamo=False)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.return_extra_metrics = return_extra_metrics

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> Any:
        """Decode points (1, P, 2) with labels (1, P): 1 on the object, 0 off it, 2 and 3 corners of a box, -1 padding.

        `mask_input` (1, 1, h, w) counts where `has_mask_input` (1,) is 1. `orig_im_size` (2,) is (height, width).

        Returns:
            Logits (1, C, H, W), scores (1, C), with `return_extra_metrics` stability scores and areas (1, C), and
            low-resolution logits (1, C, h, w). C is 1 with `return_single_mask`, else 4.
        """
        encoder = self.model.prompt_encoder
        height, width = image_embeddings.shape[-2:]
        sparse = encoder.encode_points(PromptTensors(point_coords, point_labels), height, width, pads=False)
        without_mask = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = has_mask_input * encoder.mask_downscaling(mask_input) + (1 - has_mask_input) * without_mask
        position = encoder.pe_layer.grid(height, width)
        prediction = self.model.mask_decoder(ImageFeatures(image_embeddings), position, sparse, dense)
        masks, scores = prediction.logits_BKHW, prediction.iou_BK
        if self.use_stability_score:
            scores = stability_score(masks, STABILITY_OFFSET)
        if self.return_single_mask:
            tokens = torch.ones_like(point_labels).sum(1, keepdim=True)
            preference = torch.tensor([[PREFERENCE, 0, 0, 0]], device=scores.device)
            best = (scores + (tokens - SINGLE_MASK_POINTS) * preference).argmax(1)
            rows = torch.arange(masks.shape[0])
            masks, scores = masks[rows, best][:, None], scores[rows, best][:, None]
        upscaled = self._upscale(masks, orig_im_size)
        if self.return_extra_metrics:
            areas = (upscaled > self.model.mask_threshold).sum((-1, -2))
            return upscaled, scores, stability_score(upscaled, STABILITY_OFFSET), areas, masks
        return upscaled, scores, masks

    def _upscale(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        """Scale logits of the padded input to an image of `orig_im_size`, which an exported graph takes as an input."""
        side = self.model.still_image_size
        scaled = interpolate(masks, (side, side), mode="bilinear", align_corners=False)
        size = orig_im_size.to(torch.float32)
        rows_columns = torch.floor(size * (side / size.max()) + 0.5).to(torch.int64)
        valid = scaled[..., : rows_columns[0], : rows_columns[1]]
        height, width = orig_im_size.to(torch.int64)
        return interpolate(valid, (height, width), mode="bilinear", align_corners=False)
