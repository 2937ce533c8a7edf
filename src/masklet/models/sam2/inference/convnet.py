"""The built-in model's trunk in fused convolutions.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from masklet.models.sam2.convnet import Bottleneck, ConvNet
from masklet.models.sam2.inference.fused import FusedConvolution

__all__ = ["FusedConvNet"]


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
