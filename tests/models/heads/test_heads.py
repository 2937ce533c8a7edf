"""Prompt encoder and candidate choice, on cases where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masklet.models.heads.mask_decoder import MaskDecoder, select_masks, stability_score
from masklet.models.heads.prompt_encoder import PromptEncoder, PromptMapEncoder
from masklet.models.types import MaskPrediction, PromptTensors


def test_the_drawing_shows_clicks_and_boxes_where_they_are() -> None:
    points = torch.tensor([[[40.0, 20.0], [100.0, 60.0]], [[16.0, 32.0], [64.0, 96.0]]])
    labels = torch.tensor([[1, 0], [2, 3]])
    drawn = PromptMapEncoder(8).render(PromptTensors(points, labels), 32, 32)
    assert drawn.shape == (2, 3, 32, 32)
    inside, outside = drawn[0, 0], drawn[0, 1]
    assert divmod(int(inside.argmax()), 32) in {(4, 9), (4, 10), (5, 9), (5, 10)}
    assert divmod(int(outside.argmax()), 32) in {(14, 24), (14, 25), (15, 24), (15, 25)}
    assert drawn[0, 2].sum() == 0
    assert drawn[1, :2].sum() == 0
    box = drawn[1, 2] > 0.5
    rows, columns = box.any(1).nonzero()[:, 0], box.any(0).nonzero()[:, 0]
    assert (int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])) == (8, 23, 4, 15)


def test_padding_is_not_drawn_and_no_point_is_no_error() -> None:
    drawing = PromptMapEncoder(8)
    padded = PromptTensors(torch.full((1, 2, 2), 30.0), torch.tensor([[-1, -1]]))
    assert drawing.render(padded, 16, 16).sum() == 0
    nothing = PromptTensors(torch.zeros(2, 0, 2), torch.zeros(2, 0, dtype=torch.long))
    assert drawing.render(nothing, 16, 16).shape == (2, 3, 16, 16)


def test_a_mask_becomes_the_dense_map_and_its_absence_a_constant() -> None:
    encoder = PromptEncoder(16)
    points, labels = torch.zeros(2, 1, 2), torch.ones(2, 1, dtype=torch.long)
    tokens, empty = encoder(PromptTensors(points, labels), 4, 4)
    assert tokens.shape == (2, 2, 16)
    assert empty.std((2, 3)).max() == 0
    _, dense = encoder(PromptTensors(points, labels, torch.randn(2, 1, 16, 16)), 4, 4)
    assert dense.shape == (2, 16, 4, 4)
    assert dense.std((2, 3)).min() > 0


def prediction(first: torch.Tensor) -> MaskPrediction:
    """Four candidates; the second has the highest score."""
    logits = torch.stack([first, *(torch.full_like(first, float(k)) for k in (1, 2, 3))])[None]
    return MaskPrediction(logits, torch.tensor([[0.1, 0.9, 0.5, 0.2]]), torch.zeros(1, 1), torch.zeros(1, 4, 2))


def test_stability_is_the_share_that_survives_a_stricter_threshold() -> None:
    logits = torch.tensor([1.0, 1.0, 0.02, -0.02, -1.0])[None, None, None]
    assert float(stability_score(logits, 0.05)) == pytest.approx(2 / 4)
    assert float(stability_score(torch.full((1, 1, 2, 2), -9.0), 0.05)) == 1.0


def test_an_unstable_single_mask_gives_way_to_the_best_candidate() -> None:
    stable, unstable = torch.full((4, 4), 5.0), torch.zeros(4, 4)
    assert float(select_masks(prediction(stable), False).iou_BK) == pytest.approx(0.1)
    assert float(select_masks(prediction(unstable), False).iou_BK) == pytest.approx(0.9)
    assert select_masks(prediction(unstable), True).iou_BK.tolist() == [pytest.approx([0.9, 0.5, 0.2])]


def test_calibration_maps_the_single_mask_and_the_candidates_by_their_own_knots() -> None:
    decoder, plain = MaskDecoder(16, 2, 16, iou_knots=3), MaskDecoder(16, 2, 16)
    logits = torch.tensor([[0.0, -1.0, 1.0, 9.0], [-9.0, 0.5, 0.4, 0.0]])
    torch.testing.assert_close(decoder.calibrate_iou(logits), plain.calibrate_iou(logits))  # not fitted: the identity
    assert torch.equal(plain.calibrate_iou(logits), logits.sigmoid())
    single, candidates = [[0.0, 0.5, 1.0], [0.2, 0.4, 0.9]], [[0.0, 0.4, 1.0], [0.1, 0.7, 0.9]]
    decoder.iou_calibration = torch.tensor([single, candidates])
    expected = np.stack(
        [np.interp(logits[:, :1].sigmoid(), *single)[:, 0]]
        + [np.interp(logits[:, k].sigmoid(), *candidates) for k in (1, 2, 3)],
        axis=1,
    )
    found = decoder.calibrate_iou(logits)
    torch.testing.assert_close(found, torch.from_numpy(expected).float())
    assert torch.equal(found[:, 1:].argsort(1), logits[:, 1:].argsort(1))
