"""Between images and prompts as people hand them in and tensors as networks see them.

`Fit` knows how an image lies in the network's square: squashed into it (SAM 2), or with its longer side along the
square's and nothing below or to the right (SAM 1).

Shapes: H and W of the image, S side of the network's square input, B objects, T points, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from masklet.models.types import PIXEL_MEAN, PIXEL_STD, PromptTensors
from masklet.prompts import ObjectPrompt

__all__ = [
    "LOGIT_LIMIT",
    "MASK_PROMPT_LOGIT",
    "ImageTransform",
    "binary_mask",
    "preprocess_frame",
    "preprocess_image",
    "prompt_tensors",
]

MASK_PROMPT_LOGIT = 10.0
"""The logit that a mask prompt stands for, inside; minus it outside."""
LOGIT_LIMIT = 32.0
"""Logits that are fed back are kept within this, as the published predictor does."""


@dataclass(frozen=True)
class ImageTransform:
    """How an image of `size` (height, width) lies in a network's input, a square with `side` pixels.

    Squashed into it, or, with `keep_ratio`, with its longer side along the square's, the rest being padding.

    Example:
        >>> fit = Fit((100, 200), 64, keep_ratio=True)
        >>> fit.filled
        (32, 64)
        >>> fit.xy(np.array([[100, 50]], np.float32))
        array([[32., 16.]], dtype=float32)
    """

    original_size: tuple[int, int]
    input_size: int
    keep_aspect_ratio: bool = False

    @property
    def valid_size(self) -> tuple[int, int]:
        """Rows and columns of the input that hold the image."""
        if not self.keep_aspect_ratio:
            return self.input_size, self.input_size
        longer = max(self.original_size)
        height, width = (max(1, int(pixels * (self.input_size / longer) + 0.5)) for pixels in self.original_size)
        return height, width

    def preprocess(self, rgb_HW3: npt.NDArray[np.uint8]) -> Tensor:
        """RGB (H, W, 3) uint8 of this size to the input (1, 3, S, S), normalized; padding is zero after that."""
        assert rgb_HW3.shape[:2] == self.original_size, f"an image of {rgb_HW3.shape}, not {self.original_size}"
        if not self.keep_aspect_ratio:
            return preprocess_image(rgb_HW3, self.input_size)
        height, width = self.valid_size  # resized as bytes, because the published predictor does so
        part = np.asarray(Image.fromarray(rgb_HW3).resize((width, height), Image.Resampling.BILINEAR))
        pixels = _normalize(torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None] / 255)
        return pad(pixels, (0, self.input_size - width, 0, self.input_size - height))

    def transform_coords(self, xy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Places (..., 2) in the image as places in the input."""
        (height, width), (rows, columns) = self.original_size, self.valid_size
        return xy * np.array([columns / width, rows / height], np.float32)

    def mask_logits(self, mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
        """A mask at the image's size to logits (1, 1, side, side) as the prompt encoder reads them."""
        height, width = self.original_size
        longer = max(self.original_size)
        around = ((0, longer - height), (0, longer - width))
        return mask_logits(np.pad(mask_HW, around) if self.keep_aspect_ratio else mask_HW, side)

    def upsample_logits(self, logits_BKHW: Tensor) -> Tensor:
        """Logits of the whole input, at any stride, to logits (B, K, H, W) at the image's size."""
        logits_BKHW = logits_BKHW.float()
        if self.keep_aspect_ratio:
            rows, columns = self.valid_size
            logits_BKHW = _resize_logits(logits_BKHW, (self.input_size, self.input_size))[..., :rows, :columns]
        return _resize_logits(logits_BKHW, self.original_size)

    def interpolation_weights(self, cells: int) -> tuple[Tensor, Tensor]:
        """(H, cells) and (W, cells): `enlarged` is rows @ logits @ columns.T, of `cells` x `cells` logits."""
        eye_1CC = torch.eye(cells)[None]
        found = []
        for pixels, filled in zip(self.original_size, self.valid_size, strict=True):
            part_1CP = eye_1CC
            if self.keep_aspect_ratio:
                part_1CP = interpolate(part_1CP, self.input_size, mode="linear")[..., :filled]
            found.append(interpolate(part_1CP, pixels, mode="linear")[0].t().contiguous())
        return found[0], found[1]

    def postprocess_masks(self, logits_BKHW: Tensor) -> npt.NDArray[np.bool_]:
        """Logits of the whole input, at any stride, to masks (B, K, H, W) at the image's size."""
        return (self.upsample_logits(logits_BKHW) > 0).cpu().numpy()


def _resize_logits(logits_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(logits_BKHW, size, mode="bilinear", align_corners=False)


def preprocess_image(rgb_HW3: npt.NDArray[np.uint8], side: int) -> Tensor:
    """RGB (H, W, 3) uint8 of an image to (1, 3, S, S): 0..1, antialiased bilinear, normalized."""
    pixels = torch.from_numpy(rgb_HW3.astype(np.float32)).permute(2, 0, 1)[None] / 255
    return _normalize(interpolate(pixels, (side, side), mode="bilinear", antialias=True))


def preprocess_frame(rgb_HW3: npt.NDArray[np.uint8], side: int) -> Tensor:
    """RGB (H, W, 3) uint8 of a video's frame to (1, 3, S, S): bicubic on bytes, then 0..1, normalized.

    Videos are resized otherwise than images because the published tracker does so.
    """
    square = np.asarray(Image.fromarray(rgb_HW3).resize((side, side), Image.Resampling.BICUBIC))
    return _normalize(torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None] / 255)


def _normalize(pixels_13SS: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (pixels_13SS - mean) / deviation


def mask_logits(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    """A mask at the image's size to logits (1, 1, S, S) as the prompt encoder reads them."""
    return (_resize_mask(mask_HW, side) * 2 - 1) * MASK_PROMPT_LOGIT


def binary_mask(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    """A mask at the image's size to (1, 1, S, S) of 0 and 1."""
    return (_resize_mask(mask_HW, side) >= 0.5).float()


def _resize_mask(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    share = torch.from_numpy(mask_HW.astype(np.float32))[None, None]
    return interpolate(share, (side, side), mode="bilinear", antialias=True)


def prompt_tensors(
    prompts: Sequence[ObjectPrompt],
    transform: ImageTransform,
    *,
    mask_input_B1HW: Tensor | None = None,
    device: torch.device | None = None,
) -> PromptTensors:
    """Prompts of one shape in an image, in pixels of the network's input, where it lies by `fit`.

    Box corners come before clicks. `earlier_B1HW` are logits to go on from, for objects without a mask.
    """
    points, labels, maps = [], [], []
    for i, prompt in enumerate(prompts):
        xy, label = _clicks(prompt)
        points.append(transform.transform_coords(xy))
        labels.append(label)
        if prompt.mask is not None:
            maps.append(transform.mask_logits(prompt.mask.mask, transform.input_size // 4))
        elif mask_input_B1HW is not None:
            maps.append(mask_input_B1HW[i : i + 1].cpu())
    return PromptTensors(
        torch.from_numpy(np.stack(points)).to(device),
        torch.from_numpy(np.stack(labels)).to(device),
        torch.cat(maps).to(device) if maps else None,
    )


def _clicks(prompt: ObjectPrompt) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    corners = np.zeros((0, 2)) if prompt.box is None else prompt.box.xyxy.reshape(2, 2)
    clicks = np.zeros((0, 2)) if prompt.points is None else prompt.points.xy
    clicked = np.zeros(0, np.int64) if prompt.points is None else prompt.points.labels
    xy = np.concatenate([corners, clicks]).astype(np.float32)
    return xy, np.concatenate([[2, 3][: len(corners)], clicked]).astype(np.int64)
