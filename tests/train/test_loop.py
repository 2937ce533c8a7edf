"""The loop on a network of milliseconds: resuming, trainable weights, errors."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.networks import small_network
from helpers.train_data import QUICK, TINY, different, store_discs, tiny, weights_of
from masklet.datasets import DataPaths
from masklet.errors import CheckpointError, InputError, MaskletWarning, OutputError, StateError
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.train import feature_cache, loop
from masklet.train.config import TrainConfig
from masklet.train.initialization import supports_gradient_checkpointing
from masklet.train.loop import RuntimeConfig, TrainProgress, train
from masklet.train.lora import is_adapter
from masklet.train.recipes import FREEZE_PREFIXES

HERE = RuntimeConfig("cpu", workers=0)
pytestmark = pytest.mark.usefixtures("tiny_network")


def run(config: TrainConfig, data: DataPaths, out: Path) -> list[TrainProgress]:
    return list(train(config, data, out, HERE))


def logged(out: Path) -> list[int]:
    with (out / "log.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def frozen(part: str) -> tuple[tuple[str, float], ...]:
    return tuple((prefix, 0.0) for prefix in FREEZE_PREFIXES[part])


@pytest.fixture
def both(stills: Path, squares: Path) -> list[Path]:
    return [stills, squares]


# -- resuming


RUNS = {
    "plain": TINY,
    "two stages": replace(
        TINY, stages=(replace(TINY.stages[0], image_size=96, steps=2, clip_length=1), *tiny(steps=3).stages)
    ),
    "EMA": tiny(ema_decay=0.9),
    "accumulated": tiny(grad_accum=2),
    "adapters": tiny(lora=2),
    "synthetic": tiny(synthetic_fraction=0.5),
    "cached embeddings": tiny(lr_multipliers=frozen("encoder"), cached_views=2, batch=2),
    "bf16": tiny(precision="bf16"),
    "checkpointing": tiny(gradient_checkpointing=True),
    "augmented": tiny(augment=TrainConfig("tiny", ()).augment),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_ends_with_the_same_weights(both: list[Path], tmp_path: Path, name: str) -> None:
    config, whole, cut = RUNS[name], tmp_path / "whole", tmp_path / "cut"
    steps = list(range(1, config.total_steps + 1))
    assert [progress.step for progress in run(config, both, whole)] == steps
    for progress in train(config, both, cut, HERE):
        if progress.step == 3:  # the last checkpoint is of step 2
            break
    if config.stage_at(2)[1] == 0:
        assert torch.load(cut / "state.pt", weights_only=True)["step"] == 2
    assert [progress.step for progress in run(config, both, cut)] == steps[2:]
    assert not different(weights_of(whole), weights_of(cut))
    assert not different(weights_of(whole, "model"), weights_of(cut, "model"))
    assert logged(whole) == logged(cut) == steps
    assert all(tensor.isfinite().all() for tensor in weights_of(whole).values())


def test_a_finished_run_has_nothing_left_to_do(stills: Path, tmp_path: Path) -> None:
    run(TINY, stills, tmp_path)
    before = weights_of(tmp_path)
    assert run(TINY, stills, tmp_path) == []
    assert not different(before, weights_of(tmp_path))
    assert logged(tmp_path) == [1, 2, 3, 4]


def test_stopping_at_the_last_report_loses_nothing(stills: Path, tmp_path: Path) -> None:
    for progress in train(TINY, stills, tmp_path, HERE):
        if progress.step == progress.steps:
            break
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 4


def test_files_of_others_in_the_folder_of_a_run_are_kept(stills: Path, tmp_path: Path) -> None:
    for name in ("log.csv", "model.safetensors", "predictions/000001.jpg"):
        path = tmp_path / Path(name).stem / name
        path.parent.mkdir(parents=True)
        path.write_text("day,weight\n1,2\n")
        with pytest.raises(OutputError, match=r"and is kept|and they are kept"):
            run(tiny(), stills, tmp_path / Path(name).stem)
        assert path.read_text() == "day,weight\n1,2\n"


@pytest.mark.parametrize("log", ["", "step,lo", "step,loss\n1,0.5\n2,0.4\n3,0.", "step,loss\n7,0.5\n"])
def test_a_truncated_log_is_repaired(stills: Path, tmp_path: Path, log: str) -> None:
    """A run that was killed before its first checkpoint starts over."""
    (tmp_path / "log.csv").write_text(log)
    run(TINY, stills, tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0].startswith("step,")
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_only_reporting_intervals_may_change(stills: Path, tmp_path: Path) -> None:
    for progress in train(TINY, stills, tmp_path, HERE):
        if progress.step == 3:
            break
    for changes, named in (
        ({"seed": 1}, "another seed: it was 0 and is 1"),
        ({"steps": 5}, r"stages\.0\.steps: it was 4 and is 5"),
        ({"losses": replace(TINY.losses, focal=1.0)}, r"losses\.focal: it was 20\.0 and is 1\.0"),
        ({"grad_clip": 2.0, "seed": 3}, "seed: it was 0 and is 3 and 1 more"),
    ):
        with pytest.raises(CheckpointError, match=named):
            run(tiny(**changes), stills, tmp_path)
    assert [progress.step for progress in run(replace(TINY, log_every=2, save_every=9), stills, tmp_path)] == [4]


# -- trainable weights


def changed(config: TrainConfig, data: DataPaths, out: Path) -> set[str]:
    """Return the names of the weights that differ from the initial ones."""
    from masklet.train.initialization import build_state

    before = build_state(config).model.state_dict()
    run(config, data, out)
    return different(before, weights_of(out, "model"))


@pytest.mark.parametrize("part", FREEZE_PREFIXES)
def test_frozen_parts_stay_and_the_rest_learns(both: list[Path], tmp_path: Path, part: str) -> None:
    prompts = replace(QUICK, mask_prob=0.3, correction_frame_prob=1.0)
    found = changed(tiny(lr_multipliers=frozen(part), prompts=prompts), both, tmp_path)
    still = [name for name, _ in small_network().named_parameters() if name.startswith(FREEZE_PREFIXES[part])]
    own = {
        "encoder": "image_encoder.trunk.blocks.0.attn.qkv.weight",
        "memory": "memory_attention.layers.0.linear1.weight",
        "decoder": "sam_mask_decoder.iou_token.weight",
    }
    assert own[part] in still
    assert not found & set(still)
    assert {name for key, name in own.items() if key != part} <= found


def test_only_adapters_learn(both: list[Path], tmp_path: Path) -> None:
    found = changed(tiny(lora=2), both, tmp_path)
    assert found
    assert all(is_adapter(name) for name in found)
    for part in ("image_encoder", "memory_attention", "sam_mask_decoder"):
        assert any(name.startswith(part) for name in found), part


def test_adapters_of_a_frozen_part_are_frozen(both: list[Path], tmp_path: Path) -> None:
    found = changed(tiny(lora=2, lr_multipliers=frozen("encoder")), both, tmp_path)
    assert any(name.startswith("memory_attention") for name in found)
    assert not any(name.startswith("image_encoder") for name in found)


@pytest.mark.slow
def test_checkpointing_gives_the_same_weights(both: list[Path], tmp_path: Path) -> None:
    run(TINY, both, tmp_path / "plain")
    run(tiny(gradient_checkpointing=True), both, tmp_path / "again")
    assert not different(weights_of(tmp_path / "plain"), weights_of(tmp_path / "again"))


def test_the_average_tracks_the_weights(stills: Path, tmp_path: Path) -> None:
    run(TINY, stills, tmp_path / "plain")
    run(tiny(ema_decay=0.5), stills, tmp_path / "ema")
    trained, averaged = weights_of(tmp_path / "ema", "model"), weights_of(tmp_path / "ema")
    assert not different(weights_of(tmp_path / "plain", "model"), trained), "training does not depend on it"
    moved = different(trained, averaged)
    assert "sam_mask_decoder.iou_token.weight" in moved
    assert not different(weights_of(tmp_path / "plain", "model"), weights_of(tmp_path / "plain"))


def test_a_step_takes_grad_accum_batches(stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    costs_of = loop.compute_losses
    monkeypatch.setattr(loop, "compute_losses", lambda *given: numbers.append(given[-1]) or costs_of(*given))
    run(tiny(grad_accum=3, steps=2), stills, tmp_path)
    assert numbers == [0, 1, 2, 3, 4, 5]


# -- cached embeddings


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images in each call of a frozen encoder."""
    counts: list[int] = []

    class Counting(feature_cache.FastSAM2Encoder):
        def __call__(self, pixels: torch.Tensor) -> object:
            counts.append(len(pixels))
            return super().__call__(pixels)

    monkeypatch.setattr(feature_cache, "FastSAM2Encoder", Counting)
    return counts


