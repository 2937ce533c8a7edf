"""`Sam2Processor` and `SamProcessor` with the nesting of transformers: image, object, point, coordinate."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from masklet.compat.prompted_image import read_rgb
from masklet.compat.transformers.named_tensors import NamedTensors
from masklet.compat.transformers.nested_prompts import NestedPrompt, scale_points, to_tensor
from masklet.compat.transformers.open_pretrained import read_processor_config
from masklet.compat.transformers.pixel_values import to_pixel_values
from masklet.errors import InputError
from masklet.runtime import DeviceLike
from masklet.transforms import ImageTransform

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ImageLike", "Sam2Processor", "SamProcessor", "Sizes"]

STRIDE = 4
"""Pixels of the network's input per cell of logits and of label maps."""
ImageLike = Image.Image | npt.NDArray[np.uint8]
Sizes = Tensor | Sequence[Sequence[int]]
"""(height, width) of each image."""
POINTS = "input_points[image][object][point][x, y]"
LABELS = "input_labels[image][object][point]"
BOXES = "input_boxes[image][box][x1, y1, x2, y2]"


class PromptProcessor(ABC):
    """Turn images and prompts into tensors, and logits into masks at the size of an image."""

    keeps_aspect_ratio: ClassVar[bool]

    def __init__(self, image_size: int = 1024) -> None:
        self.target_size = image_size

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: object) -> Self:
        """Make the processor of a model; the size of a folder's config is used, and 1024 for names on the hub."""
        size = read_processor_config(Path(name)).get("size", {})
        return cls(int(size.get("height", size.get("longest_edge", 1024))))

    @property
    def image_processor(self) -> Self:
        """The part that handles images: this processor itself."""
        return self

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike] | None = None,
        segmentation_maps: ImageLike | Sequence[ImageLike] | None = None,
        input_points: NestedPrompt = None,
        input_labels: NestedPrompt = None,
        input_boxes: NestedPrompt = None,
        original_sizes: Sizes | None = None,
        return_tensors: str = "pt",
        device: DeviceLike = "cpu",
        **kwargs: object,
    ) -> NamedTensors:
        """Prepare B images: points [image][object][point][x, y], labels [image][object][point], boxes [image][box].

        Without images, `original_sizes` (B, 2) says what the prompts are for. Maps of labels (H, W) are resized to
        those of the logits.

        Returns:
            `pixel_values` (B, 3, S, S), `original_sizes` (B, 2), `labels` (B, S / 4, S / 4), and the prompts in
            pixels of the network's input: those that were given.

        Raises:
            PromptError: if prompts are nested in another way.
            InputError: if there is neither an image nor a size, another kind of tensors is wanted, or an argument is
                unknown.
            SourceError: if an image is none.
        """
        if kwargs or return_tensors != "pt":
            raise InputError(f"{[*kwargs] or return_tensors!r} is not possible here; images, prompts and 'pt' are")
        output = NamedTensors()
        if images is not None:
            arrays = [read_rgb(one) for one in _as_list(images)]
            sizes = [(int(one.shape[0]), int(one.shape[1])) for one in arrays]
            output["pixel_values"] = torch.cat([self._pixel_values(one) for one in arrays])
        elif original_sizes is not None:
            sizes = [(int(height), int(width)) for height, width in original_sizes]
        else:
            raise InputError("images and original_sizes are both None: give images=..., or original_sizes=[[480, 640]]")
        output["original_sizes"] = torch.tensor(sizes)
        resized = torch.tensor([self._transform(size).valid_size for size in sizes])
        if self.keeps_aspect_ratio:
            output["reshaped_input_sizes"] = resized
        if segmentation_maps is not None:
            output["labels"] = torch.stack([self._label_map(one) for one in _as_list(segmentation_maps)])
        factors = (resized.double() / output["original_sizes"]).flip(1)  # of x and y
        output.update(self._prompts(input_points, input_labels, input_boxes, factors))
        return output.to(device)

    @abstractmethod
    def _prompts(
        self, points: NestedPrompt, labels: NestedPrompt, boxes: NestedPrompt, factors: Tensor
    ) -> dict[str, Tensor]:
        """Return the prompts that are given, by name, scaled by `factors` (B, 2) of x and y."""

    def _label_map(self, image: ImageLike) -> Tensor:
        labels = torch.as_tensor(np.array(image)).to(torch.int64)
        if labels.ndim != 2:
            raise InputError(f"a segmentation map of shape {tuple(labels.shape)} must be (height, width), a label each")
        side = self.target_size // STRIDE
        height, width = ImageTransform((labels.shape[0], labels.shape[1]), side, self.keeps_aspect_ratio).valid_size
        shrunk_HW = interpolate(labels[None, None].float(), (height, width), mode="nearest-exact")[0, 0].long()
        return pad(shrunk_HW, (0, side - width, 0, side - height))

    def _masks(self, masks: Sequence[Tensor], original_sizes: Sizes, threshold: float, binarize: bool) -> list[Tensor]:
        found = []
        for logits, size in zip(masks, original_sizes, strict=True):
            height, width = (int(side) for side in size)
            scaled = self._transform((height, width)).upsample_logits(torch.as_tensor(logits).float())
            found.append(scaled > threshold if binarize else scaled)
        return found

    def _pixel_values(self, rgb: npt.NDArray[np.uint8]) -> Tensor:
        height, width = self._transform((rgb.shape[0], rgb.shape[1])).valid_size
        return pad(to_pixel_values(rgb, (height, width)), (0, self.target_size - width, 0, self.target_size - height))

    def _transform(self, size: tuple[int, int]) -> ImageTransform:
        return ImageTransform(size, self.target_size, self.keeps_aspect_ratio)


