"""Memory attention, by far the most expensive part of a tracked frame, in less than half the time.

- Products run by oneDNN, queries in chunks whose scores stay in cache.
- Values stay as narrow as memories are: attention weights sum to one, so the projection of a mean is the mean of
  projections, and the value and output projections become one.
- Rotation planes are stored as two halves of the channels.
- The first self-attention of a frame does not depend on the object, and is computed once.

Shapes: B objects, T tokens of the current frame, S tokens of the memories, R some of either, P rotation planes,
C channels, M memory channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from masklet.models.sam2.memory_attention import (
    POOLING_CONSTANT,
    KeyLayout,
    MemoryAttention,
    MemoryAttentionLayer,
    pool_2x2,
)
from masklet.models.sam2.model import SAM2
from masklet.models.types import ImageFeatures, MemoryContext
from masklet.nn.attention import axial_rope
from masklet.nn.fused_ops import (
    FusedLinear,
    has_bfloat16_matmul,
    has_bfloat16_tiles,
    has_fused_operators,
    has_slow_subnormals,
    row_chunks,
)
from masklet.nn.position import sine_position_2d

__all__ = ["AttentionKeys", "AttentionValues", "FastMemoryAttention", "attend"]

SCORE_BYTES = 15 << 20
"""Limit on the scores of a chunk of queries: 128 queries at 28736 keys."""
SCORE_RANGE = 60.0
"""Scores this far below the best one of a query and farther count as if they were here: they weigh at most e^-60.

