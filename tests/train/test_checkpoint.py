"""The state of a run, also as earlier versions stored it."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.train_data import TINY, different, tiny, weights_of
from masklet.checkpoints import read_tensors
from masklet.errors import CheckpointError
from masklet.load_model import load
from masklet.models.sam2 import CONFIGS, SAM2
from masklet.train.checkpoint import read_checkpoint
from masklet.train.export_weights import export_weights
from masklet.train.initialization import load_pretrained
from masklet.train.loop import RuntimeConfig, train

CPU = RuntimeConfig("cpu", workers=0)

OLD = json.loads((Path(__file__).parent / "old_state.json").read_text(encoding="utf-8"))
"""What an earlier version stored of `TINY`: keys of its state, its config, and the header of its log."""


@pytest.fixture
def old_run(tiny_network: None, stills: Path, tmp_path: Path) -> Path:
    """A run that an earlier version left after step 2."""
    for progress in train(TINY, stills, tmp_path / "old", CPU):
        if progress.step == 3:  # the last checkpoint is of step 2
            break
    path = tmp_path / "old" / "state.pt"
    state = torch.load(path, weights_only=True)
    old_state = {OLD["old_names"].get(name, name): value for name, value in state.items()}
    old_state["config"] = json.dumps(OLD["config"])
    torch.save(old_state, path)
    log = tmp_path / "old" / "log.csv"
    _, *rows = log.read_text().splitlines()
    log.write_text("\n".join([OLD["log_header"], *rows]) + "\n")
    return tmp_path / "old"


@pytest.mark.slow
def test_a_state_of_an_earlier_version_resumes_to_the_same_weights(old_run: Path, stills: Path, tmp_path: Path) -> None:
    assert [progress.step for progress in train(TINY, stills, old_run, CPU)] == [3, 4]
    assert len(list(train(TINY, stills, tmp_path / "new", CPU))) == 4
    for part in ("ema", "model"):
        assert not different(weights_of(old_run, part), weights_of(tmp_path / "new", part))
    new_state = torch.load(old_run / "state.pt", weights_only=True)
    assert new_state.keys() == torch.load(tmp_path / "new" / "state.pt", weights_only=True).keys()
    assert json.loads(new_state["config"])["log_every"] == 1


def test_a_field_that_an_earlier_version_did_not_have_had_its_default(old_run: Path, stills: Path) -> None:
    assert "composite_fraction" not in OLD["config"]
    changed = tiny(composite_fraction=0.5)
    with pytest.raises(CheckpointError, match=r"composite_fraction: it was 0\.0 and is 0\.5"):
        list(train(changed, stills, old_run, CPU))
    assert [progress.step for progress in train(TINY, stills, old_run, CPU)] == [3, 4]


def test_a_log_of_an_earlier_version_is_continued_with_current_names(old_run: Path, stills: Path) -> None:
    progress = list(train(TINY, stills, old_run, CPU))
    with (old_run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert list(rows[0]) == list(vars(progress[-1]))
    assert float(rows[3]["lr"]) == pytest.approx(progress[-1].lr, rel=1e-4)


def test_a_state_of_an_earlier_version_is_exported(old_run: Path, tmp_path: Path) -> None:
    assert read_checkpoint(old_run / "state.pt").license == "Apache-2.0"
    path = export_weights(old_run / "state.pt", tmp_path / "mine.safetensors")
    assert not different(read_tensors(path), weights_of(old_run, "average"))


def test_intervals_may_change_and_other_differences_have_current_names(old_run: Path, stills: Path) -> None:
    with pytest.raises(CheckpointError, match=r"another stages\.0\.lr: it was 0\.001 and is 0\.5"):
        list(train(tiny(lr=0.5), stills, old_run, CPU))
    changed = replace(TINY, log_every=2, image_every=3, save_every=9)
    assert [progress.step for progress in train(changed, stills, old_run, CPU)] == [4]


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"config": "{"}, {"config": "{}", "more": 1}, {}])
def test_another_content_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of this run"):
        read_checkpoint(tmp_path / "state.pt")


@pytest.mark.parametrize(
    "change", [{"step": -1}, {"step": "2"}, {"step": 10**30}, {"model": [1]}, {"config": "[1]"}, {"config": 3}]
)
def test_values_that_no_run_has_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    content = {"model": {}, "ema": {}, "ema_updates": 1, "optimizer": {}, "step": 2, "config": "{}", "license": "MIT"}
    torch.save(content, tmp_path / "state.pt")
    assert read_checkpoint(tmp_path / "state.pt").step == 2
    torch.save({**content, **change}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of this run"):
        read_checkpoint(tmp_path / "state.pt")


def test_a_compressed_state_is_refused_before_it_expands(tmp_path: Path) -> None:
    torch.save({"model": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "state.pt", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match=r"its parts claim 4\d+ bytes, and the file has"):
        read_checkpoint(tmp_path / "state.pt")


def test_weights_with_a_header_of_an_earlier_version_start_a_run(builtin_file: Path, tmp_path: Path) -> None:
    tensors = load(builtin_file).network.state_dict()
    license_key = OLD["old_names"]["license"]
    header = {"format": "pt", "model": "builtin", license_key: "MIT", "run": json.dumps(OLD["config"])}
    save_file(tensors, tmp_path / "old.safetensors", metadata=header)
    model = SAM2(CONFIGS["builtin"])
    assert load_pretrained(model, str(tmp_path / "old.safetensors")) == "MIT"
    assert not different(model.state_dict(), tensors)
