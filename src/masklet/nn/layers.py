"""Normalization over channels, and stacks of linear layers.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["MLP", "LayerNorm2d", "MLPBlock"]


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
