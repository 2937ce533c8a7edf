"""The built-in model's trunk in fused convolutions.

Shapes: B batch, C channels, H height, W width, T places at stride 32, N outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, max_pool2d, scaled_dot_product_attention

from masklet.models.sam2.convnet import Bottleneck, ContextBlock, ConvNet
from masklet.nn.attention import merge_heads, split_heads
from masklet.nn.fused_ops import FusedConvolution, FusedLinear
from masklet.nn.position import sine_position_2d

__all__ = ["FusedConvNet"]


class FusedBottleneck:
    """A bottleneck block in three or four passes."""

    def __init__(self, block: Bottleneck, x_BCHW: Tensor) -> None:
        shape, dtype = x_BCHW.shape, x_BCHW.dtype
        self.project = None if block.project is None else FusedConvolution(block.project, shape, dtype)
        self.reduce = FusedConvolution(block.reduce, shape, dtype)
        narrow = self.reduce(x_BCHW, "relu").shape
        self.conv3x3, self.expand = (FusedConvolution(layer, narrow, dtype) for layer in (block.look, block.expand))

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """As `Bottleneck`."""
        kept = x_BCHW if self.project is None else self.project(x_BCHW)
        return self.expand.add_to(self.conv3x3(self.reduce(x_BCHW, "relu"), "relu"), kept)


class FusedConvNet:
    """`ConvNet` with fused convolutions, laid out when the first image of a size comes.

    `dtype` is that of the stages and of their maps; the attention at stride 32 is in fp32.
    """

    def __init__(self, trunk: ConvNet, dtype: torch.dtype = torch.float32) -> None:
        self.trunk, self.dtype = trunk, dtype
        self.size: torch.Size | None = None

    def __call__(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """As `ConvNet`."""
        x = pixels_B3HW.to(self.dtype, memory_format=torch.channels_last)
        if x.shape != self.size:
            self._prepare(x)
        x = max_pool2d(self.stem(x, "relu"), 3, 2, 1)
        maps = []
        for stage in self.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        return [*maps[:3], self.context(maps[3].float())]

    def _prepare(self, x_B3HW: Tensor) -> None:
        self.stem = FusedConvolution(self.trunk.stem, x_B3HW.shape, self.dtype)
        x = max_pool2d(self.stem(x_B3HW, "relu"), 3, 2, 1)
        self.stages: list[list[FusedBottleneck]] = []
        for stage in self.trunk.stages:
            assert isinstance(stage, nn.Sequential)
            fused = []
            for block in stage:
                assert isinstance(block, Bottleneck)
                fused.append(FusedBottleneck(block, x))
                x = fused[-1](x)
            self.stages.append(fused)
        self.context = FusedContext(self.trunk, x.shape)
        self.size = x_B3HW.shape


class FusedContext:
    """`ConvNet.look_around` for maps of one size."""

    def __init__(self, trunk: ConvNet, shape: torch.Size) -> None:
        width, height = trunk.enter.out_channels, shape[2]
        self.enter = FusedLinear(trunk.enter.weight.flatten(1), trunk.enter.bias)
        place_TC = sine_position_2d(height, shape[3], width).flatten(2)[0].t()
        self.blocks = [FusedContextBlock(block, place_TC) for block in trunk.context if isinstance(block, ContextBlock)]

    def __call__(self, coarsest_BCHW: Tensor) -> Tensor:
        """As `ConvNet.look_around`."""
        x_BHWC = self.enter(coarsest_BCHW.permute(0, 2, 3, 1))
        x_BTC = x_BHWC.flatten(1, 2)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return x_BTC.view(x_BHWC.shape).permute(0, 3, 1, 2)


class FusedContextBlock:
    """`ContextBlock` with one product for queries, keys and values, told of their place by what is added."""

    def __init__(self, block: ContextBlock, position_TC: Tensor) -> None:
        attention, self.norms = block.attn, (block.norm1, block.norm2)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = FusedLinear(torch.cat([part.weight for part in parts]), None)
        shares = [
            linear(position_TC * told, part.weight, part.bias) for part, told in zip(parts, (1, 1, 0), strict=True)
        ]
        self.position_TN, self.heads = torch.cat(shares, dim=1), attention.heads
        self.out = FusedLinear.from_layer(attention.out_proj)
        self.mlp = [FusedLinear.from_layer(layer) for layer in block.mlp.layers if isinstance(layer, nn.Linear)]

    def __call__(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) to the same."""
        asked = self.qkv.add_to(self._layer_norm(x_BTC, 0), self.position_TN.expand(len(x_BTC), -1, -1))
        q, k, v = (split_heads(part, self.heads) for part in asked.chunk(3, dim=-1))
        x_BTC = self.out.add_to(merge_heads(scaled_dot_product_attention(q, k, v)), x_BTC)
        return self.mlp[1].add_to(self.mlp[0](self._layer_norm(x_BTC, 1), "gelu"), x_BTC)

    def _layer_norm(self, x_BTC: Tensor, index: int) -> Tensor:
        norm = self.norms[index]
        return layer_norm(x_BTC, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
