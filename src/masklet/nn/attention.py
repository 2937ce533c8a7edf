"""Attention with separate projections, on top of PyTorch's fused kernel.

Shapes: B batch, T queries, S keys, C channels, H heads, D channels a head.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["Attention", "merge_heads", "split_heads"]


def split_heads(x_BTC: Tensor, heads: int) -> Tensor:
    """(B, T, C) to (B, H, T, D)."""
    return x_BTC.reshape(*x_BTC.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x_BHTD: Tensor) -> Tensor:
    """(B, H, T, D) to (B, T, C)."""
    return x_BHTD.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention whose inner width may be narrower than its outer one.

    `inner` is the width of queries, keys and values; `kv` the width of what keys and values are made from.
    """

    def __init__(self, width: int, heads: int, inner: int | None = None, kv: int | None = None) -> None:
        super().__init__()
        inner, kv = inner or width, kv or width
        assert inner % heads == 0, f"{inner} channels do not divide into {heads} heads"
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(kv, inner)
        self.v_proj = nn.Linear(kv, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q_BTC: Tensor, k_BSC: Tensor, v_BSC: Tensor) -> Tensor:
        """(B, T, C), (B, S, C), (B, S, C) to (B, T, C)."""
        q, k, v = (
            split_heads(proj(x), self.heads)
            for proj, x in ((self.q_proj, q_BTC), (self.k_proj, k_BSC), (self.v_proj, v_BSC))
        )
        out: Tensor = self.out_proj(merge_heads(scaled_dot_product_attention(q, k, v)))
        return out
