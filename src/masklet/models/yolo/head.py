"""The decoupled, anchor-free head of YOLOv8: at every cell a box, class scores and, for masks, coefficients.

Each side of a box is the expectation of a distribution over 16 distances from the cell's center (Li et al. 2020,
generalized focal loss), in strides. Coordinates are pixels of the network's input, x before y.
Shapes: B batch, C channels, H and W of a map, A cells of all maps, finest first, D bins, K classes, M prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from masklet.models.yolo.blocks import ConvBlock, Prototypes
from masklet.models.yolo.config import YOLOConfig

__all__ = ["DFL", "STRIDES", "DetectionHead", "RawDetections", "make_anchors"]

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class RawDetections:
    """One box per anchor, before any selection."""

    xyxy_BA4: Tensor
    """Pixels of the input."""
    scores_BAK: Tensor
    """0 to 1."""
    coefficients_BAM: Tensor | None = None
    prototypes_BMHW: Tensor | None = None
    """Stride 4; the sum weighted by a box's coefficients is positive inside its mask."""


class DFL(nn.Module):
    """Expectation of distributions over bins; the bins' values 0, 1, ... are a tensor of the file."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.arange(bins).view(1, bins, 1, 1))

    def forward(self, logits_BDA: Tensor) -> Tensor:
        """Map logits (B, 4 D, A), ordered left, top, right, bottom, to distances (B, 4, A)."""
        by_side = torch.unflatten(logits_BDA, 1, (4, -1)).transpose(1, 2)
        return conv2d(by_side.softmax(1), self.conv.weight)[:, 0]


class DetectionHead(nn.Module):
    """Branches for boxes, classes and, in segmenters, mask coefficients, on three maps."""

    def __init__(self, config: YOLOConfig) -> None:
        super().__init__()
        inputs = config.channels[2:]
        self.cv2 = _branches(inputs, config.box_channels, 4 * config.bins)
        self.cv3 = _branches(inputs, config.class_channels, config.classes)
        self.dfl = DFL(config.bins)
        self.proto: Prototypes | None = None
        self.cv4: nn.ModuleList | None = None
        if config.mask_channels is not None:
            self.proto = Prototypes(inputs[0], config.prototype_channels, config.prototypes)
            self.cv4 = _branches(inputs, config.mask_channels, config.prototypes)

    def forward(self, maps: Sequence[Tensor]) -> RawDetections:
        """Predict from maps (B, C, H, W) at strides 8, 16 and 32."""
        distances_B4A = self.dfl(_run_branches(self.cv2, maps))
        centers_A2, strides_A1 = make_anchors([(m.shape[2], m.shape[3]) for m in maps], maps[0].device)
        near_BA2, far_BA2 = distances_B4A.transpose(1, 2).chunk(2, dim=-1)
        corners = torch.cat([centers_A2 - near_BA2, centers_A2 + far_BA2], dim=-1)
        return RawDetections(
            corners * strides_A1,
            _run_branches(self.cv3, maps).sigmoid().transpose(1, 2),
            None if self.cv4 is None else _run_branches(self.cv4, maps).transpose(1, 2),
            None if self.proto is None else self.proto(maps[0]),
        )


def make_anchors(sizes: Sequence[tuple[int, int]], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the cell centers (A, 2), in strides, of maps of `sizes` (height, width), and each cell's stride (A, 1)."""
    points, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        y, x = torch.meshgrid(
            torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
        )
        points.append(torch.stack([x, y], dim=-1).flatten(0, 1))
        strides.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(points), torch.cat(strides)


def _branches(inputs: Sequence[int], width: int, outputs: int) -> nn.ModuleList:
    """Build two 3 x 3 blocks and a projection for each map."""
    return nn.ModuleList(
        nn.Sequential(ConvBlock(c, width, 3), ConvBlock(width, width, 3), nn.Conv2d(width, outputs, 1)) for c in inputs
    )


def _run_branches(branches: nn.ModuleList, maps: Sequence[Tensor]) -> Tensor:
    """Run each branch on its map; returns (B, outputs, A)."""
    return torch.cat([branch(m).flatten(2) for branch, m in zip(branches, maps, strict=True)], dim=2)
