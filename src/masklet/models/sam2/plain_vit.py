"""The trunk and neck of EfficientTAM: a plain vision transformer at one stride (arXiv 2411.18933).

Its blocks are those of Hiera without pooling, and have the same names.
Shapes: B batch, H and W of the map at stride 16, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from masklet.models.sam2.config import PlainViTConfig
from masklet.models.sam2.hiera import HieraBlock
from masklet.nn.layers import LayerNorm2d

__all__ = ["PlainViT", "PlainViTNeck"]

PATCH_SIZE = 16


class PlainViT(nn.Module):
    """Patches and blocks; windows are padded with zeros, which are attended to, as published.

    `gradient_checkpointing` is that of `Hiera`.

    Example:
        >>> PlainViT(PlainViTConfig(depth=1))(torch.zeros(1, 3, 64, 64))[0].shape
        torch.Size([1, 192, 4, 4])
    """

    def __init__(self, config: PlainViTConfig) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        patches = nn.Conv2d(3, config.width, PATCH_SIZE, PATCH_SIZE)
        self.patch_embed = nn.Sequential(OrderedDict(proj=patches))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.position_side**2, config.width))
        windows = (0 if i in config.global_blocks else config.window for i in range(config.depth))
        width, heads = config.width, config.heads
        self.blocks = nn.ModuleList(HieraBlock(width, width, heads, window, pool=False) for window in windows)
        self.last_blocks = [config.depth - 1]

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return the map (B, C, H, W) of the last block."""
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        x_BHWC = self.patch_embed(pixels_B3HW).permute(0, 2, 3, 1)
        x_BHWC = x_BHWC + self.position_embedding(x_BHWC.shape[1], x_BHWC.shape[2])
        for block in self.blocks:
            x_BHWC = (
                checkpoint(block, x_BHWC, use_reentrant=False, preserve_rng_state=False) if recompute else block(x_BHWC)
            )
        return [x_BHWC.permute(0, 3, 1, 2)]

    def position_embedding(self, height: int, width: int) -> Tensor:
        """Return (1, height, width, C), interpolated; the first row, of a class token, is left out."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        map_1CHW = torch.unflatten(self.pos_embed[:, 1:], 1, (side, side)).permute(0, 3, 1, 2)
        resized = interpolate(map_1CHW.float(), size=(height, width), mode="bicubic")
        return resized.to(self.pos_embed.dtype).permute(0, 2, 3, 1)


class PlainViTNeck(nn.Module):
    """Two convolutions with normalization, to the width of the decoder."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module](
            conv_1x1=nn.Conv2d(channels, width, 1, bias=False),
            norm_0=LayerNorm2d(width),
            conv_3x3=nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm_1=LayerNorm2d(width),
        )
        self.convs = nn.ModuleList([nn.Sequential(layers)])

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map stride 16 to the width of the decoder; there are no finer maps."""
        return (self.convs[0](maps[0]),)
