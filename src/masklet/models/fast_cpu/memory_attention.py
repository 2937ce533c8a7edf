"""Memory attention, by far the most of a tracked frame, with the same numbers in less than half the time.

What makes it faster: products by oneDNN; queries in chunks whose scores stay in cache; values that stay as narrow as
memories are (attention weights sum to one, so that projecting the mean is the mean of projections, and the value and
output projections become one); planes of rotation kept as two halves; and the first layer's look of the frame at
itself, which knows no object yet, done once a frame.
Shapes: B objects, T places of the present frame, S places of the memories, R some of these, P planes of rotation,
C channels, M memory channels.

Attention of one head, a few queries at a time.

PyTorch's own kernel calls its slower product inside and makes every query pay for it; here both products are
oneDNN's, and the scores of a chunk never leave the processor's cache.
Shapes: T queries, S keys, C channels, M value channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from masklet.models.sam2.memory_attention import MemoryAttention, MemoryAttentionLayer
from masklet.models.sam2.model import SAM2
from masklet.models.types import ImageFeatures, MemoryContext
from masklet.nn.attention import axial_rope
from masklet.nn.fused_ops import FusedLinear, has_fused_operators, row_chunks
from masklet.nn.position import sine_position_2d

__all__ = ["AttentionKeys", "FastMemoryAttention", "attend"]

SCORE_BYTES = 15 << 20
"""Of a chunk's scores, at most: 128 queries at 28736 keys."""


class AttentionKeys:
    """Keys and values laid out for `attend`; both are read once a chunk."""

    def __init__(
        self,
        key_SC: Tensor,
        value_MS: FusedLinear,
        dtype: torch.dtype = torch.float32,
        max_bytes: int = SCORE_BYTES,
    ) -> None:
        self.count, self.dtype, self.max_bytes = len(key_SC), dtype, max_bytes
        self.key = FusedLinear(key_SC.to(dtype), None, rows=128)
        self.value = value_MS

    def chunks(self, queries: int) -> list[slice]:
        """Of so many queries."""
        return row_chunks(queries, self.count * 4, self.max_bytes)


def attend(query_TC: Tensor, keys: AttentionKeys, out_TM: Tensor) -> Tensor:
    """softmax(query @ key.T) @ value into `out_TM`; queries bring their scale with them."""
    for rows in keys.chunks(len(query_TC)):
        scores_RS = keys.key(query_TC[rows].to(keys.dtype))
        if keys.dtype == torch.float32:
            torch.softmax(scores_RS, -1, out=scores_RS)
        else:
            scores_RS = torch.softmax(scores_RS, -1)
        out_TM[rows] = keys.value(scores_RS)
    return out_TM


