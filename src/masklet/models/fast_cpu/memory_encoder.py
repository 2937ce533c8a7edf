"""The memory encoder: maps with channels last all the way, convolutions by oneDNN, the image's share once a frame.

Shapes: B objects, C channels, M memory channels, H and W at stride 16, S places of that map.
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
    """`model.remember` for a model whose weights no longer change; an image may be shared by all objects.

    Example:
        >>> remember = FastWriter(model)
        >>> memory = remember(features, masks, prompted=True)
    """

    def __init__(self, model: SAM2) -> None:
        self.model, self.fused = model, has_fused_operators(model.no_mem_embed)
        self._size: torch.Size | None = None
        self._cached_projection: tuple[Tensor | None, Tensor] = (None, torch.zeros(0))
        if self.fused:
            encoder = model.memory_encoder
            self.project = FusedLinear(encoder.pix_feat_proj.weight.flatten(1), encoder.pix_feat_proj.bias)
            self.narrow = FusedLinear(encoder.out_proj.weight.flatten(1), encoder.out_proj.bias)

    def __call__(self, features: ImageFeatures, masks: SelectedMasks, *, prompted: bool = False) -> FrameMemory:
        """What to keep of a frame, as `SAM2.remember`."""
        count = len(masks.iou_B1)
        shared = features.index_select(torch.zeros(count, dtype=torch.long, device=features.embed_BCHW.device))
        if not self.fused:
            return self.model.encode_memory(shared, masks, prompted=prompted)
        size = features.embed_BCHW.shape[-2:]
        if size != self._size:
            self._prepare(size)
        rows = [self._encode_object(features.embed_BCHW, masks.index(i), i, prompted) for i in range(count)]
        spatial_BMHW = torch.unflatten(torch.stack(rows).transpose(1, 2), 2, size)
        return FrameMemory(self.model.add_occlusion_embedding(spatial_BMHW, masks), masks.pointer_BC)

    def _prepare(self, size: torch.Size) -> None:
        encoder = self.model.memory_encoder
        x = torch.zeros(1, 1, 16 * size[0], 16 * size[1])
        self.downsample_layers: list[FusedDownsampleLayer] = []
        *layers, last = encoder.mask_downsampler.encoder.children()
        assert isinstance(last, nn.Conv2d)
        for layer, norm in zip(layers[0::3], layers[1::3], strict=True):
            assert isinstance(layer, nn.Conv2d)
            assert isinstance(norm, LayerNorm2d)
            self.downsample_layers.append(FusedDownsampleLayer(layer, norm, x.shape))
            x = self.downsample_layers[-1](x)
        self.widen = FusedLinear(last.weight.flatten(1), last.bias)
        shape = torch.Size((1, encoder.out_proj.in_channels, *size))
        blocks = encoder.fuser.layers
        self.blocks = [FusedFuserBlock(block, shape) for block in blocks if isinstance(block, FuserBlock)]
        self._size = size

    def _encode_object(self, embed_BCHW: Tensor, masks: SelectedMasks, index: int, prompted: bool) -> Tensor:
        """(S, M) of one object."""
        height, width = embed_BCHW.shape[-2:]
        x_BCHW = self.model.mask_for_memory(masks, (16 * height, 16 * width), prompted)
        for halving in self.downsample_layers:
            x_BCHW = halving(x_BCHW)
        x_SC = self.widen.add_to(_to_rows(x_BCHW), self._project_image(embed_BCHW, index))
        for block in self.blocks:
            x_SC = block(x_SC, (height, width))
        return self.narrow(x_SC)

    def _project_image(self, embed_BCHW: Tensor, index: int) -> Tensor:
        """(S, C): the image's share; of an image that all objects share, once."""
        if len(embed_BCHW) > 1:
            return self.project(_to_rows(embed_BCHW[index : index + 1]))
        if self._cached_projection[0] is not embed_BCHW:
            self._cached_projection = (embed_BCHW, self.project(_to_rows(embed_BCHW)))
        return self._cached_projection[1]


class FusedDownsampleLayer:
    """A convolution with stride two, normalization and GELU, of one object.

    Normalizing a few channels place by place is slow: there, centring is folded into the convolution, and what is
    left is done plane by plane.
    """

    FEW_CHANNELS = 8

    def __init__(self, layer: nn.Conv2d, norm: LayerNorm2d, shape: torch.Size) -> None:
        self.norm, self.has_few_channels = norm, layer.out_channels <= self.FEW_CHANNELS
        self.convolution = FusedConvolution(_zero_mean_conv(layer) if self.has_few_channels else layer, shape)
        self.weight, self.bias = (t.detach()[:, None, None] for t in (norm.weight, norm.bias))

    def __call__(self, x_1CHW: Tensor) -> Tensor:
        """(1, C, H, W) to (1, C', H / 2, W / 2)."""
        x_1CHW = self.convolution(x_1CHW)
        if not self.has_few_channels:
            return gelu(self.norm(x_1CHW))
        x_1CHW = x_1CHW.contiguous()
        share_11HW = (x_1CHW * x_1CHW).mean(dim=1, keepdim=True).add_(self.norm.eps).rsqrt_()
        return gelu(torch.addcmul(self.bias, x_1CHW * share_11HW, self.weight))


class FusedFuserBlock:
    """`FuserBlock` for one object, its scale folded into the last layer."""

    def __init__(self, block: FuserBlock, shape: torch.Size) -> None:
        self.depthwise_conv, self.norm = FusedConvolution(block.dwconv, shape), block.norm
        self.widen = FusedLinear.from_layer(block.pwconv1)
        gamma, last = block.gamma.detach().double(), block.pwconv2
        weight, bias = gamma[:, None] * last.weight.detach().double(), gamma * last.bias.detach().double()
        self.narrow = FusedLinear(weight.float(), bias.float())

    def __call__(self, x_SC: Tensor, size: tuple[int, int]) -> Tensor:
        """(S, C) to the same."""
        looked_1CHW = self.depthwise_conv(torch.unflatten(x_SC.t(), 1, size)[None])
        y_SC = layer_norm(
            _to_rows(looked_1CHW), self.norm.weight.shape, self.norm.weight, self.norm.bias, self.norm.eps
        )
        return self.narrow.add_to(self.widen(y_SC, "gelu"), x_SC)


def _to_rows(map_1CHW: Tensor) -> Tensor:
    """(S, C)."""
    return map_1CHW[0].permute(1, 2, 0).flatten(0, 1)


def _zero_mean_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution whose results have the same differences between channels, and a mean of zero."""
    assert layer.bias is not None
    centered = copy.deepcopy(layer)
    for ours, theirs in ((centered.weight, layer.weight), (centered.bias, layer.bias)):
        assert ours is not None
        precise = theirs.detach().double()
        ours.data = (precise - precise.mean(dim=0, keepdim=True)).to(theirs.dtype)
    return centered
