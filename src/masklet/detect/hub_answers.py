"""From what the networks of the hub answer to boxes, scores and classes.

Shapes: Q queries, C classes, T tokens of the text, P phrases, K answers kept. Boxes here are centre x, centre y, width
and height as shares of the picture that the network saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Answer", "by_class", "by_phrase", "by_token", "corners"]


class Answer(NamedTuple):
    """Boxes with what they are, in no order."""

    boxes_K4: Tensor
    scores_K: Tensor
    classes_K: Tensor


def by_class(logits_QC: Tensor, boxes_Q4: Tensor, classes: int) -> Answer:
    """Answers of a network with a fixed list of `classes` classes.

    One column more than classes is the "nothing here" of DETR: a softmax, one class a query. Else, as in RT-DETR, every
    class is a yes or no of its own, and the Q best of all pairs of query and class are kept.
    """
    if logits_QC.shape[1] == classes + 1:
        scores_Q, classes_Q = logits_QC.softmax(-1)[:, :-1].max(-1)
        return Answer(boxes_Q4, scores_Q, classes_Q)
    scores_K, pairs_K = logits_QC.sigmoid().flatten().topk(len(logits_QC))
    columns = logits_QC.shape[1]
    return Answer(boxes_Q4[pairs_K // columns], scores_K, pairs_K % columns)


def by_phrase(logits_QP: Tensor, boxes_Q4: Tensor) -> Answer:
    """Answers of a network that compares each query with whole phrases (OWL-ViT, OWLv2)."""
    scores_Q, classes_Q = logits_QP.sigmoid().max(-1)
    return Answer(boxes_Q4, scores_Q, classes_Q)


def by_token(logits_QT: Tensor, boxes_Q4: Tensor, phrases_T: Sequence[int]) -> Answer:
    """Answers of a network that compares each query with the tokens of one text (Grounding DINO).

    `phrases_T` is the phrase each token belongs to, -1 for none. The score is that of the best token, as was published;
    the class is the phrase with the best token.
    """
    phrases = torch.tensor(phrases_T, device=logits_QT.device)
    probability_QT = logits_QT.sigmoid()[:, : len(phrases)]
    best_QP = torch.stack([probability_QT[:, phrases == p].amax(-1) for p in range(int(phrases.max()) + 1)], -1)
    return Answer(boxes_Q4, probability_QT.amax(-1), best_QP.argmax(-1))


def corners(boxes_K4: Tensor, width: float, height: float) -> Tensor:
    """Boxes as x1, y1, x2, y2 in pixels of a picture of this width and height."""
    centre_K2, half_K2 = boxes_K4[:, :2], boxes_K4[:, 2:] / 2
    scale = boxes_K4.new_tensor([width, height, width, height])
    return torch.cat([centre_K2 - half_K2, centre_K2 + half_K2], -1) * scale