@pytest.mark.slow
def test_a_view_is_encoded_once(stills: Path, tmp_path: Path, encoded: list[int]) -> None:
    config = tiny(lr_multipliers=frozen("encoder"), cached_views=1, batch=3, steps=8)
    run(config, stills, tmp_path)
    assert sum(encoded) <= 6
    assert sum(encoded) == len(list((tmp_path / "embeddings").glob("*.safetensors")))
    first, many = weights_of(tmp_path), sum(encoded)
    (tmp_path / "state.pt").unlink()
    run(config, stills, tmp_path)
    assert sum(encoded) == many, "all were on disk"
    assert not different(first, weights_of(tmp_path)), "the first time gives what the second gives"


def test_without_cached_views_every_image_is_encoded(stills: Path, tmp_path: Path, encoded: list[int]) -> None:
    run(tiny(lr_multipliers=frozen("encoder"), batch=3, steps=4), stills, tmp_path)
    assert sum(encoded) == 12
    assert not (tmp_path / "embeddings").exists()


def test_embeddings_of_a_trainable_encoder_are_not_cached(stills: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cached_views=2 .* the encoder learns"):
        run(tiny(cached_views=2), stills, tmp_path)


# -- files


@pytest.mark.slow
def test_sheets_of_predictions_are_drawn_and_change_nothing(both: list[Path], tmp_path: Path) -> None:
    run(TINY, both, tmp_path / "plain")
    run(tiny(image_every=2), both, tmp_path / "drawn")
    sheets = sorted((tmp_path / "drawn" / "predictions").iterdir())
    assert [sheet.name for sheet in sheets] == ["step_000002.png", "step_000004.png"]
    assert all(np.array(Image.open(sheet)).shape[0] == 64 for sheet in sheets)
    assert not different(weights_of(tmp_path / "plain"), weights_of(tmp_path / "drawn"))


def test_the_log_holds_the_reported_values(both: list[Path], tmp_path: Path) -> None:
    reported = run(tiny(log_every=2), both, tmp_path)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4]
    for progress, row in zip(reported, rows, strict=True):
        assert float(row["loss"]) == pytest.approx(progress.loss, rel=1e-4)
        assert list(row) == list(vars(progress))
    assert reported[0].seconds_left > 0
    assert reported[1].seconds_left == 0
    assert reported[1].lr == pytest.approx(1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_is_written(stills: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard (extra 'board') is not installed")
    list(train(tiny(image_every=4), stills, tmp_path, RuntimeConfig("cpu", workers=0, tensorboard=True)))
    events = list((tmp_path / "board").glob("events*"))
    assert len(events) == 1
    content = events[0].read_bytes()
    assert b"loss" in content
    assert b"predictions" in content


# -- errors


def test_a_broken_image_is_named_and_the_run_continues(tmp_path: Path) -> None:
    store_discs(tmp_path / "discs", 3)
    torn = tmp_path / "discs" / "images" / "01.png"
    torn.write_bytes(torn.read_bytes()[:500])
    with pytest.warns(MaskletWarning, match=r"left out: .*01\.png"):
        assert len(run(tiny(batch=4), tmp_path / "discs", tmp_path / "out")) == 4


def test_a_non_finite_loss_stops_the_run_and_keeps_the_checkpoint(stills: Path, tmp_path: Path) -> None:
    config = tiny(lr=1e18, lr_end=1e18, lr_schedule="constant", save_every=1, steps=20)
    with pytest.raises(StateError, match=r"the loss is (nan|inf) at step \d+.*lower the learning rate"):
        run(config, stills, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] >= 1


@pytest.mark.parametrize("where", ["compute_losses", "average_gradients"])
def test_out_of_memory_says_what_to_lower(
    stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loop, where, full)
    with pytest.raises(StateError, match=r"not enough memory for step 1; [\s\S]*batch 4 -> 2[\s\S]*checkpointing"):
        run(tiny(batch=4, image_size=96), stills, tmp_path)


def test_only_hiera_supports_checkpointing() -> None:
    assert supports_gradient_checkpointing(small_network())
    assert not supports_gradient_checkpointing(SAM2(CONFIGS["builtin"]))


def test_other_errors_pass_through(stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(loop, "compute_losses", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit") as caught:
        run(TINY, stills, tmp_path)
    assert not isinstance(caught.value, StateError)


def test_an_invalid_folder_is_refused_before_the_first_step(
    stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", pytest.fail)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=r"file.* cannot be the folder of a run"):
            run(TINY, stills, out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_log_that_cannot_be_written_is_named(stills: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "truncate_log", lambda *_: None)
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(OutputError, match=r"log\.csv could not be written"):
        run(TINY, stills, tmp_path)


@pytest.mark.parametrize("device", ["toaster", "cuda:77"])
def test_a_missing_device_is_refused(stills: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(InputError, match=rf"device '{device}' cannot be used here"):
        next(train(TINY, stills, tmp_path, RuntimeConfig(device, workers=0)))


@pytest.fixture
def truncated_state(stills: Path, tmp_path: Path) -> Path:
    run(tiny(steps=1), stills, tmp_path / "sound")
    content = (tmp_path / "sound" / "state.pt").read_bytes()
    shutil.rmtree(tmp_path / "sound")
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    return tmp_path


def test_a_truncated_state_is_refused_and_not_deleted(stills: Path, truncated_state: Path) -> None:
    before = (truncated_state / "state.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of this run"):
        run(tiny(steps=1), stills, truncated_state)
    assert (truncated_state / "state.pt").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04"])
def test_another_file_is_refused_and_not_deleted(stills: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        run(TINY, stills, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == content
