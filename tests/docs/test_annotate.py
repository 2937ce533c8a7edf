"""The commands and the Python of docs/annotate.md run as written, on images made here."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import typer
from PIL import Image

from helpers.annotate_data import Blobs, make_image
from helpers.cli_videos import write_video
from masklet import auto_annotate
from masklet.cli.main import app, run
from masklet.datasets import DATASET_WRITERS
from masklet.detect.adapters import FilteredDetector
from masklet.image.amg_options import PRESETS, MaskGeneratorOptions

if TYPE_CHECKING:
    from masklet import SAM

PAGE = (Path(__file__).parents[2] / "docs" / "annotate.md").read_text()
BLOCKS = re.findall(r"^```(.*?)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: SAM, small_video: np.ndarray) -> Path:
    """The folders and the video that the page names; a small model draws, and what needs a download finds blobs."""
    for folder, count in (("photos/deep", 5), ("shots", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(make_image(number)).save(tmp_path / folder / f"p{number}.png")
    write_video(tmp_path / "clip.mp4", small_video)
    names = {0: "person", 16: "dog"}
    blobs = Blobs()
    blobs.names = names  # type: ignore[misc]
    for name in ("fast", "default"):
        monkeypatch.setitem(PRESETS, name, MaskGeneratorOptions(points_per_side=4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helpers.annotate_data.NAMES", names)
    monkeypatch.setattr("masklet.sam.SAM", lambda *_, **__: tracker)
    monkeypatch.setattr(
        "masklet.detect.open_detector", lambda what, options, device="": FilteredDetector(blobs, options)
    )
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 6
    for line in COMMANDS:
        with pytest.raises(SystemExit) as left:
            run(shlex.split(line)[1:])
        output = capsys.readouterr()
        assert left.value.code == 0, f"{line}: {output.err}"
        assert output.out, line
    assert (here / "photos_auto_annotate_labels/deep/p0.txt").exists()
    assert (here / "data/yolo/data.yaml").exists()
    assert (here / "video/coco/images/clip/000009.jpg").exists()
    assert (here / "many/p1.txt").exists()


@pytest.mark.slow
def test_the_python_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in PYTHON:
        exec(block, names)
    assert (here / "labels/deep/p0.txt").exists()
    assert "5 of 5: deep/p4" in capsys.readouterr().out


def test_the_tables_name_what_there_is() -> None:
    arguments = set(inspect.signature(auto_annotate).parameters) - {"data", "on_progress"}
    assert arguments == set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*) \| (?:`--|the)", PAGE, re.M))))
    assert set(re.findall(r"^\| `(\w+)` \| [`a]", PAGE, re.M)) >= set(DATASET_WRITERS)
    command = typer.main.get_command(app).commands["annotate"]  # type: ignore[attr-defined]
    known = {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= known
