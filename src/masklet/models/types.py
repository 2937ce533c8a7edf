"""Tensors that pass between the verbs of a segmentation network.

Coordinates are pixels of the network's own input, x before y.
Shapes: B batch, C channels, H and W of a map, N points, K candidate masks, M memory channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from masklet.tensors import Tensor, torch

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
    "input_size_by_area",
]

SIDE_MULTIPLE = 32
"""Sides of the input are multiples of this."""
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
"""Normalization of RGB in 0..1: every network of SAM's family takes (pixel - mean) / deviation."""


@dataclass(frozen=True)
class ImageFeatures:
    """Features of a batch of images, from the image encoder."""

    embed_BCHW: Tensor
    """Stride 16."""
    high_res_features: tuple[Tensor, ...] = ()
    """Strides 8 and 4, (B, C/4, 2H, 2W) and (B, C/8, 4H, 4W); empty for SAM 1 and EfficientTAM."""
    stride8_BCHW: Tensor | None = None
    """The trunk's own map at stride 8, for networks that match labels along it; not kept by `index_select`."""

    def index_select(self, index_N: Tensor) -> ImageFeatures:
        """Select one image per prompt; a single image is expanded, not copied."""
        if self.embed_BCHW.shape[0] == 1:
            count = len(index_N)
            return ImageFeatures(
                self.embed_BCHW.expand(count, -1, -1, -1),
                tuple(x.expand(count, -1, -1, -1) for x in self.high_res_features),
            )
        return ImageFeatures(self.embed_BCHW[index_N], tuple(x[index_N] for x in self.high_res_features))


@dataclass(frozen=True)
class PromptTensors:
    """Prompts of B objects; each has the same number of points."""

    points_BN2: Tensor
    labels_BN: Tensor
    """1 inside, 0 outside, 2 and 3 the upper left and lower right corner of a box, -1 padding."""
    mask_B1HW: Tensor | None = None
    """Logits at stride 4 of the input: an earlier prediction to refine, or a mask."""


@dataclass(frozen=True)
class MaskPrediction:
    """K candidate masks per object, with their predicted quality."""

    logits_BKHW: Tensor
    """Stride 4; above 0 is inside."""
    iou_BK: Tensor
    """Predicted IoU with the true mask, 0 to 1; not bounded in SAM 1."""
    object_score_B1: Tensor
    """Above 0: the object is in the image; infinite in SAM 1, which has no such score."""
    tokens_BKC: Tensor
    """Output token of each candidate; object pointers are projected from it."""

    def select_candidates(self, index_B: Tensor) -> MaskPrediction:
        """Select one candidate per object by its index; K becomes 1."""
        rows = torch.arange(len(index_B), device=index_B.device)
        return MaskPrediction(
            self.logits_BKHW[rows, index_B][:, None],
            self.iou_BK[rows, index_B][:, None],
            self.object_score_B1,
            self.tokens_BKC[rows, index_B][:, None],
        )

    def slice_candidates(self, start: int, stop: int) -> MaskPrediction:
        """Return the candidates `start` to `stop` (exclusive) of each object."""
        return MaskPrediction(
            self.logits_BKHW[:, start:stop],
            self.iou_BK[:, start:stop],
            self.object_score_B1,
            self.tokens_BKC[:, start:stop],
        )


ModelT = TypeVar("ModelT", bound="PromptableModel")


class PromptableModel(Protocol):
    """The verbs and constants that an image predictor needs of a network, SAM 1 or SAM 2.

    `still_image_size` and `keeps_aspect_ratio` determine how an image is placed in the network's square input
    (`masklet.transforms.ImageTransform`).
    """

    @property
    def still_image_size(self) -> int:
        """Side of the square that an image is resized to."""

    keeps_aspect_ratio: bool
    """Whether images are resized by the longer side and padded right and below, instead of stretched."""
    stability_threshold: float
    """Stability below which the best of three masks replaces the single mask; 0: never."""
    edge_radius: int | None
    """Masks follow the edges of their image within this many cells of stride 2; None: not at all."""
    clamps_logits: bool
    """Whether returned logits are clamped to `masklet.transforms.LOGIT_LIMIT`, as in the published predictor."""
    supports_video: bool
    """Whether the network has a memory of earlier frames."""

    @property
    def score_family(self) -> str:
        """Whose predicted scores these resemble, for thresholds: "sam1", "sam2" or "builtin"."""

    def encode_image(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Encode normalized RGB; features do not depend on prompts."""

    def add_no_memory_embedding(self, features: ImageFeatures) -> ImageFeatures:
        """Prepare features of a single image for the decoder."""

    def decode(self, features: ImageFeatures, prompts: PromptTensors) -> MaskPrediction:
        """Decode all four candidates per object; `features` have one row per prompt."""

    def to(self: ModelT, device: torch.device) -> ModelT:
        """Move the network to a device."""


@dataclass(frozen=True)
class SelectedMasks:
    """One selected mask per object, and the object pointer."""

    logits_B1HW: Tensor
    """Stride 4; far below 0 everywhere if the object is not in the image."""
    iou_B1: Tensor
    object_score_B1: Tensor
    pointer_BC: Tensor
    """The object as one vector, for later frames."""

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
    """Memory of B objects on one frame."""

    spatial_BMHW: Tensor
    """Stride 16; for EdgeTAM rows of tokens, see `masklet.models.sam2.perceiver`."""
    pointer_BC: Tensor

    def row(self, index: int) -> FrameMemory:
        """Return object `index` as a batch of one, in separate storage."""
        return FrameMemory(
            self.spatial_BMHW[index : index + 1].contiguous(), self.pointer_BC[index : index + 1].contiguous()
        )


@dataclass(frozen=True)
class MemoryContext:
    """Memories that a frame attends to: the same frames for all objects of a batch."""

    spatial: tuple[Tensor, ...]
    """Each (B, M, H, W)."""
    temporal_positions: tuple[int, ...]
    """Of each spatial memory: 0 for a prompted frame, n for the n-th frame before (in the direction of tracking)."""
    pointers: tuple[Tensor, ...] = ()
    """Each (B, C)."""
    pointer_offsets: tuple[int, ...] = ()
    """Of each pointer: distance in frames, negative for a later frame."""
    max_pointers: int = 16
    """Largest number of pointers; their offsets are normalized by it."""
    spatial_weights_BF: Tensor | None = None
    """Factors of the keys of each spatial memory, by object; None: all are 1."""
    pointer_weights_BP: Tensor | None = None
    """Factors of the keys of each pointer, by object; None: all are 1."""


def empty_prompt(count: int, device: torch.device, mask_B1HW: Tensor | None = None) -> PromptTensors:
    """Return prompts without points or boxes for `count` objects: one padding point each, as in training."""
    points, labels = torch.zeros(count, 1, 2, device=device), torch.full((count, 1), -1, device=device)
    return PromptTensors(points, labels, mask_B1HW)


def input_size_by_area(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return the height and width of about `pixels` pixels, multiples of 32, with the shape of `size` (height, width).

    Example:
        >>> input_size_by_area((1080, 1920), 448 * 256)
        (256, 448)
        >>> input_size_by_area((500, 500), 448 * 256)
        (352, 352)
    """
    height, width = size
    sides = ((pixels * height / width) ** 0.5, (pixels * width / height) ** 0.5)
    longest = max(pixels // SIDE_MULTIPLE, SIDE_MULTIPLE)
    rows, columns = (min(max(round(side / SIDE_MULTIPLE), 1) * SIDE_MULTIPLE, longest) for side in sides)
    return rows, columns
