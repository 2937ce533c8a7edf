"""From features and prompts to four candidate masks, their predicted IoU and, since SAM 2, the score of presence.

Shapes: B objects, K candidates, T tokens, C channels, H and W of the stride-16 map.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from masklet.models.heads.two_way_transformer import TwoWayTransformer, first_mlp
from masklet.models.types import ImageFeatures, MaskPrediction
from masklet.nn.layers import MLP, ChannelNorm

__all__ = ["CANDIDATES", "FirstMaskDecoder", "MaskDecoder", "MaskDecoderBase", "choose", "stability"]

CANDIDATES = 4
"""The mask for an unambiguous prompt, then three for an ambiguous one."""


class MaskDecoderBase(nn.Module):
    """What the mask decoders of SAM 1 and SAM 2 have in common; tensors are named as published."""

    transformer: TwoWayTransformer
    iou_token: nn.Embedding
    mask_tokens: nn.Embedding
    output_upscaling: nn.Sequential
    output_hypernetworks_mlps: nn.ModuleList
    iou_prediction_head: MLP

    def own_tokens(self) -> Tensor:
        """(T, C): tokens that every prompt is asked with."""
        raise NotImplementedError

    def _attend(self, places_BCHW: Tensor, place_pos_1CHW: Tensor, sparse_BTC: Tensor) -> tuple[Tensor, Tensor]:
        tokens_BTC = torch.cat([self.own_tokens().expand(len(sparse_BTC), -1, -1), sparse_BTC], dim=1)
        tokens, places_BSC = self.transformer(
            places_BCHW.flatten(2).transpose(1, 2),
            place_pos_1CHW.to(places_BCHW.dtype).flatten(2).transpose(1, 2),
            tokens_BTC,
        )
        return tokens, places_BSC.transpose(1, 2).reshape(places_BCHW.shape)

    def _masks(self, masks_BKC: Tensor, places_BCHW: Tensor, fine: tuple[Tensor, ...]) -> Tensor:
        up1, norm, act1, up2, act2 = self.output_upscaling
        half = up1(places_BCHW)
        full = up2(act1(norm(half + fine[0] if fine else half)))
        detail = act2(full + fine[1] if fine else full)
        kernels = [mlp(masks_BKC[:, k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)]
        logits: Tensor = torch.stack(kernels, dim=1) @ detail.flatten(2)
        return logits.reshape(*logits.shape[:2], *detail.shape[-2:])


def _upscaling(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(width, width // 4, 2, 2),
        ChannelNorm(width // 4),
        nn.GELU(),
        nn.ConvTranspose2d(width // 4, width // 8, 2, 2),
        nn.GELU(),
    )


def _kernels(width: int) -> nn.ModuleList:
    return nn.ModuleList(MLP(width, width, width // 8, depth=3) for _ in range(CANDIDATES))


class FirstMaskDecoder(MaskDecoderBase):
    """The mask decoder of SAM 1: predicted IoU is not bounded, and every object is held to be there."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width, heads, hidden, mlp=first_mlp)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(CANDIDATES, width)
        self.output_upscaling = _upscaling(width)
        self.output_hypernetworks_mlps = _kernels(width)
        self.iou_prediction_head = MLP(width, width, CANDIDATES, depth=3)

    def forward(
        self, features: ImageFeatures, place_pos_1CHW: Tensor, sparse_BTC: Tensor, dense_BCHW: Tensor
    ) -> MaskPrediction:
        """All four candidates, K = 4."""
        tokens, places_BCHW = self._attend(features.embed_BCHW + dense_BCHW, place_pos_1CHW, sparse_BTC)
        masks_BKC = tokens[:, 1 : 1 + CANDIDATES]
        return MaskPrediction(
            self._masks(masks_BKC, places_BCHW, ()),
            self.iou_prediction_head(tokens[:, 0]),
            tokens.new_full((len(tokens), 1), math.inf),
            masks_BKC,
        )

    def own_tokens(self) -> Tensor:
        """(T, C): tokens that every prompt is asked with."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])


class MaskDecoder(MaskDecoderBase):
    """The mask decoder of SAM 2: SAM's, with finer features on the way up and a score of presence."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width, heads, hidden)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(CANDIDATES, width)
        self.obj_score_token = nn.Embedding(1, width)
        self.output_upscaling = _upscaling(width)
        self.conv_s0 = nn.Conv2d(width, width // 8, 1)
        self.conv_s1 = nn.Conv2d(width, width // 4, 1)
        self.output_hypernetworks_mlps = _kernels(width)
        self.iou_prediction_head = MLP(width, width, CANDIDATES, depth=3)
        self.pred_obj_score_head = MLP(width, width, 1, depth=3)

    def forward(
        self, features: ImageFeatures, place_pos_1CHW: Tensor, sparse_BTC: Tensor, dense_BCHW: Tensor
    ) -> MaskPrediction:
        """All four candidates, K = 4."""
        tokens, places_BCHW = self._attend(features.embed_BCHW + dense_BCHW, place_pos_1CHW, sparse_BTC)
        score, iou, masks_BKC = tokens[:, 0], tokens[:, 1], tokens[:, 2 : 2 + CANDIDATES]
        return MaskPrediction(
            self._masks(masks_BKC, places_BCHW, features.fine),
            self.iou_prediction_head(iou).sigmoid(),
            self.pred_obj_score_head(score),
            masks_BKC,
        )

    def own_tokens(self) -> Tensor:
        """(T, C): tokens that every prompt is asked with."""
        return torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])


def stability(logits_BKHW: Tensor, delta: float) -> Tensor:
    """(B, K): how little a mask changes when its threshold moves by `delta` either way, 0 to 1."""
    inner = (logits_BKHW > delta).flatten(2).sum(-1).float()
    outer = (logits_BKHW > -delta).flatten(2).sum(-1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)


def choose(
    prediction: MaskPrediction, multimask: bool, *, delta: float = 0.05, threshold: float = 0.98
) -> MaskPrediction:
    """Three candidates (`multimask`), or one: the unambiguous mask, or the best of three where it is unstable.

    The one has the token of the unambiguous mask in both cases: that is what pointers were trained on.
    """
    if multimask:
        return prediction.slice(1, CANDIDATES)
    best_B = 1 + prediction.iou_BK[:, 1:].argmax(1)
    stable_B = stability(prediction.logits_BKHW[:, :1], delta)[:, 0] >= threshold
    chosen = prediction.pick(torch.where(stable_B, 0, best_B))
    return replace(chosen, tokens_BKC=prediction.tokens_BKC[:, :1])
