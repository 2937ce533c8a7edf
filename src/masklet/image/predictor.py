"""Segment one image by many prompts: set the image once, then predict as often as you like.

Coordinates are pixels of the original image, x to the right and y down; boxes are xyxy.
Shapes: N objects, K candidate masks, H and W of the image, S side of the network's square input, h = w = S / 4 of the
low-resolution logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from masklet.cpu_threads import adaptive_threads
from masklet.errors import InputError, PromptError, StateError
from masklet.exported import ExportedNetwork
from masklet.masks.edge_refinement import GUIDE_SCALE, EdgeGuide, refine_edges
from masklet.models.heads.mask_selection import select_masks
from masklet.models.types import PIXEL_STD, ImageFeatures, PromptableModel, PromptTensors
from masklet.prompts import BoxesLike, LabelsLike, MasksLike, ObjectPrompt, PointsLike, parse_prompts
from masklet.runtime import standard_torch
from masklet.tensors import Tensor, interpolate, torch
from masklet.transforms import LOGIT_LIMIT, ImageTransform, prompt_tensors

if TYPE_CHECKING:
    from typing_extensions import Self

    from masklet.models.fast_cpu.shared_prompts import SharedPromptContext

__all__ = ["PRECISIONS", "ImagePredictor", "Prediction"]

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_BATCH_OBJECTS = 32
"""Objects per batch through the decoder; more run in several batches, so that memory stays bounded."""
STRIDE = 16
"""Pixels of the network's input per cell of its features."""
MIN_SHARED_TOKENS = 1024
"""Image tokens of all prompts of a batch above which preparing the shared context is worth its cost."""


@dataclass(frozen=True)
class Prediction:
    """Candidate masks of N objects."""

    masks: npt.NDArray[np.bool_]
    """(N, K, H, W)."""
    scores: npt.NDArray[np.float32]
    """(N, K): predicted IoU with the true mask, 0 to 1; not bounded for SAM 1."""
    logits: npt.NDArray[np.float32]
    """(N, K, h, w), for SAM 2 within -32..32; pass one candidate per object as `mask_input` to refine it."""

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def best(self) -> Prediction:
        """The candidate with the highest score of each object; K becomes 1."""
        rows, k = np.arange(len(self)), self.scores.argmax(1)
        return Prediction(self.masks[rows, k][:, None], self.scores[rows, k][:, None], self.logits[rows, k][:, None])


