"""Compute the loss of a mask prediction.

Masks are compared at stride 4, with targets that hold the fraction of each cell inside the object.
Shapes: N objects, K candidate masks, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from masklet.models.types import MaskPrediction
from masklet.train.config import LossConfig

__all__ = ["LossTerms", "downsample_masks", "prediction_loss"]


@dataclass(frozen=True)
class LossTerms:
    """The loss of one prediction, and figures for the log. IoUs are means over visible objects; NaN: none is."""

    total: Tensor
    best_iou: float
    """Best of the three candidates."""
    single_mask_iou: float
    selected_iou: float
    """The mask that a tracker uses: the best of three as predicted, an empty one where the object seems hidden."""
    object_score_accuracy: float
    """Fraction of all objects whose visibility is predicted correctly."""


def downsample_masks(gt_NSS: Tensor) -> Tensor:
    """Return the fraction of each cell at stride 4 that is inside, (N, 1, H, W)."""
    return avg_pool2d(gt_NSS.float()[:, None], 4)


def prediction_loss(
    prediction: MaskPrediction, target: Tensor, config: LossConfig, *, ambiguous: bool = True
) -> LossTerms:
    """Compare `prediction` with `target`, masks of `downsample_masks`; a hidden object has an empty one.

    An ambiguous prompt supervises the best of the three candidates, any other prompt the single mask, and
    `config.supervise_all_masks` both. The predicted IoUs of the same masks are supervised too. A hidden object
    supervises the object score only.
    """
    logits = prediction.logits_BKHW.float()
    visible_N = target.flatten(1).any(1)
    mask_loss_NK = _mask_loss(logits, target.expand_as(logits), config)
    best_N = mask_loss_NK[:, 1:].min(dim=1)
    with torch.no_grad():
        predicted_NKHW, gt_N1HW = logits > 0, target > 0.5
        intersection_NK = (predicted_NKHW & gt_N1HW).flatten(2).sum(-1).float()
        union_NK = (predicted_NKHW | gt_N1HW).flatten(2).sum(-1).float()
        true_iou_NK = intersection_NK / union_NK.clamp(min=1)
    iou_loss_NK = (prediction.iou_BK.float() - true_iou_NK).abs()
    score_N = prediction.object_score_B1.float()[:, 0]
    score_loss = binary_cross_entropy_with_logits(score_N, visible_N.float())
    if config.supervise_all_masks:
        object_loss_N = best_N.values + mask_loss_NK[:, 0] + config.iou * iou_loss_NK.mean(1)
    elif ambiguous:
        object_loss_N = best_N.values + config.iou * iou_loss_NK[:, 1:].mean(1)
    else:
        object_loss_N = mask_loss_NK[:, 0] + config.iou * iou_loss_NK[:, 0]
    total = (object_loss_N * visible_N).sum() / visible_N.sum().clamp(min=1) + config.object_score * score_loss
    with torch.no_grad():
        predicted_visible_N = score_N > 0
        selected_N = prediction.iou_BK[:, 1:].argmax(1) + 1
        selected_iou_N = true_iou_NK.gather(1, selected_N[:, None])[:, 0] * predicted_visible_N
        best_iou_N = true_iou_NK.gather(1, best_N.indices[:, None] + 1)[:, 0]
    return LossTerms(
        total,
        best_iou=float(best_iou_N[visible_N].mean()),
        single_mask_iou=float(true_iou_NK[:, 0][visible_N].mean()),
        selected_iou=float(selected_iou_N[visible_N].mean()),
        object_score_accuracy=float((predicted_visible_N == visible_N).float().mean()),
    )


def _mask_loss(logits_NKHW: Tensor, target_NKHW: Tensor, config: LossConfig) -> Tensor:
    """Sum focal, dice and plain cross-entropy of each candidate, (N, K)."""
    probability = logits_NKHW.sigmoid()
    entropy = binary_cross_entropy_with_logits(logits_NKHW, target_NKHW, reduction="none")
    error = (probability - target_NKHW).abs()
    focal_NKHW = error**config.focal_gamma * entropy
    if config.focal_alpha >= 0:
        focal_NKHW = focal_NKHW * (config.focal_alpha * target_NKHW + (1 - config.focal_alpha) * (1 - target_NKHW))
    focal = focal_NKHW.mean((-2, -1))
    overlap = (probability * target_NKHW).sum((-2, -1))
    area = probability.sum((-2, -1)) + target_NKHW.sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (area + 1)
    return config.focal * focal + config.dice * dice + config.cross_entropy * entropy.mean((-2, -1))