class Sam2Processor(PromptProcessor):
    """Images as SAM 2 sees them: resized to a square."""

    keeps_aspect_ratio = False

    def post_process_masks(
        self,
        masks: Sequence[Tensor],
        original_sizes: Sizes,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        apply_non_overlapping_constraints: bool = False,
        **kwargs: object,
    ) -> list[Tensor]:
        """Scale logits (N, C, h, w) to the size of each image: (N, C, H, W) bool, or logits without `binarize`.

        Raises:
            InputError: if holes or specks are to be cleared, or masks kept apart.
        """
        if max_hole_area or max_sprinkle_area or apply_non_overlapping_constraints:
            raise InputError(
                "max_hole_area, max_sprinkle_area and apply_non_overlapping_constraints are not possible here; "
                "masklet.SAM(...).track(video, ..., options=TrackOptions(non_overlapping=True, fill_hole_area=8)) has "
                "both, and masklet.SAM(...)(image, ..., fill_hole_area=8) clears holes and specks"
            )
        return self._masks(masks, original_sizes, mask_threshold, binarize)

    def _prompts(
        self, points: NestedPrompt, labels: NestedPrompt, boxes: NestedPrompt, factors: Tensor
    ) -> dict[str, Tensor]:
        prompts = {}
        if points is not None:
            prompts["input_points"] = scale_points(to_tensor(points, [4], POINTS), factors).float()
        if labels is not None:
            prompts["input_labels"] = to_tensor(labels, [3], LABELS).long()
        if boxes is not None:
            corners = to_tensor(boxes, [3], BOXES, pads=False)
            prompts["input_boxes"] = (corners * factors.repeat(1, 2)[:, None]).float()
        return prompts


class SamProcessor(PromptProcessor):
    """Images as SAM sees them: the longer side resized, the rest padded."""

    keeps_aspect_ratio = True

    def post_process_masks(
        self,
        masks: Sequence[Tensor],
        original_sizes: Sizes,
        reshaped_input_sizes: Sizes | None = None,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        pad_size: None = None,
    ) -> list[Tensor]:
        """Scale logits (N, C, h, w) to the size of each image: (N, C, H, W) bool, or logits without `binarize`."""
        return self._masks(masks, original_sizes, mask_threshold, binarize)

    def _prompts(
        self, points: NestedPrompt, labels: NestedPrompt, boxes: NestedPrompt, factors: Tensor
    ) -> dict[str, Tensor]:
        """Points may be nested without objects, and boxes with one level more; coordinates are float64."""
        prompts = {}
        if boxes is not None:
            corners = to_tensor(boxes, [3, 4], BOXES, pads=False).flatten(1, -2)
            prompts["input_boxes"] = corners * factors.repeat(1, 2)[:, None]
        if points is not None:
            coords = to_tensor(points, [3, 4], POINTS)
            prompts["input_points"] = scale_points(coords if coords.ndim == 4 else coords[:, None], factors)
        if labels is not None:
            marks = to_tensor(labels, [2, 3], LABELS).long()
            prompts["input_labels"] = marks if marks.ndim == 3 else marks[:, None]
        return prompts


def _as_list(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    return images if isinstance(images, (list, tuple)) else [images]  # type: ignore[list-item]
