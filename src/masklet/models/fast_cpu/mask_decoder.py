"""The mask decoder on a tracked frame, which has no points: what does not depend on the image is computed once.

Transposed convolutions of two by two with stride two are linear layers whose outputs are the four cells. These stay
side by side to the end, so that maps are put in order only when the masks are there.
Shapes: B objects, K candidates, T tokens, S image tokens at stride 16, H and W their rows and columns, C channels,
N rows or outputs, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from masklet.models.heads.mask_decoder import NUM_MASK_TOKENS, MaskDecoder
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.models.sam2.model import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, empty_prompt
from masklet.nn.attention import Attention, merge_heads, split_heads
from masklet.nn.fused_ops import FusedLinear, has_fused_operators
from masklet.nn.layers import MLP, LayerNorm2d

__all__ = ["FastMaskDecoder"]


class FastMaskDecoder:
    """`SAM2.decode` with empty prompts, or masks as the only prompts, for a model with frozen weights.

    Example:
        >>> decode = FastMaskDecoder(model)
        >>> prediction = decode(conditioned)
    """

    def __init__(self, model: SAM2) -> None:
        self.model, self.fused = model, has_fused_operators(model.no_mem_embed)
        self._size: torch.Size | None = None
        self._cached_high_res_features: tuple[Tensor | None, tuple[Tensor, Tensor]] = (
            None,
            (torch.zeros(0), torch.zeros(0)),
        )
        """High-resolution features of an image that all objects share, and the same cell by cell."""
        if self.fused:
            decoder = model.sam_mask_decoder
            self.layers = [
                FusedTwoWayBlock(block) for block in decoder.transformer.layers if isinstance(block, TwoWayBlock)
            ]
            self.upscale, self.heads = FusedUpscaling(decoder), StackedHeads(decoder)

    def __call__(self, features: ImageFeatures, mask_B1HW: Tensor | None = None) -> MaskPrediction:
        """Decode all four candidates of B objects, one object at a time; masks are logits at stride 4."""
        count, size = len(features.embed_BCHW), features.embed_BCHW.shape[-2:]
        if not self.fused:
            return self.model.decode(features, empty_prompt(count, features.embed_BCHW.device, mask_B1HW))
        if size != self._size:
            self._prepare(size)
        dense_BSC = [self.dense_SC] * count
        if mask_B1HW is not None:
            prompts = self.model.sam_prompt_encoder
            added_BCS = prompts.mask_downscaling(mask_B1HW).flatten(2) - prompts.no_mask_embed.weight[..., None]
            dense_BSC = list(self.dense_SC + added_BCS.transpose(1, 2))
        objects = [self._decode_object(features, i, dense_BSC[i]) for i in range(count)]
        logits, iou, score, tokens = (torch.stack(part) for part in zip(*objects, strict=True))
        return MaskPrediction(logits, iou, score, tokens)

    def _prepare(self, size: torch.Size) -> None:
        """Compute what depends on the map size alone: tokens, and the maps that are added to an image."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        sparse_1TC, dense_1CHW = prompts(empty_prompt(1, torch.device("cpu")), *size)
        self.tokens_TC = torch.cat([decoder.output_tokens(), sparse_1TC[0]])
        self.dense_SC = dense_1CHW[0].flatten(1).t().contiguous()
        position_SC = prompts.pe_layer.grid(*size)[0].flatten(1).t().contiguous()
        for layer in self.layers:
            layer.prepare(position_SC, self.tokens_TC)
        self.final_attention = FusedCrossAttention(decoder.transformer.final_attn_token_to_image, None)
        self.final_attention.prepare(position_SC)
        self._size = size

    def _decode_object(
        self, features: ImageFeatures, index: int, dense_SC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (K, 4 H, 4 W), IoU (K,), score (1,) and tokens (K, C) of one object."""
        image_SC = features.embed_BCHW[index].flatten(1).t() + dense_SC
        tokens_TC = self.tokens_TC
        for layer in self.layers:
            tokens_TC, image_SC = layer(tokens_TC, image_SC)
        attended, _ = self.final_attention(tokens_TC + self.tokens_TC, image_SC)
        tokens_TC = self.model.sam_mask_decoder.transformer.norm_final_attn(tokens_TC + attended)
        score_1, iou_K, kernels_KC = self.heads(tokens_TC)
        fine = features.high_res_features
        if not fine:
            cells = None
        elif len(fine[0]) > 1 and fine[0].stride(0) != 0:
            cells = (_to_cells(fine[0][index], 1), _to_cells(fine[1][index], 2))
        else:  # an image that all objects share is put in order only once
            known = self._cached_high_res_features[0]
            if known is None or known.data_ptr() != fine[0].data_ptr() or known.shape[1:] != fine[0].shape[1:]:
                self._cached_high_res_features = (fine[0], (_to_cells(fine[0][0], 1), _to_cells(fine[1][0], 2)))
            cells = self._cached_high_res_features[1]
        logits_KHW = self.upscale(image_SC, cells, kernels_KC, features.embed_BCHW.shape)
        return logits_KHW, iou_K, score_1, tokens_TC[2 : 2 + NUM_MASK_TOKENS]


class FusedCrossAttention:
    """Attention from tokens to the image and, optionally, back, with all projections of the image in one product."""

    def __init__(self, token_to_image: Attention, image_to_token: Attention | None) -> None:
        self.token_to_image = token_to_image
        layers = [token_to_image.k_proj, token_to_image.v_proj] + (
            [] if image_to_token is None else [image_to_token.q_proj]
        )
        self.projections = layers
        self.weight = FusedLinear(torch.cat([layer.weight for layer in layers]), None)

    def prepare(self, position_SC: Tensor) -> None:
        """Compute the summand of positions and biases to keys, values and queries, for maps of one size."""
        summands = [linear(position_SC, layer.weight, layer.bias) for layer in self.projections]
        summands[1] = self.projections[1].bias.expand_as(summands[1])  # values have no position
        self.table_SN = torch.cat(summands, dim=1)

    def __call__(self, query_TC: Tensor, image_SC: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Attend from tokens (T, C) to the image.

        Returns also the keys, values and, if the image attends back, queries of the image; each (S, inner).
        """
        projected = self.weight.add_to(image_SC, self.table_SN).chunk(len(self.projections), dim=1)
        layer = self.token_to_image
        query = linear(query_TC, layer.q_proj.weight, layer.q_proj.bias)
        return _attention(query, projected[0], projected[1], layer), projected


class FusedTwoWayBlock:
    """`TwoWayBlock` for one object."""

    def __init__(self, block: TwoWayBlock) -> None:
        self.block = block
        self.cross_attention = FusedCrossAttention(block.cross_attn_token_to_image, block.cross_attn_image_to_token)

    def prepare(self, position_SC: Tensor, tokens_TC: Tensor) -> None:
        """Prepare for maps of one size and the initial tokens."""
        self.cross_attention.prepare(position_SC)
        self.token_pos_TC = tokens_TC
        self.initial_tokens_TC = self._self_attention(tokens_TC) if self.block.is_first else None

    def __call__(self, tokens_TC: Tensor, image_SC: Tensor) -> tuple[Tensor, Tensor]:
        """Update tokens (T, C) and image (S, C)."""
        block, token_pos_TC = self.block, self.token_pos_TC
        tokens_TC = self._self_attention(tokens_TC) if self.initial_tokens_TC is None else self.initial_tokens_TC
        attended_TC, projected = self.cross_attention(tokens_TC + token_pos_TC, image_SC)
        tokens_TC = block.norm2(tokens_TC + attended_TC)
        tokens_TC = block.norm3(tokens_TC + block.mlp(tokens_TC))
        back = block.cross_attn_image_to_token
        key_TC = linear(tokens_TC + token_pos_TC, back.k_proj.weight, back.k_proj.bias)
        value_TC = linear(tokens_TC, back.v_proj.weight, back.v_proj.bias)
        attended_SC = _attention(projected[2], key_TC, value_TC, back)
        return tokens_TC, block.norm4(attended_SC.add_(image_SC))

    def _self_attention(self, tokens_TC: Tensor) -> Tensor:
        attention = self.block.self_attn
        if self.block.is_first:  # the tokens are their own positions
            updated_TC = attention(*[tokens_TC[None]] * 3)[0]
        else:
            query_1TC = (tokens_TC + self.token_pos_TC)[None]
            updated_TC = tokens_TC + attention(query_1TC, query_1TC, tokens_TC[None])[0]
        out_TC: Tensor = self.block.norm1(updated_TC)
        return out_TC


class FusedUpscaling:
    """From the image to masks: two doublings with high-resolution features added, then a product with the kernels."""

    def __init__(self, decoder: MaskDecoder) -> None:
        first, norm, _, second, _ = decoder.output_upscaling.children()
        assert isinstance(norm, LayerNorm2d)
        doublings = []  # products whose outputs are the four cells of a token, row by row
        for layer in (first, second):
            assert isinstance(layer, nn.ConvTranspose2d)
            assert layer.bias is not None
            doublings.append(FusedLinear(layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4)))
        (self.first, self.second), self.norm = doublings, norm

    def __call__(
        self, image_SC: Tensor, high_res_features: tuple[Tensor, Tensor] | None, kernels_KC: Tensor, shape: torch.Size
    ) -> Tensor:
        """Return masks (K, 4 H, 4 W)."""
        channels, fine = self.norm.weight.shape, high_res_features
        x = (self.first(image_SC) if fine is None else self.first.add_to(image_SC, fine[0])).view(-1, *channels)
        x = gelu(layer_norm(x, channels, self.norm.weight, self.norm.bias, self.norm.eps))
        detail = gelu(self.second(x) if fine is None else self.second.add_to(x, fine[1])).view(-1, kernels_KC.shape[1])
        height, width = shape[-2:]
        logits = (kernels_KC @ detail.t()).view(-1, height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


class StackedHeads:
    """Object score, IoU and mask kernels: six small MLPs of three layers as one batched product."""

    def __init__(self, decoder: MaskDecoder) -> None:
        kernels = [mlp for mlp in decoder.output_hypernetworks_mlps if isinstance(mlp, MLP)]
        heads = [decoder.pred_obj_score_head, decoder.iou_prediction_head, *kernels]
        self.layers = []  # weights (N, I, O) and biases (N, 1, O) of N heads, narrower ones padded with zeros
        for i in range(3):
            layers = [layer for layer in (head.layers[i] for head in heads) if isinstance(layer, nn.Linear)]
            most = max(layer.out_features for layer in layers)
            weight = layers[0].weight.new_zeros(len(layers), layers[0].in_features, most)
            bias = weight.new_zeros(len(layers), 1, most)
            for n, layer in enumerate(layers):
                weight[n, :, : layer.out_features] = layer.weight.detach().t()
                bias[n, 0, : layer.out_features] = layer.bias.detach()
            self.layers.append((weight, bias))
        self.kernel_channels, self.calibrate_iou = kernels[0].layers[2].out_features, decoder.calibrate_iou

    def __call__(self, tokens_TC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return score (1,), IoU (K,) and kernels (K, C / 8), each from its token."""
        x = tokens_TC[: 2 + NUM_MASK_TOKENS, None]
        for i, (weight, bias) in enumerate(self.layers):
            x = torch.baddbmm(bias, x, weight)
            x = x.relu_() if i < 2 else x
        iou_K = self.calibrate_iou(x[1, :, :NUM_MASK_TOKENS])[0]
        return x[0, 0, :1], iou_K, x[2:, 0, : self.kernel_channels]


def _attention(query_TC: Tensor, key_SC: Tensor, value_SC: Tensor, attention: Attention) -> Tensor:
    q, k, v = (split_heads(x[None], attention.heads) for x in (query_TC, key_SC, value_SC))
    attended_1TC = merge_heads(scaled_dot_product_attention(q, k, v))
    return linear(attended_1TC[0], attention.out_proj.weight, attention.out_proj.bias)


def _to_cells(map_CHW: Tensor, doublings: int) -> Tensor:
    """Order a finer map as the doublings of `FusedUpscaling` do: (S, 4 C) for one doubling, (4 S, 4 C) for two."""
    channels, height, width = map_CHW.shape
    step = 1 << doublings
    x = map_CHW.reshape(channels, height // step, *[2] * doublings, width // step, *[2] * doublings)
    order = (1, 3, 2, 4, 0) if doublings == 1 else (1, 4, 2, 5, 3, 6, 0)
    return x.permute(order).reshape(-1, 4 * channels)
