"""What a prediction costs.

Masks are compared at stride 4, against the share of each cell that is inside.
Shapes: N objects, K candidates, H and W at stride 4.
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
    """The sum that is minimized, and figures for the log."""

    total: Tensor
    best_iou: float
    """Of the best of the three candidates; of objects that are there, as the next two. NaN: none is."""
    single_mask_iou: float
    selected_iou: float
    """Of what a tracker goes on with: the best of three as predicted, nothing where the object seems gone."""
    object_score_accuracy: float
    """Share of the objects of which it is known whether they are there."""


def downsample_masks(gt_NSS: Tensor) -> Tensor:
    """(N, 1, H, W): the share of each cell that is inside."""
    return avg_pool2d(gt_NSS.float()[:, None], 4)


def prediction_loss(
    prediction: MaskPrediction, target: Tensor, config: LossConfig, *, ambiguous: bool = True
) -> LossTerms:
    """What a prediction costs against `target`, masks as `at_stride_4` makes them; empty where the object is hidden.

    Of an ambiguous prompt the best of the three candidates is supervised, of another one the unambiguous mask; with
    `config.both` the two are by every prompt. So are the predicted IoUs of the masks that were asked for. Of an object
    that is hidden only the score of presence is.
    """
    logits = prediction.logits_BKHW.float()
    there_N = target.flatten(1).any(1)
    cost_NK = _mask_loss(logits, target.expand_as(logits), config)
    best_N = cost_NK[:, 1:].min(dim=1)
    with torch.no_grad():
        true_iou_NK = _iou(logits > 0, target > 0.5)
    iou_cost_NK = (prediction.iou_BK.float() - true_iou_NK).abs()
    score_N = prediction.object_score_B1.float()[:, 0]
    presence = binary_cross_entropy_with_logits(score_N, there_N.float())
    if config.supervise_all_masks:
        seen_N = best_N.values + cost_NK[:, 0] + config.iou * iou_cost_NK.mean(1)
    elif ambiguous:
        seen_N = best_N.values + config.iou * iou_cost_NK[:, 1:].mean(1)
    else:
        seen_N = cost_NK[:, 0] + config.iou * iou_cost_NK[:, 0]
    total = (seen_N * there_N).sum() / there_N.sum().clamp(min=1) + config.object_score * presence
    with torch.no_grad():
        found_N = score_N > 0
        settled_N = _gather(true_iou_NK, prediction.iou_BK[:, 1:].argmax(1) + 1) * found_N
        best_iou_N = _gather(true_iou_NK, best_N.indices + 1)
    figures = [float(iou_N[there_N].mean()) for iou_N in (best_iou_N, true_iou_NK[:, 0], settled_N)]
    return LossTerms(total, figures[0], figures[1], figures[2], float((found_N == there_N).float().mean()))


def _gather(values_NK: Tensor, index_N: Tensor) -> Tensor:
    return values_NK.gather(1, index_N[:, None])[:, 0]


def _mask_loss(logits_NKHW: Tensor, target_NKHW: Tensor, config: LossConfig) -> Tensor:
    """Focal, dice and plain cross-entropy of each candidate, (N, K)."""
    probability = logits_NKHW.sigmoid()
    entropy = binary_cross_entropy_with_logits(logits_NKHW, target_NKHW, reduction="none")
    wrong = (probability - target_NKHW).abs()
    focal_NKHW = wrong**config.focal_gamma * entropy
    if config.focal_alpha >= 0:
        focal_NKHW = focal_NKHW * (config.focal_alpha * target_NKHW + (1 - config.focal_alpha) * (1 - target_NKHW))
    focal = focal_NKHW.mean((-2, -1))
    overlap = (probability * target_NKHW).sum((-2, -1))
    area = probability.sum((-2, -1)) + target_NKHW.sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (area + 1)
    return config.focal * focal + config.dice * dice + config.cross_entropy * entropy.mean((-2, -1))


def _iou(pred_NKHW: Tensor, gt_N1HW: Tensor) -> Tensor:
    both = (pred_NKHW & gt_N1HW).flatten(2).sum(-1).float()
    either = (pred_NKHW | gt_N1HW).flatten(2).sum(-1).float()
    return both / either.clamp(min=1)
