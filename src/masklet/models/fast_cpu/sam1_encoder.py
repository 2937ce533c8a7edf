"""The image encoder as it runs fastest on a processor, with the same numbers.

TinyViT: batch normalization becomes part of the convolutions before it, maps keep their channels together. Both trunks:
products by oneDNN, with the activation in the same pass; where its operators are missing, on another device or in
another precision, the eager modules run.
Shapes: B batch, C channels, H and W of the map, S side of the square input, N rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from masklet.models.sam1.model import SAM1
from masklet.models.sam1.tiny_vit import ConvBN, NormedMLP, TinyViT
from masklet.models.sam1.vit import ViT, ViTBlock
from masklet.models.types import ImageFeatures
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.fused_ops import fused_linear, has_fused_operators, row_chunks

__all__ = ["FastSAM1Encoder"]


class FastSAM1Encoder:
    """`model.encode_image` for a model whose weights no longer change; `dtype` is that of matrix products.

    Example:
        >>> encode = FastFirstEncoder(model, torch.bfloat16)
        >>> features = encode(torch.zeros(1, 3, 1024, 1024))
    """

    def __init__(self, model: SAM1, dtype: torch.dtype | None = None) -> None:
        self.dtype, trunk = dtype, model.image_encoder
        fused = dtype is None and has_fused_operators(next(trunk.parameters()))
        self.trunk: Callable[[Tensor], Tensor]
        if isinstance(trunk, TinyViT):
            self.trunk = FusedTinyViT(trunk, fused)
        else:
            self.trunk = FusedViT(trunk) if fused else trunk

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalized RGB to features, as `SAM1.encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            found = self.trunk(pixels_B3HW)
        return ImageFeatures(found.float().contiguous())


class FusedTinyViT:
    """`TinyViT` from weights of its own, without normalization between convolution and activation."""

    def __init__(self, trunk: TinyViT, fused: bool) -> None:
        self.trunk = copy.deepcopy(trunk).eval()
        _replace_with_fused(self.trunk, fused)
        self.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, pixels_B3SS: Tensor) -> Tensor:
        """As `TinyViT`."""
        found: Tensor = self.trunk(pixels_B3SS.contiguous(memory_format=torch.channels_last))
        return found


def _replace_with_fused(module: nn.Module, fused: bool) -> None:
    """Put faster modules in place of slower ones, all the way down."""
    for name, part in module.named_children():
        if isinstance(part, ConvBN):
            setattr(module, name, _fuse_conv_bn(part))
        elif fused and isinstance(part, NormedMLP):
            setattr(module, name, FusedMLP(part))
        elif fused and isinstance(part, nn.Linear):
            setattr(module, name, FusedLinearModule(part))
        else:
            _replace_with_fused(part, fused)


def _fuse_conv_bn(layer: ConvBN) -> nn.Conv2d:
    """Convolution and normalization as one convolution."""
    conv, norm = copy.deepcopy(layer.c), layer.bn
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
    conv.weight, conv.bias = nn.Parameter(weight.detach(), False), nn.Parameter(bias.detach(), False)
    return conv


class FusedLinearModule(nn.Module):
    """`nn.Linear` by oneDNN."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        return _linear(self.layer, x)


class FusedMLP(nn.Module):
    """`NormedMLP` by oneDNN, some rows at a time."""

    def __init__(self, mlp: NormedMLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        flat_NC, mlp = x.reshape(-1, x.shape[-1]), self.mlp
        out_NC = torch.empty_like(flat_NC)
        for rows in row_chunks(len(flat_NC), 4 * mlp.fc1.out_features):
            hidden = _linear(mlp.fc1, _layer_norm(flat_NC[rows], mlp.norm), "gelu")
            out_NC[rows] = _linear(mlp.fc2, hidden)
        return out_NC.view(x.shape)


class FusedViT:
    """`ViT` in fp32; weights are read as they lie, none is copied."""

    def __init__(self, trunk: ViT) -> None:
        self.trunk = trunk
        self.blocks = [FusedViTBlock(block) for block in trunk.blocks if isinstance(block, ViTBlock)]

    def __call__(self, pixels_B3SS: Tensor) -> Tensor:
        """As `ViT`."""
        x_BHWC = self.trunk.embed_patches(pixels_B3SS).contiguous()
        for block in self.blocks:
            x_BHWC = block(x_BHWC)
        found: Tensor = self.trunk.neck(x_BHWC.permute(0, 3, 1, 2))
        return found


class FusedViTBlock:
    """`Block` whose input is written over."""

    def __init__(self, block: ViTBlock) -> None:
        self.block = block

    def __call__(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        block, attention = self.block, self.block.attn
        normed, size = _layer_norm(x_BHWC, block.norm1), (x_BHWC.shape[1], x_BHWC.shape[2])
        windows, padded = window_partition(normed, block.window) if block.window else (normed, size)
        seen = _linear(attention.proj, attention.attend(_linear(attention.qkv, windows)))
        x_BHWC += window_unpartition(seen, padded, size) if block.window else seen
        flat_NC = x_BHWC.view(-1, x_BHWC.shape[-1])
        for rows in row_chunks(len(flat_NC), 4 * block.mlp.lin1.out_features):
            hidden = _linear(block.mlp.lin1, _layer_norm(flat_NC[rows], block.norm2), "gelu")
            flat_NC[rows] += _linear(block.mlp.lin2, hidden)
        return x_BHWC


def _linear(layer: nn.Linear, x: Tensor, activation: str = "none") -> Tensor:
    return fused_linear(x, layer.weight, layer.bias, activation)


def _layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
