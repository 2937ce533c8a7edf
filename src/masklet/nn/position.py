"""Position encodings: random Fourier features for prompts, sines for maps and times.

Coordinates are fractions of the image in 0..1, x before y; a cell of a map lies at its center.
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["FourierPositionEncoding", "sine_position_1d", "sine_position_2d"]


class FourierPositionEncoding(nn.Module):
    """Random Fourier features (Tancik et al. 2020) of points and of the cells of a map."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode coordinates (..., 2) as (..., C), in fp32."""
        angle = 2 * math.pi * ((2 * xy.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def grid(self, height: int, width: int) -> Tensor:
        """Encode the center of every cell of a map; returns (1, C, height, width)."""
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        cells = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        out: Tensor = self(cells)
        return out.permute(2, 0, 1)[None]


def sine_position_2d(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Encode the cells of a map by sines and cosines of y, then of x, over one period (Carion et al. 2020).

    Returns (1, C, height, width).
    """
    half = channels // 2
    exponent = 2 * (torch.arange(half, device=device) // 2).float() / half
    wavelength = 10000.0**exponent

    axes = []
    for count in (height, width):
        phase = torch.arange(1, count + 1, device=device).float() / (count + 1e-6) * 2 * math.pi
        angle = phase[:, None] / wavelength
        axes.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1))
    y = axes[0][:, None].expand(-1, width, -1)
    x = axes[1][None].expand(height, -1, -1)
    return torch.cat([y, x], dim=-1).permute(2, 0, 1)[None]


def sine_position_1d(values_N: Tensor, channels: int) -> Tensor:
    """Encode numbers (N,) as (N, C): sines, then cosines, of geometric wavelengths (Vaswani et al. 2017)."""
    half = channels // 2
    exponent = 2 * (torch.arange(half, device=values_N.device) // 2).float() / half
    angle_NC = values_N.float()[:, None] / 10000.0**exponent
    return torch.cat([angle_NC.sin(), angle_NC.cos()], dim=-1)
