"""`SamPredictor` with the arguments and arrays of segment_anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch import device as TorchDevice

from masklet.compat.prompted_image import Answer, PromptArray, predict_arrays, read_rgb
from masklet.compat.segment_anything.utils.transforms import ResizeLongestSide
from masklet.errors import InputError, StateError
from masklet.image import ImagePredictor
from masklet.models.sam1 import SAM1

__all__ = ["SamPredictor"]


class SamPredictor:
    """Segment an image by prompts; `native` is the `masklet.ImagePredictor`.

    Example:
        >>> from masklet.compat.segment_anything import sam_model_registry
        >>> predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint="sam_b.pt"))  # doctest: +SKIP
        >>> predictor.set_image(rgb)  # doctest: +SKIP
        >>> masks, scores, logits = predictor.predict(  # doctest: +SKIP
        ...     point_coords=np.array([[500, 375]]), point_labels=np.array([1]), multimask_output=True
        ... )
    """

    def __init__(self, sam_model: SAM1) -> None:
        self.model = sam_model
        self.native = ImagePredictor(sam_model, next(sam_model.parameters()).device)
        self.transform = ResizeLongestSide(sam_model.still_image_size)

    @property
    def device(self) -> TorchDevice:
        """Where the network is."""
        return self.native.device

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image."""
        return self.native.features is not None

    @property
    def original_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.native.size

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that the image is resized to."""
        return self.transform.get_preprocess_shape(*self.native.size, self.transform.target_length)

    def set_image(self, image: npt.NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Encode an image, (H, W, 3) uint8, RGB or BGR.

        Raises:
            InputError: if the format is another one.
            SourceError: if it is no image.
        """
        self.native.set_image(read_rgb(image, image_format))

    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Refuse: images are resized by masklet, which `set_image` does."""
        raise InputError("set_torch_image is not in masklet.compat.segment_anything; call set_image(rgb)")

    def predict(
        self,
        point_coords: PromptArray = None,
        point_labels: PromptArray = None,
        box: PromptArray = None,
        mask_input: PromptArray = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Answer:
        """Segment one object by points (P, 2) with labels (P,), a box (4,), logits (1, 256, 256), in pixels.

        Returns:
            Masks (C, H, W) bool, or float32 logits; scores (C,); low-resolution logits (C, 256, 256). C is 3 with
            `multimask_output`, else 1.

        Raises:
            StateError: if no image is set.
            PromptError: if a prompt is malformed, outside the image, or there is none.
        """
        masks, scores, logits = self._predict(
            point_coords, point_labels, box, mask_input, multimask_output, return_logits
        )
        return masks[0], scores[0], logits[0]

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment N objects by points (N, P, 2) and boxes (N, 4) that `transform` has scaled; answers are tensors.

        Raises:
            As `predict`.
        """
        factors = self.transform.scale(self.native.size)

        def unscaled(coords: Tensor | None) -> npt.NDArray[Any] | None:
            return None if coords is None else coords.detach().cpu().numpy() / factors

        corners = None if boxes is None else unscaled(boxes.reshape(-1, 2, 2))
        found = self._predict(
            unscaled(point_coords),
            point_labels,
            None if corners is None else corners.reshape(-1, 4),
            mask_input,
            multimask_output,
            return_logits,
        )
        masks, scores, logits = (torch.from_numpy(one).to(self.device) for one in found)
        return masks, scores, logits

    def _predict(
        self,
        coords: PromptArray,
        labels: PromptArray,
        box: PromptArray,
        mask_input: PromptArray,
        multimask_output: bool,
        return_logits: bool,
    ) -> Answer:
        return predict_arrays(
            self.native,
            coords,
            labels,
            box,
            mask_input,
            multimask_output=multimask_output,
            return_logits=return_logits,
            threshold=0.0,
        )

    def get_image_embedding(self) -> Tensor:
        """Return the features of the image, (1, 256, 64, 64).

        Raises:
            StateError: if no image is set.
        """
        if self.native.features is None:
            raise StateError("no image is set; call set_image(rgb) before get_image_embedding()")
        return self.native.features.embed_BCHW

    def reset_image(self) -> None:
        """Release the image."""
        self.native.reset()