From about 90 on, weights are subnormal numbers, which take many times as long on some processors.
"""


class AttentionValues:
    """Values (S, M) packed for `attend`, of type `dtype`, for all layers that attend to them with keys (S, C).

    Where the processor multiplies tiles of bf16 (AMX), PyTorch's own kernel is the fastest. It wants values as wide as
    keys, so they get columns of zeros.
    """

    def __init__(self, value_SM: Tensor, dtype: torch.dtype, key_width: int) -> None:
        self.dtype, self.width = dtype, value_SM.shape[1]
        self.tiles_SC: Tensor | None = None
        if dtype == torch.bfloat16 and has_bfloat16_tiles() and self.width <= key_width:
            self.tiles_SC = pad(value_SM.to(dtype), (0, key_width - self.width))
        else:
            self.product = FusedLinear(value_SM.t().to(dtype), None, rows=128)


class AttentionKeys:
    """Keys packed for `attend`, which reads them and the values once per chunk of queries.

    The scores of a chunk stay within `max_bytes`; `bias_S` is added to the score of each key.
    """

    def __init__(
        self, key_SC: Tensor, values: AttentionValues, max_bytes: int = SCORE_BYTES, bias_S: Tensor | None = None
    ) -> None:
        self.values, self.max_bytes, dtype = values, max_bytes, values.dtype
        self.key_SC, self.bias_S = key_SC.to(dtype), None if bias_S is None else bias_S.to(dtype)
        if values.tiles_SC is None:
            self.product = FusedLinear(self.key_SC, self.bias_S, rows=128)


def attend(query_TC: Tensor, keys: AttentionKeys, out_TM: Tensor) -> Tensor:
    """Compute single-head attention softmax(query @ key.T) @ value into `out_TM`; queries are scaled already.

    In fp32 PyTorch's own kernel calls its slower product inside. Here both products are oneDNN's, and the scores of a
    chunk never leave the processor's cache.
    """
    values, dtype = keys.values, keys.values.dtype
    if values.tiles_SC is not None:
        parts = (query_TC.to(dtype), keys.key_SC, values.tiles_SC)
        query_11TC, key_11SC, value_11SC = (part[None, None] for part in parts)
        bias_1S = None if keys.bias_S is None else keys.bias_S[None]
        out_11TC = scaled_dot_product_attention(query_11TC, key_11SC, value_11SC, bias_1S, scale=1.0)
        return out_TM.copy_(out_11TC[0, 0, :, : values.width])
    for rows in row_chunks(len(query_TC), len(keys.key_SC) * 4, keys.max_bytes):
        scores_RS = keys.product(query_TC[rows].to(dtype))
        if has_slow_subnormals():
            torch.clamp(scores_RS, min=scores_RS.amax(-1, keepdim=True) - SCORE_RANGE, out=scores_RS)
        if dtype == torch.float32:
            torch.softmax(scores_RS, -1, out=scores_RS)
        else:
            scores_RS = torch.softmax(scores_RS, -1)
        out_TM[rows] = values.product(scores_RS)
    return out_TM


class FastMemoryAttention:
    """`SAM2.condition_on_memory` for a model with frozen weights; all objects may share one image.

    `dtype` is the type of attention's two products and of those of the MLP (None: fp32). Where the processor has none
    of that type, the network itself runs under autocast.

    Example:
        >>> condition_on_memory = FastMemoryAttention(model)
        >>> conditioned = condition_on_memory(features, memory_context)
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.model, self.dtype = model, dtype
        self.stack: FusedMemoryAttention | None = None
        products_fuse = dtype is None or (dtype == torch.bfloat16 and has_bfloat16_matmul())
        if has_fused_operators(model.no_mem_embed) and products_fuse:
            self.stack = FusedMemoryAttention(model.memory_attention, dtype or torch.float32)
        self._cached_positions: tuple[object, Tensor] = (None, torch.zeros(0))
        """What the positions of tokens depend on, and the positions (S, M)."""

    def __call__(self, features: ImageFeatures, memory_context: MemoryContext) -> ImageFeatures:
        """Condition features (B objects, or one image for all) on memories.

        Objects are processed one at a time, so that memory does not grow with their number.
        """
        count, device = len(memory_context.spatial[0]), features.embed_BCHW.device
        expanded = features.index_select(torch.zeros(count, dtype=torch.long, device=device))
        if self.stack is None:
            with torch.autocast(device.type, self.dtype, enabled=self.dtype is not None):
                conditioned = self.model.condition_on_memory(expanded, memory_context)
            return ImageFeatures(conditioned.embed_BCHW.float(), conditioned.high_res_features)
        key = (  # the same from frame to frame once the memory is full
            memory_context.temporal_positions,
            memory_context.pointer_offsets,
            memory_context.max_pointers,
            len(memory_context.pointers),
            memory_context.spatial[0].shape[1:],
        )
        tokenizer = self.model.memory_tokenizer()
        if self._cached_positions[0] != key:
            self._cached_positions = (key, tokenizer.positions(memory_context)[0])
        positions_SM = self._cached_positions[1]
        channels, rows = positions_SM.shape[-1], []
        for i in range(count):
            embed_BCHW = features.embed_BCHW  # a shared image is passed as it is, which the cache recognizes
            embed_1CHW = embed_BCHW if len(embed_BCHW) == 1 else embed_BCHW[i : i + 1]
            columns = [memory[i].flatten(1) for memory in memory_context.spatial]
            pointers = [pointer[i].reshape(-1, channels).t() for pointer in memory_context.pointers]
            value_MS = torch.cat([*columns, *pointers], dim=1)
            num_pointers = sum(part.shape[1] for part in pointers)
            layout = tokenizer.layout(memory_context.spatial[0], num_pointers)
            weights_BS = tokenizer.key_weights(memory_context, layout)
            weights_S = None if weights_BS is None else weights_BS[i]
            rows.append(self.stack(embed_1CHW, value_MS, positions_SM, layout, weights_S))
        embed_BCHW = torch.stack(rows).transpose(1, 2).reshape(expanded.embed_BCHW.shape)
        return ImageFeatures(embed_BCHW, expanded.high_res_features)


