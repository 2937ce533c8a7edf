"""Hiera, the hierarchical vision transformer: attention in windows, pooled between stages.

Shapes: B batch, N windows, H height, W width, C channels, A heads, D channels a head, T places.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, max_pool2d, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from masklet.models.sam2.config import HieraConfig
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.layers import MLP

__all__ = ["Hiera"]


def max_pool_2x2(x_BHWC: Tensor) -> Tensor:
    """Two by two maximum."""
    return max_pool2d(x_BHWC.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Pixels to channels at stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=7, stride=4, padding=3)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H/4, W/4, C)."""
        out: Tensor = self.proj(pixels_B3HW)
        return out.permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Self-attention whose queries may be pooled two by two."""

    def __init__(self, inputs: int, outputs: int, heads: int, pool: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(inputs, outputs * 3)
        self.proj = nn.Linear(outputs, outputs)
        self.heads, self.pool = heads, pool

    def forward(self, x_NHWC: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H, W, C'), or half of H and W where pooled."""
        q, k, v = self.qkv(x_NHWC).chunk(3, dim=-1)
        if self.pool:
            q = max_pool_2x2(q)
        q_NATD, k_NATD, v_NATD = (t.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        out = scaled_dot_product_attention(q_NATD, k_NATD, v_NATD).transpose(1, 2).reshape(q.shape)
        projected: Tensor = self.proj(out)
        return projected


class HieraBlock(nn.Module):
    """Attention and MLP with residuals; the first block of a stage widens and pools."""

    def __init__(self, inputs: int, outputs: int, heads: int, window: int, pool: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(inputs, eps=1e-6)
        self.attn = MultiScaleAttention(inputs, outputs, heads, pool)
        self.norm2 = nn.LayerNorm(outputs, eps=1e-6)
        self.mlp = MLP(outputs, outputs * 4, outputs, depth=2, act=gelu)
        self.proj = nn.Linear(inputs, outputs) if inputs != outputs else None
        self.window, self.pool = window, pool

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same, or to half of H and W and more channels."""
        normed = self.norm1(x_BHWC)
        if self.proj is not None:
            widened = self.proj(normed).to(x_BHWC.dtype)  # the residual stays as precise as it came
            x_BHWC = max_pool_2x2(widened) if self.pool else widened
        x_BHWC = x_BHWC + self._attend(normed, (x_BHWC.shape[1], x_BHWC.shape[2]))
        out: Tensor = x_BHWC + self.mlp(self.norm2(x_BHWC))
        return out

    def _attend(self, x_BHWC: Tensor, size: tuple[int, int]) -> Tensor:
        if self.window == 0:
            whole: Tensor = self.attn(x_BHWC)
            return whole
        windows, padded = window_partition(x_BHWC, self.window)
        if self.pool:
            padded = (padded[0] // 2, padded[1] // 2)
        return window_unpartition(self.attn(windows), padded, size)


class Hiera(nn.Module):
    """Four stages at strides 4, 8, 16 and 32.

    With `checkpointing`, blocks keep nothing for the way back but what they were given, and are done again there:
    less memory for about a third more time, and the same gradients. It counts in training mode alone.
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.patch_embed = PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.width, *config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.width, config.windows[0], config.windows[0]))
        self.blocks = nn.ModuleList()
        self.last_blocks: list[int] = []
        previous, number = config.width, 0
        for stage, depth in enumerate(config.depths):
            for i in range(depth):
                window_stage = max(stage - 1, 0) if i == 0 else stage  # the pooling block keeps the finer windows
                window = 0 if number in config.global_blocks else config.windows[window_stage]
                heads, outputs = config.heads << stage, config.channels[stage]
                self.blocks.append(HieraBlock(previous, outputs, heads, window, pool=i == 0 and stage > 0))
                previous, number = outputs, number + 1
            self.last_blocks.append(number - 1)

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) at strides 4, 8, 16, 32."""
        again = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        x = self.patch_embed(pixels_B3HW)
        x = x + self.position_embedding(x.shape[1], x.shape[2])
        maps = []
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if again else block(x)
            if i in self.last_blocks:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def position_embedding(self, height: int, width: int) -> Tensor:
        """(1, height, width, C): a coarse map stretched over the image, a fine one repeated in each window."""
        coarse = interpolate(self.pos_embed.float(), size=(height, width), mode="bicubic")
        side = self.pos_embed_window.shape[-1]
        tiled = self.pos_embed_window.repeat(1, 1, -(-height // side), -(-width // side))
        return (coarse + tiled[..., :height, :width]).to(self.pos_embed.dtype).permute(0, 2, 3, 1)