class FastMemoryAttention:
    """`model.condition` for a model whose weights no longer change; an image may be shared by all objects.

    `dtype` is that of the two products of attention.

    Example:
        >>> condition = FastMemory(model)
        >>> seen = condition(features, memories)
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.model, self.dtype = model, dtype
        self.stack: FusedMemoryAttention | None = None
        if has_fused_operators(model.no_mem_embed):
            self.stack = FusedMemoryAttention(model.memory_attention, dtype or torch.float32)
        self._cached_positions: tuple[object, Tensor] = (None, torch.zeros(0))

    def __call__(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        """Features (B objects) of a frame, or of one image for all, in the light of what is remembered."""
        count = len(memory_context.spatial[0])
        shared = features.index_select(torch.zeros(count, dtype=torch.long, device=features.embed_BCHW.device))
        if self.stack is None:
            return self._eager(shared, memory_context)
        positions_SM = self._token_positions(memory_context)
        rows = [self._attend_object(features.embed_BCHW, memory_context, positions_SM, i) for i in range(count)]
        seen_BTC = torch.stack(rows)
        return ImageFeatures(seen_BTC.transpose(1, 2).reshape(shared.embed_BCHW.shape), shared.high_res_features)

    def _eager(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        device = features.embed_BCHW.device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype is not None):
            seen = self.model.condition_on_memory(features, memory_context)
        return ImageFeatures(seen.embed_BCHW.float(), seen.high_res_features)

    def _token_positions(self, memory_context: MemoryContext) -> Tensor:
        """Place and time of every token: the same from frame to frame, once a video is on its way."""
        key = (
            memory_context.temporal_positions,
            memory_context.pointer_offsets,
            memory_context.max_pointers,
            len(memory_context.pointers),
            memory_context.spatial[0].shape[1:],
        )
        if self._cached_positions[0] != key:
            self._cached_positions = (key, self.model.memory_tokenizer().positions(memory_context)[0])
        return self._cached_positions[1]

    def _attend_object(
        self, embed_BCHW: Tensor, memory_context: MemoryContext, positions_SM: Tensor, index: int
    ) -> Tensor:
        """(T, C) of one object: one at a time, so that room does not grow with their number."""
        assert self.stack is not None
        embed_1CHW = embed_BCHW if len(embed_BCHW) == 1 else embed_BCHW[index : index + 1]
        channels = positions_SM.shape[-1]
        columns = [memory[index].flatten(1) for memory in memory_context.spatial]
        pieces = [pointer[index].reshape(-1, channels).t() for pointer in memory_context.pointers]
        value_MS = torch.cat([*columns, *pieces], dim=1)
        return self.stack(embed_1CHW, value_MS, positions_SM, sum(piece.shape[1] for piece in pieces))


@dataclass(frozen=True)
class RopeGrid:
    """What is known of a map by its size alone."""

    position_TC: Tensor
    cos_TP: Tensor
    sin_TP: Tensor

    def apply_rope(self, x_RC: Tensor, out_RC: Tensor) -> Tensor:
        """Turn every plane of whole maps by its place's angle; a plane's first channel is in the first half of C."""
        from_R2P, to_R2P = (t.view(-1, len(self.cos_TP), 2, t.shape[-1] // 2) for t in (x_RC, out_RC))
        first, second = from_R2P.unbind(2)
        torch.mul(first, self.cos_TP, out=to_R2P[:, :, 0]).addcmul_(second, self.sin_TP, value=-1)
        torch.mul(first, self.sin_TP, out=to_R2P[:, :, 1]).addcmul_(second, self.cos_TP)
        return out_RC


@lru_cache(maxsize=4)
def _rope_grid(height: int, width: int, channels: int) -> RopeGrid:
    place_TC = sine_position_2d(height, width, channels).flatten(2)[0].t()
    cos_TP, sin_TP = axial_rope(height, width, channels)
    return RopeGrid((place_TC * MemoryAttention.POSITION_WEIGHT).contiguous(), cos_TP, sin_TP)


class FusedMemoryAttention:
    """`MemoryAttention` for one object at a time."""

    def __init__(self, attention: MemoryAttention, dtype: torch.dtype) -> None:
        self.layers = [
            FusedMemoryAttentionLayer(layer, dtype)
            for layer in attention.layers
            if isinstance(layer, MemoryAttentionLayer)
        ]
        self.norm = attention.norm
        self._cached_self_attention: tuple[Tensor | None, Tensor, Tensor] = (None, torch.zeros(0), torch.zeros(0))

    def __call__(self, embed_1CHW: Tensor, value_MS: Tensor, positions_SM: Tensor, num_pointers: int) -> Tensor:
        """(T, C)."""
        grid = _rope_grid(*embed_1CHW.shape[-2:], embed_1CHW.shape[1])
        keys_SM = torch.add(value_MS.t(), positions_SM, out=torch.empty_like(positions_SM))
        first = self.layers[0]
        value = first.pack_values(value_MS)
        x_TC, query_TC = self._first_self_attention(embed_1CHW, grid)
        for layer in self.layers:
            if layer is not first:
                x_TC = layer.self_attention(x_TC, grid)
                query_TC = layer.project_query(x_TC, grid)
            x_TC = layer.cross_attention(
                x_TC, query_TC, AttentionKeys(layer.project_keys(keys_SM, num_pointers, grid), value, layer.dtype)
            )
            x_TC = layer.mlp(x_TC)
        return _layer_norm(x_TC, self.norm)

    def _first_self_attention(self, embed_1CHW: Tensor, grid: RopeGrid) -> tuple[Tensor, Tensor]:
        """The frame's look at itself, and what it asks of memories: the same for every object."""
        if self._cached_self_attention[0] is not embed_1CHW:
            x_TC = self.layers[0].self_attention(embed_1CHW[0].flatten(1).t() + grid.position_TC, grid)
            self._cached_self_attention = (embed_1CHW, x_TC, self.layers[0].project_query(x_TC, grid))
        return self._cached_self_attention[1], self._cached_self_attention[2]


