"""The image encoders of SAM and MobileSAM with oneDNN's products.

TinyViT: batch normalization is folded into the convolutions, and maps are channels-last. Both trunks: products with
the activation in the same pass. Where the operators are missing, on another device or in another precision, the eager
modules run.
Shapes: B batch, C channels, H and W of the map, S side of the square input, N rows, I inputs and O outputs of a layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masklet.models.sam1.model import SAM1
from masklet.models.sam1.tiny_vit import NormedMLP, TinyViT
from masklet.models.sam1.vit import ViT, ViTBlock
from masklet.models.types import ImageFeatures
from masklet.nn.attention import window_partition, window_unpartition
from masklet.nn.fused_ops import fused_layer, has_fused_operators, row_chunks
from masklet.nn.layers import ConvBN

__all__ = ["FastSAM1Encoder"]


class FastSAM1Encoder:
    """`SAM1.encode_image` for a model with frozen weights, with matrix products in `dtype` (None: fp32).

    Example:
        >>> encode = FastSAM1Encoder(model, torch.bfloat16)
        >>> features = encode(torch.zeros(1, 3, 1024, 1024))
    """

    def __init__(self, model: SAM1, dtype: torch.dtype | None = None) -> None:
        self.dtype, trunk = dtype, model.image_encoder
        fused = dtype is None and has_fused_operators(next(trunk.parameters()))
        self.memory_format = torch.preserve_format
        self.trunk: Callable[[Tensor], Tensor] = FusedViT(trunk) if fused and isinstance(trunk, ViT) else trunk
        if isinstance(trunk, TinyViT):
            copied = copy.deepcopy(trunk).eval()
            _replace_with_fused(copied, fused)
            self.trunk, self.memory_format = copied, torch.channels_last
            copied.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB, as `SAM1.encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            embed_BCHW = self.trunk(pixels_B3HW.to(memory_format=self.memory_format))
        return ImageFeatures(embed_BCHW.float().contiguous())


def _replace_with_fused(module: nn.Module, fused: bool) -> None:
    """Replace submodules by faster ones, recursively."""
    for name, part in module.named_children():
        if isinstance(part, ConvBN):
            setattr(module, name, part.fold())
        elif fused and isinstance(part, NormedMLP):
            setattr(module, name, FusedMLP(part))
        elif fused and isinstance(part, nn.Linear):
            setattr(module, name, FusedLinearModule(part))
        else:
            _replace_with_fused(part, fused)


class FusedLinearModule(nn.Module):
    """`nn.Linear` by oneDNN."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., I) to (..., O)."""
        return fused_layer(self.layer, x)


class FusedMLP(nn.Module):
    """`NormedMLP` by oneDNN, a chunk of rows at a time."""

    def __init__(self, mlp: NormedMLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to the same shape."""
        flat_NC, mlp = x.reshape(-1, x.shape[-1]), self.mlp
        out_NC = torch.empty_like(flat_NC)
        for rows in row_chunks(len(flat_NC), 4 * mlp.fc1.out_features):
            out_NC[rows] = fused_layer(mlp.fc2, fused_layer(mlp.fc1, mlp.norm(flat_NC[rows]), "gelu"))
        return out_NC.view(x.shape)


@dataclass(eq=False)
class FusedViT:
    """`ViT` in fp32; weights are read as they are stored, none is copied."""

    trunk: ViT

    def __call__(self, pixels_B3SS: Tensor) -> Tensor:
        """Encode (B, 3, S, S), as `ViT`."""
        x_BHWC = self.trunk.embed_patches(pixels_B3SS).contiguous()
        size, flat_NC = (x_BHWC.shape[1], x_BHWC.shape[2]), x_BHWC.view(-1, x_BHWC.shape[-1])
        for block in self.trunk.blocks:
            assert isinstance(block, ViTBlock)
            attention, normed = block.attn, block.norm1(x_BHWC)
            windows, padded = window_partition(normed, block.window) if block.window else (normed, size)
            attended = fused_layer(attention.proj, attention.attend(fused_layer(attention.qkv, windows)))
            x_BHWC += window_unpartition(attended, padded, size) if block.window else attended
            for rows in row_chunks(len(flat_NC), 4 * block.mlp.lin1.out_features):
                hidden = fused_layer(block.mlp.lin1, block.norm2(flat_NC[rows]), "gelu")
                flat_NC[rows] += fused_layer(block.mlp.lin2, hidden)
        map_BCHW: Tensor = self.trunk.neck(x_BHWC.permute(0, 3, 1, 2))
        return map_BCHW
