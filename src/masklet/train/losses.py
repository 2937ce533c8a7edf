"""What a prediction costs.

Masks are compared at stride 4, against the share of each cell that is inside.
Shapes: N objects, K candidates, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from masklet.models.base import MaskPrediction
from masklet.train.config import LossConfig

__all__ = ["Cost", "at_stride_4", "prediction_cost"]


@dataclass(frozen=True)
class Cost:
    """The sum that is minimised, and figures for the log."""

    total: Tensor
    best_iou: float
    """Of the best of the three candidates."""
    single_iou: float


def at_stride_4(truth_NSS: Tensor) -> Tensor:
    """(N, 1, H, W): the share of each cell that is inside."""
    return avg_pool2d(truth_NSS.float()[:, None], 4)


def prediction_cost(prediction: MaskPrediction, target: Tensor, config: LossConfig) -> Cost:
    """What a prediction costs against `target`, masks as `at_stride_4` makes them.

    Only the best of three candidates and the unambiguous mask are supervised; predicted IoU always is.
    """
    logits = prediction.logits_BKHW.float()
    cost_NK = _mask_cost(logits, target.expand_as(logits), config)
    best_N = cost_NK[:, 1:].min(dim=1)
    with torch.no_grad():
        true_iou = _iou(logits > 0, target > 0.5)
    iou_cost = (prediction.iou_BK.float() - true_iou).abs().mean(1)
    score = prediction.object_score_B1.float()
    presence = binary_cross_entropy_with_logits(score, torch.ones_like(score))
    total = best_N.values + cost_NK[:, 0] + config.iou * iou_cost
    best_iou = true_iou.gather(1, 1 + best_N.indices[:, None])
    return Cost(total.mean() + config.presence * presence, float(best_iou.mean()), float(true_iou[:, 0].mean()))


def _mask_cost(logits_NKHW: Tensor, target_NKHW: Tensor, config: LossConfig) -> Tensor:
    """Focal, dice and plain cross-entropy of each candidate, (N, K)."""
    probability = logits_NKHW.sigmoid()
    entropy = binary_cross_entropy_with_logits(logits_NKHW, target_NKHW, reduction="none")
    wrong = (probability - target_NKHW).abs()
    focal = (wrong**config.focal_gamma * entropy).mean((-2, -1))
    overlap = (probability * target_NKHW).sum((-2, -1))
    area = probability.sum((-2, -1)) + target_NKHW.sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (area + 1)
    return config.focal * focal + config.dice * dice + config.cross_entropy * entropy.mean((-2, -1))


def _iou(predicted_NKHW: Tensor, truth_N1HW: Tensor) -> Tensor:
    both = (predicted_NKHW & truth_N1HW).flatten(2).sum(-1).float()
    either = (predicted_NKHW | truth_N1HW).flatten(2).sum(-1).float()
    return both / either.clamp(min=1)
