from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from masklet.clicks import centre_click, depth_inside, random_click


def blob(seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.normal(size=(40, 56)).astype(np.float32), (0, 0), 4)
    return torch.from_numpy(noise > 0)


@pytest.mark.parametrize("seed", range(5))
def test_depth_is_the_exact_euclidean_distance(seed: int) -> None:
    mask = blob(seed)
    padded = np.pad(mask.numpy().astype(np.uint8), 1)
    reference = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    np.testing.assert_allclose(depth_inside(mask[None])[0].numpy(), reference, atol=1e-3)


def test_a_missed_part_asks_for_a_click_inside_it() -> None:
    truth = torch.zeros(1, 30, 30, dtype=torch.bool)
    truth[0, 5:16, 8:19] = True
    xy, label = centre_click(torch.zeros_like(truth), truth)
    assert xy.tolist() == [[13, 10]]
    assert label.tolist() == [1]


def test_an_excess_asks_for_a_negative_click() -> None:
    truth = torch.zeros(2, 30, 30, dtype=torch.bool)
    truth[:, 2:5, 2:5] = True
    predicted = truth.clone()
    predicted[:, 10:21, 10:21] = True
    xy, label = centre_click(predicted, truth)
    assert xy.tolist() == [[15, 15]] * 2
    assert label.tolist() == [0, 0]


def test_where_nothing_is_wrong_the_object_itself_is_clicked() -> None:
    truth = torch.zeros(1, 20, 20, dtype=torch.bool)
    truth[0, 4:9, 4:9] = True
    xy, label = centre_click(truth, truth)
    assert xy.tolist() == [[6, 6]]
    assert label.tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_random_clicks_fall_on_what_is_wrong(seed: int) -> None:
    truth, predicted = torch.stack([blob(seed)] * 8), torch.stack([blob(seed + 50)] * 8)
    xy, label = random_click(predicted, truth, torch.Generator().manual_seed(seed))
    for (x, y), on in zip(xy.long().tolist(), label.tolist(), strict=True):
        assert bool(truth[0, y, x]) != bool(predicted[0, y, x])
        assert on == int(truth[0, y, x])
