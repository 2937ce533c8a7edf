"""The image encoder of MobileSAM: TinyViT, convolutions first, then attention in windows.

Shapes: B batch, C channels, H and W of the map, S side of the input, K side of a window, T = K K tokens of a window,
N heads, D channels per head.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from masklet.models.sam1.config import TinyViTConfig
from masklet.models.sam1.vit import build_neck
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.layers import ConvBN

__all__ = ["NormedMLP", "TinyViT"]


class MBConv(nn.Module):
    """Inverted bottleneck of MobileNet v2: expand to `inner` channels, depthwise with `stride`, project to `outputs`.

    With `residual`, its input is added and an activation follows; without, it leads to the next stage.
    """

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int = 1, *, residual: bool) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, inner)
        self.conv2 = ConvBN(inner, inner, 3, stride, groups=inner)
        self.conv3 = ConvBN(inner, outputs)
        self.residual = residual

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y_BCHW: Tensor = self.conv3(gelu(self.conv2(gelu(self.conv1(x_BCHW)))))
        return gelu(x_BCHW + y_BCHW) if self.residual else y_BCHW


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


class NormedMLP(nn.Sequential):
    """Normalization, then two linear layers; maps (..., C) to the same shape."""

    norm: nn.LayerNorm
    fc1: nn.Linear
    fc2: nn.Linear

    def __init__(self, width: int, hidden: int) -> None:
        norm, widen, narrow = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(OrderedDict(norm=norm, fc1=widen, act=nn.GELU(), fc2=narrow))


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


class TinyViT(nn.Module):
    """Four stages at strides 4, 8, 16 and 16, and the neck.

    Example:
        >>> TinyViT(TinyViTConfig(), 256)(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 256, 16, 16])
    """

    def __init__(self, config: TinyViTConfig, width: int) -> None:
        super().__init__()
        channels, expansion = config.channels, config.expansion
        c0 = channels[0]
        stem = nn.Sequential(ConvBN(3, c0 // 2, 3, 2), nn.GELU(), ConvBN(c0 // 2, c0, 3, 2))
        self.patch_embed = nn.Sequential(OrderedDict(seq=stem))
        self.layers = nn.Sequential()
        for i, depth in enumerate(config.depths):
            blocks: list[nn.Module] = [
                TinyViTBlock(channels[i], config.heads[i], config.windows[i], expansion)
                if i
                else MBConv(c0, c0 * expansion, c0, residual=True)
                for _ in range(depth)
            ]
            stage = OrderedDict[str, nn.Module](blocks=nn.Sequential(*blocks))
            if i < 3:
                outputs, stride = channels[i + 1], 1 if i == 2 else 2
                stage["downsample"] = MBConv(channels[i], outputs, outputs, stride, residual=False)
            self.layers.append(nn.Sequential(stage))
        self.norm_head = nn.LayerNorm(channels[3])
        self.head = nn.Linear(channels[3], config.classes)
        self.neck = build_neck(channels[3], width)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Encode normalized RGB (B, 3, S, S) as a map (B, C, S / 16, S / 16)."""
        out: Tensor = self.neck(self.layers(self.patch_embed(pixels_B3SS)))
        return out
