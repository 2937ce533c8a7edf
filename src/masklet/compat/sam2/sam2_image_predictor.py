"""`SAM2ImagePredictor` with the arguments and arrays of sam2."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torch import device as TorchDevice

from masklet.compat.prompted_image import Answer, PromptArray, predict_arrays, read_rgb
from masklet.errors import InputError, StateError
from masklet.image import ImagePredictor
from masklet.models.sam2 import SAM2

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SAM2ImagePredictor"]


class SAM2ImagePredictor:
    """Segment an image, or a batch of images, by prompts; `native` is the `masklet.ImagePredictor`.

    Example:
        >>> from masklet.compat.sam2.build_sam import build_sam2
        >>> predictor = SAM2ImagePredictor(build_sam2("sam2.1_hiera_t.yaml", "sam2.1_t.pt"))  # doctest: +SKIP
        >>> predictor.set_image(rgb)  # doctest: +SKIP
        >>> masks, scores, logits = predictor.predict(  # doctest: +SKIP
        ...     point_coords=np.array([[500, 375]]), point_labels=np.array([1]), multimask_output=True
        ... )
        >>> masks.shape, scores.shape, logits.shape  # doctest: +SKIP
        ((3, 1200, 1800), (3,), (3, 256, 256))
    """

    def __init__(
        self,
        sam_model: SAM2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: object,
    ) -> None:
        if max_hole_area or max_sprinkle_area:
            raise InputError(
                f"max_hole_area={max_hole_area}, max_sprinkle_area={max_sprinkle_area} are not possible here; "
                "masklet.SAM(...)(image, ..., fill_hole_area=8) clears holes and specks"
            )
        self.model = sam_model
        self.mask_threshold = mask_threshold
        self.native = ImagePredictor(sam_model, next(sam_model.parameters()).device)
        self._batch: list[ImagePredictor] | None = None

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> Self:
        """Open a model by its name on the hub: "facebook/sam2.1-hiera-tiny"."""
        from masklet.compat.sam2.build_sam import build_sam2_hf

        return cls(build_sam2_hf(model_id, **kwargs))

    @property
    def device(self) -> TorchDevice:
        """Where the network is."""
        return self.native.device

    @property
    def _features(self) -> dict[str, Any]:
        """The features of the image, which the notebooks of sam2 look at."""
        features = self.native.features
        if features is None:
            return {"image_embed": None, "high_res_feats": None}
        return {"image_embed": features.embed_BCHW, "high_res_feats": list(reversed(features.high_res_features))}

    def set_image(self, image: npt.NDArray[np.uint8] | Image.Image) -> None:
        """Encode an image: (H, W, 3) RGB uint8, or a PIL image.

        Raises:
            SourceError: if it is no image.
        """
        self._batch = None
        self.native.set_image(read_rgb(image))

    def set_image_batch(self, image_list: list[npt.NDArray[np.uint8]]) -> None:
        """Encode several images for `predict_batch`.

        Raises:
            SourceError: if one is no image.
        """
        self.native.reset()
        batch = []
        for image in image_list:
            one = copy.copy(self.native)
            one.set_image(read_rgb(image))
            batch.append(one)
        self._batch = batch

    def predict(
        self,
        point_coords: PromptArray = None,
        point_labels: PromptArray = None,
        box: PromptArray = None,
        mask_input: PromptArray = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Answer:
        """Segment one object, or N with prompts of a leading dimension N.

        `point_coords` (P, 2) or (N, P, 2), `point_labels` (P,) or (N, P), `box` (4,) or (N, 4), `mask_input`
        (1, h, w) or (N, 1, h, w): pixels, or with `normalize_coords=False` fractions of width and height.

        Returns:
            Masks (C, H, W) float32 of 0 and 1, or logits; scores (C,); low-resolution logits (C, h, w). C is 3 with
            `multimask_output`, else 1. N objects have a leading dimension N.

        Raises:
            StateError: if no image is set.
            PromptError: if a prompt is malformed, outside the image, or there is none.
        """
        return self._predict(
            self.native, point_coords, point_labels, box, mask_input, multimask_output, return_logits, normalize_coords
        )

    def predict_batch(
        self,
        point_coords_batch: list[PromptArray] | None = None,
        point_labels_batch: list[PromptArray] | None = None,
        box_batch: list[PromptArray] | None = None,
        mask_input_batch: list[PromptArray] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """Segment in each image of `set_image_batch`; prompts and answers are lists, one entry an image.

        Raises:
            StateError: if no images are set.
            PromptError: as `predict`.
        """
        if self._batch is None:
            raise StateError("no images are set; call set_image_batch([...]) before predict_batch(...)")
        absent = [None] * len(self._batch)
        given = (point_coords_batch, point_labels_batch, box_batch, mask_input_batch)
        rows = zip(self._batch, *(absent if one is None else one for one in given), strict=True)
        answers = [
            self._predict(one, coords, labels, box, logits, multimask_output, return_logits, normalize_coords)
            for one, coords, labels, box, logits in rows
        ]
        masks, scores, logits = (list(column) for column in zip(*answers, strict=True))
        return masks, scores, logits

    def _predict(
        self,
        predictor: ImagePredictor,
        coords: PromptArray,
        labels: PromptArray,
        box: PromptArray,
        mask_input: PromptArray,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Answer:
        masks, scores, logits = predict_arrays(
            predictor,
            coords,
            labels,
            box,
            mask_input,
            multimask_output=multimask_output,
            return_logits=return_logits,
            threshold=self.mask_threshold,
            normalized=not normalize_coords,
        )
        masks = masks.astype(np.float32)
        return (masks[0], scores[0], logits[0]) if len(masks) == 1 else (masks, scores, logits)

    def get_image_embedding(self) -> Tensor:
        """Return the features of the image, (1, 256, h, w) at stride 16.

        Raises:
            StateError: if no image is set.
        """
        if self.native.features is None:
            raise StateError("no image is set; call set_image(rgb) before get_image_embedding()")
        return self.native.features.embed_BCHW

    def reset_predictor(self) -> None:
        """Release the image, or the images."""
        self.native.reset()
        self._batch = None
