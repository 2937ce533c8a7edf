"""Data sets of benchmarks: what is missing is named, and where to get it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from masklet.cli.main import run
from masklet.errors import InputError
from masklet.evaluate.sets import SETS, lacking


def make(name: str, root: Path) -> None:
    """All parts of a set, of empty files."""
    for part in SETS[name].parts:
        path = root / part.place
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
            for n in range(part.count or 1):
                (path / str(n)).touch()


@pytest.mark.parametrize("name", ["davis17", "ytvos19", "sav_val", "grabcut"])
def test_a_whole_set_lacks_nothing_and_any_part_is_missed(name: str, tmp_path: Path) -> None:
    make(name, tmp_path)
    assert lacking(name, tmp_path) == []
    for part in SETS[name].parts:
        (tmp_path / part.place).rename(tmp_path / "away")
        assert lacking(name, tmp_path) == [f"{tmp_path / part.place} is missing"]
        (tmp_path / "away").rename(tmp_path / part.place)


def test_what_is_half_there_is_counted(tmp_path: Path) -> None:
    make("davis17", tmp_path)
    (tmp_path / "Annotations" / "480p" / "3").unlink()
    (tmp_path / "Annotations" / "480p" / ".hidden").touch()
    assert lacking("davis17", tmp_path) == [f"{tmp_path / 'Annotations' / '480p'} holds 29 of 30"]
    with pytest.raises(InputError, match="davis18"):
        lacking("davis18", tmp_path)


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        run(["eval", "sets", *map(str, words)])
    assert isinstance(left.value.code, int)
    captured = capsys.readouterr()
    return left.value.code, captured.out + captured.err


def test_the_command_lists_checks_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, listed = said(capsys)
    assert code == 0
    assert all(name in listed and one.page in listed for name, one in SETS.items())
    code, checked = said(capsys, "davis17", "--root", tmp_path)
    assert code == 2
    assert f"{tmp_path / 'ImageSets' / '2017' / 'val.txt'} is missing" in checked
    assert SETS["davis17"].page in checked
    make("davis17", tmp_path)
    code, checked = said(capsys, "davis17", "--root", tmp_path)
    assert code == 0
    assert f"masklet eval davis17 --root {tmp_path}" in checked
    assert "--root is missing" in said(capsys, "davis17")[1]


@pytest.mark.parametrize("name", SETS)
def test_the_commands_are_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of them is known: --help stops them before anything is read."""
    words = shlex.split(SETS[name].command.format(root="ROOT"))
    with pytest.raises(SystemExit) as left:
        run([*words[1:], "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words if word.startswith("--"))
