from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from masklet.train.prompt_simulation import sample_click


def blob(seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.normal(size=(40, 56)).astype(np.float32), (0, 0), 4)
    return torch.from_numpy(noise > 0)


@pytest.mark.parametrize("seed", range(5))
def test_random_clicks_fall_on_what_is_wrong(seed: int) -> None:
    truth, predicted = torch.stack([blob(seed)] * 8), torch.stack([blob(seed + 50)] * 8)
    xy, label = sample_click(predicted, truth, torch.Generator().manual_seed(seed))
    for (x, y), on in zip(xy.long().tolist(), label.tolist(), strict=True):
        assert bool(truth[0, y, x]) != bool(predicted[0, y, x])
        assert on == int(truth[0, y, x])
