"""Rotary position encoding over the two axes of a map (Heo et al. 2024), in real arithmetic.

The first half of a head's channels turns with x, the second with y; neighbours 2i, 2i + 1 form a plane.
Shapes: B batch, H heads, T places, D channels a head, P = D / 2 planes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["axial_rotation", "rotate"]


def axial_rotation(
    height: int, width: int, channels: int, theta: float = 10000.0, device: torch.device | None = None
) -> Tensor:
    """Cosine and sine (2, height * width, channels / 2) of every place and plane, row by row, fp32."""
    speeds = 1.0 / theta ** (torch.arange(0, channels, 4, device=device)[: channels // 4].float() / channels)
    place = torch.arange(height * width, device=device)
    x, y = (place % width).float(), (place // width).float()
    angle_TP = torch.cat([torch.outer(x, speeds), torch.outer(y, speeds)], dim=-1)
    return torch.stack([angle_TP.cos(), angle_TP.sin()])


def rotate(x_BHTD: Tensor, rotation_2TP: Tensor) -> Tensor:
    """Turn every plane of (B, H, T, D) by its place's angle; longer T repeats the map."""
    repeats = x_BHTD.shape[-2] // rotation_2TP.shape[1]
    cos, sin = rotation_2TP.repeat(1, repeats, 1) if repeats > 1 else rotation_2TP
    even, odd = x_BHTD.float().reshape(*x_BHTD.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x_BHTD.dtype)
