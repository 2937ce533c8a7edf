"""Between pictures and prompts as people hand them in and tensors as networks see them.

`Fit` knows how a picture lies in the network's square: squashed into it (SAM 2), or with its longer side along the
square's and nothing below or to the right (SAM 1).

Shapes: H and W of the picture, S side of the network's square input, B objects, T points, K candidates.
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

__all__ = ["LOGIT_LIMIT", "SURE", "Fit", "hard_mask", "prompt_tensors", "to_frame_input", "to_input"]

SURE = 10.0
"""The logit that a mask prompt stands for, inside; minus it outside."""
LOGIT_LIMIT = 32.0
"""Logits that are fed back are kept within this, as the published predictor does."""


@dataclass(frozen=True)
class Fit:
    """How a picture of `size` (height, width) lies in a network's input, a square with `side` pixels.

    Squashed into it, or, with `keep_ratio`, with its longer side along the square's, the rest being padding.

    Example:
        >>> fit = Fit((100, 200), 64, keep_ratio=True)
        >>> fit.filled
        (32, 64)
        >>> fit.xy(np.array([[100, 50]], np.float32))
        array([[32., 16.]], dtype=float32)
    """

    size: tuple[int, int]
    side: int
    keep_ratio: bool = False

    @property
    def filled(self) -> tuple[int, int]:
        """Rows and columns of the input that hold the picture."""
        if not self.keep_ratio:
            return self.side, self.side
        longer = max(self.size)
        height, width = (max(1, int(pixels * (self.side / longer) + 0.5)) for pixels in self.size)
        return height, width

    def to_input(self, rgb_HW3: npt.NDArray[np.uint8]) -> Tensor:
        """RGB (H, W, 3) uint8 of this size to the input (1, 3, S, S), normalised; padding is nought after that."""
        assert rgb_HW3.shape[:2] == self.size, f"a picture of {rgb_HW3.shape}, not {self.size}"
        if not self.keep_ratio:
            return to_input(rgb_HW3, self.side)
        height, width = self.filled  # resized as bytes, because the published predictor does so
        part = np.asarray(Image.fromarray(rgb_HW3).resize((width, height), Image.Resampling.BILINEAR))
        pixels = _normalised(torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None] / 255)
        return pad(pixels, (0, self.side - width, 0, self.side - height))

    def xy(self, xy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Places (..., 2) in the picture as places in the input."""
        (height, width), (rows, columns) = self.size, self.filled
        return xy * np.array([columns / width, rows / height], np.float32)

    def mask_logits(self, mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
        """A mask at the picture's size to logits (1, 1, side, side) as the prompt encoder reads them."""
        height, width = self.size
        longer = max(self.size)
        around = ((0, longer - height), (0, longer - width))
        return mask_logits(np.pad(mask_HW, around) if self.keep_ratio else mask_HW, side)

    def enlarged(self, logits_BKHW: Tensor) -> Tensor:
        """Logits of the whole input, at any stride, to logits (B, K, H, W) at the picture's size."""
        logits_BKHW = logits_BKHW.float()
        if self.keep_ratio:
            rows, columns = self.filled
            logits_BKHW = _resized(logits_BKHW, (self.side, self.side))[..., :rows, :columns]
        return _resized(logits_BKHW, self.size)

    def shares(self, cells: int) -> tuple[Tensor, Tensor]:
        """(H, cells) and (W, cells): `enlarged` is rows @ logits @ columns.T, of `cells` x `cells` logits."""
        eye_1CC = torch.eye(cells)[None]
        found = []
        for pixels, filled in zip(self.size, self.filled, strict=True):
            part_1CP = eye_1CC
            if self.keep_ratio:
                part_1CP = interpolate(part_1CP, self.side, mode="linear")[..., :filled]
            found.append(interpolate(part_1CP, pixels, mode="linear")[0].t().contiguous())
        return found[0], found[1]

    def masks(self, logits_BKHW: Tensor) -> npt.NDArray[np.bool_]:
        """Logits of the whole input, at any stride, to masks (B, K, H, W) at the picture's size."""
        return (self.enlarged(logits_BKHW) > 0).cpu().numpy()


def _resized(logits_BKHW: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(logits_BKHW, size, mode="bilinear", align_corners=False)


def to_input(rgb_HW3: npt.NDArray[np.uint8], side: int) -> Tensor:
    """RGB (H, W, 3) uint8 of a picture to (1, 3, S, S): 0..1, antialiased bilinear, normalised."""
    pixels = torch.from_numpy(rgb_HW3.astype(np.float32)).permute(2, 0, 1)[None] / 255
    return _normalised(interpolate(pixels, (side, side), mode="bilinear", antialias=True))


def to_frame_input(rgb_HW3: npt.NDArray[np.uint8], side: int) -> Tensor:
    """RGB (H, W, 3) uint8 of a film's frame to (1, 3, S, S): bicubic on bytes, then 0..1, normalised.

    Films are resized otherwise than pictures because the published tracker does so.
    """
    square = np.asarray(Image.fromarray(rgb_HW3).resize((side, side), Image.Resampling.BICUBIC))
    return _normalised(torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None] / 255)


def _normalised(pixels_13SS: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    return (pixels_13SS - mean) / deviation


def mask_logits(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    """A mask at the picture's size to logits (1, 1, S, S) as the prompt encoder reads them."""
    return (_shares(mask_HW, side) * 2 - 1) * SURE


def hard_mask(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    """A mask at the picture's size to (1, 1, S, S) of 0 and 1."""
    return (_shares(mask_HW, side) >= 0.5).float()


def _shares(mask_HW: npt.NDArray[np.bool_], side: int) -> Tensor:
    share = torch.from_numpy(mask_HW.astype(np.float32))[None, None]
    return interpolate(share, (side, side), mode="bilinear", antialias=True)


def prompt_tensors(
    prompts: Sequence[ObjectPrompt],
    fit: Fit,
    *,
    earlier_B1HW: Tensor | None = None,
    device: torch.device | None = None,
) -> PromptTensors:
    """Prompts of one shape in a picture, in pixels of the network's input, where it lies by `fit`.

    Box corners come before clicks. `earlier_B1HW` are logits to go on from, for objects without a mask.
    """
    points, labels, maps = [], [], []
    for i, prompt in enumerate(prompts):
        xy, label = _clicks(prompt)
        points.append(fit.xy(xy))
        labels.append(label)
        if prompt.mask is not None:
            maps.append(fit.mask_logits(prompt.mask.mask, fit.side // 4))
        elif earlier_B1HW is not None:
            maps.append(earlier_B1HW[i : i + 1].cpu())
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
