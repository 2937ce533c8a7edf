"""The memory encoder: channels-last maps throughout, convolutions by oneDNN, the image projected once per frame.

Shapes: B objects, C channels, M memory channels, H and W at stride 16, S tokens of that map.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from masklet.models.sam2.memory_encoder import FuserBlock
from masklet.models.sam2.model import SAM2
from masklet.models.types import FrameMemory, ImageFeatures, SelectedMasks
from masklet.nn.fused_ops import FusedConvolution, FusedLinear, has_fused_operators
from masklet.nn.layers import LayerNorm2d

__all__ = ["FastMemoryEncoder"]


class FastMemoryEncoder:
    """`SAM2.encode_memory` for a model with frozen weights; all objects may share one image.

    Example:
        >>> encode_memory = FastMemoryEncoder(model)
        >>> memory = encode_memory(features, masks, prompted=True)
    """

    def __init__(self, model: SAM2) -> None:
        self.model, self.fused = model, has_fused_operators(model.no_mem_embed)
        self._size: torch.Size | None = None
        self._cached_projection: tuple[Tensor | None, Tensor] = (None, torch.zeros(0))
        """An image that all objects share, and its projection (S, C)."""
        if self.fused:
            encoder = model.memory_encoder
            self.project = FusedLinear(encoder.pix_feat_proj.weight.flatten(1), encoder.pix_feat_proj.bias)
            self.narrow = FusedLinear(encoder.out_proj.weight.flatten(1), encoder.out_proj.bias)

    def __call__(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        """Encode a frame's memory, as `SAM2.encode_memory`, one object at a time."""
        count = len(masks.iou_B1)
        if not self.fused:
            index = torch.zeros(count, dtype=torch.long, device=features.embed_BCHW.device)
            return self.model.encode_memory(features.index_select(index), masks, prompted=prompted)
        size = features.embed_BCHW.shape[-2:]
        if size != self._size:
            self._prepare(size)
        rows, (height, width), embed_BCHW = [], size, features.embed_BCHW
        for i in range(count):
            x_BCHW = self.model.mask_for_memory(masks.index(i), (16 * height, 16 * width), prompted)
            for layer in self.downsample_layers:
                x_BCHW = layer(x_BCHW)
            if len(embed_BCHW) > 1:
                image_SC = self.project(_to_rows(embed_BCHW[i : i + 1]))
            else:  # an image that all objects share is projected only once
                if self._cached_projection[0] is not embed_BCHW:
                    self._cached_projection = (embed_BCHW, self.project(_to_rows(embed_BCHW)))
                image_SC = self._cached_projection[1]
            x_SC = self.widen.add_to(_to_rows(x_BCHW), image_SC)
            for block in self.blocks:
                x_SC = block(x_SC, (height, width))
            rows.append(self.narrow(x_SC))
        spatial_BMHW = torch.unflatten(torch.stack(rows).transpose(1, 2), 2, size)
        return self.model.finish_memory(spatial_BMHW, masks)

    def _prepare(self, size: torch.Size) -> None:
        """Pack all weights for maps of `size`."""
        encoder = self.model.memory_encoder
        x = torch.zeros(1, 1, 16 * size[0], 16 * size[1])
        self.downsample_layers: list[FusedDownsampleLayer] = []
        *layers, last = encoder.mask_downsampler[0].children()
        assert isinstance(last, nn.Conv2d)
        for layer, norm in zip(layers[0::3], layers[1::3], strict=True):
            assert isinstance(layer, nn.Conv2d)
            assert isinstance(norm, LayerNorm2d)
            self.downsample_layers.append(FusedDownsampleLayer(layer, norm, x.shape))
            x = self.downsample_layers[-1](x)
        self.widen = FusedLinear(last.weight.flatten(1), last.bias)
        shape = torch.Size((1, encoder.out_proj.in_channels, *size))
        blocks = encoder.fuser[0].children()
        self.blocks = [FusedFuserBlock(block, shape) for block in blocks if isinstance(block, FuserBlock)]
        self._size = size


class FusedDownsampleLayer:
    """A strided convolution, normalization and GELU, for one object.

    Normalizing few channels at each position is slow. There, the mean is folded into the convolution, and the rest is
    computed channel by channel.
    """

    FEW_CHANNELS = 8

    def __init__(self, layer: nn.Conv2d, norm: LayerNorm2d, shape: torch.Size) -> None:
        self.norm, self.has_few_channels = norm, layer.out_channels <= self.FEW_CHANNELS
        self.convolution = FusedConvolution(zero_mean_conv(layer) if self.has_few_channels else layer, shape)
        self.weight, self.bias = (t.detach()[:, None, None] for t in (norm.weight, norm.bias))

    def __call__(self, x_1CHW: Tensor) -> Tensor:
        """Map (1, C, H, W) to (1, C', H / 2, W / 2)."""
        x_1CHW = self.convolution(x_1CHW)
        if not self.has_few_channels:
            return gelu(self.norm(x_1CHW))
        x_1CHW = x_1CHW.contiguous()
        scale_11HW = (x_1CHW * x_1CHW).mean(dim=1, keepdim=True).add_(self.norm.eps).rsqrt_()
        return gelu(torch.addcmul(self.bias, x_1CHW * scale_11HW, self.weight))


class FusedFuserBlock:
    """`FuserBlock` for one object, with its residual scale folded into the last layer."""

    def __init__(self, block: FuserBlock, shape: torch.Size) -> None:
        self.depthwise_conv, self.norm = FusedConvolution(block.dwconv, shape), block.norm
        self.widen = FusedLinear.from_layer(block.pwconv1)
        gamma, last = block.gamma.detach().double(), block.pwconv2
        weight, bias = gamma[:, None] * last.weight.detach().double(), gamma * last.bias.detach().double()
        self.narrow = FusedLinear(weight.float(), bias.float())

    def __call__(self, x_SC: Tensor, size: tuple[int, int]) -> Tensor:
        """Update (S, C), the tokens of a map of `size`."""
        y_1CHW = self.depthwise_conv(torch.unflatten(x_SC.t(), 1, size)[None])
        norm = self.norm
        y_SC = layer_norm(_to_rows(y_1CHW), norm.weight.shape, norm.weight, norm.bias, norm.eps)
        return self.narrow.add_to(self.widen(y_SC, "gelu"), x_SC)


def _to_rows(map_1CHW: Tensor) -> Tensor:
    """Flatten a map (1, C, H, W) to rows (S, C)."""
    return map_1CHW[0].permute(1, 2, 0).flatten(0, 1)


def zero_mean_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with the mean over output channels subtracted from its results."""
    assert layer.bias is not None
    centered = copy.deepcopy(layer)
    for target, source in ((centered.weight, layer.weight), (centered.bias, layer.bias)):
        assert target is not None
        precise = source.detach().double()
        target.data = (precise - precise.mean(dim=0, keepdim=True)).to(source.dtype)
    return centered
