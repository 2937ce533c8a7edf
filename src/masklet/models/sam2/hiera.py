"""Hiera, the hierarchical vision transformer: attention in windows, pooling between stages.

Shapes: B batch, N windows, H height, W width, C channels, A heads, T tokens, D channels per head.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, max_pool2d, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from masklet.models.sam2.config import HieraConfig
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.layers import MLP

__all__ = ["Hiera"]


def max_pool_2x2(x_BHWC: Tensor) -> Tensor:
    """Max-pool (B, H, W, C) two by two."""
    return max_pool2d(x_BHWC.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Self-attention with optional two by two pooling of the queries."""

    def __init__(self, inputs: int, outputs: int, heads: int, pool: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(inputs, outputs * 3)
        self.proj = nn.Linear(outputs, outputs)
        self.heads, self.pool = heads, pool

    def forward(self, x_NHWC: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H, W, C'), H and W halved if pooled."""
        q, k, v = self.qkv(x_NHWC).chunk(3, dim=-1)
        if self.pool:
            q = max_pool_2x2(q)
        q_NATD, k_NATD, v_NATD = (t.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = scaled_dot_product_attention(q_NATD, k_NATD, v_NATD).transpose(1, 2).reshape(q.shape)
        projected: Tensor = self.proj(out)
        return projected


class HieraBlock(nn.Module):
    """Windowed (or global, `window` 0) attention and an MLP; the first block of a stage widens and pools."""

    def __init__(self, inputs: int, outputs: int, heads: int, window: int, pool: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inputs, eps=1e-6)
        self.attn = MultiScaleAttention(inputs, outputs, heads, pool)
        self.norm2 = nn.LayerNorm(outputs, eps=1e-6)
        self.mlp = MLP(outputs, outputs * 4, outputs, depth=2, act=gelu)
        self.proj = nn.Linear(inputs, outputs) if inputs != outputs else None
        self.window, self.pool = window, pool

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape, or to half of H and W and more channels."""
        normed = self.norm1(x_BHWC)
        if self.proj is not None:
            widened = self.proj(normed).to(x_BHWC.dtype)  # the residual keeps its precision
            x_BHWC = max_pool_2x2(widened) if self.pool else widened
        if self.window == 0:
            attended = self.attn(normed)
        else:
            windows, padded = window_partition(normed, self.window)
            if self.pool:
                padded = (padded[0] // 2, padded[1] // 2)
            attended = window_unpartition(self.attn(windows), padded, (x_BHWC.shape[1], x_BHWC.shape[2]))
        x_BHWC = x_BHWC + attended
        out: Tensor = x_BHWC + self.mlp(self.norm2(x_BHWC))
        return out


class Hiera(nn.Module):
    """Four stages at strides 4, 8, 16 and 32.

    With `gradient_checkpointing`, blocks store only their inputs and are recomputed in the backward pass: less memory
    for about a third more time, and the same gradients. It applies in training mode only.
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        patches = nn.Conv2d(3, config.width, kernel_size=7, stride=4, padding=3)  # they overlap
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, *config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, config.windows[0], config.windows[0]))
        self.blocks = nn.ModuleList()
        self.last_blocks: list[int] = []
        inputs, block_index = config.width, 0
        for stage, depth in enumerate(config.depths):
            for i in range(depth):
                window_stage = max(stage - 1, 0) if i == 0 else stage  # the pooling block keeps the finer windows
                window = 0 if block_index in config.global_blocks else config.windows[window_stage]
                heads, outputs = config.heads << stage, config.channels[stage]
                self.blocks.append(HieraBlock(inputs, outputs, heads, window, pool=i == 0 and stage > 0))
                inputs, block_index = outputs, block_index + 1
            self.last_blocks.append(block_index - 1)

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32."""
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        x = self.patch_embed(pixels_B3HW).permute(0, 2, 3, 1)
        x = x + self.position_embedding(x.shape[1], x.shape[2])
        maps = []
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if recompute else block(x)
            if i in self.last_blocks:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def position_embedding(self, height: int, width: int) -> Tensor:
        """Return (1, height, width, C): a coarse map interpolated to this size plus a fine map tiled over windows."""
        coarse = interpolate(self.pos_embed.float(), size=(height, width), mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        tiled = self.pos_embed_window.repeat(1, 1, -(-height // side), -(-width // side))
        return (coarse + tiled[..., :height, :width]).to(self.pos_embed.dtype).permute(0, 2, 3, 1)
