"""Multi-head attention, rotary positions and window partitioning.

Shapes: B batch, T queries, S keys, C channels, H heads, D channels per head, P = D / 2 rotation planes.
Of maps cut into windows: N windows, H height, W width, K side of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

__all__ = [
    "Attention",
    "apply_rope",
    "axial_rope",
    "merge_heads",
    "split_heads",
    "window_partition",
    "window_unpartition",
]


def axial_rope(
    height: int, width: int, channels: int, theta: float = 10000.0, device: torch.device | None = None
) -> Tensor:
    """Compute rotary position encodings over the two axes of a map (Heo et al. 2024), in real arithmetic.

    The first half of a head's channels rotates with x, the second with y; channels 2i and 2i + 1 form a plane.
    Returns cosine and sine, (2, height * width, channels / 2), fp32, tokens row by row.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, channels, 4, device=device)[: channels // 4].float() / channels)
    x_WF, y_HF = (torch.outer(torch.arange(n, device=device).float(), frequencies) for n in (width, height))
    angle_HWP = torch.cat([x_WF[None].expand(height, -1, -1), y_HF[:, None].expand(-1, width, -1)], dim=-1)
    return torch.stack([angle_HWP.cos(), angle_HWP.sin()]).flatten(1, 2)


def apply_rope(x_BHTD: Tensor, rope_2TP: Tensor) -> Tensor:
    """Rotate every plane of (B, H, T, D) by the angle of its token; where T is longer, the map repeats."""
    repeats = x_BHTD.shape[-2] // rope_2TP.shape[1]
    cos, sin = rope_2TP.repeat(1, repeats, 1) if repeats > 1 else rope_2TP
    even, odd = x_BHTD.float().reshape(*x_BHTD.shape[:-1], -1, 2).unbind(-1)
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2).to(x_BHTD.dtype)


def window_partition(x_BHWC: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut (B, H, W, C), zero-padded right and below, into windows (N, K, K, C); also return the padded size."""
    batch, height, width, channels = x_BHWC.shape
    below, right = -height % side, -width % side
    if below or right:
        x_BHWC = pad(x_BHWC, (0, 0, 0, right, 0, below))
    rows, columns = (height + below) // side, (width + right) // side
    x = x_BHWC.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(-1, side, side, channels), (height + below, width + right)


def window_unpartition(x_NKKC: Tensor, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Join windows (N, K, K, C) to (B, H, W, C) and crop the padding."""
    side, channels = x_NKKC.shape[1], x_NKKC.shape[-1]
    rows, columns = padded[0] // side, padded[1] // side
    x = x_NKKC.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(-1, *padded, channels)[:, : size[0], : size[1]]


def split_heads(x_BTC: Tensor, heads: int) -> Tensor:
    """Reshape (B, T, C) to (B, H, T, D)."""
    return x_BTC.reshape(*x_BTC.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x_BHTD: Tensor) -> Tensor:
    """Reshape (B, H, T, D) to (B, T, C)."""
    return x_BHTD.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention with separate projections, on top of PyTorch's fused kernel.

    `inner` is the width of queries, keys and values, by default `width`; `kv` is the input width of keys and values.
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
        """Attend from queries (B, T, C) to keys and values (B, S, C); returns (B, T, C)."""
        q, k, v = (
            split_heads(proj(x), self.heads)
            for proj, x in ((self.q_proj, q_BTC), (self.k_proj, k_BSC), (self.v_proj, v_BSC))
        )
        out: Tensor = self.out_proj(merge_heads(scaled_dot_product_attention(q, k, v)))
        return out