class FusedMemoryAttentionLayer:
    """`MemoryAttentionLayer` for one object at a time."""

    def __init__(self, layer: MemoryAttentionLayer, dtype: torch.dtype) -> None:
        self.dtype = dtype
        own, cross = layer.self_attn, layer.cross_attn_image
        width = own.q_proj.out_features
        scale = width**-0.5
        parts = (
            _split_rope_pairs(own.q_proj, scale),
            _split_rope_pairs(own.k_proj),
            (own.v_proj.weight, own.v_proj.bias),
        )
        self.qkv = FusedLinear(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))
        self.self_out = FusedLinear.from_layer(own.out_proj)
        self.query_proj, self.key_proj = (
            FusedLinear(*_split_rope_pairs(cross.q_proj, scale)),
            FusedLinear(*_split_rope_pairs(cross.k_proj)),
        )
        self.cross_out = FusedLinear(*_compose_linears(cross.v_proj, cross.out_proj))
        self.widen, self.narrow = FusedLinear.from_layer(layer.linear1), FusedLinear.from_layer(layer.linear2)
        self.norms = (layer.norm1, layer.norm2, layer.norm3)
        self.hidden, self.width = layer.linear1.out_features, width

    def self_attention(self, x_TC: Tensor, grid: RopeGrid) -> Tensor:
        """Self-attention and its residual."""
        query, key, value = self.qkv(_layer_norm(x_TC, self.norms[0])).chunk(3, dim=-1)
        query, key = (grid.apply_rope(t, torch.empty(t.shape)) for t in (query, key))
        looked = AttentionKeys(key, self.pack_values(value.t()), self.dtype)
        return self.self_out.add_to(attend(query, looked, torch.empty_like(query)), x_TC)

    def project_query(self, x_TC: Tensor, grid: RopeGrid) -> Tensor:
        """What the frame asks of memories."""
        asked = self.query_proj(_layer_norm(x_TC, self.norms[1]))
        return grid.apply_rope(asked, torch.empty_like(asked))

    def project_keys(self, keys_SM: Tensor, num_pointers: int, grid: RopeGrid) -> Tensor:
        """(S, C): projected and turned some maps at a time; pointers, at the end, have no place."""
        out_SC = torch.empty(len(keys_SM), self.width)
        placed, places = len(keys_SM) - num_pointers, len(grid.cos_TP)
        for maps in row_chunks(placed // places, places * self.width * 4):
            rows = slice(maps.start * places, maps.stop * places)
            grid.apply_rope(self.key_proj(keys_SM[rows]), out_SC[rows])
        if num_pointers:
            out_SC[placed:] = self.key_proj(keys_SM[placed:])
        return out_SC

    def pack_values(self, value_MS: Tensor) -> FusedLinear:
        """Laid out for `Looked`."""
        return FusedLinear(value_MS.to(self.dtype), None, rows=128)

    def cross_attention(self, x_TC: Tensor, query_TC: Tensor, keys: AttentionKeys) -> Tensor:
        """Attention to memories and its residual."""
        mean_TM = torch.empty(len(x_TC), keys.value.unpacked_weight.shape[0])
        return self.cross_out.add_to(attend(query_TC, keys, mean_TM), x_TC)

    def mlp(self, x_TC: Tensor) -> Tensor:
        """The MLP and its residual, some rows at a time."""
        y_TC, out_TC = _layer_norm(x_TC, self.norms[2]), torch.empty_like(x_TC)
        for rows in row_chunks(len(x_TC), self.hidden * 4, 8 << 20):
            out_TC[rows] = self.narrow.add_to(self.widen(y_TC[rows], "relu"), x_TC[rows])
        return out_TC


def _layer_norm(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x_TC, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _split_rope_pairs(layer: nn.Linear, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weight and bias whose results have the first channels of all planes before the second ones.

    Neighbors form a plane in the published weights; a dot product does not mind, as queries and keys agree.
    """
    weight, bias = layer.weight.detach() * scale, layer.bias.detach() * scale
    return torch.cat([weight[0::2], weight[1::2]]), torch.cat([bias[0::2], bias[1::2]])


def _compose_linears(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of one layer after the other."""
    outer, inner = second.weight.detach().double(), first.weight.detach().double()
    bias = outer @ first.bias.detach().double() + second.bias.detach().double()
    return (outer @ inner).float(), bias.float()
