"""Building blocks of YOLOv8, with attributes named as published, so that published tensors load by name.

Shapes: B batch, C channels, H height, W width, M prototypes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, silu
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["SPPF", "C2f", "ConvBlock", "Prototypes"]

EPS = 1e-3
"""Epsilon of every batch normalization, as the published networks were trained."""


class ConvBlock(nn.Module):
    """Convolution, batch normalization and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs, eps=EPS, momentum=0.03)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = self.conv(x_BCHW)
        if self.bn is not None:
            y = self.bn(y)
        return silu(y, inplace=True)

    def fold(self) -> None:
        """Fold the normalization into the convolution; in evaluation mode both are one affine map."""
        if self.bn is None:
            return
        bn = self.bn
        assert bn.running_mean is not None
        assert bn.running_var is not None
        self.conv.weight, self.conv.bias = fuse_conv_bn_weights(
            self.conv.weight, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        self.bn = None


class YOLOBottleneck(nn.Module):
    """Two 3 x 3 blocks with an optional residual."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = ConvBlock(channels, channels, 3)
        self.cv2 = ConvBlock(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        y: Tensor = self.cv2(self.cv1(x_BCHW))
        return x_BCHW + y if self.shortcut else y


class C2f(nn.Module):
    """Half of the channels pass through successive bottlenecks; all intermediate results are concatenated."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = ConvBlock(inputs, 2 * half)
        self.cv2 = ConvBlock((2 + depth) * half, outputs)
        self.m = nn.ModuleList(YOLOBottleneck(half, shortcut) for _ in range(depth))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        parts = list(self.cv1(x_BCHW).chunk(2, dim=1))
        for bottleneck in self.m:
            parts.append(bottleneck(parts[-1]))
        out: Tensor = self.cv2(torch.cat(parts, dim=1))
        return out


class SPPF(nn.Module):
    """The map concatenated with its maxima over windows of 5, 9 and 13, by one pooling applied three times."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = ConvBlock(channels, channels // 2)
        self.cv2 = ConvBlock(channels // 2 * 4, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        parts = [self.cv1(x_BCHW)]
        for _ in range(3):
            parts.append(max_pool2d(parts[-1], 5, stride=1, padding=2))
        out: Tensor = self.cv2(torch.cat(parts, dim=1))
        return out


class Prototypes(nn.Sequential):
    """Prototype maps at stride 4; every mask is a weighted sum of them.

    Maps stride 8, (B, C, H, W), to (B, M, 2H, 2W).
    """

    def __init__(self, inputs: int, channels: int, prototypes: int) -> None:
        layers = OrderedDict[str, nn.Module](cv1=ConvBlock(inputs, channels, 3))
        layers["upsample"] = nn.ConvTranspose2d(channels, channels, 2, 2)
        layers["cv2"] = ConvBlock(channels, channels, 3)
        layers["cv3"] = ConvBlock(channels, prototypes)
        super().__init__(layers)
