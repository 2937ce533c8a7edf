"""The image encoder of MobileSAM: TinyViT, convolutions first, then attention in windows.

Shapes: B batch, C channels, H and W of the map, K side of a window, T places of a window, N heads, D channels a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from masklet.models.sam1.config import TinyViTConfig
from masklet.models.sam1.vit import build_neck
from masklet.nn.attention import window_partition, window_unpartition

__all__ = ["ConvBN", "NormedMLP", "TinyViT"]


class ConvBN(nn.Module):
    """A convolution and batch normalization, which may be one once the weights no longer change."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        out: Tensor = self.bn(self.c(x_BCHW))
        return out


class PatchEmbed(nn.Module):
    """Two convolutions that halve the image twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, channels // 2, 3, 2), nn.GELU(), ConvBN(channels // 2, channels, 3, 2))

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, C, S / 4, S / 4)."""
        out: Tensor = self.seq(pixels_B3SS)
        return out


class MBConv(nn.Module):
    """Wider, each channel by itself, narrower, and what came in added (the MBConv of MobileNet v2)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.conv1 = ConvBN(channels, inner)
        self.conv2 = ConvBN(inner, inner, 3, groups=inner)
        self.conv3 = ConvBN(inner, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return gelu(x_BCHW + self.conv3(gelu(self.conv2(gelu(self.conv1(x_BCHW))))))


class PatchMerging(nn.Module):
    """To the channels of the next stage, and half the side where `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        out: Tensor = self.conv3(gelu(self.conv2(gelu(self.conv1(x_BCHW)))))
        return out


class WindowAttention(nn.Module):
    """Attention within a window, with a learned bias for every distance in rows and columns."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) to the same shape; B counts windows."""
        qkv = self.qkv(self.norm(x_BTC)).unflatten(-1, (self.heads, 3, -1))  # each head has its q, k and v side by side
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        bias_NTT = self.attention_biases[:, self._bias_indices()].to(q.dtype)
        seen = scaled_dot_product_attention(q, k, v, bias_NTT[None])
        out: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return out

    def _bias_indices(self) -> Tensor:
        """(T, T): which bias is between two places: rows apart times the side, and columns apart."""
        place = torch.arange(self.side * self.side, device=self.attention_biases.device)
        row, column = place // self.side, place % self.side
        return (row[:, None] - row).abs() * self.side + (column[:, None] - column).abs()


class NormedMLP(nn.Module):
    """Normalization and two linear layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        out: Tensor = self.fc2(gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Attention in windows, a convolution of each channel by itself, an MLP."""

    def __init__(self, width: int, heads: int, window: int, expansion: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.mlp = NormedMLP(width, width * expansion)
        self.local_conv = ConvBN(width, width, 3, groups=width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        windows, padded = window_partition(x_BHWC, self.window)
        seen = self.attn(windows.flatten(1, 2)).view(windows.shape)
        x_BHWC = x_BHWC + window_unpartition(seen, padded, (x_BHWC.shape[1], x_BHWC.shape[2]))
        x_BHWC = self.local_conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = (x_BHWC + self.mlp(x_BHWC)).permute(0, 3, 1, 2)
        return out


class Stage(nn.Module):
    """Blocks, and the way to the next stage."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to what the next stage sees."""
        for block in self.blocks:
            x_BCHW = block(x_BCHW)
        return x_BCHW if self.downsample is None else self.downsample(x_BCHW)


class TinyViT(nn.Module):
    """Four stages at strides 4, 8, 16 and 16, and the neck.

    Example:
        >>> TinyViT(TinyViTConfig(), 256)(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 256, 16, 16])
    """

    def __init__(self, config: TinyViTConfig, width: int) -> None:
        super().__init__()
        channels = config.channels
        self.patch_embed = PatchEmbed(channels[0])
        self.layers = nn.ModuleList(self._stage(config, i) for i in range(4))
        self.norm_head = nn.LayerNorm(channels[3])
        self.head = nn.Linear(channels[3], config.classes)
        self.neck = build_neck(channels[3], width)

    @staticmethod
    def _stage(config: TinyViTConfig, i: int) -> Stage:
        channels, count, grow = config.channels, config.depths[i], config.expansion
        blocks: list[nn.Module] = [
            MBConv(channels[0], grow) if i == 0 else TinyViTBlock(channels[i], config.heads[i], config.windows[i], grow)
            for _ in range(count)
        ]
        return Stage(blocks, PatchMerging(channels[i], channels[i + 1], 1 if i == 2 else 2) if i < 3 else None)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Normalized RGB (B, 3, S, S) to a map (B, C, S / 16, S / 16)."""
        x_BCHW = self.patch_embed(pixels_B3SS)
        for layer in self.layers:
            x_BCHW = layer(x_BCHW)
        out: Tensor = self.neck(x_BCHW)
        return out
