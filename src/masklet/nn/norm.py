"""Normalisation over channels.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ChannelNorm"]


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of a channel-first map, at each place by itself.

    Example:
        >>> ChannelNorm(8)(torch.zeros(1, 8, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        return nn.functional.layer_norm(x_BHWC, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
