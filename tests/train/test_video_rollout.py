"""Training on videos: memory selection, supervision, predictions of a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.networks import CONVNET, small_network
from helpers.train_data import moving_square, tiny
from masklet.load_model import load
from masklet.media import open_video
from masklet.models.fast_cpu.sam2 import FastSAM2
from masklet.models.sam2 import SAM2
from masklet.models.types import FrameMemory
from masklet.train.checkpoint import EMA, TrainState
from masklet.train.config import LossConfig, PromptConfig
from masklet.train.feature_cache import make_encoder, normalize_pixels
from masklet.train.initialization import MEMORY_PREFIXES
from masklet.train.video_rollout import TrainMemoryBank, predict_clip, sample_frame_numbers, video_forward
from masklet.video import Session, TrackOptions

TRACKED = PromptConfig(
    max_objects=2, box_prob=0.3, mask_prob=0.4, round_probs=(1.0,), correction_frame_prob=0.5, correction_clicks=1
)


def test_frame_numbers_have_at_most_one_gap() -> None:
    random = torch.Generator().manual_seed(0)
    several = [sample_frame_numbers(6, 0.5, random) for _ in range(100)]
    steps = np.diff(several)
    assert all(numbers[0] == 0 for numbers in several)
    assert ((steps > 1).sum(1) <= 1).all()
    assert steps.min() == 1
    assert 8 <= steps.max() <= 10
    assert 25 < (steps > 1).any(1).sum() < 75
    assert sample_frame_numbers(6, 0.0, random) == list(range(6))


def test_a_frame_attends_to_the_prompted_one_and_to_six_more() -> None:
    bank = TrainMemoryBank()
    for number in range(9):
        memory = FrameMemory(torch.full((1, 2, 1, 1), float(number)), torch.full((1, 2), float(number)))
        bank.add(number, memory, prompted=number == 0)
    context = bank.memory_context(9)
    assert [int(memory[0, 0, 0, 0]) for memory in context.spatial] == [0, 3, 4, 5, 6, 7, 8]
    assert context.temporal_positions == (0, 6, 5, 4, 3, 2, 1)
    assert sorted(int(pointer[0, 0]) for pointer in context.pointers) == list(range(9))


@pytest.fixture(params=[None, CONVNET], ids=["hiera", "convnet"])
def model(request: pytest.FixtureRequest) -> SAM2:
    return small_network() if request.param is None else small_network(request.param)


def test_every_weight_of_the_memory_gets_a_gradient(model: SAM2) -> None:
    batch = moving_square(hidden=2)
    prompts = replace(TRACKED, mask_prob=1.0, box_prob=0.0, correction_frame_prob=0.0)
    seen: set[str] = set()
    for seed in range(2):  # the no-object pointer only counts if the object is predicted as hidden
        with torch.no_grad():
            model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(20.0 if seed else -20.0)
        features = model.encode_image(normalize_pixels(batch.flat_pixels))
        random = torch.Generator().manual_seed(seed)
        costs = video_forward(model, features, batch, prompts=prompts, losses=LossConfig(), generator=random)
        model.zero_grad()
        torch.stack([cost.total for cost in costs["tracked"]]).mean().backward()
        seen |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    wanted = {name for name, _ in model.named_parameters() if name.startswith(MEMORY_PREFIXES)}
    assert wanted - {"no_mem_pos_enc"} <= seen


def test_each_prompt_type_starts_a_video(model: SAM2) -> None:
    batch = moving_square(3)
    features = model.encode_image(normalize_pixels(batch.flat_pixels))
    for kind, (box, mask) in (("box", (1.0, 0.0)), ("click", (0.0, 0.0)), ("mask", (0.0, 1.0))):
        prompts = replace(TRACKED, box_prob=box, mask_prob=mask, correction_frame_prob=1.0)
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            costs = video_forward(model, features, batch, prompts=prompts, losses=LossConfig(), generator=random)
        assert len(costs["tracked"]) == 2
        assert len(costs["corrected"]) == 1
        assert costs.keys() - {"tracked", "corrected"} == (set() if kind == "mask" else {kind})


def test_a_frame_that_hides_an_object_is_not_corrected(model: SAM2) -> None:
    batch = moving_square(2, hidden=1)
    features = model.encode_image(normalize_pixels(batch.flat_pixels))
    with torch.no_grad():
        costs = video_forward(
            model,
            features,
            batch,
            prompts=replace(TRACKED, correction_frame_prob=1.0),
            losses=LossConfig(),
            generator=torch.Generator().manual_seed(0),
        )
    assert "corrected" not in costs


def test_videos_of_a_batch_are_independent(model: SAM2) -> None:
    """The loss of two videos in one batch is the mean of each alone."""
    one, other = moving_square(3), moving_square(3, hidden=2)
    other = replace(other, pixels_BT3SS=other.pixels_BT3SS.flip(-1), masks_NTSS=other.masks_NTSS.flip(-1))
    both = replace(
        one,
        pixels_BT3SS=torch.cat([one.pixels_BT3SS, other.pixels_BT3SS]),
        masks_NTSS=torch.cat([one.masks_NTSS, other.masks_NTSS]),
        clip_index_N=torch.tensor([0, 1]),
    )
    prompts = replace(TRACKED, box_prob=0.0, mask_prob=1.0, correction_frame_prob=0.0)
    totals = []
    for batch in (one, other, both):
        features = model.encode_image(normalize_pixels(batch.flat_pixels))
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            costs = video_forward(model, features, batch, prompts=prompts, losses=LossConfig(), generator=random)
        totals.append(float(costs["tracked"][0].total))
    assert totals[2] == pytest.approx((totals[0] + totals[1]) / 2, rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_encoder_runs_without_gradients(model: SAM2, precision: str) -> None:
    rates = (("image_encoder", 0.0), ("sam_mask_decoder.conv_s", 0.0))
    config = tiny(lr_multipliers=rates, precision=precision)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(config.is_trainable(name))
    batch = moving_square(2)
    found = make_encoder(model, config)(batch)
    assert not found.embed_BCHW.requires_grad
    expected = model.encode_image(normalize_pixels(batch.flat_pixels))
    tolerance = {"fp32": 1e-4, "bf16": 0.1}[precision]
    assert float((found.embed_BCHW - expected.embed_BCHW).abs().max()) < tolerance * float(
        expected.embed_BCHW.abs().max()
    )


def test_a_prediction_has_every_frame_of_every_object(model: SAM2) -> None:
    for frames in (1, 3):
        batch = moving_square(frames)
        found = predict_clip(model, model.encode_image(normalize_pixels(batch.flat_pixels)), batch)
        assert found.shape == (1, frames, 64, 64)
        assert found.dtype == torch.bool


def test_a_stage_can_freeze_the_first_stages_of_the_built_in_trunk() -> None:
    model, config = small_network(CONVNET), tiny(frozen_stages=2)
    state = TrainState(model, EMA(model, 0.0), torch.optim.SGD(model.parameters()))
    state.set_trainable(config, config.stages[0])
    trunk = "image_encoder.trunk."
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    wanted = tuple(f"{trunk}{part}." for part in ("stem", "stages.0", "stages.1"))
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(wanted)}
    state.set_trainable(tiny(), tiny().stages[0])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_rollout_follows_an_object_as_the_tracker_does() -> None:
    model, batch = load("builtin").network, moving_square(5)
    model.set_image_size(64)
    model.edge_radius = None  # training compares masks as the decoder draws them
    with torch.no_grad():
        found = predict_clip(model, model.encode_image(normalize_pixels(batch.flat_pixels)), batch)
    frames = batch.pixels_BT3SS[0].permute(0, 2, 3, 1).numpy()
    with Session(FastSAM2(model), open_video(frames), TrackOptions(fill_hole_area=0)) as session:
        session.add_prompt(1, 0, box=(8, 20, 32, 44))
        tracked = [frame.masks.data[0] for frame in session.propagate()]
    agree = [(found[0, t].numpy() == tracked[t]).mean() for t in range(5)]
    assert min(agree) > 0.995, agree
    assert found[0].flatten(1).any(1).all()


def test_the_answer_to_the_prior_is_trained_where_it_finds_the_object() -> None:
    model, batch = load("builtin").network, moving_square(4, hidden=3)
    model.requires_grad_(True)
    features = model.encode_image(normalize_pixels(batch.flat_pixels))
    prompts = replace(TRACKED, mask_prob=1.0, box_prob=0.0, correction_frame_prob=0.0)
    random = torch.Generator().manual_seed(0)
    losses = video_forward(model, features, batch, prompts=prompts, losses=LossConfig(), generator=random)
    assert len(losses["tracked"]) == 3
    assert 1 <= len(losses["prior"]) <= 3
    model.zero_grad()
    losses["prior"][0].total.backward()
    learns = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert any(name.startswith("sam_prompt_encoder.mask_downscaling") for name in learns)
    assert any(name.startswith("memory_attention") for name in learns)
