"""The loss of a prediction, compared with values computed by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from masklet.models.types import MaskPrediction
from masklet.train.config import LossConfig
from masklet.train.losses import downsample_masks, prediction_loss

ONLY_FOCAL = LossConfig(dice=0.0, iou=0.0, object_score=0.0)
ONLY_DICE = LossConfig(focal=0.0, iou=0.0, object_score=0.0)
ONLY_IOU = LossConfig(focal=0.0, dice=0.0, object_score=0.0)
LOGITS = torch.tensor([[0.0, log(3)], [-log(3), 0.0]])
"""Probabilities 1/2, 3/4, 1/4, 1/2."""
TARGET = torch.tensor([[1.0, 1.0], [0.0, 0.0]])[None, None]


def prediction(
    logits: torch.Tensor, iou: torch.Tensor | None = None, score: torch.Tensor | None = None
) -> MaskPrediction:
    batch, count = logits.shape[:2]
    iou = torch.full((batch, count), 0.5) if iou is None else iou
    return MaskPrediction(logits, iou, torch.zeros(batch, 1) if score is None else score, torch.zeros(batch, count, 4))


def four(logits: torch.Tensor) -> torch.Tensor:
    """Repeat the logits for all four candidates."""
    return logits.expand(1, 4, *logits.shape[-2:])


def test_focal_loss_by_hand() -> None:
    inside = 0.25 * (0.5**2 * log(2) + 0.25**2 * -log(0.75))
    outside = 0.75 * (0.25**2 * -log(0.75) + 0.5**2 * log(2))
    loss = prediction_loss(prediction(four(LOGITS)), TARGET, ONLY_FOCAL, ambiguous=False)
    assert float(loss.total) == pytest.approx(20 * (inside + outside) / 4, rel=1e-5)


def test_a_negative_alpha_weighs_both_alike() -> None:
    config = LossConfig(focal=1.0, dice=0.0, iou=0.0, object_score=0.0, focal_alpha=-1.0, focal_gamma=1.0)
    expected = 2 * (0.5 * log(2) + 0.25 * -log(0.75)) / 4
    loss = prediction_loss(prediction(four(LOGITS)), TARGET, config, ambiguous=False)
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)


def test_dice_loss_by_hand() -> None:
    loss = prediction_loss(prediction(four(LOGITS)), TARGET, ONLY_DICE, ambiguous=False)
    assert float(loss.total) == pytest.approx(1 - (2 * 1.25 + 1) / (2 + 2 + 1), rel=1e-5)


def test_plain_cross_entropy_by_hand() -> None:
    config = LossConfig(focal=0.0, dice=0.0, iou=0.0, object_score=0.0, cross_entropy=2.0)
    loss = prediction_loss(prediction(four(LOGITS)), TARGET, config, ambiguous=False)
    assert float(loss.total) == pytest.approx(2 * 2 * (log(2) - log(0.75)) / 4, rel=1e-5)


def test_object_score_loss_by_hand() -> None:
    config = LossConfig(focal=0.0, dice=0.0, iou=0.0, object_score=3.0)
    for target, expected in ((TARGET, -log(0.75)), (torch.zeros_like(TARGET), -log(0.25))):
        loss = prediction_loss(prediction(four(LOGITS), score=torch.tensor([[log(3)]])), target, config)
        assert float(loss.total) == pytest.approx(3 * expected, rel=1e-5)


@pytest.mark.parametrize(
    ("ambiguous", "supervise_all", "supervised"),
    [(True, False, [1, 2, 3]), (False, False, [0]), (True, True, [0, 1, 2, 3]), (False, True, [0, 1, 2, 3])],
)
def test_predicted_iou_is_supervised_for_the_same_masks(
    ambiguous: bool, supervise_all: bool, supervised: list[int]
) -> None:
    """Only the pixel at the top right is predicted, half of the object."""
    iou = torch.tensor([[0.9, 0.8, 0.7, 0.2]], requires_grad=True)
    config = LossConfig(focal=0.0, dice=0.0, object_score=0.0, supervise_all_masks=supervise_all)
    loss = prediction_loss(prediction(four(LOGITS), iou), TARGET, config, ambiguous=ambiguous)
    loss.total.backward()
    errors = [0.4, 0.3, 0.2, 0.3]
    assert loss.total.item() == pytest.approx(sum(errors[k] for k in supervised) / len(supervised), rel=1e-5)
    assert iou.grad[0].nonzero()[:, 0].tolist() == supervised
    assert iou.grad[0, supervised[-1]] == pytest.approx((-1 if supervised[-1] == 3 else 1) / len(supervised))


def square() -> torch.Tensor:
    truth = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 4:12] = True
    return downsample_masks(truth)


@pytest.mark.parametrize(
    ("ambiguous", "supervise_all", "supervised"),
    [
        (True, False, [False, False, True, False]),
        (False, False, [True, False, False, False]),
        (True, True, [True, False, True, False]),
        (False, True, [True, False, True, False]),
    ],
)
def test_which_masks_are_supervised(ambiguous: bool, supervise_all: bool, supervised: list[bool]) -> None:
    """The second of the three is the best."""
    right = (square() - 0.5) * 8
    logits = torch.cat([right, -right, right, 0 * right], dim=1).requires_grad_(True)
    config = LossConfig(iou=0.0, object_score=0.0, supervise_all_masks=supervise_all)
    prediction_loss(prediction(logits), square(), config, ambiguous=ambiguous).total.backward()
    assert (logits.grad.abs().sum((0, 2, 3)) > 0).tolist() == supervised


def test_a_perfect_and_an_opposite_mask() -> None:
    right = (square() - 0.5) * 40
    weights = LossConfig(iou=0.0, object_score=0.0)
    good = prediction_loss(prediction(right.expand(1, 4, 4, 4)), square(), weights)
    bad = prediction_loss(prediction(-right.expand(1, 4, 4, 4)), square(), weights)
    assert float(good.total) < 0.02
    assert good.best_iou == 1.0
    assert float(bad.total) > 20
    assert bad.single_mask_iou == 0.0


def test_a_hidden_object_supervises_only_the_object_score() -> None:
    logits = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    iou = torch.full((2, 4), 0.5).requires_grad_(True)
    score = torch.tensor([[0.5], [0.5]]).requires_grad_(True)
    truth = torch.zeros(2, 16, 16, dtype=torch.bool)
    truth[0, :8] = True
    loss = prediction_loss(prediction(logits, iou, score), downsample_masks(truth), LossConfig())
    loss.total.backward()
    assert logits.grad[0].any()
    assert not logits.grad[1].any()
    assert iou.grad[0].any()
    assert not iou.grad[1].any()
    assert score.grad[0] < 0 < score.grad[1]
    assert loss.object_score_accuracy == 0.5


def test_a_hidden_object_does_not_dilute_the_others() -> None:
    logits = torch.cat([four(LOGITS), four(LOGITS)])
    hidden = torch.cat([TARGET, torch.zeros_like(TARGET)])
    config = LossConfig(object_score=0.0)
    alone = prediction_loss(prediction(four(LOGITS)), TARGET, config).total
    assert torch.equal(prediction_loss(prediction(logits), hidden, config).total, alone)


def test_without_visible_objects_there_is_no_iou() -> None:
    loss = prediction_loss(prediction(four(LOGITS)), torch.zeros_like(TARGET), LossConfig(object_score=0.0))
    assert float(loss.total) == 0.0
    assert loss.best_iou != loss.best_iou


def test_an_object_that_seems_hidden_has_an_empty_mask() -> None:
    logits = ((square() - 0.5) * 40).expand(1, 4, 4, 4)
    for score, expected in ((3.0, 1.0), (-3.0, 0.0)):
        loss = prediction_loss(prediction(logits, torch.ones(1, 4), torch.tensor([[score]])), square(), LossConfig())
        assert (loss.selected_iou, loss.best_iou) == (expected, 1.0)
