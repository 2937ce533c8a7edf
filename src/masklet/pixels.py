"""Between pictures and prompts as people hand them in and tensors as networks see them.

Shapes: H and W of the picture, S side of the network's square input, B objects, T points, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from masklet.models.base import PromptTensors
from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
from masklet.prompts import ObjectPrompt

__all__ = ["LOGIT_LIMIT", "SURE", "hard_mask", "mask_logits", "prompt_tensors", "to_frame_input", "to_input", "to_size"]

SURE = 10.0
"""The logit that a mask prompt stands for, inside; minus it outside."""
LOGIT_LIMIT = 32.0
"""Logits that are fed back are kept within this, as the published predictor does."""


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


def to_size(logits_BKHW: Tensor, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Low-resolution logits to masks (B, K, H, W) at the picture's size."""
    full = interpolate(logits_BKHW.float(), size, mode="bilinear", align_corners=False)
    return (full > 0).cpu().numpy()


def prompt_tensors(
    prompts: Sequence[ObjectPrompt],
    size: tuple[int, int],
    side: int,
    *,
    earlier_B1HW: Tensor | None = None,
    device: torch.device | None = None,
) -> PromptTensors:
    """Prompts of one shape in a picture of `size` (height, width), in pixels of the network's input.

    Box corners come before clicks. `earlier_B1HW` are logits to go on from, for objects without a mask.
    """
    height, width = size
    scale = np.array([side / width, side / height], np.float32)
    points, labels, maps = [], [], []
    for i, prompt in enumerate(prompts):
        xy, label = _clicks(prompt)
        points.append(xy * scale)
        labels.append(label)
        if prompt.mask is not None:
            maps.append(mask_logits(prompt.mask.mask, side // 4))
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
