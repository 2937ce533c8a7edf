"""Select among the candidate masks of a mask decoder: the published rules, on tensors without a network.

Shapes: B objects, K candidates, C channels, H and W at stride 4.
"""

from __future__ import annotations

from dataclasses import replace

from masklet.models.types import MaskPrediction
from masklet.tensors import Tensor, torch

__all__ = ["NUM_MASK_TOKENS", "select_masks", "stability_score"]

NUM_MASK_TOKENS = 4
"""One for an unambiguous prompt, then three for an ambiguous one."""


def stability_score(logits_BKHW: Tensor, delta: float) -> Tensor:
    """Return the IoU (B, K) of each mask at the thresholds `delta` and `-delta`: 1 is stable, 0 is not."""
    inner = (logits_BKHW > delta).flatten(2).sum(-1).float()
    outer = (logits_BKHW > -delta).flatten(2).sum(-1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), 1.0)


def select_masks(
    prediction: MaskPrediction, multimask: bool, *, delta: float = 0.05, threshold: float = 0.98
) -> MaskPrediction:
    """Select the three ambiguous candidates (`multimask`), or one: the single mask, or the best of three if unstable.

    The one candidate has the token of the single mask in both cases, because object pointers were trained on it.

    Args:
        delta: Logit offset of the stability score.
        threshold: Stability below which the best of three replaces the single mask.
    """
    if multimask:
        return prediction.slice_candidates(1, NUM_MASK_TOKENS)
    best_B = 1 + prediction.iou_BK[:, 1:].argmax(1)
    stable_B = stability_score(prediction.logits_BKHW[:, :1], delta)[:, 0] >= threshold
    chosen = prediction.select_candidates(torch.where(stable_B, 0, best_B))
    return replace(chosen, tokens_BKC=prediction.tokens_BKC[:, :1])
