"""`masklet data check`, from the command line to the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from helpers.dataset_files import coco, label_map, labeled_video, native, text
from masklet.cli import check_data
from masklet.errors import SourceError

runner = CliRunner()


def call(*words: object) -> tuple[int, list[str]]:
    """Exit code, and the lines on standard output; what masklet raises is raised."""
    done = runner.invoke(check_data.app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, [line for line in done.stdout.splitlines() if line]


def test_a_sound_data_set_is_a_table(tmp_path: Path) -> None:
    code, lines = call("check", native(tmp_path))
    assert code == 0
    table = {line[:22].strip(): line[22:] for line in lines[2:]}
    assert lines[1].startswith("native: ")
    assert table == {
        "images": "3",
        "videos": "0",
        "frames": "3, 3 with masks",
        "empty frames": "0",
        "objects": "6",
        "objects per frame": "2 to 2, median 2",
        "size": "60 x 40 to 60 x 40, median 60 x 40",
        "median object": "12 % of its image",
        "broken files": "0",
    }


def test_every_broken_file_has_its_line_and_the_exit_code_is_1(tmp_path: Path) -> None:
    native(tmp_path)
    (tmp_path / "images" / "b.jpg").write_bytes(b"")
    text(tmp_path / "masks" / "a2.json", {})
    code, lines = call(
        "check", tmp_path, "--report", tmp_path / "report.json", "--contact-sheet", tmp_path / "sheet.png"
    )
    assert code == 1
    assert lines[-3] == "2 broken files:"
    assert lines[-2].startswith(f"  a2: {tmp_path / 'masks' / 'a2.json'} holds an object")
    assert lines[-1].startswith("  b: ")
    [report] = json.loads((tmp_path / "report.json").read_text())
    assert (report["data_format"], report["num_objects"], report["num_broken_files"]) == ("native", 2, 2)
    assert [Path(finding["file"]).name for finding in report["findings"]] == ["a2.json", "b.jpg"]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size[0] > 900


def test_data_format_split_and_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path)
    coco(tmp_path, split="train2017")
    assert "  images              3" in call("check", tmp_path, "--split", "val2017", "--data-format", "coco")[1]
    monkeypatch.setattr(check_data, "SAMPLED_FRAMES", 2)
    assert "  frames              6, 6 with masks, 2 of them read" in call("check", tmp_path, "--sample")[1]
    with pytest.raises(SourceError, match="'vocc'"):
        call("check", tmp_path, "--data-format", "vocc")


def test_a_mixture_is_checked_part_by_part(tmp_path: Path) -> None:
    native(tmp_path / "one")
    labeled_video(tmp_path / "two", "dog", {0: label_map()}, 3)
    file = text(tmp_path / "mixture.json", [{"path": "one", "weight": 2}, {"path": "two"}])
    code, lines = call("check", file, "--contact-sheet", tmp_path / "sheet.png")
    assert code == 0
    assert [line for line in lines if not line.startswith(" ")][::2] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_the_command_is_one_of_a_group() -> None:
    assert isinstance(check_data.app, typer.Typer)
    assert "check" in runner.invoke(check_data.app, ["--help"]).stdout
