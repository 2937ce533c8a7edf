"""The decoder on a tracked frame, where nobody has said anything: what does not depend on the picture, done once.

Transposed convolutions of two by two with stride two are linear layers whose outputs are the four cells; these stay
side by side to the end, so that maps are only put in order when the masks are there.
Shapes: B objects, K candidates, T tokens, S places at stride 16, H and W their rows and columns, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from masklet.models.heads.mask_decoder import CANDIDATES, MaskDecoder
from masklet.models.heads.two_way_transformer import TwoWayBlock
from masklet.models.sam2.model import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, no_points
from masklet.nn.attention import Attention, merge_heads, split_heads
from masklet.nn.fused_ops import FusedLinear, has_fused_operators
from masklet.nn.layers import MLP, ChannelNorm

__all__ = ["FastDecoder"]


class FastDecoder:
    """`model.decode` with prompts that say nothing, for a model whose weights no longer change.

    Example:
        >>> decode = FastDecoder(model)
        >>> prediction = decode(seen)
    """

    def __init__(self, model: SAM2) -> None:
        self.model, self.fused = model, has_fused_operators(model.no_mem_embed)
        self._size: torch.Size | None = None
        self._fine: tuple[Tensor | None, tuple[Tensor, Tensor]] = (None, (torch.zeros(0), torch.zeros(0)))
        if self.fused:
            decoder = model.sam_mask_decoder
            self.layers = [FusedBlock(block) for block in decoder.transformer.layers if isinstance(block, TwoWayBlock)]
            self.upscale, self.heads = FusedUpscaling(decoder), StackedHeads(decoder)

    def __call__(self, features: ImageFeatures) -> MaskPrediction:
        """All four candidates of B objects."""
        count, size = len(features.embed_BCHW), features.embed_BCHW.shape[-2:]
        if not self.fused:
            return self.model.decode(features, no_points(count, features.embed_BCHW.device))
        if size != self._size:
            self._lay_out(size)
        found = [self._one(features, i) for i in range(count)]
        logits, iou, score, tokens = (torch.stack(part) for part in zip(*found, strict=True))
        return MaskPrediction(logits, iou, score, tokens)

    def _lay_out(self, size: torch.Size) -> None:
        """What is known of every picture of a size: tokens, and the maps that are added to it."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        sparse_1TC, dense_1CHW = prompts(no_points(1, torch.device("cpu")), *size)
        own = (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
        self.tokens_TC = torch.cat([*own, sparse_1TC[0]])
        self.dense_SC = dense_1CHW[0].flatten(1).t().contiguous()
        place_SC = prompts.pe_layer.grid(*size)[0].flatten(1).t().contiguous()
        for layer in self.layers:
            layer.lay_out(place_SC, self.tokens_TC)
        self.last = FusedLook(decoder.transformer.final_attn_token_to_image, None)
        self.last.lay_out(place_SC)
        self._size = size

    def _one(self, features: ImageFeatures, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (K, 4 H, 4 W), IoU (K,), score (1,) and tokens (K, C) of one object."""
        places_SC = features.embed_BCHW[index].flatten(1).t() + self.dense_SC
        tokens_TC = self.tokens_TC
        for layer in self.layers:
            tokens_TC, places_SC = layer(tokens_TC, places_SC)
        look = self.last.tokens(tokens_TC + self.tokens_TC, self.last.project(places_SC))
        tokens_TC = _normalised(tokens_TC + look, self.model.sam_mask_decoder.transformer.norm_final_attn)
        score_1, iou_K, kernels_KC = self.heads(tokens_TC)
        logits_KHW = self.upscale(places_SC, self._arranged(features, index), kernels_KC, features.embed_BCHW.shape)
        return logits_KHW, iou_K, score_1, tokens_TC[2 : 2 + CANDIDATES]

    def _arranged(self, features: ImageFeatures, index: int) -> tuple[Tensor, Tensor]:
        """Finer maps cell by cell; of a picture that all objects share, once."""
        fine = features.fine
        shared = len(fine[0]) == 1 or fine[0].stride(0) == 0
        if not shared:
            return _cells(fine[0][index], 1), _cells(fine[1][index], 2)
        held = self._fine[0]
        if held is None or held.data_ptr() != fine[0].data_ptr() or held.shape[1:] != fine[0].shape[1:]:
            self._fine = (fine[0], (_cells(fine[0][0], 1), _cells(fine[1][0], 2)))
        return self._fine[1]


class FusedLook:
    """A pair of attentions between tokens and places, their projections of places in one product.

    `there` is tokens at places, `back` places at tokens.
    """

    def __init__(self, there: Attention, back: Attention | None) -> None:
        self.there, self.back = there, back
        layers = [there.k_proj, there.v_proj] + ([] if back is None else [back.q_proj])
        self.parts = layers
        self.weight = FusedLinear(torch.cat([layer.weight for layer in layers]), None)

    def lay_out(self, place_SC: Tensor) -> None:
        """The share of positions in keys and queries, and the biases, for maps of one size."""
        shares = [linear(place_SC, layer.weight, layer.bias) for layer in self.parts]
        shares[1] = self.parts[1].bias.expand_as(shares[1])  # values are told nothing of their place
        self.table_SN = torch.cat(shares, dim=1)

    def project(self, places_SC: Tensor) -> tuple[Tensor, ...]:
        """Keys, values and, if places look back, queries; each (S, inner)."""
        return self.weight.onto(places_SC, self.table_SN).chunk(len(self.parts), dim=1)

    def tokens(self, asking_TC: Tensor, projected: tuple[Tensor, ...]) -> Tensor:
        """What tokens see."""
        query = linear(asking_TC, self.there.q_proj.weight, self.there.q_proj.bias)
        return _attended(query, projected[0], projected[1], self.there)

    def places(self, keys_TC: Tensor, values_TC: Tensor, projected: tuple[Tensor, ...]) -> Tensor:
        """What places see."""
        back = self.back
        assert back is not None
        key = linear(keys_TC, back.k_proj.weight, back.k_proj.bias)
        value = linear(values_TC, back.v_proj.weight, back.v_proj.bias)
        return _attended(projected[2], key, value, back)


class FusedBlock:
    """`TwoWayBlock` for one object."""

    def __init__(self, block: TwoWayBlock) -> None:
        self.block = block
        self.look = FusedLook(block.cross_attn_token_to_image, block.cross_attn_image_to_token)

    def lay_out(self, place_SC: Tensor, tokens_TC: Tensor) -> None:
        """For maps of one size and the tokens that there always are."""
        self.look.lay_out(place_SC)
        self.own_TC = tokens_TC
        self.begun_TC = self._among_themselves(tokens_TC) if self.block.first else None

    def __call__(self, tokens_TC: Tensor, places_SC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and places, each updated once."""
        block, own_TC = self.block, self.own_TC
        tokens_TC = self._among_themselves(tokens_TC) if self.begun_TC is None else self.begun_TC
        projected = self.look.project(places_SC)
        tokens_TC = _normalised(tokens_TC + self.look.tokens(tokens_TC + own_TC, projected), block.norm2)
        tokens_TC = _normalised(tokens_TC + block.mlp(tokens_TC), block.norm3)
        seen_SC = self.look.places(tokens_TC + own_TC, tokens_TC, projected)
        return tokens_TC, _normalised(seen_SC.add_(places_SC), block.norm4)

    def _among_themselves(self, tokens_TC: Tensor) -> Tensor:
        attention = self.block.self_attn
        if self.block.first:
            seen_1TC = attention(*[tokens_TC[None]] * 3)
            return _normalised(seen_1TC[0], self.block.norm1)
        asking_1TC = (tokens_TC + self.own_TC)[None]
        seen_1TC = attention(asking_1TC, asking_1TC, tokens_TC[None])
        return _normalised(tokens_TC + seen_1TC[0], self.block.norm1)


class FusedUpscaling:
    """From places to masks: two doublings with finer maps added, then one product with the kernels."""

    def __init__(self, decoder: MaskDecoder) -> None:
        first, norm, _, second, _ = decoder.output_upscaling.children()
        assert isinstance(norm, ChannelNorm)
        assert isinstance(first, nn.ConvTranspose2d)
        assert isinstance(second, nn.ConvTranspose2d)
        self.first, self.second, self.norm = _doubling(first), _doubling(second), norm

    def __call__(self, places_SC: Tensor, fine: tuple[Tensor, Tensor], kernels_KC: Tensor, shape: torch.Size) -> Tensor:
        """(K, 4 H, 4 W)."""
        channels = self.norm.weight.shape
        x = self.first.onto(places_SC, fine[0]).view(-1, *channels)
        x = gelu(layer_norm(x, channels, self.norm.weight, self.norm.bias, self.norm.eps))
        detail = gelu(self.second.onto(x, fine[1])).view(-1, kernels_KC.shape[1])
        height, width = shape[-2:]
        logits = (kernels_KC @ detail.t()).view(-1, height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


class StackedHeads:
    """Presence, IoU and the kernels of the masks: six small networks of three layers as one."""

    def __init__(self, decoder: MaskDecoder) -> None:
        kernels = [mlp for mlp in decoder.output_hypernetworks_mlps if isinstance(mlp, MLP)]
        heads = [decoder.pred_obj_score_head, decoder.iou_prediction_head, *kernels]
        self.layers = [_stacked([head.layers[i] for head in heads]) for i in range(3)]
        self.wide = kernels[0].layers[2].out_features

    def __call__(self, tokens_TC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score (1,), IoU (K,) and kernels (K, C / 8), each from its own token."""
        x = tokens_TC[: 2 + CANDIDATES, None]
        for i, (weight, bias) in enumerate(self.layers):
            x = torch.baddbmm(bias, x, weight)
            x = x.relu_() if i < 2 else x
        return x[0, 0, :1], x[1, 0, :CANDIDATES].sigmoid(), x[2:, 0, : self.wide]


def _attended(query_TC: Tensor, key_SC: Tensor, value_SC: Tensor, attention: Attention) -> Tensor:
    q, k, v = (split_heads(x[None], attention.heads) for x in (query_TC, key_SC, value_SC))
    seen_1TC = merge_heads(scaled_dot_product_attention(q, k, v))
    return linear(seen_1TC[0], attention.out_proj.weight, attention.out_proj.bias)


def _normalised(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x_TC, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _doubling(layer: nn.ConvTranspose2d) -> FusedLinear:
    """As a product whose outputs are the four cells of a place, row by row, channels last."""
    assert layer.bias is not None
    return FusedLinear(layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4))


def _cells(map_CHW: Tensor, doublings: int) -> Tensor:
    """A finer map in the order of `_doubling`: (S, 4 C) for one, (4 S, 4 C) for two."""
    channels, height, width = map_CHW.shape
    step = 1 << doublings
    x = map_CHW.reshape(channels, height // step, *[2] * doublings, width // step, *[2] * doublings)
    order = (1, 3, 2, 4, 0) if doublings == 1 else (1, 4, 2, 5, 3, 6, 0)
    return x.permute(order).reshape(-1, 4 * channels)


def _stacked(layers: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Weights (N, I, O) and biases (N, 1, O), narrower ones filled up with zeros."""
    plain = [layer for layer in layers if isinstance(layer, nn.Linear)]
    most = max(layer.out_features for layer in plain)
    weight = plain[0].weight.new_zeros(len(plain), plain[0].in_features, most)
    bias = weight.new_zeros(len(plain), 1, most)
    for i, layer in enumerate(plain):
        weight[i, :, : layer.out_features] = layer.weight.detach().t()
        bias[i, 0, : layer.out_features] = layer.bias.detach()
    return weight, bias
