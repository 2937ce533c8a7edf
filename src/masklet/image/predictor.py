"""Set an image once, ask many times.

Coordinates are pixels of the original image, x to the right and y down; boxes are xyxy.
Shapes: N objects, K candidate masks, H and W of the image, h and w of the low-resolution logits.

A network's image encoder as it runs fastest, whichever the family.

What all prompts about one image share, by the family of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from masklet.errors import InputError, PromptError, StateError
from masklet.models.fast_cpu.sam1_encoder import FastSAM1Encoder
from masklet.models.fast_cpu.sam2 import FastSAM2Encoder
from masklet.models.fast_cpu.shared_prompts import SharedPromptContext, SharedPromptDecoder
from masklet.models.heads.mask_decoder import select_masks
from masklet.models.sam1 import SAM1
from masklet.models.sam2 import SAM2
from masklet.models.types import ImageFeatures, MaskPrediction, PromptableModel, PromptTensors
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, ObjectPrompt, PointsLike, parse_prompts
from masklet.transforms import LOGIT_LIMIT, ImageTransform, prompt_tensors

__all__ = ["Encoder", "ImagePredictor", "Prediction", "fast_encoder", "make_shared_context"]


class Encoder(Protocol):
    """`encode_image` of a network whose weights no longer change."""

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalized RGB to features."""


class EagerEncoder:
    """The network's own verb, with matrix products in `dtype`."""

    def __init__(self, model: PromptableModel, dtype: torch.dtype | None) -> None:
        self.model, self.dtype = model, dtype

    def __call__(self, pixels_B3HW: Tensor) -> ImageFeatures:
        """Normalized RGB to features, as `encode_image`."""
        with torch.autocast(pixels_B3HW.device.type, self.dtype, enabled=self.dtype is not None):
            found = self.model.encode_image(pixels_B3HW)
        return ImageFeatures(found.embed_BCHW.float(), tuple(x.float() for x in found.high_res_features))


@singledispatch
def fast_encoder(model: PromptableModel, dtype: torch.dtype | None) -> Encoder:
    """The encoder of `model` as it runs fastest; `dtype` is that of its matrix products, None for fp32."""
    return EagerEncoder(model, dtype)


@fast_encoder.register
def _(model: SAM2, dtype: torch.dtype | None) -> Encoder:
    return FastSAM2Encoder(model, dtype)


@fast_encoder.register
def _(model: SAM1, dtype: torch.dtype | None) -> Encoder:
    return FastSAM1Encoder(model, dtype)


def make_shared_context(
    model: PromptableModel, features: ImageFeatures, device: torch.device
) -> SharedPromptContext | None:
    """One image, ready for prompts that share their work; None on devices that rather do everything at once.

    Example:
        >>> look(model, predictor.features, predictor.device).ask(prompts).iou_BK.shape
        torch.Size([1, 4])
    """
    if device.type != "cpu":
        return None
    if isinstance(model, SAM2):
        return SharedPromptDecoder(model.sam_prompt_encoder, model.sam_mask_decoder).prepare(features)
    return (
        SharedPromptDecoder(model.prompt_encoder, model.mask_decoder).prepare(features)
        if isinstance(model, SAM1)
        else None
    )


MAX_BATCH_OBJECTS = 32
"""Objects in one batch through the decoder; more take turns, so that memory stays bounded."""
STRIDE = 16
"""Pixels of the network's input by places of its features."""
MIN_SHARED_TOKENS = 1024
"""Places of all prompts of a batch above which it is worth while to make what they share."""
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Prediction:
    """What was found for each object."""

    masks: npt.NDArray[np.bool_]
    """(N, K, H, W)."""
    scores: npt.NDArray[np.float32]
    """(N, K): predicted IoU with what was meant, 0 to 1; of SAM 1 it is not bounded."""
    logits: npt.NDArray[np.float32]
    """(N, K, h, w), of SAM 2 within -32..32; hand one candidate an object back as `logits` to refine it."""

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def best(self) -> Prediction:
        """The candidate with the highest score of each object; K becomes 1."""
        rows, k = np.arange(len(self)), self.scores.argmax(1)
        return Prediction(self.masks[rows, k][:, None], self.scores[rows, k][:, None], self.logits[rows, k][:, None])


