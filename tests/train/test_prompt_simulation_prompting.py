"""The simulated user: shares of prompts, boxes that are about right, clicks where something is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

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
    sample_correction_click,
    sample_num_rounds,
    sample_prompt_types,
    sample_rough_masks,
    simulate_rounds,
)
from masklet.train.video_rollout import video_forward


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(top: int, bottom: int, left: int = 10, right: int = 30) -> torch.Tensor:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def test_kinds_of_prompts_have_their_shares() -> None:
    """Half by a mask, a quarter by a box, a quarter by a click; four deviations."""
    found = sample_prompt_types(2000, PromptConfig(), dice())
    counts = {kind: len(index_N) for kind, index_N in found.items()}
    assert abs(counts["mask"] - 1000) < 90
    assert abs(counts["box"] - 500) < 78
    assert abs(counts["click"] - 500) < 78
    assert sorted(torch.cat([*found.values()]).tolist()) == list(range(2000))


def test_what_is_not_drawn_is_not_there() -> None:
    assert sample_prompt_types(5, PromptConfig(mask_prob=1.0, box_prob=0.0), dice()).keys() == {"mask"}
    assert sample_prompt_types(5, PromptConfig(mask_prob=0.0, box_prob=0.0), dice()).keys() == {"click"}


def test_rounds_have_their_shares() -> None:
    random = dice()
    assert {sample_num_rounds(PromptConfig(), random) for _ in range(20)} == {8}
    several = Counter(sample_num_rounds(PromptConfig(round_probs=(0.5, 0.0, 0.5)), random) for _ in range(2000))
    assert several.keys() == {1, 3}
    assert abs(several[1] - 1000) < 90


def test_noisy_boxes_stay_near_the_tight_ones() -> None:
    masks = torch.zeros(50, 40, 40, dtype=torch.bool)
    masks[:, 10:20, 5:25] = True
    exact = noisy_boxes(masks, 0.0, torch.Generator())
    assert exact[0].tolist() == [[5, 10], [25, 20]]
    noisy = noisy_boxes(masks, 0.1, dice())
    moved = (noisy - exact).abs()
    assert 0 < float(moved[..., 0].max()) <= 2.0
    assert 0 < float(moved[..., 1].max()) <= 1.0


def test_rough_masks_are_about_right() -> None:
    target = downsample_masks(square(8, 56, 8, 56))
    rough = sample_rough_masks(target.expand(20, -1, -1, -1), dice())
    agreed = ((rough > 0) == (target > 0.5)).float().mean((1, 2, 3))
    assert float(agreed.min()) > 0.75
    assert float(agreed.max()) < 1.0
    assert rough.abs().max() <= 10


def test_a_careless_click_is_on_the_object_and_another_on_what_is_wrong() -> None:
    """Shown is the object and an excess below it: only that is wrong."""
    truth, seen = square(10, 30), square(10, 50)
    logits = torch.where(downsample_masks(seen) > 0.5, 5.0, -5.0)
    labels, random = [], dice()
    for _ in range(400):
        click, label = sample_correction_click(logits, truth, PromptConfig(gt_click_prob=0.25), random)
        x, y = click[0, 0].int().tolist()
        assert truth[0, y, x] == bool(label), "1 on the object, 0 on the excess"
        assert seen[0, y, x]
        labels.append(int(label))
    assert abs(sum(labels) - 100) < 35
    always = [
        int(sample_correction_click(logits, truth, PromptConfig(gt_click_prob=1.0), random)[1]) for _ in range(20)
    ]
    never = [int(sample_correction_click(logits, truth, PromptConfig(gt_click_prob=0.0), random)[1]) for _ in range(20)]
    assert (sum(always), sum(never)) == (20, 0)


def test_an_object_that_is_gone_gets_no_careless_click() -> None:
    shown = torch.full((1, 1, 16, 16), 5.0)
    gone = torch.zeros(1, 64, 64, dtype=torch.bool)
    assert int(sample_correction_click(shown, gone, PromptConfig(gt_click_prob=1.0), dice())[1]) == 0


class Listening:
    """Notes what the network is asked."""

    def __init__(self, model: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[PromptTensors] = []
        decode = model.decode

        def noting(features: object, prompts: PromptTensors) -> object:
            self.asked.append(prompts)
            return decode(features, prompts)

        monkeypatch.setattr(model, "decode", noting)

    @property
    def labels(self) -> list[list[int]]:
        """Of the first object, without those of clicks, which may be 0 or 1."""
        return [prompts.labels_BN[0].tolist() for prompts in self.asked]


@pytest.mark.parametrize(("first", "start"), [("box", [2, 3]), ("click", [1]), ("mask", [])])
def test_seven_corrections_follow_the_first_prompt(
    monkeypatch: pytest.MonkeyPatch, first: str, start: list[int]
) -> None:
    model = small_network()
    heard = Listening(model, monkeypatch)
    features = model.add_no_memory_embedding(model.encode_image(normalize_pixels(moving_square(1).flat_pixels)))
    done = simulate_rounds(
        model,
        features,
        square(20, 44),
        prompt_type=first,
        rounds=8,
        prompts=PromptConfig(),
        losses=LossConfig(),
        generator=dice(),
    )
    assert [len(labels) for labels in heard.labels] == [len(start) + turn for turn in range(8)]
    assert all(labels[: len(start)] == start for labels in heard.labels)
    assert [each.ambiguous for each in done] == [first == "click"] + [False] * 7
    dense = [prompts.mask_B1HW is not None for prompts in heard.asked]
    assert dense == [first == "mask"] + [True] * 7, "later rounds go on from the mask before"


def test_the_mask_that_is_gone_on_from_carries_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_network()
    heard = Listening(model, monkeypatch)
    costs = image_forward(
        model,
        model.add_no_memory_embedding(model.encode_image(normalize_pixels(moving_square(1).flat_pixels))),
        moving_square(1),
        prompts=PromptConfig(round_probs=(0.0, 1.0)),
        losses=LossConfig(),
        generator=dice(),
    )
    assert [len(rounds) for rounds in costs.values()] == [2]
    mask = heard.asked[-1].mask_B1HW
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
            heard = Listening(model, patch)
            prompts = replace(PromptConfig(), mask_share=0.0)
            costs = video_forward(model, features, batch, prompts=prompts, losses=LossConfig(), generator=dice(seed))
        first = costs.get("click") or costs["box"]
        assert len(first) == 8, "the prompt and seven clicks"
        assert len(costs["tracked"]) == 3
        assert len(costs.get("corrected", [])) in (0, 7)
        later.append("corrected" in costs)
        assert len(heard.asked) == 8 + 3 + 7 * later[-1]
    assert 2 <= sum(later) <= 10, "half of the videos"


def test_the_mask_of_a_still_is_not_its_prompt() -> None:
    assert PromptConfig().for_images() == replace(PromptConfig(), mask_share=0.0, box_share=0.5)
    rough = PromptConfig(mask_prob=0.2, box_prob=0.6, rough_mask_prob=0.2).for_images()
    assert (rough.mask_prob, rough.box_prob) == (0.2, pytest.approx(0.6))
    assert PromptConfig(mask_prob=1.0, box_prob=0.0).for_images().box_prob == 0.5
