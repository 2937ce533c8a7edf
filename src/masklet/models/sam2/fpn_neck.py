"""The feature pyramid: every stage projected to one width, the coarsest added to the next.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

__all__ = ["FpnNeck"]


class FpnNeck(nn.Module):
    """Lateral convolutions, with stride 32 upsampled and added to stride 16."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        laterals = (nn.Conv2d(inputs, width, 1) for inputs in reversed(channels))
        self.convs = nn.ModuleList(nn.Sequential(OrderedDict(conv=lateral)) for lateral in laterals)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map strides 4, 8, 16, 32 to one width; return strides 16, 8 and 4."""
        s4, s8, s16, s32 = maps
        coarse, middle, fine, finest = self.convs
        up = interpolate(coarse(s32).float(), scale_factor=2.0, mode="nearest").to(s16.dtype)
        return middle(s16) + up, fine(s8), finest(s4)
