"""Convert images and prompts to the tensors of networks, and masks back.

`ImageTransform` resizes an image to the network's input: stretched to it (SAM 2), or with its aspect ratio and padding
below or to the right (SAM 1). The input is a square, except for frames that keep their shape.

Shapes: H and W of the image, h and w of the network's input, B objects, T points, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from masklet.masks.ops import masks_to_boxes
from masklet.models.types import PIXEL_MEAN, PIXEL_STD, PromptTensors
from masklet.prompts import ObjectPrompt
from masklet.tensors import HAS_TORCH, Tensor, adaptive_max_pool2d, interpolate, pad, torch

__all__ = [
    "LOGIT_LIMIT",
    "MASK_PROMPT_LOGIT",
    "ImageTransform",
    "binary_mask",
    "preprocess_frame",
    "prompt_tensors",
]

MASK_PROMPT_LOGIT = 10.0
"""The logit of a mask prompt inside the mask; minus it outside."""
LOGIT_LIMIT = 32.0
"""Logits that are fed back are clamped to this, as in the published predictor."""


FEATURE_STRIDE = 16
"""Pixels of the network's input per cell of its features, along each side."""


@dataclass(frozen=True)
class ImageTransform:
    """The mapping from an image of `original_size` (height, width) to a network's input.

    `input_size` is the side of a square, or (height, width). The image is stretched to it; with `keep_aspect_ratio`,
    which takes a square, only its longer side fills it and the rest is padding.

    Example:
        >>> transform = ImageTransform((100, 200), 64, keep_aspect_ratio=True)
        >>> transform.valid_size
        (32, 64)
        >>> transform.transform_coords(np.array([[100, 50]], np.float32))
        array([[32., 16.]], dtype=float32)
    """

    original_size: tuple[int, int]
    input_size: int | tuple[int, int]
    keep_aspect_ratio: bool = False

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        return (self.input_size, self.input_size) if isinstance(self.input_size, int) else self.input_size

    @property
    def valid_size(self) -> tuple[int, int]:
        """Rows and columns of the input that the image fills."""
        if not self.keep_aspect_ratio:
            return self.input_shape
        side, longer = max(self.input_shape), max(self.original_size)
        height, width = (max(1, int(pixels * (side / longer) + 0.5)) for pixels in self.original_size)
        return height, width

    def preprocess(self, rgb_HW3: npt.NDArray[np.uint8]) -> Tensor:
        """Convert RGB (H, W, 3) uint8 to the normalized input (1, 3, h, w); padding is zero."""
        assert rgb_HW3.shape[:2] == self.original_size, f"an image of {rgb_HW3.shape}, not {self.original_size}"
        if not self.keep_aspect_ratio:
            pixels = torch.from_numpy(rgb_HW3.astype(np.float32)).permute(2, 0, 1)[None] / 255
            return _normalize(interpolate(pixels, self.input_shape, mode="bilinear", antialias=True))
        height, width = self.valid_size  # resized as bytes, as in the published predictor
        part = np.asarray(Image.fromarray(rgb_HW3).resize((width, height), Image.Resampling.BILINEAR))
        pixels = _normalize(torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None] / 255)
        return pad(pixels, (0, self.input_shape[1] - width, 0, self.input_shape[0] - height))

    def transform_coords(self, xy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Convert positions (..., 2) in the image to positions in the input."""
        (height, width), (rows, columns) = self.original_size, self.valid_size
        return xy * np.array([columns / width, rows / height], np.float32)

    def mask_logits(self, mask_HW: npt.NDArray[np.bool_]) -> Tensor:
        """Convert a mask of the image's size to logits (1, 1, h / 4, w / 4) for the prompt encoder."""
        height, width = self.original_size
        longer = max(self.original_size)
        around = ((0, longer - height), (0, longer - width))
        rows, columns = self.input_shape
        padded_HW = np.pad(mask_HW, around) if self.keep_aspect_ratio else mask_HW
        return (_resize_mask(padded_HW, (rows // 4, columns // 4)) * 2 - 1) * MASK_PROMPT_LOGIT

    def upsample_logits(self, logits_BKHW: Tensor) -> Tensor:
        """Upsample logits of the full input, at any stride, to logits (B, K, H, W) of the image's size."""
        logits_BKHW = logits_BKHW.float()
        if self.keep_aspect_ratio:
            rows, columns = self.valid_size
            full = interpolate(logits_BKHW, self.input_shape, mode="bilinear", align_corners=False)
            logits_BKHW = full[..., :rows, :columns]
        return interpolate(logits_BKHW, self.original_size, mode="bilinear", align_corners=False)

    def interpolation_weights(self, cells: int) -> tuple[Tensor, Tensor]:
        """Return matrices (H, cells) and (W, cells): `upsample_logits` is rows @ logits @ columns.T."""
        eye_1CC = torch.eye(cells)[None]
        weights = []
        for pixels, filled in zip(self.original_size, self.valid_size, strict=True):
            part_1CP = eye_1CC
            if self.keep_aspect_ratio:
                part_1CP = interpolate(part_1CP, max(self.input_shape), mode="linear")[..., :filled]
            weights.append(interpolate(part_1CP, pixels, mode="linear")[0].t().contiguous())
        return weights[0], weights[1]

    def small_prompt_mask(self, prompt: ObjectPrompt) -> npt.NDArray[np.bool_] | None:
        """Return the mask (H, W) that a prompt alone gives an object within one cell of the network's features.

        It is the mask of a prompt that has one, or else all pixels that its box touches. None: the object is larger
        than a cell in width or height, or the prompt has neither, or it has negative points.
        """
        if prompt.points is not None and not prompt.points.labels.all():
            return None
        if prompt.mask is not None:
            xyxy = masks_to_boxes(prompt.mask.mask[None])[0]
        elif prompt.box is not None:
            xyxy = prompt.box.xyxy
        else:
            return None
        cell_wh = FEATURE_STRIDE / self.transform_coords(np.ones(2, np.float32))
        if (xyxy[2:] - xyxy[:2] > cell_wh).any():
            return None
        if prompt.mask is not None:
            return prompt.mask.mask
        mask_HW = np.zeros(self.original_size, bool)
        (left, top), (right, bottom) = np.floor(xyxy[:2]).astype(int), np.ceil(xyxy[2:]).astype(int)
        mask_HW[max(top, 0) : bottom, max(left, 0) : right] = True
        return mask_HW

    def postprocess_masks(self, logits_BKHW: Tensor) -> npt.NDArray[np.bool_]:
        """Convert logits of the full input, at any stride, to masks (B, K, H, W) of the image's size."""
        return (self.upsample_logits(logits_BKHW) > 0).cpu().numpy()


def preprocess_frame(rgb_HW3: npt.NDArray[np.uint8], size: tuple[int, int], *, exact: bool = True) -> Tensor:
    """Convert an RGB frame (H, W, 3) uint8 of a video to (1, 3, *size): bicubic on bytes, then 0..1, normalized.

    Frames are resized differently from images, as in the published tracker. Without `exact` the same filter runs in a
    sixth of the time, and a few bytes are rounded to their neighbor.
    """
    if exact or not HAS_TORCH:
        resized = np.asarray(Image.fromarray(rgb_HW3).resize(size[::-1], Image.Resampling.BICUBIC))
        return _normalize(torch.from_numpy(resized.astype(np.float32)).permute(2, 0, 1)[None] / 255)
    rgb_HW3 = rgb_HW3 if rgb_HW3.flags.writeable and min(rgb_HW3.strides) > 0 else rgb_HW3.copy()
    bytes_13HW = torch.from_numpy(rgb_HW3).permute(2, 0, 1)[None]
    resized_13HW = interpolate(bytes_13HW, size, mode="bicubic", antialias=True)
    mean, deviation = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return torch.addcmul(-mean / deviation, resized_13HW.float(), 1 / deviation)


def _normalize(pixels_13HW: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (pixels_13HW - mean) / deviation


def binary_mask(mask_HW: npt.NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    """Convert a mask of the image's size to (1, 1, *size) of 0 and 1."""
    return (_resize_mask(mask_HW, size) >= 0.5).float()


def _resize_mask(mask_HW: npt.NDArray[np.bool_], size: tuple[int, int]) -> Tensor:
    """Return the share of each cell (1, 1, *size) that lies in the mask.

    A mask that fills no cell by half, so that averaging would lose it, has all cells that it touches.
    """
    mask_11HW = torch.from_numpy(mask_HW.astype(np.float32))[None, None]
    share_11HW = interpolate(mask_11HW, size, mode="bilinear", antialias=True)
    if share_11HW.max() < 0.5 and mask_HW.any():
        return adaptive_max_pool2d(mask_11HW, size)
    return share_11HW


def prompt_tensors(
    prompts: Sequence[ObjectPrompt],
    transform: ImageTransform,
    *,
    mask_input_B1HW: Tensor | None = None,
    device: torch.device | None = None,
) -> PromptTensors:
    """Convert prompts of one shape, in pixels of an image, to tensors in pixels of the network's input.

    Box corners come before clicks. `mask_input_B1HW` are logits to refine, for objects without a mask.
    """
    points, labels, maps = [], [], []
    for i, prompt in enumerate(prompts):
        corners = np.zeros((0, 2)) if prompt.box is None else prompt.box.xyxy.reshape(2, 2)
        clicks = np.zeros((0, 2)) if prompt.points is None else prompt.points.xy
        click_labels = np.zeros(0, np.int64) if prompt.points is None else prompt.points.labels
        points.append(transform.transform_coords(np.concatenate([corners, clicks]).astype(np.float32)))
        labels.append(np.concatenate([[2, 3][: len(corners)], click_labels]).astype(np.int64))
        if prompt.mask is not None:
            maps.append(transform.mask_logits(prompt.mask.mask))
        elif mask_input_B1HW is not None:
            maps.append(mask_input_B1HW[i : i + 1].cpu())
    return PromptTensors(
        torch.from_numpy(np.stack(points)).to(device),
        torch.from_numpy(np.stack(labels)).to(device),
        torch.cat(maps).to(device) if maps else None,
    )
