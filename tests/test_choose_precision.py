"""What precision="auto" becomes: by a rule, or by a trial whose outcome is stored."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.networks import small_network
from helpers.small_sam1 import small_sam1
from masklet import SAM
from masklet.cli.console import show_log
from masklet.load_model import LoadedModel
from masklet.models.fast_cpu.encoder import fast_encoder
from masklet.models.types import ImageFeatures
from masklet.sam import bf16_trial, choose_precision
from masklet.sam.bf16_trial import Bf16Comparison, Bf16Trial, try_bf16
from masklet.sam.choose_precision import MIN_TRIAL_GFLOP, PrecisionChoice, encode_gflop

FASTER = Bf16Comparison(0.5, 0.995)
SLOWER = Bf16Comparison(0.97, 0.995)
COARSER = Bf16Comparison(0.5, 0.989)


class Trials:
    """Trials with a given outcome, counted."""

    def __init__(self) -> None:
        self.outcome, self.count = Bf16Trial(FASTER, FASTER), 0

    def __call__(self, network: object) -> Bf16Trial:
        self.count += 1
        return self.outcome


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    """A machine with bf16 instructions on which every network is tried."""
    found = Trials()
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MASKLET_PRECISION_TRIAL")
    monkeypatch.setattr("masklet.nn.fused_ops.has_native_bfloat16", lambda: True)
    monkeypatch.setattr("masklet.nn.fused_ops.has_fused_operators", lambda _: True)
    monkeypatch.setattr(choose_precision, "MIN_TRIAL_GFLOP", 0.0)
    monkeypatch.setattr(choose_precision, "_trials", {})
    monkeypatch.setattr(bf16_trial, "try_bf16", found)
    return found


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    return LoadedModel(small_network().eval(), "small", tmp_path / "small.pt", None)


def choose(loaded: LoadedModel) -> PrecisionChoice:
    return choose_precision.choose_precision(loaded, "cpu", "auto")


@pytest.mark.parametrize(
    ("outcome", "image", "video"),
    [
        (Bf16Trial(FASTER, FASTER), "bf16", "bf16"),
        (Bf16Trial(COARSER, FASTER), "fp32", "bf16"),
        (Bf16Trial(FASTER, SLOWER), "bf16", "fp32"),
        (Bf16Trial(FASTER, None), "bf16", "bf16"),
        (Bf16Trial(SLOWER, COARSER), "fp32", "fp32"),
    ],
)
def test_bf16_is_taken_where_it_is_faster_with_the_same_masks(
    trials: Trials, loaded: LoadedModel, outcome: Bf16Trial, image: str, video: str
) -> None:
    trials.outcome = outcome
    choice = choose(loaded)
    assert (choice.image, choice.video) == (image, video)
    assert choice.reason is not None
    assert str(outcome.image) in choice.reason


def test_a_network_is_tried_once_on_a_machine(
    trials: Trials, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = choose(loaded)
    trials.outcome = Bf16Trial(SLOWER, SLOWER)
    assert choose(loaded) == first
    monkeypatch.setattr(choose_precision, "_trials", {})  # another process, which reads the file
    assert choose(loaded) == first
    assert trials.count == 1


def test_of_two_processes_that_try_a_network_the_first_decides(
    trials: Trials, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache" / choose_precision.TRIALS_FILE
    first = choose(loaded)
    written = file.read_text()
    file.unlink()
    monkeypatch.setattr(choose_precision, "_trials", {})

    def slower_process(network: object) -> Bf16Trial:
        file.write_text(written)
        return Bf16Trial(SLOWER, SLOWER)

    monkeypatch.setattr(bf16_trial, "try_bf16", slower_process)
    assert choose(loaded) == first
    assert file.read_text() == written


def test_other_weights_sizes_and_machines_are_tried_by_themselves(
    trials: Trials, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(loaded)
    other = copy.deepcopy(loaded.network)
    other.no_mem_embed.data += 1
    choose(replace(loaded, network=other))
    assert trials.count == 2
    loaded.network.set_image_size(96)
    choose(loaded)
    assert trials.count == 3
    monkeypatch.setattr(choose_precision, "processor_name", lambda: "another processor")
    choose(loaded)
    assert trials.count == 4


def test_a_cache_that_cannot_be_written_is_none(
    trials: Trials, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "file" / "cache"))
    assert choose(loaded).image == choose(loaded).image == "bf16"
    assert trials.count == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"small": {"image": 3}}', '{"small": {"image": {"x": 1}}}'])
def test_a_damaged_cache_is_measured_again(trials: Trials, loaded: LoadedModel, tmp_path: Path, content: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / choose_precision.TRIALS_FILE).write_text(content)
    assert choose(loaded).image == "bf16"
    assert trials.count == 1


def test_nothing_is_tried_without_bf16_instructions_or_where_it_is_ruled_out(
    trials: Trials, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_precision.choose_precision(loaded, "cpu", "bf16") == PrecisionChoice("bf16", "bf16")
    assert choose_precision.choose_precision(loaded, "mps", "auto").image == "fp32"
    with monkeypatch.context() as patched:
        patched.setenv("MASKLET_PRECISION_TRIAL", "0")
        assert choose(loaded).video == "fp32"
    with monkeypatch.context() as patched:
        patched.setattr("masklet.nn.fused_ops.has_native_bfloat16", lambda: False)
        assert choose(loaded).video == "fp32"
    assert trials.count == 0


@pytest.mark.parametrize("has_products", [False, True])
def test_emulated_products_are_a_warning(
    has_products: bool, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("masklet.nn.fused_ops.has_bfloat16_matmul", lambda: has_products)
    for device in ("cuda", "cpu"):
        assert choose_precision.choose_precision(loaded, device, "bf16") == PrecisionChoice("bf16", "bf16")
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (0 if has_products else 1)
    assert all("no bf16 products" in message for message in warned)


def test_the_built_in_model_is_opened_without_a_trial_and_says_its_precision(
    trials: Trials, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SAM(builtin_file)
    info = model.info()
    assert (info.precision, info.video_precision, trials.count) == ("fp32", "bf16", 0)
    assert "videos in bf16" in str(info)
    assert "precision auto: " in str(info)
    assert encode_gflop(model.predictor.model) < MIN_TRIAL_GFLOP
    assert "precision auto" not in str(SAM(builtin_file, precision="fp32").info())


def test_a_trial_compares_images_and_frames() -> None:
    trial = try_bf16(small_network().eval())
    assert trial.attention is not None
    for each in (trial.image, trial.attention):
        assert each.time_ratio > 0
        assert 0 < each.mask_iou <= 1
    assert try_bf16(small_sam1("mobile_sam")).attention is None


def test_a_trial_finds_masks_that_are_the_same_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16_trial, "DTYPES", (None, None))
    same = try_bf16(small_network().eval())
    assert same.attention is not None
    assert (same.image.mask_iou, same.attention.mask_iou) == (1.0, 1.0)

    calls: list[int] = []

    def noisy_encoder(network: object, dtype: object) -> object:
        calls.append(1)
        encode, is_second = fast_encoder(network, None), len(calls) == 2

        def run(pixels_B3HW: torch.Tensor) -> ImageFeatures:
            features = encode(pixels_B3HW)
            noise = torch.randn(features.embed_BCHW.shape, generator=torch.Generator().manual_seed(1))
            return replace(features, embed_BCHW=features.embed_BCHW + 3 * noise) if is_second else features

        return run

    monkeypatch.setattr(bf16_trial, "fast_encoder", noisy_encoder)
    other = try_bf16(small_network().eval())
    assert other.attention is not None
    assert other.image.mask_iou < 0.99
    assert other.attention.mask_iou == 1.0  # after the encoder that is taken, in fp32


def test_a_verbose_command_says_what_it_tries_and_takes(
    trials: Trials, loaded: LoadedModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("masklet"), "handlers", [])
    show_log()
    choose(loaded)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "masklet: trying small in fp32 and bf16, once on this machine"
    assert lines[1].startswith("masklet: small: images in bf16, memory attention in bf16, because bf16 takes 50 % of")
