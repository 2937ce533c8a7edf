"""The feature pyramid: every stage projected to one width, the coarsest added to the next.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["FpnNeck"]


class Lateral(nn.Module):
    """A 1 x 1 convolution under its published name."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        out: Tensor = self.conv(x_BCHW)
        return out


class FpnNeck(nn.Module):
    """Lateral convolutions, with stride 32 upsampled and added to stride 16."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(c, width) for c in reversed(channels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map strides 4, 8, 16, 32 to one width; return strides 16, 8 and 4."""
        s4, s8, s16, s32 = maps
        coarse, middle, fine, finest = self.convs
        up = interpolate(coarse(s32).float(), scale_factor=2.0, mode="nearest").to(s16.dtype)
        return middle(s16) + up, fine(s8), finest(s4)
