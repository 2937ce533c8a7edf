"""The small convolutional trunk of the built-in model.

Bottleneck blocks (He et al. 2016) have no normalization layers: the ImageNet weights they start from have them folded
in. Self-attention at stride 32 adds global context.
Shapes: B batch, C channels, H height, W width, T tokens at stride 32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, max_pool2d, relu

from masklet.models.sam2.config import ConvNetConfig
from masklet.nn.attention import Attention
from masklet.nn.layers import MLP
from masklet.nn.position import sine_position_2d

__all__ = ["ConvNet"]


class ConvNetBottleneck(nn.Module):
    """Residual block of 1 x 1, 3 x 3 (`look`) and 1 x 1 convolutions; the first of a stage projects and strides."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, first: bool) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, outputs, 1, stride) if first else None
        self.reduce = nn.Conv2d(inputs, inner, 1, stride)
        self.look = nn.Conv2d(inner, inner, 3, 1, 1)
        self.expand = nn.Conv2d(inner, outputs, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        residual = x_BCHW if self.project is None else self.project(x_BCHW)
        return relu(residual + self.expand(relu(self.look(relu(self.reduce(x_BCHW))))))


class ContextBlock(nn.Module):
    """Pre-norm self-attention and MLP over all tokens of a map."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, width * 2, width, depth=2, act=gelu)

    def forward(self, x_BTC: Tensor, position_1TC: Tensor) -> Tensor:
        """Update (B, T, C)."""
        y = self.norm1(x_BTC)
        x_BTC = x_BTC + self.attn(y + position_1TC, y + position_1TC, y)
        out: Tensor = x_BTC + self.mlp(self.norm2(x_BTC))
        return out


class ConvNet(nn.Module):
    """Stem, four stages at strides 4, 8, 16 and 32, and context at stride 32."""

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, config.stem, kernel_size=7, stride=2, padding=3)
        self.stages = nn.ModuleList()
        inputs = config.stem
        for stage, (inner, outputs) in enumerate(zip(config.inner, config.channels, strict=True)):
            blocks = []
            for i in range(config.depths[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                blocks.append(ConvNetBottleneck(inputs, inner, outputs, stride, first=i == 0))
                inputs = outputs
            self.stages.append(nn.Sequential(*blocks))
        self.enter = nn.Conv2d(inputs, config.context_width, 1)
        self.context = nn.ModuleList(
            ContextBlock(config.context_width, config.context_heads) for _ in range(config.context_blocks)
        )
        self.channels = (*config.channels[:3], config.context_width)

    def forward(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32."""
        x = max_pool2d(relu(self.stem(pixels_B3HW)), 3, 2, 1)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[:3], self.attend_globally(maps[3])]

    def attend_globally(self, coarsest_BCHW: Tensor) -> Tensor:
        """Narrow the last stage's map and run the context blocks over all of its tokens."""
        x_BCHW = self.enter(coarsest_BCHW)
        height, width = x_BCHW.shape[-2:]
        position = sine_position_2d(height, width, x_BCHW.shape[1], x_BCHW.device).flatten(2).transpose(1, 2)
        x_BTC = x_BCHW.flatten(2).transpose(1, 2)
        for block in self.context:
            x_BTC = block(x_BTC, position.to(x_BTC.dtype))
        return torch.unflatten(x_BTC.transpose(1, 2), 2, (height, width))
