"""YOLOv8: a backbone, a neck that fuses its maps in both directions, and a head.

Layers are stored under their published numbers; those without tensors (upsampling, concatenation) are written out in
`neck`.
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
        fine, middle, coarse = self.backbone(pixels_B3HW)
        detections: RawDetections = self.model["22"](self.neck(fine, middle, coarse))
        return detections

    def backbone(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the backbone's maps at strides 8, 16 and 32."""
        fine = self._run_layers(pixels_B3HW, "0", "1", "2", "3", "4")
        middle = self._run_layers(fine, "5", "6")
        return fine, middle, self._run_layers(middle, "7", "8", "9")

    def neck(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fuse maps (B, C, H, W) at strides 8, 16 and 32 from coarse to fine and back."""
        down16 = self._run_layers(torch.cat([interpolate(coarse, scale_factor=2.0, mode="nearest"), middle], 1), "12")
        out8 = self._run_layers(torch.cat([interpolate(down16, scale_factor=2.0, mode="nearest"), fine], 1), "15")
        out16 = self._run_layers(torch.cat([self._run_layers(out8, "16"), down16], 1), "18")
        out32 = self._run_layers(torch.cat([self._run_layers(out16, "19"), coarse], 1), "21")
        return out8, out16, out32

    def fold(self) -> YOLOv8:
        """Fold every batch normalization into its convolution, for inference only; it cannot be undone."""
        for module in self.modules():
            if isinstance(module, ConvBlock):
                module.fold()
        return self

    def _run_layers(self, x_BCHW: Tensor, *layers: str) -> Tensor:
        for layer in layers:
            x_BCHW = self.model[layer](x_BCHW)
        return x_BCHW
