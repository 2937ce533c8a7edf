"""The image encoder of MobileSAM: TinyViT, convolutions first, then attention in windows.

Shapes: B batch, C channels, H and W of the map, S side of the input, K side of a window, T = K K tokens of a window,
N heads, D channels per head.
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
    """A convolution without bias, then batch normalization."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        out: Tensor = self.bn(self.c(x_BCHW))
        return out


class TinyViTPatchEmbed(nn.Module):
    """Two strided convolutions to stride 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, channels // 2, 3, 2), nn.GELU(), ConvBN(channels // 2, channels, 3, 2))

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Embed (B, 3, S, S) as (B, C, S / 4, S / 4)."""
        out: Tensor = self.seq(pixels_B3SS)
        return out


class MBConv(nn.Module):
    """Inverted bottleneck of MobileNet v2: expand, depthwise, project, with a residual."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.conv1 = ConvBN(channels, inner)
        self.conv2 = ConvBN(inner, inner, 3, groups=inner)
        self.conv3 = ConvBN(inner, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        return gelu(x_BCHW + self.conv3(gelu(self.conv2(gelu(self.conv1(x_BCHW))))))


class PatchMerging(nn.Module):
    """Convolutions to the channels of the next stage, with `stride` 1 or 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        out: Tensor = self.conv3(gelu(self.conv2(gelu(self.conv1(x_BCHW)))))
        return out


class WindowAttention(nn.Module):
    """Attention within a window, with a learned bias for each pair of row and column distances."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side * side))

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Attend within windows (B, T, C); B counts windows."""
        qkv = self.qkv(self.norm(x_BTC)).unflatten(-1, (self.heads, 3, -1))  # each head has its q, k and v side by side
        q, k, v = qkv.permute(3, 0, 2, 1, 4)
        token = torch.arange(self.side * self.side, device=self.attention_biases.device)
        row, column = token // self.side, token % self.side
        index_TT = (row[:, None] - row).abs() * self.side + (column[:, None] - column).abs()
        bias_NTT = self.attention_biases[:, index_TT].to(q.dtype)
        attended = scaled_dot_product_attention(q, k, v, bias_NTT[None])
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class NormedMLP(nn.Module):
    """Normalization, then two linear layers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to the same shape."""
        out: Tensor = self.fc2(gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Attention in windows, a depthwise convolution, and an MLP."""

    def __init__(self, width: int, heads: int, window: int, expansion: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.mlp = NormedMLP(width, width * expansion)
        self.local_conv = ConvBN(width, width, 3, groups=width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        windows, padded = window_partition(x_BHWC, self.window)
        attended = self.attn(windows.flatten(1, 2)).view(windows.shape)
        x_BHWC = x_BHWC + window_unpartition(attended, padded, (x_BHWC.shape[1], x_BHWC.shape[2]))
        x_BHWC = self.local_conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = (x_BHWC + self.mlp(x_BHWC)).permute(0, 3, 1, 2)
        return out


class TinyViTStage(nn.Module):
    """Blocks, then the downsampling to the next stage (None after the last)."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the input of the next stage."""
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
        channels, expansion = config.channels, config.expansion
        self.patch_embed = TinyViTPatchEmbed(channels[0])
        self.layers = nn.ModuleList()
        for i, depth in enumerate(config.depths):
            blocks: list[nn.Module] = [
                TinyViTBlock(channels[i], config.heads[i], config.windows[i], expansion)
                if i
                else MBConv(channels[0], expansion)
                for _ in range(depth)
            ]
            downsample = PatchMerging(channels[i], channels[i + 1], 1 if i == 2 else 2) if i < 3 else None
            self.layers.append(TinyViTStage(blocks, downsample))
        self.norm_head = nn.LayerNorm(channels[3])
        self.head = nn.Linear(channels[3], config.classes)
        self.neck = build_neck(channels[3], width)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Encode normalized RGB (B, 3, S, S) as a map (B, C, S / 16, S / 16)."""
        x_BCHW = self.patch_embed(pixels_B3SS)
        for layer in self.layers:
            x_BCHW = layer(x_BCHW)
        out: Tensor = self.neck(x_BCHW)
        return out
