"""The image encoder as it runs fastest on a processor, with the same numbers.

Two things eager PyTorch does not do by itself: one by one convolutions that follow each other without anything
between (neck, then decoder) become one, and the built-in trunk's convolutions run with weights laid out for the
processor once and with their activation and residual in the same pass (oneDNN, the operators that
`torch.compile` would call). Where these operators are missing, on another device or in another
precision, the eager modules run.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from masklet.models.base import ImageFeatures
from masklet.models.sam2.convnet import ConvNet
from masklet.models.sam2.inference.convnet import FusedConvNet
from masklet.models.sam2.inference.fused import has_fused_operators
from masklet.models.sam2.model import SAM2

__all__ = ["FastEncoder"]

Map = Callable[[Tensor], Tensor]


class FastEncoder:
    """`model.encode_image` for a model whose weights no longer change.

    `dtype` is that of the trunk's matrix products, nearly all of the work; what is summed over its depth, the neck
    and the decoder stay in fp32, because rounding there moves the edges of masks.

    Example:
        >>> encode = FastEncoder(model, torch.bfloat16)
        >>> features = encode(torch.zeros(1, 3, 288, 288))
    """

    def __init__(self, model: SAM2, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        trunk, neck, decoder = model.image_encoder.trunk, model.image_encoder.neck, model.sam_mask_decoder
        self.trunk: Callable[[Tensor], list[Tensor]] = trunk
        if dtype is None and isinstance(trunk, ConvNet) and has_fused_operators(trunk.stem.weight):
            self.trunk = FusedConvNet(trunk)
        laterals = [part.get_submodule("conv") for part in neck.convs]
        self.coarse, self.middle = laterals[0], laterals[1]
        self.fine = (_merged(laterals[2], decoder.conv_s1), _merged(laterals[3], decoder.conv_s0))

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalised RGB to features, as `SAM2.encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            maps = self.trunk(pixels_B3HW)
        s4, s8, s16, s32 = (x.float() for x in maps)
        up = interpolate(self.coarse(s32), scale_factor=2.0, mode="nearest")
        return ImageFeatures(self.middle(s16) + up, (self.fine[0](s8), self.fine[1](s4)))


def _merged(first: nn.Module, second: nn.Module) -> Map:
    """Two one by one convolutions as one."""
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    assert first.bias is not None
    assert second.bias is not None
    precise = [t.detach().cpu().double() for t in (second.weight, first.weight, second.bias, first.bias)]
    outer, inner = precise[0].flatten(1), precise[1].flatten(1)  # not every device has fp64
    weight = (outer @ inner)[..., None, None].to(first.weight)
    bias = (outer @ precise[3] + precise[2]).to(first.weight)
    return lambda x_BCHW: conv2d(x_BCHW, weight, bias)
