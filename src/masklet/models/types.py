"""Records of tensors that pass between the verbs of a segmentation network.

Coordinates are pixels of the network's own square input, x before y.
Shapes: B batch, C channels, H and W of a map, N points, K candidate masks, M memory channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

__all__ = [
    "PIXEL_MEAN",
    "PIXEL_STD",
    "FrameMemory",
    "ImageFeatures",
    "MaskPrediction",
    "MemoryContext",
    "PromptTensors",
    "PromptableModel",
    "SelectedMasks",
    "empty_prompt",
]

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
"""Of RGB in 0..1: every network, of either family, sees (pixel - mean) / deviation."""


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder says of an image."""

    embed_BCHW: Tensor
    """Stride 16."""
    high_res_features: tuple[Tensor, ...] = ()
    """Strides 8 and 4, (B, C/4, 2H, 2W) and (B, C/8, 4H, 4W); nothing where the family has none."""

    def index_select(self, index_N: Tensor) -> ImageFeatures:
        """The images that `index_N` names, one entry a prompt; a single image is shared, not copied."""
        if self.embed_BCHW.shape[0] == 1:
            count = len(index_N)
            return ImageFeatures(
                self.embed_BCHW.expand(count, -1, -1, -1),
                tuple(x.expand(count, -1, -1, -1) for x in self.high_res_features),
            )
        return ImageFeatures(self.embed_BCHW[index_N], tuple(x[index_N] for x in self.high_res_features))


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
    """Above 0: the object is in the image; infinite where the family cannot say otherwise."""
    tokens_BKC: Tensor
    """What the decoder knows of each candidate; object pointers are made from it."""

    def select_candidates(self, index_B: Tensor) -> MaskPrediction:
        """One candidate an object, by its index; K becomes 1."""
        rows = torch.arange(len(index_B), device=index_B.device)
        return MaskPrediction(
            self.logits_BKHW[rows, index_B][:, None],
            self.iou_BK[rows, index_B][:, None],
            self.object_score_B1,
            self.tokens_BKC[rows, index_B][:, None],
        )

    def slice_candidates(self, start: int, stop: int) -> MaskPrediction:
        """Candidates `start` to `stop`."""
        return MaskPrediction(
            self.logits_BKHW[:, start:stop],
            self.iou_BK[:, start:stop],
            self.object_score_B1,
            self.tokens_BKC[:, start:stop],
        )


ModelT = TypeVar("ModelT", bound="PromptableModel")


class PromptableModel(Protocol):
    """What a predictor of images asks of a network, whichever its family.

    How an image lies in the network's square input is said by `image_size` and `keeps_ratio`; `pixels.Fit` does it.
    """

    @property
    def still_image_size(self) -> int:
        """Side of the square that an image is brought to."""

    @property
    def keeps_aspect_ratio(self) -> bool:
        """Whether its longer side fills the square, with nothing below or to the right, or it is squashed into it."""

    @property
    def stability_threshold(self) -> float:
        """An unambiguous mask less stable than this gives way to the best of three; 0: never."""

    @property
    def clamps_logits(self) -> bool:
        """Whether logits to go on from are kept within `pixels.LOGIT_LIMIT`, as the published predictor has it."""

    @property
    def supports_video(self) -> bool:
        """Whether it has a memory of earlier frames."""

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalized RGB to features that do not depend on any prompt."""

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Features of an image that stands alone, as the decoder wants them."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """All four candidates an object; `features` hold one entry a prompt."""

    def to(self: ModelT, device: torch.device) -> ModelT:
        """The same network on a device."""


@dataclass(frozen=True)
class SelectedMasks:
    """One mask an object: the candidate that was settled on, and what points back at it."""

    logits_B1HW: Tensor
    """Stride 4; far below 0 everywhere when the object is not in the image."""
    iou_B1: Tensor
    object_score_B1: Tensor
    pointer_BC: Tensor
    """The object as one vector, for the frames to come."""

    @classmethod
    def cat(cls, masks: Sequence[SelectedMasks]) -> SelectedMasks:
        """Concatenate batches of objects into one."""
        return cls(
            torch.cat([each.logits_B1HW for each in masks]),
            torch.cat([each.iou_B1 for each in masks]),
            torch.cat([each.object_score_B1 for each in masks]),
            torch.cat([each.pointer_BC for each in masks]),
        )

    def index(self, i: int | Tensor, *, clone: bool = False) -> SelectedMasks:
        """Select object `i` as a batch of one, or the objects of an index tensor in its order.

        An integer gives views; `clone` copies them, so that the batch can be released.
        """
        rows = slice(i, i + 1) if isinstance(i, int) else i
        parts = (self.logits_B1HW[rows], self.iou_B1[rows], self.object_score_B1[rows], self.pointer_BC[rows])
        return SelectedMasks(*(part.clone() for part in parts) if clone else parts)


@dataclass(frozen=True)
class FrameMemory:
    """What is kept of an object on one frame."""

    spatial_BMHW: Tensor
    """Stride 16."""
    pointer_BC: Tensor

    def row(self, index: int) -> FrameMemory:
        """Object `index` of the batch, in storage of its own."""
        return FrameMemory(
            self.spatial_BMHW[index : index + 1].contiguous(), self.pointer_BC[index : index + 1].contiguous()
        )


@dataclass(frozen=True)
class MemoryContext:
    """What a frame looks back at: the same frames, as seen from it, for all objects of a batch."""

    spatial: tuple[Tensor, ...]
    """Each (B, M, H, W)."""
    temporal_positions: tuple[int, ...]
    """Of each spatial memory: 0 where a person prompted, n for the n-th frame before (in the direction of tracking)."""
    pointers: tuple[Tensor, ...] = ()
    """Each (B, C)."""
    pointer_offsets: tuple[int, ...] = ()
    """Of each pointer: frames back, negative when it lies ahead."""
    max_pointers: int = 16
    """Pointers that could be looked at; their offsets are measured against it."""


def empty_prompt(count: int, device: torch.device, mask_B1HW: Tensor | None = None) -> PromptTensors:
    """Prompts that say nothing, or a mask alone, for `count` objects: one point of padding, as was trained."""
    points, labels = torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
    return PromptTensors(points, labels, mask_B1HW)
