"""Memory attention: the current frame attends to itself and to its memories.

Shapes: B objects, T tokens of the current frame, S tokens of the memories (the last ones are pointers), F memories,
K tokens of one of them, A heads, C channels, D channels per head, M memory channels, P rotation planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

from masklet.nn.attention import Attention, apply_rope, merge_heads, split_heads

__all__ = ["POOLING_CONSTANT", "KeyLayout", "MemoryAttention", "MemoryAttentionLayer", "pool_2x2"]

POOLING_CONSTANT = 2 * math.log(2)
"""Logarithm of the four keys that one pooled key stands for."""


@dataclass(frozen=True)
class KeyLayout:
    """Which tokens of the memories have a position in the image, and how they are pooled."""

    num_pointers: int
    """Number of tokens at the end, without a position."""
    size: tuple[int, int]
    """Rows and columns of the tokens of one memory that have a position."""
    unplaced: int = 0
    """Number of tokens before these, without a position (EdgeTAM)."""
    pooling: Literal["logits", "keys"] | None = None
    """As `MemoryConfig.key_pooling`."""

    @property
    def per_memory(self) -> int:
        """Number of tokens of one memory."""
        return self.unplaced + self.size[0] * self.size[1]

    def is_pooled(self, queries: int, keys: int) -> bool:
        """Return whether keys are pooled: only where the memories have more tokens than the frame."""
        return self.pooling is not None and keys - self.num_pointers > queries


class RoPEAttention(Attention):
    """Attention with rotary positions."""

    def attend_to_self(self, x_BTC: Tensor, rope_2TP: Tensor) -> Tensor:
        """Attend within a frame (B, T, C)."""
        q, k, v = (split_heads(proj(x_BTC), self.heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        attended = scaled_dot_product_attention(apply_rope(q, rope_2TP), apply_rope(k, rope_2TP), v)
        out: Tensor = self.out_proj(merge_heads(attended))
        return out

    def attend_to_memory(
        self,
        q_BTC: Tensor,
        k_BSM: Tensor,
        v_BSM: Tensor,
        ropes: tuple[Tensor, Tensor],
        layout: KeyLayout,
        key_weights_BS: Tensor | None = None,
    ) -> Tensor:
        """Attend from (B, T, C) to memories (B, S, M), rotated by `ropes`: of the frame, and of one memory.

        Keys are multiplied by their weights.
        """
        q = apply_rope(split_heads(self.q_proj(q_BTC), self.heads), ropes[0])
        k, v = split_heads(self.k_proj(k_BSM), self.heads), split_heads(self.v_proj(v_BSM), self.heads)
        if key_weights_BS is not None:
            k = k * key_weights_BS[:, None, :, None]
        spatial = k.shape[2] - layout.num_pointers
        k_BAFKD = torch.unflatten(k[:, :, :spatial], 2, (-1, layout.per_memory))
        placed = apply_rope(k_BAFKD[..., layout.unplaced :, :], ropes[1])
        k_BAFKD, bias_S = torch.cat([k_BAFKD[..., : layout.unplaced, :], placed], dim=-2), None
        k_pointers, v_pointers = k[:, :, spatial:], v[:, :, spatial:]
        if layout.is_pooled(q.shape[2], k.shape[2]):
            k_BAFKD = pool_2x2(k_BAFKD, layout.size)
            v = torch.cat([pool_2x2(v[:, :, :spatial], layout.size), v_pointers], dim=2)
            if layout.pooling == "keys":
                k_BAFKD = k_BAFKD + POOLING_CONSTANT
            else:
                bias_S = torch.zeros(v.shape[2], dtype=q.dtype, device=q.device)
                bias_S[: v.shape[2] - layout.num_pointers] = POOLING_CONSTANT
        k = torch.cat([k_BAFKD.flatten(2, 3), k_pointers], dim=2)
        attended = scaled_dot_product_attention(q, k, v, None if bias_S is None else bias_S.expand(q.shape[2], -1))
        out: Tensor = self.out_proj(merge_heads(attended))
        return out


def pool_2x2(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average maps of `size` two by two, tokens by row in the last axis but one, of one map or several."""
    height, width = size
    cells = torch.unflatten(x, -2, (-1, height // 2, 2, width // 2, 2)).mean((-4, -2))
    return cells.flatten(-4, -2)


class MemoryAttentionLayer(nn.Module):
    """Pre-norm self-attention, cross-attention to the memories, and an MLP."""

    def __init__(self, width: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RoPEAttention(width, heads=1)
        self.cross_attn_image = RoPEAttention(width, heads=1, kv=channels)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        x_BTC: Tensor,
        memory_BSM: Tensor,
        keys_BSM: Tensor,
        ropes: tuple[Tensor, Tensor],
        layout: KeyLayout,
        key_weights_BS: Tensor | None = None,
    ) -> Tensor:
        """Update the frame (B, T, C)."""
        x_BTC = x_BTC + self.self_attn.attend_to_self(self.norm1(x_BTC), ropes[0])
        y = self.norm2(x_BTC)
        x_BTC = x_BTC + self.cross_attn_image.attend_to_memory(y, keys_BSM, memory_BSM, ropes, layout, key_weights_BS)
        out: Tensor = x_BTC + self.linear2(relu(self.linear1(self.norm3(x_BTC))))
        return out


class MemoryAttention(nn.Module):
    """A stack of layers and a final normalization."""

    POSITION_WEIGHT = 0.1
    """Factor of the position that is added to the frame before the first layer."""

    def __init__(self, width: int, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(width, channels, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x_BTC: Tensor,
        position_BTC: Tensor,
        memory_BSM: Tensor,
        memory_position_BSM: Tensor,
        ropes: tuple[Tensor, Tensor],
        layout: KeyLayout,
        key_weights_BS: Tensor | None = None,
    ) -> Tensor:
        """Condition the frame (B, T, C) on its memories; `ropes` rotate the frame, and one memory."""
        x_BTC = x_BTC + self.POSITION_WEIGHT * position_BTC
        keys = memory_BSM + memory_position_BSM
        for layer in self.layers:
            x_BTC = layer(x_BTC, memory_BSM, keys, ropes, layout, key_weights_BS)
        out: Tensor = self.norm(x_BTC)
        return out
