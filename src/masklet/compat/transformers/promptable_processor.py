"""`Sam2Processor` and `SamProcessor` with the nesting of transformers: image, object, point, coordinate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from masklet.compat.prompted_image import read_rgb
from masklet.errors import InputError, PromptError
from masklet.runtime import DeviceLike
from masklet.transforms import ImageTransform

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ProcessorOutput", "Sam2Processor", "SamProcessor"]

PADDING = -10
"""The label of points that fill up objects with fewer of them."""
CONFIG_FILES = ("processor_config.json", "preprocessor_config.json")
ImageLike = Image.Image | npt.NDArray[np.uint8]


class ProcessorOutput(dict[str, Any]):
    """Tensors by name, which are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; there are {', '.join(self)}") from None

    def to(self, device: DeviceLike) -> ProcessorOutput:
        """Move the tensors to a device."""
        return ProcessorOutput({name: tensor.to(device) for name, tensor in self.items()})


class PromptProcessor:
    """Turn images and prompts into tensors, and logits into masks at the size of an image."""

    keeps_aspect_ratio: ClassVar[bool]

    def __init__(self, image_size: int = 1024) -> None:
        self.target_size = image_size

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **kwargs: object) -> Self:
        """Make the processor of a model; the size of a folder's config is used, and 1024 for names on the hub."""
        for file in (Path(name) / one for one in CONFIG_FILES):
            if file.is_file():
                content = json.loads(file.read_text(encoding="utf-8"))
                size = content.get("image_processor", content).get("size", {})
                return cls(int(size.get("height", size.get("longest_edge", 1024))))
        return cls()

    def __call__(
        self,
        images: ImageLike | list[ImageLike],
        segmentation_maps: None = None,
        input_points: Any = None,
        input_labels: Any = None,
        input_boxes: Any = None,
        return_tensors: str = "pt",
        **kwargs: object,
    ) -> ProcessorOutput:
        """Prepare B images: points [image][object][point][x, y], labels [image][object][point], boxes [image][box].

        Returns:
            `pixel_values` (B, 3, S, S), `original_sizes` (B, 2), and the prompts in pixels of the network's input.

        Raises:
            PromptError: if prompts are nested in another way.
            InputError: if another kind of tensors, or an unknown argument is given.
            SourceError: if an image is none.
        """
        if segmentation_maps is not None or kwargs or return_tensors != "pt":
            unknown = [*kwargs, *(["segmentation_maps"] if segmentation_maps is not None else [])]
            raise InputError(f"{unknown or return_tensors!r} is not possible here; images, prompts and 'pt' are")
        arrays = [read_rgb(one) for one in (images if isinstance(images, (list, tuple)) else [images])]
        sizes = [(int(one.shape[0]), int(one.shape[1])) for one in arrays]
        transforms = [self._transform(size) for size in sizes]
        pixels = [transform.preprocess(one) for transform, one in zip(transforms, arrays, strict=True)]
        output = ProcessorOutput(pixel_values=torch.cat(pixels), original_sizes=torch.tensor(sizes))
        resized = torch.tensor([transform.valid_size for transform in transforms])
        factors = (resized / output["original_sizes"]).flip(1)  # of x and y
        if self.keeps_aspect_ratio:
            output["reshaped_input_sizes"] = resized
        if input_points is not None:
            points, labels = _pad_points(input_points, input_labels)
            output["input_points"] = points * factors[:, None, None]
            output["input_labels"] = labels
        if input_boxes is not None:
            boxes = _tensor(input_boxes, 3, "input_boxes[image][box][x1, y1, x2, y2]")
            output["input_boxes"] = boxes * factors.repeat(1, 2)[:, None]
        return output

    def post_process_masks(
        self,
        masks: Tensor | list[Tensor],
        original_sizes: Tensor | list[tuple[int, int]],
        reshaped_input_sizes: object = None,
        mask_threshold: float = 0.0,
        binarize: bool = True,
        **kwargs: object,
    ) -> list[Tensor]:
        """Scale logits (B, N, C, h, w) to the size of each image: (N, C, H, W) bool, or logits without `binarize`."""
        found = []
        for logits, size in zip(masks, original_sizes, strict=True):
            height, width = (int(side) for side in size)
            scaled = self._transform((height, width)).upsample_logits(logits.float())
            found.append(scaled > mask_threshold if binarize else scaled)
        return found

    def _transform(self, size: tuple[int, int]) -> ImageTransform:
        return ImageTransform(size, self.target_size, self.keeps_aspect_ratio)


class Sam2Processor(PromptProcessor):
    """Images as SAM 2 sees them: resized to a square."""

    keeps_aspect_ratio = False


class SamProcessor(PromptProcessor):
    """Images as SAM sees them: the longer side resized, the rest padded."""

    keeps_aspect_ratio = True


def _tensor(value: Any, depth: int, nesting: str) -> Tensor:
    try:
        tensor = torch.as_tensor(np.array(value.tolist() if hasattr(value, "tolist") else value, np.float32))
    except ValueError:
        tensor = torch.zeros(0)
    if tensor.ndim != depth:
        raise PromptError(f"{value!r:.80} must be nested as {nesting}, with as many objects in each image")
    return tensor


def _pad_points(points: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Return points (B, N, P, 2) and labels (B, N, P); objects with fewer points are filled up."""
    nesting = "input_points[image][object][point][x, y]"
    nested = points.tolist() if hasattr(points, "tolist") else points
    try:
        most = max(len(one) for image in nested for one in image)
        rows = [[[*one, *[[0.0, 0.0]] * (most - len(one))] for one in image] for image in nested]
        marks = [[[1] * len(one) for one in image] for image in nested] if labels is None else labels
        marks = marks.tolist() if hasattr(marks, "tolist") else marks
        filled = [[[*one, *[PADDING] * (most - len(one))] for one in image] for image in marks]
    except (TypeError, ValueError):
        raise PromptError(f"{points!r:.80} with labels {labels!r:.60} must be nested as {nesting}") from None
    return _tensor(rows, 4, nesting), _tensor(filled, 3, "input_labels[image][object][point]").long()
