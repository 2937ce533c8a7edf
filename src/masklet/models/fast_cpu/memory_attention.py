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
from masklet.models.types import ImageFeatures, Memories
from masklet.nn.attention import axial_rotation
from masklet.nn.fused_ops import FusedLinear, has_fused_operators, row_chunks
from masklet.nn.position import sine_position

__all__ = ["FastMemory", "Looked", "attend"]

SCORE_BYTES = 15 << 20
"""Of a chunk's scores, at most: 128 queries at 28736 keys."""


class Looked:
    """Keys and values laid out for `attend`; both are read once a chunk."""

    def __init__(
        self,
        key_SC: Tensor,
        value_MS: FusedLinear,
        dtype: torch.dtype = torch.float32,
        limit: int = SCORE_BYTES,
    ) -> None:
        self.count, self.dtype, self.limit = len(key_SC), dtype, limit
        self.key = FusedLinear(key_SC.to(dtype), None, rows=128)
        self.value = value_MS

    def chunks(self, queries: int) -> list[slice]:
        """Of so many queries."""
        return row_chunks(queries, self.count * 4, self.limit)


def attend(query_TC: Tensor, looked: Looked, out_TM: Tensor) -> Tensor:
    """softmax(query @ key.T) @ value into `out_TM`; queries bring their scale with them."""
    for rows in looked.chunks(len(query_TC)):
        scores_RS = looked.key(query_TC[rows].to(looked.dtype))
        if looked.dtype == torch.float32:
            torch.softmax(scores_RS, -1, out=scores_RS)
        else:
            scores_RS = torch.softmax(scores_RS, -1)
        out_TM[rows] = looked.value(scores_RS)
    return out_TM


class FastMemory:
    """`model.condition` for a model whose weights no longer change; a picture may be shared by all objects.

    `dtype` is that of the two products of attention.

    Example:
        >>> condition = FastMemory(model)
        >>> seen = condition(features, memories)
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.model, self.dtype = model, dtype
        self.stack: FusedStack | None = None
        if has_fused_operators(model.no_mem_embed):
            self.stack = FusedStack(model.memory_attention, dtype or torch.float32)
        self._positions: tuple[object, Tensor] = (None, torch.zeros(0))

    def __call__(self, features: ImageFeatures, memories: Memories) -> ImageFeatures:
        """Features (B objects) of a frame, or of one picture for all, in the light of what is remembered."""
        count = len(memories.spatial[0])
        shared = features.take(torch.zeros(count, dtype=torch.long, device=features.embed_BCHW.device))
        if self.stack is None:
            return self._plain(shared, memories)
        positions_SM = self._placed(memories)
        rows = [self._one(features.embed_BCHW, memories, positions_SM, i) for i in range(count)]
        seen_BTC = torch.stack(rows)
        return ImageFeatures(seen_BTC.transpose(1, 2).reshape(shared.embed_BCHW.shape), shared.fine)

    def _plain(self, features: ImageFeatures, memories: Memories) -> ImageFeatures:
        device = features.embed_BCHW.device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype is not None):
            seen = self.model.condition(features, memories)
        return ImageFeatures(seen.embed_BCHW.float(), seen.fine)

    def _placed(self, memories: Memories) -> Tensor:
        """Place and time of every token: the same from frame to frame, once a film is on its way."""
        key = (memories.ages, memories.offsets, memories.horizon, len(memories.pointers), memories.spatial[0].shape[1:])
        if self._positions[0] != key:
            self._positions = (key, self.model.recollection().positions(memories)[0])
        return self._positions[1]

    def _one(self, embed_BCHW: Tensor, memories: Memories, positions_SM: Tensor, index: int) -> Tensor:
        """(T, C) of one object: one at a time, so that room does not grow with their number."""
        assert self.stack is not None
        embed_1CHW = embed_BCHW if len(embed_BCHW) == 1 else embed_BCHW[index : index + 1]
        channels = positions_SM.shape[-1]
        columns = [memory[index].flatten(1) for memory in memories.spatial]
        pieces = [pointer[index].reshape(-1, channels).t() for pointer in memories.pointers]
        value_MS = torch.cat([*columns, *pieces], dim=1)
        return self.stack(embed_1CHW, value_MS, positions_SM, sum(piece.shape[1] for piece in pieces))


@dataclass(frozen=True)
class Grid:
    """What is known of a map by its size alone."""

    place_TC: Tensor
    cos_TP: Tensor
    sin_TP: Tensor

    def turn(self, x_RC: Tensor, out_RC: Tensor) -> Tensor:
        """Turn every plane of whole maps by its place's angle; a plane's first channel is in the first half of C."""
        from_R2P, to_R2P = (t.view(-1, len(self.cos_TP), 2, t.shape[-1] // 2) for t in (x_RC, out_RC))
        first, second = from_R2P.unbind(2)
        torch.mul(first, self.cos_TP, out=to_R2P[:, :, 0]).addcmul_(second, self.sin_TP, value=-1)
        torch.mul(first, self.sin_TP, out=to_R2P[:, :, 1]).addcmul_(second, self.cos_TP)
        return out_RC


@lru_cache(maxsize=4)
def _grid(height: int, width: int, channels: int) -> Grid:
    place_TC = sine_position(height, width, channels).flatten(2)[0].t()
    cos_TP, sin_TP = axial_rotation(height, width, channels)
    return Grid((place_TC * MemoryAttention.POSITION_SHARE).contiguous(), cos_TP, sin_TP)


class FusedStack:
    """`MemoryAttention` for one object at a time."""

    def __init__(self, attention: MemoryAttention, dtype: torch.dtype) -> None:
        self.layers = [
            FusedLayer(layer, dtype) for layer in attention.layers if isinstance(layer, MemoryAttentionLayer)
        ]
        self.norm = attention.norm
        self._begun: tuple[Tensor | None, Tensor, Tensor] = (None, torch.zeros(0), torch.zeros(0))

    def __call__(self, embed_1CHW: Tensor, value_MS: Tensor, positions_SM: Tensor, pointers: int) -> Tensor:
        """(T, C)."""
        grid = _grid(*embed_1CHW.shape[-2:], embed_1CHW.shape[1])
        keys_SM = torch.add(value_MS.t(), positions_SM, out=torch.empty_like(positions_SM))
        first = self.layers[0]
        value = first.values(value_MS)
        x_TC, query_TC = self._begin(embed_1CHW, grid)
        for layer in self.layers:
            if layer is not first:
                x_TC = layer.look_at_itself(x_TC, grid)
                query_TC = layer.query(x_TC, grid)
            x_TC = layer.look_back(x_TC, query_TC, Looked(layer.keys(keys_SM, pointers, grid), value, layer.dtype))
            x_TC = layer.think(x_TC)
        return _normalised(x_TC, self.norm)

    def _begin(self, embed_1CHW: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """The frame's look at itself, and what it asks of memories: the same for every object."""
        if self._begun[0] is not embed_1CHW:
            x_TC = self.layers[0].look_at_itself(embed_1CHW[0].flatten(1).t() + grid.place_TC, grid)
            self._begun = (embed_1CHW, x_TC, self.layers[0].query(x_TC, grid))
        return self._begun[1], self._begun[2]


