"""The commands and the Python of docs/data_engine.md run as written, with a model that takes no time."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from helpers.cheap_stages import BrightPixels
from helpers.loop_model import SquareModel, write_squares
from masklet.cli.main import run
from masklet.data_engine.masklet_files import MaskletProvenance

PAGE = (Path(__file__).parents[2] / "docs" / "data_engine.md").read_text()


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder clips in the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("masklet.sam.SAM", SquareModel)
    monkeypatch.setattr("masklet.scale.stages.VideoTracker.__call__", lambda _, batch: BrightPixels()(batch))
    (tmp_path / "clips").mkdir()
    write_squares(tmp_path / "clips" / "a.mp4")
    return tmp_path / "clips"


def test_the_commands_run(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(r"^masklet ((?:loop|batch) .*)$", PAGE, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["loop", "loop", "batch", "loop"]
    for command in commands:
        with pytest.raises(SystemExit) as end:
            run(shlex.split(command))
        assert end.value.code == 0
    assert "masks wait for people" in capsys.readouterr().out
    tree = re.findall(r"^engine/(loop\S+)", PAGE, flags=re.MULTILINE)
    assert all((clips.parent / "engine" / name).exists() for name in tree)


def test_the_python_runs(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {})
    assert "label a 12 12" in capsys.readouterr().out


def test_the_provenance_has_the_keys_of_the_files() -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    assert json.loads(block).keys() == MaskletProvenance.__annotations__.keys()
