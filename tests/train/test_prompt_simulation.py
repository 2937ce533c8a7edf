"""The simulated user: probabilities of prompts, noisy boxes, clicks on errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from helpers.networks import small_network
from helpers.train_data import moving_square
from masklet.models.sam2 import SAM2
from masklet.models.types import PromptTensors
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.feature_cache import normalize_pixels
from masklet.train.losses import downsample_masks
from masklet.train.prompt_simulation import (
    image_forward,
    noisy_boxes,
    sample_click,
    sample_correction_click,
    sample_num_rounds,
    sample_prompt_types,
    sample_rough_masks,
    simulate_rounds,
)
from masklet.train.video_rollout import video_forward


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(top: int, bottom: int, left: int = 10, right: int = 30) -> torch.Tensor:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def test_prompt_types_have_their_probabilities() -> None:
    """Half by a mask, a quarter by a box, a quarter by a click; within four deviations."""
    found = sample_prompt_types(2000, PromptConfig(), generator())
    counts = {kind: len(index_N) for kind, index_N in found.items()}
    assert abs(counts["mask"] - 1000) < 90
    assert abs(counts["box"] - 500) < 78
    assert abs(counts["click"] - 500) < 78
    assert sorted(torch.cat([*found.values()]).tolist()) == list(range(2000))


def test_unused_prompt_types_are_absent() -> None:
    assert sample_prompt_types(5, PromptConfig(mask_prob=1.0, box_prob=0.0), generator()).keys() == {"mask"}
    assert sample_prompt_types(5, PromptConfig(mask_prob=0.0, box_prob=0.0), generator()).keys() == {"click"}


def test_rounds_have_their_probabilities() -> None:
    rng = generator()
    assert {sample_num_rounds(PromptConfig(), rng) for _ in range(20)} == {8}
    several = Counter(sample_num_rounds(PromptConfig(round_probs=(0.5, 0.0, 0.5)), rng) for _ in range(2000))
    assert several.keys() == {1, 3}
    assert abs(several[1] - 1000) < 90


def test_noisy_boxes_stay_near_the_tight_ones() -> None:
    masks = torch.zeros(50, 40, 40, dtype=torch.bool)
    masks[:, 10:20, 5:25] = True
    exact = noisy_boxes(masks, 0.0, torch.Generator())
    assert exact[0].tolist() == [[5, 10], [25, 20]]
    noisy = noisy_boxes(masks, 0.1, generator())
    moved = (noisy - exact).abs()
    assert 0 < float(moved[..., 0].max()) <= 2.0
    assert 0 < float(moved[..., 1].max()) <= 1.0


def test_rough_masks_mostly_agree() -> None:
    target = downsample_masks(square(8, 56, 8, 56))
    rough = sample_rough_masks(target.expand(20, -1, -1, -1), generator())
    agreed = ((rough > 0) == (target > 0.5)).float().mean((1, 2, 3))
    assert float(agreed.min()) > 0.75
    assert float(agreed.max()) < 1.0
    assert rough.abs().max() <= 10


def test_a_click_is_on_the_object_or_on_the_error() -> None:
    """The prediction is the object and an excess below it: only the excess is wrong."""
    truth, seen = square(10, 30), square(10, 50)
    logits = torch.where(downsample_masks(seen) > 0.5, 5.0, -5.0)
    labels, rng = [], generator()
    for _ in range(400):
        click, label = sample_correction_click(logits, truth, PromptConfig(gt_click_prob=0.25), rng)
        x, y = click[0, 0].int().tolist()
        assert truth[0, y, x] == bool(label), "1 on the object, 0 on the excess"
        assert seen[0, y, x]
        labels.append(int(label))
    assert abs(sum(labels) - 100) < 35
    always = [int(sample_correction_click(logits, truth, PromptConfig(gt_click_prob=1.0), rng)[1]) for _ in range(20)]
    never = [int(sample_correction_click(logits, truth, PromptConfig(gt_click_prob=0.0), rng)[1]) for _ in range(20)]
    assert (sum(always), sum(never)) == (20, 0)


def test_a_hidden_object_gets_no_click_inside() -> None:
    shown = torch.full((1, 1, 16, 16), 5.0)
    gone = torch.zeros(1, 64, 64, dtype=torch.bool)
    assert int(sample_correction_click(shown, gone, PromptConfig(gt_click_prob=1.0), generator())[1]) == 0


class RecordedPrompts:
    """Record the prompts of each call of `decode`."""

    def __init__(self, model: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[PromptTensors] = []
        decode = model.decode

        def record(features: object, prompts: PromptTensors) -> object:
            self.prompts.append(prompts)
            return decode(features, prompts)

        monkeypatch.setattr(model, "decode", record)

    @property
    def labels(self) -> list[list[int]]:
        """Labels of the first object in each call."""
        return [prompts.labels_BN[0].tolist() for prompts in self.prompts]


@pytest.mark.parametrize(("prompt_type", "start"), [("box", [2, 3]), ("click", [1]), ("mask", [])])
def test_seven_corrections_follow_the_first_prompt(
    monkeypatch: pytest.MonkeyPatch, prompt_type: str, start: list[int]
) -> None:
    model = small_network()
    recorded = RecordedPrompts(model, monkeypatch)
    features = model.add_no_memory_embedding(model.encode_image(normalize_pixels(moving_square(1).flat_pixels)))
    done = simulate_rounds(
        model,
        features,
        square(20, 44),
        prompt_type=prompt_type,
        rounds=8,
        prompts=PromptConfig(),
        losses=LossConfig(),
        generator=generator(),
    )
    assert [len(labels) for labels in recorded.labels] == [len(start) + turn for turn in range(8)]
    assert all(labels[: len(start)] == start for labels in recorded.labels)
    assert [each.ambiguous for each in done] == [prompt_type == "click"] + [False] * 7
    dense = [prompts.mask_B1HW is not None for prompts in recorded.prompts]
    assert dense == [prompt_type == "mask"] + [True] * 7, "later rounds refine the mask before"


def test_the_mask_input_carries_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    recorded = RecordedPrompts(model, monkeypatch)
    costs = image_forward(
        model,
        model.add_no_memory_embedding(model.encode_image(normalize_pixels(moving_square(1).flat_pixels))),
        moving_square(1),
        prompts=PromptConfig(round_probs=(0.0, 1.0)),
        losses=LossConfig(),
        generator=generator(),
    )
    assert [len(rounds) for rounds in costs.values()] == [2]
    mask = recorded.prompts[-1].mask_B1HW
    assert mask is not None
    assert not mask.requires_grad
    assert mask.abs().max() <= 32


def test_at_most_two_frames_of_a_video_are_corrected_seven_times(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    batch = moving_square(4)
    features = model.encode_image(normalize_pixels(batch.flat_pixels))
    later = []
    for seed in range(12):
        with monkeypatch.context() as patch, torch.no_grad():
            recorded = RecordedPrompts(model, patch)
            prompts = replace(PromptConfig(), mask_prob=0.0)
            costs = video_forward(
                model, features, batch, prompts=prompts, losses=LossConfig(), generator=generator(seed)
            )
        first = costs.get("click") or costs["box"]
        assert len(first) == 8, "the prompt and seven clicks"
        assert len(costs["tracked"]) == 3
        assert len(costs.get("corrected", [])) in (0, 7)
        later.append("corrected" in costs)
        assert len(recorded.prompts) == 8 + 3 + 7 * later[-1]
    assert 2 <= sum(later) <= 10, "half of the videos"


def test_the_mask_of_an_image_is_not_its_prompt() -> None:
    assert PromptConfig().for_images() == replace(PromptConfig(), mask_prob=0.0, box_prob=0.5)
    rough = PromptConfig(mask_prob=0.2, box_prob=0.6, rough_mask_prob=0.2).for_images()
    assert (rough.mask_prob, rough.box_prob) == (0.2, pytest.approx(0.6))
    assert PromptConfig(mask_prob=1.0, box_prob=0.0).for_images().box_prob == 0.5


def blob(seed: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.normal(size=(40, 56)).astype(np.float32), (0, 0), 4)
    return torch.from_numpy(noise > 0)


@pytest.mark.parametrize("seed", range(5))
def test_random_clicks_fall_on_errors(seed: int) -> None:
    truth, predicted = torch.stack([blob(seed)] * 8), torch.stack([blob(seed + 50)] * 8)
    xy, label = sample_click(predicted, truth, torch.Generator().manual_seed(seed))
    for (x, y), on in zip(xy.long().tolist(), label.tolist(), strict=True):
        assert bool(truth[0, y, x]) != bool(predicted[0, y, x])
        assert on == int(truth[0, y, x])