class FusedLayer:
    """`MemoryAttentionLayer` for one object at a time."""

    def __init__(self, layer: MemoryAttentionLayer, dtype: torch.dtype) -> None:
        self.dtype = dtype
        own, cross = layer.self_attn, layer.cross_attn_image
        width = own.q_proj.out_features
        scale = width**-0.5
        parts = (_halved(own.q_proj, scale), _halved(own.k_proj), (own.v_proj.weight, own.v_proj.bias))
        self.own = FusedLinear(torch.cat([w for w, _ in parts]), torch.cat([b for _, b in parts]))
        self.own_out = FusedLinear.of(own.out_proj)
        self.ask, self.key = FusedLinear(*_halved(cross.q_proj, scale)), FusedLinear(*_halved(cross.k_proj))
        self.cross_out = FusedLinear(*_in_one(cross.v_proj, cross.out_proj))
        self.widen, self.narrow = FusedLinear.of(layer.linear1), FusedLinear.of(layer.linear2)
        self.norms = (layer.norm1, layer.norm2, layer.norm3)
        self.hidden, self.width = layer.linear1.out_features, width

    def look_at_itself(self, x_TC: Tensor, grid: Grid) -> Tensor:
        """Self-attention and its residual."""
        query, key, value = self.own(_normalised(x_TC, self.norms[0])).chunk(3, dim=-1)
        query, key = (grid.turn(t, torch.empty(t.shape)) for t in (query, key))
        looked = Looked(key, self.values(value.t()), self.dtype)
        return self.own_out.onto(attend(query, looked, torch.empty_like(query)), x_TC)

    def query(self, x_TC: Tensor, grid: Grid) -> Tensor:
        """What the frame asks of memories."""
        asked = self.ask(_normalised(x_TC, self.norms[1]))
        return grid.turn(asked, torch.empty_like(asked))

    def keys(self, keys_SM: Tensor, pointers: int, grid: Grid) -> Tensor:
        """(S, C): projected and turned some maps at a time; pointers, at the end, have no place."""
        out_SC = torch.empty(len(keys_SM), self.width)
        placed, places = len(keys_SM) - pointers, len(grid.cos_TP)
        for maps in row_chunks(placed // places, places * self.width * 4):
            rows = slice(maps.start * places, maps.stop * places)
            grid.turn(self.key(keys_SM[rows]), out_SC[rows])
        if pointers:
            out_SC[placed:] = self.key(keys_SM[placed:])
        return out_SC

    def values(self, value_MS: Tensor) -> FusedLinear:
        """Laid out for `Looked`."""
        return FusedLinear(value_MS.to(self.dtype), None, rows=128)

    def look_back(self, x_TC: Tensor, query_TC: Tensor, memories: Looked) -> Tensor:
        """Attention to memories and its residual."""
        mean_TM = torch.empty(len(x_TC), memories.value.plain.shape[0])
        return self.cross_out.onto(attend(query_TC, memories, mean_TM), x_TC)

    def think(self, x_TC: Tensor) -> Tensor:
        """The MLP and its residual, some rows at a time."""
        y_TC, out_TC = _normalised(x_TC, self.norms[2]), torch.empty_like(x_TC)
        for rows in row_chunks(len(x_TC), self.hidden * 4, 8 << 20):
            out_TC[rows] = self.narrow.onto(self.widen(y_TC[rows], "relu"), x_TC[rows])
        return out_TC


def _normalised(x_TC: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x_TC, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _halved(layer: nn.Linear, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Weight and bias whose results have the first channels of all planes before the second ones.

    Neighbours form a plane in the published weights; a dot product does not mind, as queries and keys agree.
    """
    weight, bias = layer.weight.detach() * scale, layer.bias.detach() * scale
    return torch.cat([weight[0::2], weight[1::2]]), torch.cat([bias[0::2], bias[1::2]])


def _in_one(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of one layer after the other."""
    outer, inner = second.weight.detach().double(), first.weight.detach().double()
    bias = outer @ first.bias.detach().double() + second.bias.detach().double()
    return (outer @ inner).float(), bias.float()
