"""EdgeTAM's convolutional trunk with batch normalization folded away, and oneDNN's products.

The two depthwise convolutions and the identity of a token mixer become one convolution. 1 x 1 convolutions are products
over rows of channels, with activation or residual in the same pass. Where the operators are missing, and on other
devices, the same layers run by PyTorch.
Shapes: B batch, C channels, H and W of a map, N rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear

from masklet.models.sam2.repvit import RepViT, RepViTBlock, RepViTDownsample, RepViTMLP, TokenMixer
from masklet.nn.fused_ops import FusedLinear, row_chunks
from masklet.nn.layers import ConvBN

__all__ = ["FusedRepViT"]

HIDDEN_BYTES = 4 << 20
"""Limit on the hidden layer of a chunk of rows."""


class FusedRepViT:
    """`RepViT` with frozen weights; `dtype` is the type of products, maps are in fp32.

    Without `fused`, which needs oneDNN's operators, autocast decides on the type.
    """

    def __init__(self, trunk: RepViT, fused: bool, dtype: torch.dtype | None = None) -> None:
        stem, *stages = trunk.body.children()
        first, _, second = stem.children()
        assert isinstance(first, ConvBN)
        assert isinstance(second, ConvBN)
        self.stem, self.fused, self.dtype = (first.fold(), second.fold()), fused, dtype or torch.float32
        self.stages = [[self._layer(part) for part in _blocks(stage)] for stage in stages]

    def __call__(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """Return maps (B, C, H, W) at strides 4, 8, 16, 32, as `RepViT`."""
        pixels_B3HW = pixels_B3HW.contiguous(memory_format=torch.channels_last)
        x_BCHW: Tensor = self.stem[1](gelu(self.stem[0](pixels_B3HW)))
        maps = []
        for stage in self.stages:
            for layer in stage:
                x_BCHW = layer(x_BCHW)
            maps.append(x_BCHW)
        return maps

    def _layer(self, part: nn.Module) -> Callable[[Tensor], Tensor]:
        if isinstance(part, RepViTDownsample):
            return FoldedDownsample(part, self.fused, self.dtype)
        assert isinstance(part, RepViTBlock)
        return FoldedBlock(part, self.fused, self.dtype)


class FoldedBlock:
    """`RepViTBlock` with one depthwise convolution."""

    def __init__(self, block: RepViTBlock, fused: bool, dtype: torch.dtype) -> None:
        self.weight_C1KK, self.bias_C = fold_token_mixer(block.token_mixer)
        self.squeeze, self.mlp = block.se, FoldedMLP(block.channel_mixer, fused, dtype)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        mixed_BCHW = conv2d(x_BCHW, self.weight_C1KK, self.bias_C, padding=1, groups=len(self.bias_C))
        return self.mlp(mixed_BCHW if self.squeeze is None else self.squeeze(mixed_BCHW))


class FoldedDownsample:
    """`RepViTDownsample` with three convolutions less."""

    def __init__(self, part: RepViTDownsample, fused: bool, dtype: torch.dtype) -> None:
        self.block, self.mlp = FoldedBlock(part.pre_block, fused, dtype), FoldedMLP(part.ffn, fused, dtype)
        self.halve = part.spatial_downsample.fold()
        self.widen = RowProjection(part.channel_downsample, fused, dtype)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / 2, W / 2)."""
        halved_BHWC = self.halve(self.block(x_BCHW)).permute(0, 2, 3, 1)
        return self.mlp(self.widen(halved_BHWC).permute(0, 3, 1, 2))


class FoldedMLP:
    """`RepViTMLP`, a chunk of rows at a time."""

    def __init__(self, mlp: RepViTMLP, fused: bool, dtype: torch.dtype) -> None:
        self.widen, self.narrow = RowProjection(mlp.conv1, fused, dtype), RowProjection(mlp.conv2, fused, dtype)
        self.row_bytes = 4 * mlp.conv1.c.out_channels

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Update (B, C, H, W)."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1).contiguous()
        flat_NC, out_NC = x_BHWC.view(-1, x_BHWC.shape[-1]), torch.empty_like(x_BHWC)
        rows_NC = out_NC.view(flat_NC.shape)
        for rows in row_chunks(len(flat_NC), self.row_bytes, HIDDEN_BYTES):
            rows_NC[rows] = self.narrow.add_to(self.widen(flat_NC[rows], "gelu"), flat_NC[rows])
        return out_NC.permute(0, 3, 1, 2)


class RowProjection:
    """A folded 1 x 1 convolution over rows of channels; results are fp32."""

    def __init__(self, layer: ConvBN, fused: bool, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer.fold(), dtype
        self.packed = FusedLinear.from_layer(self.layer, dtype) if fused else None

    def __call__(self, x_NC: Tensor, activation: str = "none") -> Tensor:
        """Map (..., C) to (..., C'), with an activation, none or gelu."""
        if self.packed is not None:
            return self.packed(x_NC.to(self.dtype), activation).float()
        y_NC = linear(x_NC, self.layer.weight.flatten(1), self.layer.bias).float()
        return gelu(y_NC) if activation == "gelu" else y_NC

    def add_to(self, x_NC: Tensor, residual_NC: Tensor) -> Tensor:
        """Map (N, C) to (N, C') and add (N, C')."""
        if self.packed is not None and self.dtype == torch.float32:
            return self.packed.add_to(x_NC, residual_NC)
        return residual_NC + self(x_NC)


def fold_token_mixer(mixer: TokenMixer) -> tuple[Tensor, Tensor]:
    """Return weight (C, 1, 3, 3) and bias (C,) of the convolution that equals both branches and the identity."""
    wide, narrow = mixer.conv.fold(), mixer.conv1.fold()
    assert wide.bias is not None
    assert narrow.bias is not None
    weight = wide.weight.detach().clone()
    weight[:, :, 1, 1] += narrow.weight.detach()[:, :, 0, 0] + 1
    return weight, (wide.bias + narrow.bias).detach()


def _blocks(stage: nn.Module) -> list[nn.Module]:
    parts = dict(stage.named_children())
    before = [parts["downsample"]] if "downsample" in parts else []
    return [*before, *parts["blocks"].children()]
