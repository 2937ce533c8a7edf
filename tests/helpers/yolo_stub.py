"""A network of the kind whose answers are known: it boxes what is red, green and blue, and draws it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from masklet.detect.yolo import LoadedYOLO
from masklet.models.yolo import RawDetections, YOLOConfig

COLORS = {0: "red", 1: "green", 2: "blue"}


class SeesColors(nn.Module):
    """One place a color that is there, and places that say nothing around it.

    Scores are 0.9, 0.8, 0.7 for red, green, blue; each box is predicted a second time, a little off and
    with a lower score.
    """

    def __init__(self, *, masks: bool = True) -> None:
        super().__init__()
        self.config = YOLOConfig(classes=3, mask_channels=8 if masks else None, prototypes=3)
        self.passes: list[tuple[int, ...]] = []

    def forward(self, pixels_B3HW: Tensor) -> RawDetections:
        self.passes.append(tuple(pixels_B3HW.shape))
        count = len(pixels_B3HW)
        boxes, scores = torch.zeros(count, 21, 4), torch.full((count, 21, 3), 0.001)
        coefficients = torch.zeros(count, 21, 3)
        sure = (pixels_B3HW > 0.8) & (pixels_B3HW.sum(1, keepdim=True) < 1.4)
        for row in range(count):
            for color in COLORS:
                where = sure[row, color].nonzero()
                if len(where):
                    (y1, x1), (y2, x2) = where.amin(0).tolist(), (where.amax(0) + 1).tolist()
                    first = torch.tensor([x1, y1, x2, y2], dtype=torch.float32)
                    boxes[row, 3 * color], boxes[row, 3 * color + 1] = first, first + torch.tensor([0, 0, 2, 2])
                    scores[row, 3 * color, color] = 0.9 - 0.1 * color
                    scores[row, 3 * color + 1, color] = 0.6
                    coefficients[row, [3 * color, 3 * color + 1], color] = 1.0
        if self.config.mask_channels is None:
            return RawDetections(boxes, scores)
        return RawDetections(boxes, scores, coefficients, avg_pool2d(sure.float(), 4) - 0.5)


def loaded(*, masks: bool = True) -> LoadedYOLO:
    """The stub as if it came from a file."""
    return LoadedYOLO(SeesColors(masks=masks), "stub", Path("stub.pt"), None, COLORS, 0, "none", None)  # type: ignore[arg-type]
