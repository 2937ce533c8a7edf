"""The memory encoder: a frame's features and its mask become one memory.

Shapes: B objects, C channels, H and W of the stride-16 map, M memory channels.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from masklet.nn.layers import LayerNorm2d

__all__ = ["MemoryEncoder"]


class FuserBlock(nn.Module):
    """Depthwise convolution and MLP with a scaled residual (ConvNeXt, Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, width * 4)
        self.pwconv2 = nn.Linear(width * 4, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        y_BHWC: Tensor = self.norm(self.dwconv(x_BCHW)).permute(0, 2, 3, 1)
        y_BHWC = self.gamma * self.pwconv2(gelu(self.pwconv1(y_BHWC)))
        return x_BCHW + y_BHWC.permute(0, 3, 1, 2)


class MemoryEncoder(nn.Module):
    """Features plus mask, fused and projected to the channels of a memory."""

    def __init__(self, width: int, channels: int, blocks: int) -> None:
        super().__init__()
        downsampling: list[nn.Module] = []  # four strided convolutions from a mask to stride 16
        for inputs in (1, 4, 16, 64):
            downsampling += [nn.Conv2d(inputs, inputs * 4, 3, 2, 1), LayerNorm2d(inputs * 4), nn.GELU()]
        downsampling.append(nn.Conv2d(256, width, 1))
        self.mask_downsampler = nn.Sequential(OrderedDict(encoder=nn.Sequential(*downsampling)))
        self.pix_feat_proj = nn.Conv2d(width, width, 1)
        layers = nn.Sequential(*(FuserBlock(width) for _ in range(blocks)))
        self.fuser = nn.Sequential(OrderedDict(layers=layers))
        self.out_proj = nn.Conv2d(width, channels, 1)

    def forward(self, features_BCHW: Tensor, mask_B1HW: Tensor) -> Tensor:
        """Encode features (B, C, H, W) and a mask (B, 1, 16 H, 16 W), scaled by the caller, as (B, M, H, W)."""
        mixed = self.pix_feat_proj(features_BCHW) + self.mask_downsampler(mask_B1HW)
        out: Tensor = self.out_proj(self.fuser(mixed))
        return out
