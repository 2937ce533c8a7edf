"""YOLOv8: a backbone, a neck that fuses its maps in both directions, and a head.

Layers are stored under their published numbers; those without tensors (upsampling, concatenation) are written out in
`forward`.
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from masklet.models.yolo.blocks import SPPF, C2f, ConvBlock
from masklet.models.yolo.config import YOLOConfig
from masklet.models.yolo.head import DetectionHead, RawDetections

__all__ = ["YOLOv8"]


class YOLOv8(nn.Module):
    """A detector, or a segmenter if the config has masks.

    Example:
        >>> detections = YOLOv8(CONFIGS["yolov8n"]).eval()(torch.rand(1, 3, 640, 640))
        >>> detections.xyxy_BA4.shape, detections.scores_BAK.shape
        (torch.Size([1, 8400, 4]), torch.Size([1, 8400, 80]))
    """

    def __init__(self, config: YOLOConfig) -> None:
        super().__init__()
        self.config = config
        c2, c4, c8, c16, c32 = config.channels
        d4, d8, d16, d32 = config.depths
        depth = config.neck_depth
        backbone = {
            "0": ConvBlock(3, c2, 3, 2),
            "1": ConvBlock(c2, c4, 3, 2),
            "2": C2f(c4, c4, d4, shortcut=True),
            "3": ConvBlock(c4, c8, 3, 2),
            "4": C2f(c8, c8, d8, shortcut=True),
            "5": ConvBlock(c8, c16, 3, 2),
            "6": C2f(c16, c16, d16, shortcut=True),
            "7": ConvBlock(c16, c32, 3, 2),
            "8": C2f(c32, c32, d32, shortcut=True),
            "9": SPPF(c32),
        }
        neck = {
            "12": C2f(c32 + c16, c16, depth, shortcut=False),
            "15": C2f(c16 + c8, c8, depth, shortcut=False),
            "16": ConvBlock(c8, c8, 3, 2),
            "18": C2f(c8 + c16, c16, depth, shortcut=False),
            "19": ConvBlock(c16, c16, 3, 2),
            "21": C2f(c16 + c32, c32, depth, shortcut=False),
        }
        self.model = nn.ModuleDict(backbone | neck | {"22": DetectionHead(config)})

    def forward(self, pixels_B3HW: Tensor) -> RawDetections:
        """Detect objects in RGB (B, 3, H, W) in 0..1, sides multiples of 32."""
        x_BCHW, layers, maps = pixels_B3HW, self.model, []
        for number in range(10):
            x_BCHW = layers[str(number)](x_BCHW)
            if number in (4, 6, 9):  # the last at strides 8, 16 and 32
                maps.append(x_BCHW)
        fine, middle, coarse = maps
        # the neck fuses them from coarse to fine and back
        down16 = layers["12"](torch.cat([interpolate(coarse, scale_factor=2.0, mode="nearest"), middle], 1))
        out8 = layers["15"](torch.cat([interpolate(down16, scale_factor=2.0, mode="nearest"), fine], 1))
        out16 = layers["18"](torch.cat([layers["16"](out8), down16], 1))
        out32 = layers["21"](torch.cat([layers["19"](out16), coarse], 1))
        detections: RawDetections = layers["22"]((out8, out16, out32))
        return detections

    def fold(self) -> YOLOv8:
        """Fold every batch normalization into its convolution, for inference only; it cannot be undone."""
        for module in self.modules():
            if isinstance(module, ConvBlock):
                module.fold()
        return self
