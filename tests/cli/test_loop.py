"""`masklet loop`: what it says at each step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers.loop_model import SquareModel, write_squares
from masklet.cli.main import run
from masklet.data_engine import LoopState
from masklet.data_engine.simulated_reviewer import SimulatedReviewer
from masklet.masks.rle import encode
from masklet.projects import open_project
from masklet.scale.items import ItemSource
from masklet.scale.run_batch import run_batch


def loop(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(["loop", *words])
    return int(end.value.code or 0)


def test_the_command_says_what_waits_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("masklet.sam.SAM", SquareModel)
    truth = {"a": write_squares(tmp_path / "a.mp4")}
    folder = str(tmp_path / "engine")
    assert loop(folder, "--add", str(tmp_path / "a.mp4"), "--reviews", "3", "--val-fraction", "0", "--quiet") == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert shown[0].startswith("a, frame ")
    assert shown[-1].startswith("3 of 3 masks wait for people")
    state = LoopState.read(Path(folder))
    assert (state.options.reviews, state.options.val_fraction) == (3, 0.0)
    with open_project(state.project_folder) as project:
        SimulatedReviewer(SquareModel(), truth).review(project, state.current.queue)
    assert loop(folder, "--quiet") == 0
    assert "is the model of the next round" in capsys.readouterr().err
    assert LoopState.read(Path(folder)).options.reviews == 3  # it was not given again, and stays


def test_a_batch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_squares(tmp_path / "a.mp4")
    items = ItemSource([tmp_path / "a.mp4"], "videos")
    out = str(tmp_path / "tracks")
    masks = [[json.dumps(encode(np.ones((48, 64), bool)))]]
    row = {"masks": masks, "ids": [[1]], "frames": [[2]], "scores": [[0.5]], "error": [""]}
    list(run_batch(items, lambda batch: {"item": batch["item"], **row}, out, settings={"task": "track", "model": None}))
    for count, known in ((1, ""), (0, ", 1 were there already")):
        with pytest.raises(SystemExit) as end:
            run(["project", "import", str(tmp_path / "p.masklet"), out])
        assert end.value.code == 0
        assert f"{count} images and videos{known}, {count} objects, {count} masks" in capsys.readouterr().out
    monkeypatch.setattr("masklet.sam.SAM", SquareModel)
    assert loop(str(tmp_path / "engine"), "--add-batch", out, "--quiet") == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("a, frame 2: object 1 (")


def test_a_new_folder_needs_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loop(str(tmp_path / "engine")) == 2
    assert "no videos yet" in capsys.readouterr().err
