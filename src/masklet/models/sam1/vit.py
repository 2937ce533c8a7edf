"""The image encoder of SAM: a plain vision transformer, most of whose blocks look at windows.

Where a key lies as seen from its query is added to attention as two terms, one for the rows between them and one for
the columns (Li et al. 2021, arXiv 2112.01526).
Shapes: B batch, H and W of the map, K side of a window, T places, C channels, N heads, D channels a head, J how far
apart two places can be.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from masklet.models.sam1.config import PATCH_SIZE, ViTConfig
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.layers import LayerNorm2d, MLPBlock

__all__ = ["RelativeAttention", "ViT", "ViTBlock", "build_neck"]

EPS = 1e-6
MAX_BIAS_ELEMENTS = {"cpu": 1 << 22}
"""Values of relative position that are laid out at once: 16 MB, as more are new pages of memory each time."""
MAX_BIAS_ELEMENTS_DEFAULT = 1 << 26


def build_neck(channels: int, width: int) -> nn.Sequential:
    """From a trunk's channels to those of the decoder."""
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
        """(B, H, W, C) to the same shape."""
        out: Tensor = self.proj(self.attend(self.qkv(x_BHWC)))
        return out

    def attend(self, qkv_BHW3C: Tensor) -> Tensor:
        """Queries, keys and values (B, H, W, 3 C) to what was seen (B, H, W, C)."""
        batch, height, width, _ = qkv_BHW3C.shape
        qkv = qkv_BHW3C.reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2)  # each (B N, T, D)
        rows, columns = self._decomposed_rel_pos(q.view(-1, height, width, q.shape[-1]))
        seen = torch.empty_like(q)
        for some, strip in self._bias_chunks(len(q), height, width):
            bias = rows[some, strip, ..., None] + columns[some, strip, ..., None, :]
            part = slice(strip.start * width, strip.stop * width)
            mask = bias.flatten(3).flatten(1, 2)[:, None]
            seen[some, part] = scaled_dot_product_attention(q[some, None, part], k[some, None], v[some, None], mask)[
                :, 0
            ]
        return seen.view(batch, self.heads, height, width, -1).permute(0, 2, 3, 1, 4).flatten(3)

    def _bias_chunks(self, count: int, height: int, width: int) -> Iterator[tuple[slice, slice]]:
        """Heads and rows of queries whose relative positions are laid out together."""
        limit = MAX_BIAS_ELEMENTS.get(self.rel_pos_h.device.type, MAX_BIAS_ELEMENTS_DEFAULT)
        heads = max(1, limit // (height * width) ** 2)
        strip = max(1, min(height, limit // (height * width * width)))
        for start in range(0, count, heads):
            for row in range(0, height, strip):
                yield slice(start, start + heads), slice(row, min(row + strip, height))

    def _decomposed_rel_pos(self, q_NHWD: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, H) of rows and (N, H, W, W) of columns: what each query adds for every row and column of keys."""
        rows_HHD = _get_rel_pos(self.rel_pos_h, q_NHWD.shape[1]).to(q_NHWD.dtype)
        columns_WWD = _get_rel_pos(self.rel_pos_w, q_NHWD.shape[2]).to(q_NHWD.dtype)
        by_row = q_NHWD @ rows_HHD.transpose(1, 2)
        by_column = (q_NHWD.transpose(1, 2) @ columns_WWD.transpose(1, 2)).transpose(1, 2)
        return by_row, by_column


def _get_rel_pos(table_JD: Tensor, length: int) -> Tensor:
    """(length, length, D): the entry for every query and key along an axis; another length stretches the table."""
    wanted = 2 * length - 1
    if len(table_JD) != wanted:
        table_JD = interpolate(table_JD.t()[None].float(), wanted, mode="linear")[0].t().to(table_JD.dtype)
    place = torch.arange(length, device=table_JD.device)
    return table_JD[place[:, None] - place[None] + length - 1]


class ViTBlock(nn.Module):
    """Attention in windows of a side, or over the whole map where it is 0, then an MLP."""

    def __init__(self, config: ViTConfig, window: int, side: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.width, EPS)
        self.attn = RelativeAttention(config.width, config.heads, window or side)
        self.norm2 = nn.LayerNorm(config.width, EPS)
        self.mlp = MLPBlock(config.width, 4 * config.width, gelu)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        x = x_BHWC + self._attend(self.norm1(x_BHWC))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, x_BHWC: Tensor) -> Tensor:
        if not self.window:
            seen: Tensor = self.attn(x_BHWC)
            return seen
        windows, padded = window_partition(x_BHWC, self.window)
        return window_unpartition(self.attn(windows), padded, (x_BHWC.shape[1], x_BHWC.shape[2]))


class PatchEmbed(nn.Module):
    """Every patch of the input as one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH_SIZE, PATCH_SIZE)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, H, W, C)."""
        patches: Tensor = self.proj(pixels_B3SS)
        return patches.permute(0, 2, 3, 1)


class ViT(nn.Module):
    """Patches, blocks and neck, for inputs of `image_size`; others have their positions stretched.

    Example:
        >>> ViT(ViTConfig(64, 2, 2, (1,)), 256, 32)(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 32, 16, 16])
    """

    def __init__(self, config: ViTConfig, image_size: int, width: int) -> None:
        super().__init__()
        side = image_size // PATCH_SIZE
        self.patch_embed = PatchEmbed(config.width)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, config.width))
        windows = (0 if i in config.global_blocks else config.window for i in range(config.depth))
        self.blocks = nn.ModuleList(ViTBlock(config, window, side) for window in windows)
        self.neck = build_neck(config.width, width)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Normalized RGB (B, 3, S, S) to a map (B, C, S / 16, S / 16)."""
        x_BHWC = self.embed_patches(pixels_B3SS)
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        out: Tensor = self.neck(x_BHWC.permute(0, 3, 1, 2))
        return out

    def embed_patches(self, pixels_B3SS: Tensor) -> Tensor:
        """Patches with their positions, (B, H, W, C)."""
        x_BHWC: Tensor = self.patch_embed(pixels_B3SS)
        return x_BHWC + self._position_embedding((x_BHWC.shape[1], x_BHWC.shape[2]))

    def _position_embedding(self, size: tuple[int, int]) -> Tensor:
        if self.pos_embed.shape[1:3] == size:
            return self.pos_embed
        table_1CHW = self.pos_embed.permute(0, 3, 1, 2)
        return interpolate(table_1CHW, size, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
