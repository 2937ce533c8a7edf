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
from torch.nn.functional import conv2d, interpolate, max_pool2d

from masklet.models.base import ImageFeatures
from masklet.models.sam2.convnet import Bottleneck, ConvNet
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
        if dtype is None and isinstance(trunk, ConvNet) and _has_fused_operators(trunk.stem.weight):
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


def _has_fused_operators(weight: Tensor) -> bool:
    """Whether oneDNN's fused convolutions are there for this weight."""
    operators = torch.ops.mkldnn
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(operators, n) for n in ("_convolution_pointwise", "_reorder_convolution_weight"))
    )


class FusedConvolution:
    """A convolution with its weights laid out once, for inputs of about one size."""

    def __init__(self, layer: nn.Conv2d, shape: torch.Size) -> None:
        self.how = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(layer.weight.detach(), *self.how, list(shape))
        self.bias = layer.bias

    def __call__(self, x_BCHW: Tensor, activation: str = "none") -> Tensor:
        """Convolution, then `activation` (none or relu)."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, self.weight, self.bias, *self.how, activation, [], ""
        )
        return out

    def onto(self, x_BCHW: Tensor, kept_BCHW: Tensor) -> Tensor:
        """relu(convolution + kept)."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, kept_BCHW, self.weight, self.bias, *self.how, "add", 1.0, "relu", [], ""
        )
        return out


class FusedBottleneck:
    """A bottleneck block in three or four passes."""

    def __init__(self, block: Bottleneck, x_BCHW: Tensor) -> None:
        shape = x_BCHW.shape
        self.project = None if block.project is None else FusedConvolution(block.project, shape)
        self.reduce = FusedConvolution(block.reduce, shape)
        narrow = self.reduce(x_BCHW, "relu").shape
        self.look, self.expand = FusedConvolution(block.look, narrow), FusedConvolution(block.expand, narrow)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """As `Bottleneck`."""
        kept = x_BCHW if self.project is None else self.project(x_BCHW)
        return self.expand.onto(self.look(self.reduce(x_BCHW, "relu"), "relu"), kept)


class FusedConvNet:
    """`ConvNet` with fused convolutions, laid out when the first picture of a size comes."""

    def __init__(self, trunk: ConvNet) -> None:
        self.trunk = trunk
        self.size: torch.Size | None = None

    def __call__(self, pixels_B3HW: Tensor) -> list[Tensor]:
        """As `ConvNet`."""
        x = pixels_B3HW.contiguous(memory_format=torch.channels_last)
        if x.shape != self.size:
            self._lay_out(x)
        x = max_pool2d(self.stem(x, "relu"), 3, 2, 1)
        maps = []
        for stage in self.stages:
            for block in stage:
                x = block(x)
            maps.append(x)
        return [*maps[:3], self.trunk.look_around(maps[3])]

    def _lay_out(self, x_B3HW: Tensor) -> None:
        self.stem = FusedConvolution(self.trunk.stem, x_B3HW.shape)
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
        self.size = x_B3HW.shape