@dataclass(frozen=True)
class _PromptGroup:
    """Objects whose prompts have the same shape: one batch, and no padding that would change the result."""

    members: list[int]
    prompts: PromptTensors
    is_single_click: bool


class ImagePredictor:
    """A network, and the features of one image.

    Networks of either family will do. `precision` is that of the encoder's matrix products; prompts are always
    answered in fp32. On processors points and boxes share what is the same for all of them, which is made once an
    image, with the first of them; one prompt on a small network is asked alone.

    Example:
        >>> predictor = ImagePredictor(model)
        >>> predictor.set_image(rgb)
        >>> first = predictor.predict(points=[150, 150], multimask=True)
        >>> better = predictor.predict(
        ...     points=[[[150, 150], [90, 40]]], labels=[[1, 0]], logits=first.best.logits
        ... )
    """

    def __init__(self, model: PromptableModel, device: str | torch.device = "cpu", precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
        self.device, self.precision = torch.device(device), precision
        self.model = model.to(self.device)
        self.encode = fast_encoder(self.model, PRECISIONS[precision])
        self._features: ImageFeatures | None = None
        self._shared: SharedPromptContext | None = None
        self._size = (0, 0)

    @property
    def features(self) -> ImageFeatures | None:
        """What is known of the image that was set; None before there is one."""
        return self._features

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image that was set."""
        if self._features is None:
            raise StateError("no image was set; call set_image(rgb) before predict(...)")
        return self._size

    def set_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Encode RGB (H, W, 3) uint8; every later question is about this image.

        Raises:
            InputError: another shape or type.
        """
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise InputError(
                f"set_image takes RGB uint8 (height, width, 3), got {found}; "
                "masklet.media.open_source reads files, PIL images and other arrays"
            )
        if min(rgb.shape[:2]) < 1:
            raise InputError(f"set_image takes an image of one pixel or more, got {rgb.shape}")
        self._set_preprocessed(self._image_transform(rgb.shape[:2]).preprocess(rgb), rgb.shape[:2])

    def _image_transform(self, size: tuple[int, int]) -> ImageTransform:
        """How an image of `size` (height, width) lies in the network's input."""
        return ImageTransform((int(size[0]), int(size[1])), self.model.still_image_size, self.model.keeps_aspect_ratio)

    def _set_preprocessed(self, pixels_13SS: Tensor, size: tuple[int, int]) -> None:
        """Encode what `fit(size).to_input` made of an image of `size` (height, width)."""
        with torch.inference_mode():
            features = self.encode(pixels_13SS.to(self.device))
            self._features, self._shared = self.model.add_no_memory_embedding(features), None
        self._size = (int(size[0]), int(size[1]))

    def reset(self) -> None:
        """Drop the image and its features."""
        self._features = self._shared = None

    def _shared_context(self) -> SharedPromptContext | None:
        """What prompts about this image share, made once; None where they do not (`masklet.image.predictor`).

        Raises:
            StateError: no image was set.
        """
        if self._shared is None and self.size and self._features is not None:
            with torch.inference_mode():
                self._shared = make_shared_context(self.model, self._features, self.device)
        return self._shared

    def predict(
        self,
        *,
        point_coords: PointsLike | None = None,
        point_labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        masks: MasksLike | None = None,
        mask_input: npt.NDArray[np.float32] | None = None,
        multimask_output: bool | None = None,
    ) -> Prediction:
        """Masks for prompts in the spellings of `masklet.prompts.parse_prompts`.

        `logits` (N, 1, h, w) are those of an earlier prediction for the same objects. `multimask` True gives the
        three candidates for an ambiguous prompt, False one; None gives one, and takes the best of the three where
        an object has a single click and nothing else.

        Raises:
            PromptError: prompts that cannot be meant.
            StateError: no image was set.
        """
        asked = parse_prompts(point_coords, point_labels, box, masks, size=self.size)
        return self.predict_prompts(asked, mask_input=mask_input, multimask_output=multimask_output)

    def predict_prompts(
        self,
        prompts: Sequence[ObjectPrompt],
        *,
        mask_input: npt.NDArray[np.float32] | None = None,
        multimask_output: bool | None = None,
    ) -> Prediction:
        """As `predict`, for prompts that are already typed."""
        height, width = self.size
        earlier = self._check_mask_input(mask_input, len(prompts))
        parts: list[tuple[list[int], Prediction]] = []
        for group in self._group_prompts(prompts, earlier):
            with torch.inference_mode():
                parts.append((group.members, self._decode(group, multimask_output)))
        order = np.argsort([i for members, _ in parts for i in members], kind="stable")
        columns = ([getattr(p, name) for _, p in parts] for name in ("masks", "scores", "logits"))
        masks, scores, low = (np.concatenate(column)[order] for column in columns)
        assert masks.shape[-2:] == (height, width)
        return Prediction(masks, scores, low)

    def _decode(self, group: _PromptGroup, multimask_output: bool | None) -> Prediction:
        every = self._candidates(group)
        chosen = (
            _best_of_three(every)
            if multimask_output is None and group.is_single_click
            else select_masks(every, bool(multimask_output), threshold=self.model.stability_threshold)
        )
        logits = chosen.logits_BKHW.float()
        kept = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) if self.model.clamps_logits else logits
        masks = self._image_transform(self.size).postprocess_masks(logits)
        return Prediction(masks, chosen.iou_BK.float().cpu().numpy(), kept.cpu().numpy())

    def _candidates(self, group: _PromptGroup) -> MaskPrediction:
        """By what they share, or by the network's own verb."""
        places = len(group.members) * (self.model.still_image_size // STRIDE) ** 2
        shared = self._shared_context() if group.prompts.mask_B1HW is None and places > MIN_SHARED_TOKENS else None
        if shared is not None and shared.supports(group.prompts):
            return shared.predict(group.prompts).candidates(list(range(len(group.members))))
        assert self._features is not None
        indices = torch.zeros(len(group.members), dtype=torch.long, device=self.device)
        return self.model.decode(self._features.index_select(indices), group.prompts)

    def _group_prompts(self, prompts: Sequence[ObjectPrompt], mask_input: Tensor | None) -> list[_PromptGroup]:
        """Objects by the shape of their prompts, `OBJECTS_AT_ONCE` at most in each group."""
        if not prompts:
            raise PromptError("no prompt was given; give points, boxes or masks for one object or more")
        by_shape: dict[tuple[int, bool, bool], list[int]] = {}
        for i, prompt in enumerate(prompts):
            clicks = 0 if prompt.points is None else len(prompt.points.labels)
            count = clicks + (0 if prompt.box is None else 2)
            has_map = prompt.mask is not None or mask_input is not None
            by_shape.setdefault((count, prompt.box is not None, has_map), []).append(i)
        groups = []
        for (count, _, has_map), members in by_shape.items():
            for start in range(0, len(members), MAX_BATCH_OBJECTS):
                some = members[start : start + MAX_BATCH_OBJECTS]
                tensors = prompt_tensors(
                    [prompts[i] for i in some],
                    self._image_transform(self.size),
                    mask_input_B1HW=None if mask_input is None else mask_input[some],
                    device=self.device,
                )
                groups.append(_PromptGroup(some, tensors, is_single_click=count == 1 and not has_map))
        return groups

    def _check_mask_input(self, mask_input: npt.NDArray[np.float32] | None, count: int) -> Tensor | None:
        if mask_input is None:
            return None
        side = self.model.still_image_size // 4
        array = np.asarray(mask_input, np.float32)
        if array.ndim == 3:
            array = array[:, None]
        if array.shape != (count, 1, side, side) or not np.isfinite(array).all():
            raise PromptError(
                f"logits of shape {np.shape(mask_input)} do not belong to {count} object(s) of this model; they must be "  # noqa: E501
                f"finite and ({count}, 1, {side}, {side}), as prediction.best.logits of the same objects are"
            )
        return torch.from_numpy(array)


def _best_of_three(prediction: MaskPrediction) -> MaskPrediction:
    return prediction.select_candidates(1 + prediction.iou_BK[:, 1:].argmax(1))
