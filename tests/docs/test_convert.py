"""The commands and the Python of docs/convert.md run as written, and its tables hold what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from helpers.labeling_tool_files import labelme
from masklet.cli.main import app, run
from masklet.datasets import DATASET_WRITERS, open_dataset
from masklet.datasets.writer import FORMAT_FEATURES

PAGE = (Path(__file__).parents[2] / "docs" / "convert.md").read_text()


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    labelme(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^masklet (.*)$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 2
    printed = []
    for command in commands:
        with pytest.raises(SystemExit) as left:
            run(shlex.split(command))
        assert left.value.code == 0
        printed.append(capsys.readouterr().out)
    assert f"```\n{printed[0]}```" in PAGE
    assert (tmp_path / "lost.json").exists()
    assert [open_dataset(tmp_path / name).data_format for name in ("coco", "maps")] == ["coco", "davis"]


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    labelme(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {})
    mean, worst = map(float, capsys.readouterr().out.split())
    assert 0.95 <= worst <= mean <= 1


def test_the_table_is_what_the_writers_hold() -> None:
    assert re.findall(r"^\| format \| (.*) \|$", PAGE, flags=re.MULTILINE) == [" | ".join(FORMAT_FEATURES)]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE, flags=re.MULTILINE)
    documented = {
        name: {what for what, cell in zip(FORMAT_FEATURES, cells.split("|"), strict=True) if "yes" in cell}
        for name, cells in rows
    }
    assert documented == {name: set(writer.supports) for name, writer in DATASET_WRITERS.items()}


def test_the_files_are_those_of_the_writers() -> None:
    for name, writer in DATASET_WRITERS.items():
        assert f"\n{name:<11}{writer.description}\n" in PAGE


def test_every_option_is_on_the_page() -> None:
    command = typer.main.get_command(app).commands["convert"]  # type: ignore[attr-defined]
    options = {name for option in command.params for name in option.opts if name.startswith("--")} - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE))
