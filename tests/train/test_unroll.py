"""Training through time: what is looked back at, what is taught, what stays, resuming, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from masklet.errors import CheckpointError
from masklet.loading import load
from masklet.models.base import FrameMemory, MaskPrediction
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.train.clips import ClipBatch
from masklet.train.config import LossConfig, PromptConfig, Stage, TrainConfig
from masklet.train.loop import _encoder, _freeze, _step, begin, normalised, train
from masklet.train.losses import at_stride_4, prediction_cost
from masklet.train.recipes import builtin_video
from masklet.train.start import MEMORY, go_on_from, initialise
from masklet.train.unroll import Bank, follow, frame_numbers

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FOLLOWED = PromptConfig(objects=2, box_share=0.3, mask_share=0.4, later_click=0.5)
CONFIG = replace(
    builtin_video(),
    sources=(("discs", 1.0),),
    cutouts=(("discs", 1.0),),
    stages=(Stage(size=64, batch=2, steps=3, rate=1e-3, rate_end=5e-4, frames=3, prompts=FOLLOWED),),
    save_every=2,
    report_every=1,
    warmup=2,
)


def moving_square(frames: int = 4, hidden: int | None = None) -> ClipBatch:
    """A bright square that moves to the right over noise; on frame `hidden` it is not there."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (1, frames, 3, 64, 64), generator=random, dtype=torch.uint8)
    masks = torch.zeros(1, frames, 64, 64, dtype=torch.bool)
    for t in range(frames):
        if t != hidden:
            masks[0, t, 20:44, 8 + 6 * t : 32 + 6 * t] = True
            pixels[0, t, :, masks[0, t]] = 220
    return ClipBatch(pixels, masks, torch.zeros(1, dtype=torch.long))


@pytest.fixture(scope="module")
def pictures_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model's file without its memory, as the first run leaves it."""
    target = tmp_path_factory.mktemp("weights") / "pictures.safetensors"
    state = load("builtin").network.state_dict()
    save_file({name: tensor for name, tensor in state.items() if not name.startswith(MEMORY)}, target)
    return target


@pytest.fixture
def model(pictures_only: Path) -> SAM2:
    torch.manual_seed(0)
    made = SAM2(CONFIGS["builtin"])
    initialise(made)
    go_on_from(made, str(pictures_only))
    return made


def test_frames_are_left_out_at_one_place_at_most() -> None:
    random = torch.Generator().manual_seed(0)
    several = [frame_numbers(6, random) for _ in range(100)]
    steps = np.diff(several)
    assert all(numbers[0] == 0 for numbers in several)
    assert ((steps > 1).sum(1) <= 1).all()
    assert steps.min() == 1
    assert 8 <= steps.max() <= 10
    assert 25 < (steps > 1).any(1).sum() < 75


def test_a_frame_looks_back_at_the_prompted_one_and_at_six_more() -> None:
    bank = Bank()
    for number in range(9):
        memory = FrameMemory(torch.full((1, 2, 1, 1), float(number)), torch.full((1, 2), float(number)))
        bank.write(number, memory, prompted=number == 0)
    seen = bank.seen_from(9)
    assert [int(memory[0, 0, 0, 0]) for memory in seen.spatial] == [0, 3, 4, 5, 6, 7, 8]
    assert seen.ages == (0, 6, 5, 4, 3, 2, 1)
    assert sorted(int(pointer[0, 0]) for pointer in seen.pointers) == list(range(9))


def test_of_a_hidden_object_only_presence_is_taught() -> None:
    logits = torch.randn(2, 4, 4, 4).requires_grad_(True)
    iou = torch.full((2, 4), 0.5).requires_grad_(True)
    score = torch.tensor([[0.5], [0.5]]).requires_grad_(True)
    truth = torch.zeros(2, 16, 16, dtype=torch.bool)
    truth[0, :8] = True
    cost = prediction_cost(MaskPrediction(logits, iou, score, torch.zeros(2, 4, 4)), at_stride_4(truth), LossConfig())
    cost.total.backward()
    assert logits.grad[0].any()
    assert not logits.grad[1].any()
    assert iou.grad[0].any()
    assert not iou.grad[1].any()
    assert score.grad[0] < 0 < score.grad[1]
    assert cost.presence == 0.5


def test_an_object_that_seems_gone_is_not_followed() -> None:
    truth = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 4:12] = True
    logits = ((at_stride_4(truth) - 0.5) * 40).expand(1, 4, 4, 4)
    iou, tokens = torch.ones(1, 4), torch.zeros(1, 4, 4)
    for score, expected in ((3.0, 1.0), (-3.0, 0.0)):
        prediction = MaskPrediction(logits, iou, torch.tensor([[score]]), tokens)
        cost = prediction_cost(prediction, at_stride_4(truth), LossConfig())
        assert (cost.settled_iou, cost.best_iou) == (expected, 1.0)