@dataclass(frozen=True)
class RopeGrid:
    """Positions and rotations of the tokens of a map, which depend on its size alone."""

    position_TC: Tensor
    cos_TP: Tensor
    sin_TP: Tensor

    @classmethod
    @lru_cache(maxsize=4)
    def of_map(cls, height: int, width: int, channels: int) -> RopeGrid:
        """Return the grid of maps of one size."""
        position_TC = sine_position_2d(height, width, channels).flatten(2)[0].t()
        cos_TP, sin_TP = axial_rope(height, width, channels)
        return cls((position_TC * MemoryAttention.POSITION_WEIGHT).contiguous(), cos_TP, sin_TP)

    def apply_rope(self, x_RC: Tensor, out_RC: Tensor) -> Tensor:
        """Rotate the planes of complete maps into `out_RC`; a plane's first channel is in the first half of C."""
        from_R2P, to_R2P = (t.view(-1, len(self.cos_TP), 2, t.shape[-1] // 2) for t in (x_RC, out_RC))
        first, second = from_R2P.unbind(2)
        torch.mul(first, self.cos_TP, out=to_R2P[:, :, 0]).addcmul_(second, self.sin_TP, value=-1)
        torch.mul(first, self.sin_TP, out=to_R2P[:, :, 1]).addcmul_(second, self.cos_TP)
        return out_RC


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
        """An image, the output of the first self-attention, and its queries: the same for every object."""

    def __call__(
        self,
        embed_1CHW: Tensor,
        value_MS: Tensor,
        positions_SM: Tensor,
        layout: KeyLayout,
        key_weights_S: Tensor | None = None,
    ) -> Tensor:
        """Condition one image on the memories of one object; returns (T, C)."""
        grid = RopeGrid.of_map(*embed_1CHW.shape[-2:], embed_1CHW.shape[1])
        keys_SM = torch.add(value_MS.t(), positions_SM, out=torch.empty_like(positions_SM))
        key_grid = RopeGrid.of_map(*layout.size, embed_1CHW.shape[1])
        first, pooled = self.layers[0], layout.is_pooled(len(grid.cos_TP), len(keys_SM))
        if pooled:
            value_MS = pool_memories(value_MS.t(), layout).t()
        values = AttentionValues(value_MS.t(), first.dtype, first.width)
        if self._cached_self_attention[0] is not embed_1CHW:
            x_TC, query_TC = first.attend_to_self(embed_1CHW[0].flatten(1).t() + grid.position_TC, grid)
            self._cached_self_attention = (embed_1CHW, x_TC, query_TC)
        _, x_TC, query_TC = self._cached_self_attention
        for layer in self.layers:
            if layer is not first:
                x_TC, query_TC = layer.attend_to_self(x_TC, grid)
            key_SC, bias_S = layer.project_keys(keys_SM, layout, key_grid), None
            if key_weights_S is not None:
                key_SC *= key_weights_S[:, None]
            if pooled:
                key_SC = pool_memories(key_SC, layout)
                if layout.pooling == "keys":
                    key_SC[: len(key_SC) - layout.num_pointers] += POOLING_CONSTANT
                else:
                    bias_S = torch.full((len(key_SC),), POOLING_CONSTANT)
                    bias_S[len(key_SC) - layout.num_pointers :] = 0
            x_TC = layer.attend_to_memory(x_TC, query_TC, AttentionKeys(key_SC, values, bias_S=bias_S))
        out_TC: Tensor = self.norm(x_TC)
        return out_TC


class FusedMemoryAttentionLayer:
    """`MemoryAttentionLayer` for one object at a time."""

    def __init__(self, layer: MemoryAttentionLayer, dtype: torch.dtype) -> None:
        self.dtype = dtype
        this, cross = layer.self_attn, layer.cross_attn_image
        width = this.q_proj.out_features
        scale = width**-0.5
        parts = (
            _split_rope_pairs(this.q_proj, scale),
            _split_rope_pairs(this.k_proj),
            (this.v_proj.weight, this.v_proj.bias),
        )
        self.qkv = FusedLinear(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))
        self.self_out = FusedLinear.from_layer(this.out_proj)
        self.query_proj = FusedLinear(*_split_rope_pairs(cross.q_proj, scale))
        self.key_proj = FusedLinear(*_split_rope_pairs(cross.k_proj))
        outer, inner = (part.weight.detach().double() for part in (cross.out_proj, cross.v_proj))
        bias = outer @ cross.v_proj.bias.detach().double() + cross.out_proj.bias.detach().double()
        self.cross_out = FusedLinear((outer @ inner).float(), bias.float())  # both layers, composed in fp64
        self.widen, self.narrow = (FusedLinear.from_layer(part, dtype) for part in (layer.linear1, layer.linear2))
        self.norms = (layer.norm1, layer.norm2, layer.norm3)
        self.hidden, self.width = layer.linear1.out_features, width

    def attend_to_self(self, x_TC: Tensor, grid: RopeGrid) -> tuple[Tensor, Tensor]:
        """Add self-attention to (T, C); return the result, and its rotated queries (T, C) of cross-attention."""
        query, key, value = self.qkv(self.norms[0](x_TC)).chunk(3, dim=-1)
        query, key = (grid.apply_rope(t, torch.empty(t.shape)) for t in (query, key))
        keys = AttentionKeys(key, AttentionValues(value, self.dtype, self.width))
        x_TC = self.self_out.add_to(attend(query, keys, torch.empty_like(query)), x_TC)
        query_TC = self.query_proj(self.norms[1](x_TC))
        return x_TC, grid.apply_rope(query_TC, torch.empty_like(query_TC))

    def project_keys(self, keys_SM: Tensor, layout: KeyLayout, grid: RopeGrid) -> Tensor:
        """Return keys (S, C), those with a position rotated by `grid`, a few memories at a time."""
        if layout.unplaced:  # the memories are small
            out_SC = self.key_proj(keys_SM)
            placed = out_SC[: len(out_SC) - layout.num_pointers].view(-1, layout.per_memory, self.width)
            placed = placed[:, layout.unplaced :]
            placed.copy_(grid.apply_rope(placed.contiguous(), torch.empty(placed.shape)))
            return out_SC
        out_SC = torch.empty(len(keys_SM), self.width)
        spatial, per_map = len(keys_SM) - layout.num_pointers, layout.per_memory
        for maps in row_chunks(spatial // per_map, per_map * self.width * 4):
            rows = slice(maps.start * per_map, maps.stop * per_map)
            grid.apply_rope(self.key_proj(keys_SM[rows]), out_SC[rows])
        if layout.num_pointers:
            out_SC[spatial:] = self.key_proj(keys_SM[spatial:])
        return out_SC

    def attend_to_memory(self, x_TC: Tensor, query_TC: Tensor, keys: AttentionKeys) -> Tensor:
        """Add attention to the memories to (T, C), and then the MLP, a chunk of rows at a time."""
        mean_TM = torch.empty(len(x_TC), keys.values.width)
        x_TC = self.cross_out.add_to(attend(query_TC, keys, mean_TM), x_TC)
        y_TC, out_TC = self.norms[2](x_TC), torch.empty_like(x_TC)
        for rows in row_chunks(len(x_TC), self.hidden * self.dtype.itemsize, 8 << 20):
            hidden = self.widen(y_TC[rows].to(self.dtype), "relu")
            if self.dtype == torch.float32:
                out_TC[rows] = self.narrow.add_to(hidden, x_TC[rows])
            else:
                torch.add(x_TC[rows], self.narrow(hidden), out=out_TC[rows])
        return out_TC


def pool_memories(x_SC: Tensor, layout: KeyLayout) -> Tensor:
    """Average the memories among tokens (S, C) two by two; pointers, at the end, stay."""
    spatial = len(x_SC) - layout.num_pointers
    return torch.cat([pool_2x2(x_SC[:spatial], layout.size), x_SC[spatial:]])


def _split_rope_pairs(layer: nn.Linear, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Permute a layer's outputs so that the first channels of all planes come before the second ones.

    In the published weights channels 2i and 2i + 1 form a plane. Queries and keys are permuted alike, so dot products
    do not change.
    """
    weight, bias = layer.weight.detach() * scale, layer.bias.detach() * scale
    return torch.cat([weight[0::2], weight[1::2]]), torch.cat([bias[0::2], bias[1::2]])
