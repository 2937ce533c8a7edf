"""The decoder on a tracked frame, where nobody has said anything: what does not depend on the image, done once.

Transposed convolutions of two by two with stride two are linear layers whose outputs are the four cells; these stay
side by side to the end, so that maps are only put in order when the masks are there.
Shapes: B objects, K candidates, T tokens, S places at stride 16, H and W their rows and columns, C channels.
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
    """`model.decode` with prompts that say nothing, for a model whose weights no longer change.

    Example:
        >>> decode = FastDecoder(model)
        >>> prediction = decode(seen)
    """

    def __init__(self, model: SAM2) -> None:
        self.model, self.fused = model, has_fused_operators(model.no_mem_embed)
        self._size: torch.Size | None = None
        self._cached_high_res_features: tuple[Tensor | None, tuple[Tensor, Tensor]] = (
            None,
            (torch.zeros(0), torch.zeros(0)),
        )
        if self.fused:
            decoder = model.sam_mask_decoder
            self.layers = [
                FusedTwoWayBlock(block) for block in decoder.transformer.layers if isinstance(block, TwoWayBlock)
            ]
            self.upscale, self.heads = FusedUpscaling(decoder), StackedHeads(decoder)

    def __call__(self, features: ImageFeatures) -> MaskPrediction:
        """All four candidates of B objects."""
        count, size = len(features.embed_BCHW), features.embed_BCHW.shape[-2:]
        if not self.fused:
            return self.model.decode(features, empty_prompt(count, features.embed_BCHW.device))
        if size != self._size:
            self._prepare(size)
        found = [self._decode_object(features, i) for i in range(count)]
        logits, iou, score, tokens = (torch.stack(part) for part in zip(*found, strict=True))
        return MaskPrediction(logits, iou, score, tokens)

    def _prepare(self, size: torch.Size) -> None:
        """What is known of every image of a size: tokens, and the maps that are added to it."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        sparse_1TC, dense_1CHW = prompts(empty_prompt(1, torch.device("cpu")), *size)
        own = (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
        self.tokens_TC = torch.cat([*own, sparse_1TC[0]])
        self.dense_SC = dense_1CHW[0].flatten(1).t().contiguous()
        place_SC = prompts.pe_layer.grid(*size)[0].flatten(1).t().contiguous()
        for layer in self.layers:
            layer.prepare(place_SC, self.tokens_TC)
        self.final_attention = FusedCrossAttention(decoder.transformer.final_attn_token_to_image, None)
        self.final_attention.prepare(place_SC)
        self._size = size

    def _decode_object(self, features: ImageFeatures, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (K, 4 H, 4 W), IoU (K,), score (1,) and tokens (K, C) of one object."""
        places_SC = features.embed_BCHW[index].flatten(1).t() + self.dense_SC
        tokens_TC = self.tokens_TC
        for layer in self.layers:
            tokens_TC, places_SC = layer(tokens_TC, places_SC)
        look = self.final_attention.attend_from_tokens(
            tokens_TC + self.tokens_TC, self.final_attention.project(places_SC)
        )
        tokens_TC = _layer_norm(tokens_TC + look, self.model.sam_mask_decoder.transformer.norm_final_attn)
        score_1, iou_K, kernels_KC = self.heads(tokens_TC)
        logits_KHW = self.upscale(
            places_SC, self._arrange_high_res_features(features, index), kernels_KC, features.embed_BCHW.shape
        )
        return logits_KHW, iou_K, score_1, tokens_TC[2 : 2 + NUM_MASK_TOKENS]

    def _arrange_high_res_features(self, features: ImageFeatures, index: int) -> tuple[Tensor, Tensor]:
        """Finer maps cell by cell; of an image that all objects share, once."""
        fine = features.high_res_features
        shared = len(fine[0]) == 1 or fine[0].stride(0) == 0
        if not shared:
            return _to_cells(fine[0][index], 1), _to_cells(fine[1][index], 2)
        held = self._cached_high_res_features[0]
        if held is None or held.data_ptr() != fine[0].data_ptr() or held.shape[1:] != fine[0].shape[1:]:
            self._cached_high_res_features = (fine[0], (_to_cells(fine[0][0], 1), _to_cells(fine[1][0], 2)))
        return self._cached_high_res_features[1]


class FusedCrossAttention:
    """A pair of attentions between tokens and places, their projections of places in one product.

    `there` is tokens at places, `back` places at tokens.
    """

    def __init__(self, token_to_image: Attention, image_to_token: Attention | None) -> None:
        self.token_to_image, self.image_to_token = token_to_image, image_to_token
        layers = [token_to_image.k_proj, token_to_image.v_proj] + (
            [] if image_to_token is None else [image_to_token.q_proj]
        )
        self.projections = layers
        self.weight = FusedLinear(torch.cat([layer.weight for layer in layers]), None)

    def prepare(self, position_SC: Tensor) -> None:
        """The share of positions in keys and queries, and the biases, for maps of one size."""
        shares = [linear(position_SC, layer.weight, layer.bias) for layer in self.projections]
        shares[1] = self.projections[1].bias.expand_as(shares[1])  # values are told nothing of their place
        self.table_SN = torch.cat(shares, dim=1)

    def project(self, image_SC: Tensor) -> tuple[Tensor, ...]:
        """Keys, values and, if places look back, queries; each (S, inner)."""
        return self.weight.add_to(image_SC, self.table_SN).chunk(len(self.projections), dim=1)

    def attend_from_tokens(self, query_TC: Tensor, projected: tuple[Tensor, ...]) -> Tensor:
        """What tokens see."""
        query = linear(query_TC, self.token_to_image.q_proj.weight, self.token_to_image.q_proj.bias)
        return _attention(query, projected[0], projected[1], self.token_to_image)

    def attend_from_image(self, keys_TC: Tensor, values_TC: Tensor, projected: tuple[Tensor, ...]) -> Tensor:
        """What places see."""
        back = self.image_to_token
        assert back is not None
        key = linear(keys_TC, back.k_proj.weight, back.k_proj.bias)
        value = linear(values_TC, back.v_proj.weight, back.v_proj.bias)
        return _attention(projected[2], key, value, back)


class FusedTwoWayBlock:
    """`TwoWayBlock` for one object."""

    def __init__(self, block: TwoWayBlock) -> None:
        self.block = block
        self.cross_attention = FusedCrossAttention(block.cross_attn_token_to_image, block.cross_attn_image_to_token)

    def prepare(self, position_SC: Tensor, tokens_TC: Tensor) -> None:
        """For maps of one size and the tokens that there always are."""
        self.cross_attention.prepare(position_SC)
        self.token_pos_TC = tokens_TC
        self.initial_tokens_TC = self._self_attention(tokens_TC) if self.block.is_first else None

    def __call__(self, tokens_TC: Tensor, image_SC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and places, each updated once."""
        block, own_TC = self.block, self.token_pos_TC
        tokens_TC = self._self_attention(tokens_TC) if self.initial_tokens_TC is None else self.initial_tokens_TC
        projected = self.cross_attention.project(image_SC)
        tokens_TC = _layer_norm(
            tokens_TC + self.cross_attention.attend_from_tokens(tokens_TC + own_TC, projected), block.norm2
        )
        tokens_TC = _layer_norm(tokens_TC + block.mlp(tokens_TC), block.norm3)
        seen_SC = self.cross_attention.attend_from_image(tokens_TC + own_TC, tokens_TC, projected)
        return tokens_TC, _layer_norm(seen_SC.add_(image_SC), block.norm4)

    def _self_attention(self, tokens_TC: Tensor) -> Tensor:
        attention = self.block.self_attn
        if self.block.is_first:
            seen_1TC = attention(*[tokens_TC[None]] * 3)
            return _layer_norm(seen_1TC[0], self.block.norm1)
        asking_1TC = (tokens_TC + self.token_pos_TC)[None]
        seen_1TC = attention(asking_1TC, asking_1TC, tokens_TC[None])
        return _layer_norm(tokens_TC + seen_1TC[0], self.block.norm1)


class FusedUpscaling:
    """From places to masks: two doublings with finer maps added, then one product with the kernels."""

    def __init__(self, decoder: MaskDecoder) -> None:
        first, norm, _, second, _ = decoder.output_upscaling.children()
        assert isinstance(norm, LayerNorm2d)
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(second, nn.ConvTranspose2d)
        self.first, self.second, self.norm = _transposed_conv_as_linear(first), _transposed_conv_as_linear(second), norm

    def __call__(
        self, image_SC: Tensor, high_res_features: tuple[Tensor, Tensor], kernels_KC: Tensor, shape: torch.Size
    ) -> Tensor:
        """(K, 4 H, 4 W)."""
        channels = self.norm.weight.shape
        x = self.first.add_to(image_SC, high_res_features[0]).view(-1, *channels)
        x = gelu(layer_norm(x, channels, self.norm.weight, self.norm.bias, self.norm.eps))
        detail = gelu(self.second.add_to(x, high_res_features[1])).view(-1, kernels_KC.shape[1])
        height, width = shape[-2:]
        logits = (kernels_KC @ detail.t()).view(-1, height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


class StackedHeads:
    """Presence, IoU and the kernels of the masks: six small networks of three layers as one."""

    def __init__(self, decoder: MaskDecoder) -> None:
        kernels = [mlp for mlp in decoder.output_hypernetworks_mlps if isinstance(mlp, MLP)]
        heads = [decoder.pred_obj_score_head, decoder.iou_prediction_head, *kernels]
        self.layers = [_stack_linears([head.layers[i] for head in heads]) for i in range(3)]
        self.kernel_channels = kernels[0].layers[2].out_features

    def __call__(self, tokens_TC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score (1,), IoU (K,) and kernels (K, C / 8), each from its own token."""
        x = tokens_TC[: 2 + NUM_MASK_TOKENS, None]
        for i, (weight, bias) in enumerate(self.layers):
            x = torch.baddbmm(bias, x, weight)
            x = x.relu_() if i < 2 else x
        return x[0, 0, :1], x[1, 0, :NUM_MASK_TOKENS].sigmoid(), x[2:, 0, : self.kernel_channels]


def _attention(query_TC: Tensor, key_SC: Tensor, value_SC: Tensor, attention: Attention) -> Tensor:
    q, k, v = (split_heads(x[None], attention.heads) for x in (query_TC, key_SC, value_SC))
    seen_1TC = merge_heads(scaled_dot_product_attention(q, k, v))
    return linear(seen_1TC[0], attention.out_proj.weight, attention.out_proj.bias)


def _layer_norm(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x_TC, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _transposed_conv_as_linear(layer: nn.ConvTranspose2d) -> FusedLinear:
    """As a product whose outputs are the four cells of a place, row by row, channels last."""
    assert layer.bias is not None
    return FusedLinear(layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4))


def _to_cells(map_CHW: Tensor, doublings: int) -> Tensor:
    """A finer map in the order of `_doubling`: (S, 4 C) for one, (4 S, 4 C) for two."""
    channels, height, width = map_CHW.shape
    step = 1 << doublings
    x = map_CHW.reshape(channels, height // step, *[2] * doublings, width // step, *[2] * doublings)
    order = (1, 3, 2, 4, 0) if doublings == 1 else (1, 4, 2, 5, 3, 6, 0)
    return x.permute(order).reshape(-1, 4 * channels)


def _stack_linears(layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Weights (N, I, O) and biases (N, 1, O), narrower ones filled up with zeros."""
    plain = [layer for layer in layers if isinstance(layer, nn.Linear)]
    most = max(layer.out_features for layer in plain)
    weight = plain[0].weight.new_zeros(len(plain), plain[0].in_features, most)
    bias = weight.new_zeros(len(plain), 1, most)
    for i, layer in enumerate(plain):
        weight[i, :, : layer.out_features] = layer.weight.detach().t()
        bias[i, 0, : layer.out_features] = layer.bias.detach()
    return weight, bias