def test_every_weight_of_the_memory_is_taught(model: SAM2) -> None:
    batch = moving_square(hidden=2)
    prompts = replace(FOLLOWED, mask_share=1.0, box_share=0.0, later_click=0.0)
    seen: set[str] = set()
    for seed in range(2):  # the pointer of what is gone only counts where it is thought to be gone
        with torch.no_grad():
            bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
            bias.fill_(20.0 if seed else -20.0)
        features = model.encode_image(normalised(batch.pixels_BT3SS.flatten(0, 1)))
        costs = follow(
            model,
            features,
            batch,
            prompts=prompts,
            losses=LossConfig(),
            generator=torch.Generator().manual_seed(seed),
        )
        model.zero_grad()
        torch.stack([cost.total for cost in costs["tracked"]]).mean().backward()
        seen |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    memory = ("memory_", "maskmem_", "mask_downsample", "obj_ptr_", "no_obj_")
    wanted = {name for name, _ in model.named_parameters() if name.startswith(memory)}
    assert wanted <= seen


def test_each_kind_of_prompt_starts_a_clip(model: SAM2) -> None:
    batch = moving_square(3)
    features = model.encode_image(normalised(batch.pixels_BT3SS.flatten(0, 1)))
    for kind, shares in (("box", (1.0, 0.0)), ("click", (0.0, 0.0)), ("mask", (0.0, 1.0))):
        prompts = PromptConfig(box_share=shares[0], mask_share=shares[1], rounds=(1.0,), later_click=1.0)
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            costs = follow(model, features, batch, prompts=prompts, losses=LossConfig(), generator=random)
        assert len(costs["tracked"]) == 2
        assert len(costs["corrected"]) == 1
        assert costs.keys() - {"tracked", "corrected"} == (set() if kind == "mask" else {kind})


def test_a_new_memory_leaves_the_model_what_it_was(model: SAM2, pictures_only: Path) -> None:
    published = load(pictures_only).network.state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items())
    assert model.mask_downsample(torch.ones(1, 1, 8, 8)).flatten().tolist() == pytest.approx([10.0] * 4)


def test_another_network_cannot_start_a_run() -> None:
    with pytest.raises(CheckpointError, match="cannot start"):
        go_on_from(SAM2(CONFIGS["sam2.1_hiera_tiny"]), "builtin")


def test_the_encoder_stays_and_runs_without_gradients(stills: Path) -> None:
    state = begin(CONFIG)
    _freeze(state.model, CONFIG, CONFIG.stages[0])
    encode = _encoder(state.model)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    _step(CONFIG, state, encode, moving_square(3))
    assert not encode(torch.zeros(1, 3, 64, 64)).embed_BCHW.requires_grad
    changed = {name for name, tensor in state.model.state_dict().items() if not torch.equal(before[name], tensor)}
    still = ("image_encoder", "sam_mask_decoder.conv_s")
    assert not any(name.startswith(still) for name in changed)
    assert any(name.startswith("memory_attention") for name in changed)
    assert any(name.startswith("sam_mask_decoder") for name in changed)


@pytest.mark.slow
def test_a_run_on_clips_that_was_cut_off_ends_with_the_same_weights(stills: Path, tmp_path: Path) -> None:
    still = Stage(size=64, batch=2, steps=1, rate=1e-3, rate_end=1e-3)
    config: TrainConfig = replace(CONFIG, stages=(still, *CONFIG.stages))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert [progress.step for progress in train(config, stills, whole)] == [1, 2, 3, 4]
    for progress in train(config, stills, cut):
        if progress.step == 3:  # the last checkpoint is of step 2
            break
    assert [progress.step for progress in train(config, stills, cut)][-1] == 4
    expected, found = (torch.load(p / "state.pt", weights_only=True)["average"] for p in (whole, cut))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_it_learns_to_follow_what_it_is_shown(stills: Path) -> None:
    config = replace(CONFIG, warmup=5, stages=(replace(CONFIG.stages[0], steps=40, rate=2e-3, rate_end=1e-3),))
    state = begin(config)
    _freeze(state.model, config, config.stages[0])
    encode, batch = _encoder(state.model), moving_square(4)
    costs = []
    for _ in range(config.steps):
        found = _step(config, state, encode, batch)
        costs.append(np.mean([float(cost.total.detach()) for cost in found["tracked"]]))
    assert np.mean(costs[-5:]) < 0.4 * np.mean(costs[:5])
