"""The built-in model's convolutional trunk with fused operators.

Shapes: B batch, C channels, H height, W width, T tokens at stride 32, N = 3 C queries, keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, max_pool2d, scaled_dot_product_attention

from masklet.models.sam2.convnet import ContextBlock, ConvNet, ConvNetBottleneck
from masklet.nn.attention import merge_heads, split_heads
from masklet.nn.fused_ops import FusedConvolution, FusedLinear
from masklet.nn.position import sine_position_2d

__all__ = ["FusedConvNet"]


class FusedBottleneck:
    """`ConvNetBottleneck` in three or four passes."""

    def __init__(self, block: ConvNetBottleneck, x_BCHW: Tensor) -> None:
        shape, dtype = x_BCHW.shape, x_BCHW.dtype
        self.project = None if block.project is None else FusedConvolution(block.project, shape, dtype)
        self.reduce = FusedConvolution(block.reduce, shape, dtype)
        narrow = self.reduce(x_BCHW, "relu").shape
        self.conv3x3, self.expand = (FusedConvolution(layer, narrow, dtype) for layer in (block.look, block.expand))

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W), as `ConvNetBottleneck`."""
        residual = x_BCHW if self.project is None else self.project(x_BCHW)
        return self.expand.add_to(self.conv3x3(self.reduce(x_BCHW, "relu"), "relu"), residual)


class FusedConvNet:
    """`ConvNet` with fused convolutions, whose weights are packed for the first image of each size.

    `dtype` is the type of the stages and their maps, and of the products of the attention at stride 32, whose map is in
    fp32.
    """

    def __init__(self, trunk: ConvNet, dtype: torch.dtype = torch.float32) -> None:
        self.trunk, self.dtype = trunk, dtype
        self._stages: FusedStages | None = None
        """Packed weights for the size of the last image, replaced as one value: many threads may encode at once."""

    def __call__(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32, as `ConvNet`."""
        x = pixels_B3HW.to(self.dtype, memory_format=torch.channels_last)
        stages = self._stages
        if stages is None or x.shape != stages.size:
            stages = self._stages = FusedStages(self.trunk, x)
        x = max_pool2d(stages.stem(x, "relu"), 3, 2, 1)
        maps = []
        for stage in stages.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        return [*maps[:3], stages.context(maps[3])]

    def __getstate__(self) -> dict[str, object]:
        """Copy and pickle without the packed weights, which the first image of the copy packs again."""
        return {**self.__dict__, "_stages": None}


class FusedStages:
    """The weights of a trunk, packed for images of the size and type of `x_B3HW`."""

    def __init__(self, trunk: ConvNet, x_B3HW: Tensor) -> None:
        self.stem = FusedConvolution(trunk.stem, x_B3HW.shape, x_B3HW.dtype)
        x = max_pool2d(self.stem(x_B3HW, "relu"), 3, 2, 1)
        self.stages: list[list[FusedBottleneck]] = []
        for stage in trunk.stages:
            assert isinstance(stage, nn.Sequential)
            fused = []
            for block in stage:
                assert isinstance(block, ConvNetBottleneck)
                fused.append(FusedBottleneck(block, x))
                x = fused[-1](x)
            self.stages.append(fused)
        self.context = FusedContext(trunk, x.shape, x.dtype)
        self.size = x_B3HW.shape


class FusedContext:
    """`ConvNet.attend_globally` for maps of one size, with products of `dtype`."""

    def __init__(self, trunk: ConvNet, shape: torch.Size, dtype: torch.dtype) -> None:
        width, height = trunk.enter.out_channels, shape[2]
        self.enter = FusedLinear.from_layer(trunk.enter, dtype)
        position_TC = sine_position_2d(height, shape[3], width).flatten(2)[0].t()
        blocks = [block for block in trunk.context if isinstance(block, ContextBlock)]
        self.blocks = [FusedContextBlock(block, position_TC, dtype) for block in blocks]

    def __call__(self, coarsest_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W), as `ConvNet.attend_globally`."""
        x_BHWC = self.enter(coarsest_BCHW.permute(0, 2, 3, 1)).float()
        x_BTC = x_BHWC.flatten(1, 2)
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return x_BTC.view(x_BHWC.shape).permute(0, 3, 1, 2)


class FusedContextBlock:
    """`ContextBlock` with one product for queries, keys and values; positions enter as a constant summand.

    Products are of `dtype`; what they are added to stays in fp32.
    """

    def __init__(self, block: ContextBlock, position_TC: Tensor, dtype: torch.dtype) -> None:
        attention, self.norms, self.dtype = block.attn, (block.norm1, block.norm2), dtype
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = FusedLinear(torch.cat([part.weight for part in parts]).to(dtype), None)
        by_position = [  # values have no position
            linear(position_TC * factor, part.weight, part.bias) for part, factor in zip(parts, (1, 1, 0), strict=True)
        ]
        self.position_TN, self.heads = torch.cat(by_position, dim=1).to(dtype), attention.heads
        self.out = FusedLinear.from_layer(attention.out_proj, dtype)
        self.mlp = [FusedLinear.from_layer(layer, dtype) for layer in block.mlp.layers if isinstance(layer, nn.Linear)]

    def __call__(self, x_BTC: Tensor) -> Tensor:
        """Update (B, T, C)."""
        norm1, norm2 = self.norms
        qkv_BTN = self.qkv.add_to(norm1(x_BTC).to(self.dtype), self.position_TN.expand(len(x_BTC), -1, -1))
        q, k, v = (split_heads(part, self.heads) for part in qkv_BTN.chunk(3, dim=-1))
        attended_BTC = merge_heads(scaled_dot_product_attention(q, k, v))
        if self.dtype == torch.float32:
            x_BTC = self.out.add_to(attended_BTC, x_BTC)
            return self.mlp[1].add_to(self.mlp[0](norm2(x_BTC), "gelu"), x_BTC)
        x_BTC = x_BTC + self.out(attended_BTC)
        return x_BTC + self.mlp[1](self.mlp[0](norm2(x_BTC).to(self.dtype), "gelu"))
