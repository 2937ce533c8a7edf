"""The image encoder of SAM: a plain vision transformer with attention in windows and a few global blocks.

The distance between query and key enters attention as two biases, one by rows and one by columns (Li et al. 2021,
arXiv 2112.01526).
Shapes: B batch, H and W of the map, S side of the input, K side of a window, T tokens, C channels, N heads times
batch, D channels per head, J distances along an axis.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from masklet.models.sam1.config import PATCH_SIZE, ViTConfig
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.layers import LayerNorm2d, MLPBlock

__all__ = ["RelativeAttention", "ViT", "ViTBlock", "build_neck"]

EPS = 1e-6
MAX_BIAS_ELEMENTS = {"cpu": 1 << 22}
"""Attention biases computed at once, by device: 16 MB on a CPU, where larger results are newly mapped each time."""
MAX_BIAS_ELEMENTS_DEFAULT = 1 << 26


def build_neck(channels: int, width: int) -> nn.Sequential:
    """Build the neck from a trunk's channels to the decoder's width."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        LayerNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width),
    )


class RelativeAttention(nn.Module):
    """Attention over a map, with relative positions by row and by column."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend within each map (B, H, W, C)."""
        out: Tensor = self.proj(self.attend(self.qkv(x_BHWC)))
        return out

    def attend(self, qkv_BHW3C: Tensor) -> Tensor:
        """Compute attention from queries, keys and values (B, H, W, 3 C); returns (B, H, W, C)."""
        batch, height, width, _ = qkv_BHW3C.shape
        qkv = qkv_BHW3C.reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)  # each (B N, T, D)
        q_NHWD = q.view(-1, height, width, q.shape[-1])
        tables: list[Tensor] = []  # by axis: the entry (length, length, D) of each query and key
        for parameter_JD, length in ((self.rel_pos_h, height), (self.rel_pos_w, width)):
            table_JD: Tensor = parameter_JD
            if len(table_JD) != 2 * length - 1:  # trained for another length
                resized = interpolate(table_JD.t()[None].float(), 2 * length - 1, mode="linear")
                table_JD = resized[0].t().to(table_JD.dtype)
            index = torch.arange(length, device=table_JD.device)
            tables.append(table_JD[index[:, None] - index[None] + length - 1].to(q.dtype))
        rows_HHD, columns_WWD = tables
        by_row_NHWH = q_NHWD @ rows_HHD.transpose(1, 2)
        by_column_NHWW = (q_NHWD.transpose(1, 2) @ columns_WWD.transpose(1, 2)).transpose(1, 2)
        out = torch.empty_like(q)
        limit = MAX_BIAS_ELEMENTS.get(self.rel_pos_h.device.type, MAX_BIAS_ELEMENTS_DEFAULT)
        heads_per_chunk = max(1, limit // (height * width) ** 2)
        rows_per_chunk = max(1, min(height, limit // (height * width * width)))
        for start, row in product(range(0, len(q), heads_per_chunk), range(0, height, rows_per_chunk)):
            heads, strip = slice(start, start + heads_per_chunk), slice(row, min(row + rows_per_chunk, height))
            bias = by_row_NHWH[heads, strip, ..., None] + by_column_NHWW[heads, strip, ..., None, :]
            rows = slice(strip.start * width, strip.stop * width)
            mask = bias.flatten(3).flatten(1, 2)[:, None]
            attended = scaled_dot_product_attention(q[heads, None, rows], k[heads, None], v[heads, None], mask)
            out[heads, rows] = attended[:, 0]
        return out.view(batch, self.heads, height, width, -1).permute(0, 2, 3, 1, 4).flatten(3)


class ViTBlock(nn.Module):
    """Attention in windows of side `window`, or over the full map if it is 0, then an MLP."""

    def __init__(self, config: ViTConfig, window: int, side: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, EPS)
        self.attn = RelativeAttention(config.width, config.heads, window or side)
        self.norm2 = nn.LayerNorm(config.width, EPS)
        self.mlp = MLPBlock(config.width, 4 * config.width, nn.GELU)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Update (B, H, W, C)."""
        normed = self.norm1(x_BHWC)
        if self.window:
            windows, padded = window_partition(normed, self.window)
            attended = window_unpartition(self.attn(windows), padded, (x_BHWC.shape[1], x_BHWC.shape[2]))
        else:
            attended = self.attn(normed)
        x = x_BHWC + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    """Patches, blocks and neck, for inputs of `image_size`; for other sizes the positions are interpolated.

    Example:
        >>> ViT(ViTConfig(64, 2, 2, (1,)), 256, 32)(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 32, 16, 16])
    """

    def __init__(self, config: ViTConfig, image_size: int, width: int) -> None:
        super().__init__()
        side = image_size // PATCH_SIZE
        patches = nn.Conv2d(3, config.width, PATCH_SIZE, PATCH_SIZE)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.width))
        windows = (0 if i in config.global_blocks else config.window for i in range(config.depth))
        self.blocks = nn.ModuleList(ViTBlock(config, window, side) for window in windows)
        self.neck = build_neck(config.width, width)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Encode normalized RGB (B, 3, S, S) as a map (B, C, S / 16, S / 16)."""
        x_BHWC = self.embed_patches(pixels_B3SS)
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        out: Tensor = self.neck(x_BHWC.permute(0, 3, 1, 2))
        return out

    def embed_patches(self, pixels_B3SS: Tensor) -> Tensor:
        """Embed patches and add their positions; returns (B, H, W, C)."""
        x_BHWC: Tensor = self.patch_embed(pixels_B3SS).permute(0, 2, 3, 1)
        size = (x_BHWC.shape[1], x_BHWC.shape[2])
        if self.pos_embed.shape[1:3] == size:
            return x_BHWC + self.pos_embed
        table_1CHW = self.pos_embed.permute(0, 3, 1, 2)
        resized = interpolate(table_1CHW, size, mode="bicubic", align_corners=False)
        return x_BHWC + resized.permute(0, 2, 3, 1)
