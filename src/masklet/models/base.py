"""Records of tensors that pass between the verbs of a segmentation network.

Coordinates are pixels of the network's own square input, x before y.
Shapes: B batch, C channels, H and W of a map, N points, K candidate masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ImageFeatures", "MaskPrediction", "PromptTensors"]


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder says of a picture."""

    embed_BCHW: Tensor
    """Stride 16."""
    fine: tuple[Tensor, Tensor]
    """Strides 8 and 4, (B, C/4, 2H, 2W) and (B, C/8, 4H, 4W)."""

    def take(self, index_N: Tensor) -> ImageFeatures:
        """The pictures that `index_N` names, one entry a prompt; a single picture is shared, not copied."""
        if self.embed_BCHW.shape[0] == 1:
            count = len(index_N)
            return ImageFeatures(
                self.embed_BCHW.expand(count, -1, -1, -1),
                (self.fine[0].expand(count, -1, -1, -1), self.fine[1].expand(count, -1, -1, -1)),
            )
        return ImageFeatures(self.embed_BCHW[index_N], (self.fine[0][index_N], self.fine[1][index_N]))


@dataclass(frozen=True)
class PromptTensors:
    """One prompt an object."""

    points_BN2: Tensor
    labels_BN: Tensor
    """1 inside, 0 outside, 2 and 3 the upper left and lower right corner of a box, -1 padding."""
    mask_B1HW: Tensor | None = None
    """Logits at stride 4 of the input, from an earlier round or from a mask."""


@dataclass(frozen=True)
class MaskPrediction:
    """Candidate masks with what the network thinks of them."""

    logits_BKHW: Tensor
    """Stride 4; above 0 is inside."""
    iou_BK: Tensor
    """Predicted overlap with the true mask, 0 to 1."""
    object_score_B1: Tensor
    """Above 0: the object is in the picture."""
    tokens_BKC: Tensor
    """What the decoder knows of each candidate; object pointers are made from it."""

    def pick(self, index_B: Tensor) -> MaskPrediction:
        """One candidate an object, by its index; K becomes 1."""
        rows = torch.arange(len(index_B), device=index_B.device)
        return MaskPrediction(
            self.logits_BKHW[rows, index_B][:, None],
            self.iou_BK[rows, index_B][:, None],
            self.object_score_B1,
            self.tokens_BKC[rows, index_B][:, None],
        )

    def slice(self, start: int, stop: int) -> MaskPrediction:
        """Candidates `start` to `stop`."""
        return MaskPrediction(
            self.logits_BKHW[:, start:stop],
            self.iou_BK[:, start:stop],
            self.object_score_B1,
            self.tokens_BKC[:, start:stop],
        )
