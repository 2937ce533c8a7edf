"""The mask decoder: from features and prompts to four candidate masks, their predicted IoU and an object score.

Shapes: B objects, K candidates, T tokens, S = H W image tokens, C channels, H and W of the stride-16 map.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from masklet.models.heads.mask_selection import NUM_MASK_TOKENS, select_masks, stability_score
from masklet.models.heads.two_way_transformer import TwoWayTransformer
from masklet.models.types import ImageFeatures, MaskPrediction
from masklet.nn.layers import MLP, LayerNorm2d, MLPBlock

__all__ = ["NUM_MASK_TOKENS", "MaskDecoder", "MaskDecoderBase", "SAM1MaskDecoder", "select_masks", "stability_score"]


class MaskDecoderBase(nn.Module):
    """The common part of the mask decoders of SAM 1 and SAM 2; tensors are named as published."""

    transformer: TwoWayTransformer
    iou_token: nn.Embedding
    mask_tokens: nn.Embedding
    output_upscaling: nn.Sequential
    output_hypernetworks_mlps: nn.ModuleList
    iou_prediction_head: MLP

    output_token_names: tuple[str, ...]
    """The learned embeddings that precede every prompt's tokens, in their order."""

    def output_tokens(self) -> Tensor:
        """Return the learned tokens (T, C) that precede every prompt's tokens."""
        return torch.cat([self.get_parameter(f"{name}.weight") for name in self.output_token_names])

    def _attend(self, image_BCHW: Tensor, image_pos_1CHW: Tensor, sparse_BTC: Tensor) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer; return tokens (B, T, C) and image (B, C, H, W)."""
        tokens_BTC = torch.cat([self.output_tokens().expand(sparse_BTC.shape[0], -1, -1), sparse_BTC], dim=1)
        tokens, image_BSC = self.transformer(
            image_BCHW.flatten(2).transpose(1, 2),
            image_pos_1CHW.to(image_BCHW.dtype).flatten(2).transpose(1, 2),
            tokens_BTC,
        )
        return tokens, image_BSC.transpose(1, 2).reshape(image_BCHW.shape)

    def _predict_masks(
        self, mask_tokens_BKC: Tensor, image_BCHW: Tensor, high_res_features: tuple[Tensor, ...]
    ) -> Tensor:
        """Upscale the image to stride 4 and apply one kernel per mask token; returns (B, K, 4 H, 4 W)."""
        up1, norm, act1, up2, act2 = self.output_upscaling
        half = up1(image_BCHW)
        full = up2(act1(norm(half + high_res_features[0] if high_res_features else half)))
        detail = act2(full + high_res_features[1] if high_res_features else full)
        kernels = [mlp(mask_tokens_BKC[:, k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)]
        logits: Tensor = torch.stack(kernels, dim=1) @ detail.flatten(2)
        return logits.reshape(*logits.shape[:2], *detail.shape[-2:])


def _upscaling(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 4, 2, 2),
        LayerNorm2d(width // 4),
        nn.GELU(),
        nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
        nn.GELU(),
    )


class SAM1MaskDecoder(MaskDecoderBase):
    """The mask decoder of SAM 1: predicted IoU is not bounded, and objects count as present."""

    output_token_names = ("iou_token", "mask_tokens")

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width, heads, hidden, mlp=MLPBlock)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, width)
        self.output_upscaling = _upscaling(width)
        kernels = (MLP(width, width, width // 8, depth=3) for _ in range(NUM_MASK_TOKENS))
        self.output_hypernetworks_mlps = nn.ModuleList(kernels)
        self.iou_prediction_head = MLP(width, width, NUM_MASK_TOKENS, depth=3)

    def forward(
        self, features: ImageFeatures, image_pos_1CHW: Tensor, sparse_BTC: Tensor, dense_BCHW: Tensor
    ) -> MaskPrediction:
        """Decode all four candidates, K = 4."""
        tokens, image_BCHW = self._attend(features.embed_BCHW + dense_BCHW, image_pos_1CHW, sparse_BTC)
        masks_BKC = tokens[:, 1 : 1 + NUM_MASK_TOKENS]
        return MaskPrediction(
            self._predict_masks(masks_BKC, image_BCHW, ()),
            self.iou_prediction_head(tokens[:, 0]),
            tokens.new_full((tokens.shape[0], 1), math.inf),
            masks_BKC,
        )


class MaskDecoder(MaskDecoderBase):
    """The mask decoder of SAM 2: with an object score, and high-resolution features in the upscaling if any."""

    output_token_names = ("obj_score_token", "iou_token", "mask_tokens")

    iou_calibration: Tensor | None
    """Map (2, 2, knots) from predicted to expected IoU: of the single mask and of the three candidates, the predicted
    values in ascending order and the expected ones; None: predicted IoU is returned as it is."""

    def __init__(self, width: int, heads: int, hidden: int, iou_knots: int = 0, high_res_features: bool = True) -> None:
        super().__init__()
        self.register_buffer("iou_calibration", None)
        if iou_knots:  # the identity, until it is fitted
            self.iou_calibration = torch.linspace(0, 1, iou_knots).expand(2, 2, iou_knots).clone()
        self.transformer = TwoWayTransformer(width, heads, hidden)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = _upscaling(width)
        if high_res_features:
            self.conv_s0 = nn.Conv2d(width, width // 8, 1)
            self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        kernels = (MLP(width, width, width // 8, depth=3) for _ in range(NUM_MASK_TOKENS))
        self.output_hypernetworks_mlps = nn.ModuleList(kernels)
        self.iou_prediction_head = MLP(width, width, NUM_MASK_TOKENS, depth=3)
        self.pred_obj_score_head = MLP(width, width, 1, depth=3)

    def forward(
        self, features: ImageFeatures, image_pos_1CHW: Tensor, sparse_BTC: Tensor, dense_BCHW: Tensor
    ) -> MaskPrediction:
        """Decode all four candidates, K = 4."""
        tokens, image_BCHW = self._attend(features.embed_BCHW + dense_BCHW, image_pos_1CHW, sparse_BTC)
        score, iou, masks_BKC = tokens[:, 0], tokens[:, 1], tokens[:, 2 : 2 + NUM_MASK_TOKENS]
        return MaskPrediction(
            self._predict_masks(masks_BKC, image_BCHW, features.high_res_features),
            self.calibrate_iou(self.iou_prediction_head(iou)),
            self.pred_obj_score_head(score),
            masks_BKC,
        )

    def calibrate_iou(self, iou_logits_BK: Tensor) -> Tensor:
        """Return the IoU (B, K) that outputs of the IoU head mean, 0 to 1: their sigmoid, by the calibration if any.

        The calibration is linear between its knots, constant outside them, and strictly ascending between: the order of
        the three candidates stays. Training drops it, so that the head learns the IoU itself.
        """
        iou_BK = iou_logits_BK.sigmoid()
        if self.iou_calibration is None:
            return iou_BK
        knots_KN, values_KN = self.iou_calibration[[0] + [1] * (NUM_MASK_TOKENS - 1)].to(iou_BK).unbind(1)
        left, right = knots_KN[:, :-1], knots_KN[:, 1:]
        fraction_BKN = ((iou_BK[..., None] - left) / (right - left).clamp(min=1e-6)).clamp(0, 1)
        return values_KN[:, 0] + (fraction_BKN * values_KN.diff(dim=1)).sum(-1)
