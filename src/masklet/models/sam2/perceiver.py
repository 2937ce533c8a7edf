"""The 2D perceiver of EdgeTAM: a memory map becomes few tokens (Zhou et al. 2025, arXiv 2501.07256).

Two sets of learned latents pass through the same layers. The first set attends to the entire map, with positions. Of
the second, each latent attends to its window of the map and then to itself alone, so that it keeps a place.
Shapes: B objects, M memory channels, H and W of the map, G rows and columns of windows, L latents, S tokens they attend
to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from masklet.models.sam2.config import PerceiverConfig
from masklet.nn.position import sine_position_2d

__all__ = ["SpatialPerceiver"]


class LatentAttention(nn.Module):
    """Single-head attention without biases; a position is added to projected keys and values alike, as published."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_kv = nn.Linear(channels, 2 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)

    def attend(self, latents_BLM: Tensor, x_BSM: Tensor, position_1SM: Tensor | None = None) -> Tensor:
        """Attend from latents (B, L, M) to (B, S, M); returns (B, L, M)."""
        keys_BSM, values_BSM = self.to_kv(x_BSM).chunk(2, dim=-1)
        if position_1SM is not None:
            keys_BSM, values_BSM = keys_BSM + position_1SM, values_BSM + position_1SM
        query, key, value = (t[:, None] for t in (self.to_q(latents_BLM), keys_BSM, values_BSM))
        out: Tensor = self.to_out(scaled_dot_product_attention(query, key, value)[:, 0])
        return out


class LatentCrossAttention(LatentAttention):
    """Attention from latents to the memory, both normalized first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm_x = nn.LayerNorm(channels)
        self.norm_latents = nn.LayerNorm(channels)

    def forward(self, latents_BLM: Tensor, x_BSM: Tensor, position_1SM: Tensor | None) -> Tensor:
        """Attend from latents (B, L, M) to (B, S, M)."""
        return self.attend(self.norm_latents(latents_BLM), self.norm_x(x_BSM), position_1SM)


class LatentSelfAttention(LatentAttention):
    """Attention among latents, normalized first."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, latents_BLM: Tensor) -> Tensor:
        """Attend within (B, L, M)."""
        normed = self.norm(latents_BLM)
        return self.attend(normed, normed)


class PerceiverLayer(nn.Module):
    """Cross-attention, MLP, self-attention, MLP; each with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = LatentCrossAttention(channels)
        self.ff = _feed_forward(channels)
        self.self_attn = LatentSelfAttention(channels)
        self.self_ff = _feed_forward(channels)

    def forward(self, latents_BLM: Tensor, x_BSM: Tensor, position_1SM: Tensor | None) -> Tensor:
        """Update latents (B, L, M) from (B, S, M)."""
        latents_BLM = latents_BLM + self.attn(latents_BLM, x_BSM, position_1SM)
        latents_BLM = latents_BLM + self.ff(latents_BLM)
        latents_BLM = latents_BLM + self.self_attn(latents_BLM)
        out: Tensor = latents_BLM + self.self_ff(latents_BLM)
        return out


class SpatialPerceiver(nn.Module):
    """Two sets of latents through the same layers, and one normalization.

    Example:
        >>> SpatialPerceiver(PerceiverConfig(), 64)(torch.zeros(1, 64, 32, 32)).shape
        torch.Size([1, 64, 32, 16])
    """

    def __init__(self, config: PerceiverConfig, channels: int) -> None:
        super().__init__()
        self.grid_side = config.grid_side
        self.latents = nn.Parameter(torch.randn(config.global_latents, channels))
        self.latents_2d = nn.Parameter(torch.randn(config.grid_side**2, channels))
        self.layers = nn.ModuleList(PerceiverLayer(channels) for _ in range(config.layers))
        self.norm = nn.LayerNorm(channels)

    def forward(self, memory_BMHW: Tensor) -> Tensor:
        """Compress (B, M, H, W), sides multiples of G, to (B, M, rows, G).

        Rows of tokens: first the latents of the entire map in their order, then one row for each row of windows.
        """
        batch, channels, height, width = memory_BMHW.shape
        side = self.grid_side
        assert height % side == 0 == width % side, f"a memory of {height} x {width} has no {side} x {side} windows"
        position_1SM = sine_position_2d(height, width, channels, memory_BMHW.device).flatten(2).transpose(1, 2)
        position_1SM, tokens_BSM = position_1SM.to(memory_BMHW), memory_BMHW.flatten(2).transpose(1, 2)
        anywhere_BLM = self.latents.expand(batch, -1, -1)
        windows = torch.unflatten(torch.unflatten(memory_BMHW, 3, (side, -1)), 2, (side, -1))
        windows_NSM = windows.permute(0, 2, 4, 3, 5, 1).reshape(batch * side**2, -1, channels)
        placed_N1M = self.latents_2d.repeat(batch, 1)[:, None]
        for layer in self.layers:
            anywhere_BLM = layer(anywhere_BLM, tokens_BSM, position_1SM)
            placed_N1M = layer(placed_N1M, windows_NSM, None)
        both_BLM = torch.cat([anywhere_BLM, placed_N1M.view(batch, -1, channels)], dim=1)
        normed: Tensor = self.norm(both_BLM)
        return torch.unflatten(normed.transpose(1, 2), 2, (-1, side))


def _feed_forward(channels: int) -> nn.Sequential:
    widen, narrow = nn.Linear(channels, 4 * channels, bias=False), nn.Linear(4 * channels, channels, bias=False)
    return nn.Sequential(nn.LayerNorm(channels), widen, nn.GELU(), narrow)