class ImagePredictor:
    """A network, SAM 1 or SAM 2, and the features of one image.

    `precision` (fp32, bf16, fp16) is that of the encoder's matrix products; prompts are always decoded in fp32.
    A predictor has one image, so each thread needs one: `copy.copy(predictor)` shares the network and is free.

    Example:
        >>> predictor = ImagePredictor(model)
        >>> predictor.set_image(rgb)
        >>> first = predictor.predict(point_coords=[150, 150], multimask_output=True)
        >>> refined = predictor.predict(
        ...     point_coords=[[[150, 150], [90, 40]]], point_labels=[[1, 0]], mask_input=first.best.logits
        ... )

    Raises:
        InputError: if `precision` is unknown.
    """

    @standard_torch()
    @adaptive_threads()
    def __init__(self, model: PromptableModel, device: str | torch.device = "cpu", precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
        self.device, self.precision = torch.device(device), precision
        self.model = model.to(self.device)
        self.encode = _make_encoder(self.model, precision)
        self._features: ImageFeatures | None = None
        self._shared: SharedPromptContext | None = None
        self._size = (0, 0)
        self._pixels: Tensor | None = None
        self._guide: EdgeGuide | None = None

    def __copy__(self) -> Self:
        """Return a predictor with the same network and image; what is set on one then does not change the other."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the network and the image, without what is made again from them on demand."""
        return {**self.__dict__, "encode": None, "_shared": None, "_guide": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.encode = _make_encoder(self.model, self.precision)

    @property
    def features(self) -> ImageFeatures | None:
        """Features of the image; None before `set_image`."""
        return self._features

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image.

        Raises:
            StateError: if no image is set.
        """
        if self._features is None:
            raise StateError("no image was set; call set_image(rgb) before predict(...)")
        return self._size

    def set_image(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Encode an RGB image (H, W, 3) uint8, which all later prompts refer to.

        Raises:
            InputError: if shape or type is different.
        """
        if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            got = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
            raise InputError(
                f"set_image takes RGB uint8 (height, width, 3), got {got}; "
                "masklet.media.open_images reads files, PIL images and other arrays"
            )
        if min(rgb.shape[:2]) < 1:
            raise InputError(f"set_image takes an image of one pixel or more, got {rgb.shape}")
        with standard_torch():
            self._set_preprocessed(self._image_transform(rgb.shape[:2]).preprocess(rgb), rgb.shape[:2])

    def predict(
        self,
        *,
        point_coords: PointsLike | None = None,
        point_labels: LabelsLike | None = None,
        box: BoxesLike | None = None,
        masks: MasksLike | None = None,
        mask_input: npt.NDArray[np.float32] | None = None,
        multimask_output: bool | None = None,
        threshold: float = 0.0,
    ) -> Prediction:
        """Segment the prompted objects; prompts are nested as for `masklet.prompts.parse_prompts`.

        Args:
            masks: Masks at the size of the image, (H, W) or (N, H, W), as prompts.
            mask_input: Logits (N, 1, h, w) of an earlier prediction for the same objects, to refine.
            multimask_output: True returns three candidates per object, False one. None returns one, and takes the
                best of three for an object with a single click and nothing else.
            threshold: Logit above which a pixel is inside; a higher one gives smaller masks. `logits` do not depend
                on it.

        Raises:
            PromptError: if a prompt is malformed or outside the image.
            StateError: if no image is set.
        """
        prompts = parse_prompts(point_coords, point_labels, box, masks, size=self.size)
        return self.predict_prompts(
            prompts, mask_input=mask_input, multimask_output=multimask_output, threshold=threshold
        )

    @standard_torch()
    @adaptive_threads()
    def predict_prompts(
        self,
        prompts: Sequence[ObjectPrompt],
        *,
        mask_input: npt.NDArray[np.float32] | None = None,
        multimask_output: bool | None = None,
        threshold: float = 0.0,
    ) -> Prediction:
        """Segment objects as `predict` does, for prompts that are parsed already.

        Objects whose prompts have the same shape form a batch, so that no padding changes a result.
        """
        transform = self._image_transform(self.size)
        logits_N1HW = self._check_mask_input(mask_input, len(prompts))
        if not prompts:
            raise PromptError("no prompt was given; give points, boxes or masks for one object or more")
        order: list[int] = []
        parts: list[Prediction] = []
        for rows in _group_by_shape(prompts, has_mask_input=logits_N1HW is not None):
            earlier = None if logits_N1HW is None else logits_N1HW[rows]
            batch = [prompts[i] for i in rows]
            tensors = prompt_tensors(batch, transform, mask_input_B1HW=earlier, device=self.device)
            order += rows
            parts.append(self._decode(tensors, transform, multimask_output, threshold))
        back = np.argsort(order, kind="stable")
        return Prediction(
            np.concatenate([part.masks for part in parts])[back],
            np.concatenate([part.scores for part in parts])[back],
            np.concatenate([part.logits for part in parts])[back],
        )

    def reset(self) -> None:
        """Release the image and its features."""
        self._features = self._shared = self._pixels = self._guide = None

    @torch.inference_mode()
    def _decode(
        self, prompts: PromptTensors, transform: ImageTransform, multimask_output: bool | None, threshold: float
    ) -> Prediction:
        """Decode one batch of prompts of the same shape: candidates, the selection among them, masks."""
        assert self._features is not None
        count = len(prompts.points_BN2)
        tokens = count * (self.model.still_image_size // STRIDE) ** 2
        worth_sharing = prompts.mask_B1HW is None and tokens > MIN_SHARED_TOKENS
        shared = self._shared_context() if worth_sharing else None
        if shared is not None and shared.supports(prompts):
            candidates = shared.predict(prompts).candidates(list(range(count)))
        else:
            rows = torch.zeros(count, dtype=torch.long, device=self.device)
            candidates = self.model.decode(self._features.index_select(rows), prompts)

        if multimask_output is None and prompts.labels_BN.shape[1] == 1 and prompts.mask_B1HW is None:
            selected = candidates.select_candidates(1 + candidates.iou_BK[:, 1:].argmax(1))
        else:
            selected = select_masks(candidates, bool(multimask_output), threshold=self.model.stability_threshold)

        logits = selected.logits_BKHW.float()
        above = logits - threshold if threshold else logits
        masks = transform.postprocess_masks(above)
        self.refine_edges(masks, above)
        if self.model.clamps_logits:
            logits = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        return Prediction(masks, selected.iou_BK.float().cpu().numpy(), logits.cpu().numpy())

    def _shared_context(self) -> SharedPromptContext | None:
        """Return what all prompts about this image share, computed once; None on other devices than a CPU and for
        exported networks.

        It gives the numbers of `model.decode` with a fraction of the work (`masklet/models/fast_cpu/README.md`).

        Raises:
            StateError: if no image is set.
        """
        if isinstance(self.model, ExportedNetwork):
            return None
        if self._shared is None and self.size and self._features is not None:
            with torch.inference_mode():
                from masklet.models.fast_cpu.shared_prompts import make_shared_context

                self._shared = make_shared_context(self.model, self._features, self.device)
        return self._shared

    def _image_transform(self, size: tuple[int, int]) -> ImageTransform:
        """Return how an image of `size` (height, width) is placed in the network's input."""
        return ImageTransform((int(size[0]), int(size[1])), self.model.still_image_size, self.model.keeps_aspect_ratio)

    @adaptive_threads()
    def _set_preprocessed(self, pixels_13SS: Tensor, size: tuple[int, int]) -> None:
        """Encode the input that `ImageTransform.preprocess` made of an image of `size` (height, width)."""
        with torch.inference_mode():
            features = self.encode(pixels_13SS.to(self.device))
            self._features, self._shared = self.model.add_no_memory_embedding(features), None
        self._size, self._guide = (int(size[0]), int(size[1])), None
        self._pixels = None if self.model.edge_radius is None else pixels_13SS

    def refine_edges(self, masks_BKHW: npt.NDArray[np.bool_], logits_BKHW: Tensor) -> None:
        """Let masks at the size of the image follow its edges, in place, if the model wants it."""
        if self.model.edge_radius is None or self._pixels is None:
            return
        if self._guide is None:
            height, width = (GUIDE_SCALE * side for side in logits_BKHW.shape[-2:])
            image_3HW = interpolate(self._pixels, (height, width), mode="area")[0].cpu()
            scale = torch.tensor(PIXEL_STD)  # differences of color matter, not their origin
            self._guide = EdgeGuide((image_3HW.permute(1, 2, 0) * scale).contiguous().numpy(), self.model.edge_radius)
        soft_BKHW = interpolate(logits_BKHW, self._guide.shape, mode="bilinear").sigmoid().cpu().numpy()
        for masks_KHW, soft_KHW in zip(masks_BKHW, soft_BKHW, strict=True):
            refine_edges(masks_KHW, soft_KHW, self._guide)

    def _check_mask_input(self, mask_input: npt.NDArray[np.float32] | None, count: int) -> Tensor | None:
        """Return `mask_input` as a tensor (N, 1, h, w), or raise PromptError."""
        if mask_input is None:
            return None
        side = self.model.still_image_size // 4
        array = np.asarray(mask_input, np.float32)
        if array.ndim == 3:
            array = array[:, None]
        if array.shape != (count, 1, side, side) or not np.isfinite(array).all():
            raise PromptError(
                f"mask_input of shape {np.shape(mask_input)} does not belong to {count} object(s) of this model; it "
                f"must be finite and ({count}, 1, {side}, {side}), as prediction.best.logits of the same objects is"
            )
        return torch.from_numpy(array)


def _make_encoder(model: PromptableModel, precision: str) -> Callable[[Tensor], ImageFeatures]:
    """Return the fastest encoder of a network: an exported one has its own."""
    if isinstance(model, ExportedNetwork):
        return model.in_precision(precision).encode_image
    from masklet.models.fast_cpu.encoder import fast_encoder

    return fast_encoder(model, PRECISIONS[precision])


def _group_by_shape(prompts: Sequence[ObjectPrompt], *, has_mask_input: bool) -> list[list[int]]:
    """Return the indices of prompts of the same shape, at most `MAX_BATCH_OBJECTS` in each group."""
    by_shape: dict[tuple[int, bool, bool], list[int]] = {}
    for i, prompt in enumerate(prompts):
        points = 0 if prompt.points is None else len(prompt.points.labels)
        has_box, has_mask = prompt.box is not None, prompt.mask is not None or has_mask_input
        by_shape.setdefault((points + 2 * has_box, has_box, has_mask), []).append(i)
    return [
        rows[start : start + MAX_BATCH_OBJECTS]
        for rows in by_shape.values()
        for start in range(0, len(rows), MAX_BATCH_OBJECTS)
    ]
