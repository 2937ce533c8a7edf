"""Normalization over channels, normalized convolutions, and stacks of linear layers.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["MLP", "ConvBN", "LayerNorm2d", "MLPBlock"]


class LayerNorm2d(nn.Module):
    """Layer normalization over the channels of a channel-first map, at each position by itself.

    Example:
        >>> LayerNorm2d(8)(torch.zeros(1, 8, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return nn.functional.layer_norm(x_BHWC, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class MLP(nn.Module):
    """`depth` linear layers with `act` between them and nothing after the last.

    Example:
        >>> MLP(4, 8, 2, depth=3)(torch.zeros(1, 4)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        depth: int,
        act: Callable[[Tensor], Tensor] = nn.functional.relu,
    ) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        for layer in self.layers[:-1]:
            x = self.act(layer(x))
        last: Tensor = self.layers[-1](x)
        return last


class MLPBlock(nn.Sequential):
    """An `MLP` of depth two whose tensors have the names of SAM 1; maps (..., width) to the same shape."""

    lin1: nn.Linear
    lin2: nn.Linear

    def __init__(self, width: int, hidden: int, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        super().__init__(OrderedDict(lin1=widen, act=act(), lin2=narrow))


class ConvBN(nn.Sequential):
    """A convolution without bias, then batch normalization: (B, C, H, W) to (B, C', H / stride, W / stride)."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(outputs)))

    def fold(self) -> nn.Conv2d:
        """Return one convolution with frozen weights that computes convolution and batch normalization."""
        conv, norm = copy.deepcopy(self.c), self.bn
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        weight, bias = fuse_conv_bn_weights(conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
        conv.weight, conv.bias = nn.Parameter(weight.detach(), False), nn.Parameter(bias.detach(), False)
        return conv
