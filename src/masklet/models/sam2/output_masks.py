"""The output of a frame: one selected mask per object with its pointer, or a given mask; on tensors without a network.

Shapes: B objects, C channels of a pointer, H and W of the network's input for given masks, else at stride 4.
"""

from __future__ import annotations

from collections.abc import Callable

from masklet.models.heads.mask_selection import select_masks
from masklet.models.types import MaskPrediction, SelectedMasks
from masklet.tensors import Tensor, interpolate, max_pool2d, torch

__all__ = ["MEMORY_MASK_BIAS", "MEMORY_MASK_SCALE", "NO_OBJECT_LOGIT", "output_of_mask", "select_output"]

NO_OBJECT_LOGIT = -1024.0
"""Logits of a mask whose object is not in the image."""
MEMORY_MASK_SCALE, MEMORY_MASK_BIAS = 20.0, -10.0
"""The memory encoder reads scale * mask + bias, where the mask is 0 outside and 1 inside."""


def select_output(
    prediction: MaskPrediction,
    multimask: bool,
    stability_threshold: float,
    project: Callable[[Tensor], Tensor],
    no_object_pointer_1C: Tensor,
    *,
    choice_B: Tensor | None = None,
    min_object_score: float = 0.0,
) -> SelectedMasks:
    """Select one mask per object: of three (`multimask`), or the single one; `project` tokens to pointers.

    Of three masks it is `choice_B`, or the best by predicted IoU. An object with a score of at most
    `min_object_score` is absent.
    """
    chosen = select_masks(prediction, multimask, threshold=stability_threshold)
    if multimask:
        chosen = chosen.select_candidates(chosen.iou_BK.argmax(1) if choice_B is None else choice_B)
    present_B1 = prediction.object_score_B1 > min_object_score
    logits = torch.where(present_B1[..., None, None], chosen.logits_BKHW, NO_OBJECT_LOGIT)
    token_BC, present = chosen.tokens_BKC[:, 0], present_B1.to(chosen.tokens_BKC.dtype)
    pointer_BC = present * project(token_BC) + (1 - present) * no_object_pointer_1C
    return SelectedMasks(logits, chosen.iou_BK, prediction.object_score_B1, pointer_BC)


def output_of_mask(mask_B1HW: Tensor, decoded: SelectedMasks, no_object_pointer_1C: Tensor) -> SelectedMasks:
    """Return a given mask of 0 and 1 as output, with the pointer of `decoded`, the answer to it as a prompt."""
    logits = interpolate(
        mask_B1HW.float() * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS, scale_factor=0.25, mode="bilinear", antialias=True
    )
    # A mask of a few cells would shrink or vanish at stride 4: it keeps all cells there that it touches.
    touched = max_pool2d(mask_B1HW.float(), 4)
    kept_B111 = (logits > 0).sum((1, 2, 3), keepdim=True) * 16
    shrunk_B111 = 2 * kept_B111 < mask_B1HW.sum((1, 2, 3), keepdim=True)
    logits = torch.where(shrunk_B111, touched * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS, logits)
    present_B1 = mask_B1HW.flatten(1).any(dim=1, keepdim=True)
    present = present_B1.to(decoded.pointer_BC.dtype)
    pointer_BC = present * decoded.pointer_BC + (1 - present) * no_object_pointer_1C
    score_B1 = present_B1.float() * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS
    return SelectedMasks(logits, torch.ones_like(decoded.iou_B1), score_B1, pointer_BC)
