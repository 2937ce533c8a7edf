"""Memory attention: the current frame attends to itself and to its memories.

Shapes: B objects, T tokens of the current frame, S tokens of the memories (the last ones are pointers), C channels,
M memory channels, P rotation planes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, scaled_dot_product_attention

from masklet.nn.attention import Attention, apply_rope, merge_heads, split_heads

__all__ = ["MemoryAttention"]


class RoPEAttention(Attention):
    """Attention with rotary positions; the last `num_pointers` keys have no position."""

    def attend(self, q_BTC: Tensor, k_BSC: Tensor, v_BSC: Tensor, rope_2TP: Tensor, num_pointers: int) -> Tensor:
        """Attend from (B, T, C) to keys and values (B, S, ·); returns (B, T, C)."""
        q = apply_rope(split_heads(self.q_proj(q_BTC), self.heads), rope_2TP)
        k, v = split_heads(self.k_proj(k_BSC), self.heads), split_heads(self.v_proj(v_BSC), self.heads)
        spatial = k.shape[2] - num_pointers
        k = torch.cat([apply_rope(k[:, :, :spatial], rope_2TP), k[:, :, spatial:]], dim=2)
        out: Tensor = self.out_proj(merge_heads(scaled_dot_product_attention(q, k, v)))
        return out


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
        self, x_BTC: Tensor, memory_BSM: Tensor, keys_BSM: Tensor, rope_2TP: Tensor, num_pointers: int
    ) -> Tensor:
        """Update the frame (B, T, C)."""
        y = self.norm1(x_BTC)
        x_BTC = x_BTC + self.self_attn.attend(y, y, y, rope_2TP, 0)
        y = self.norm2(x_BTC)
        x_BTC = x_BTC + self.cross_attn_image.attend(y, keys_BSM, memory_BSM, rope_2TP, num_pointers)
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
        rope_2TP: Tensor,
        num_pointers: int,
    ) -> Tensor:
        """Condition the frame (B, T, C) on its memories."""
        x_BTC = x_BTC + self.POSITION_WEIGHT * position_BTC
        keys = memory_BSM + memory_position_BSM
        for layer in self.layers:
            x_BTC = layer(x_BTC, memory_BSM, keys, rope_2TP, num_pointers)
        out: Tensor = self.norm(x_BTC)
        return out
