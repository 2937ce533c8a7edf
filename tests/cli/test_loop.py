"""`masklet loop`: what it says at each step."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.loop_model import SquareModel, write_squares
from masklet.cli.main import run
from masklet.data_engine import LoopState
from masklet.data_engine.simulated_reviewer import SimulatedReviewer
from masklet.projects import open_project


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


def test_a_new_folder_needs_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loop(str(tmp_path / "engine")) == 2
    assert "no videos yet" in capsys.readouterr().err
