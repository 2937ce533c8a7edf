"""The commands and the Python of the pages on evaluation run as written, on synthetic data, and the README's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate.test_image_clicks import store_sbd
from helpers.dataset_files import png, write_image
from helpers.predictions import store_maps, store_meta, store_objects
from helpers.scribbles import line, store_scribbles
from helpers.synthetic_truth import HEIGHT, WIDTH, late, store_image, store_video, two_objects
from masklet import SAM
from masklet.cli.main import run
from masklet.evaluate.synthetic import SyntheticClip

ROOT = Path(__file__).parents[2]
PAGE = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("evaluation*.md")))
README = (ROOT / "README.md").read_text()


def commands(page: str) -> list[str]:
    """Lines that begin with masklet, of the blocks that name no language."""
    found = re.findall(r"^```(.*?)\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line for language, block in found if not language for line in block.splitlines()]
    return [line for line in lines if line.startswith("masklet ")]


def store_benchmarks(root: Path, sole: np.ndarray) -> None:
    """Sets to be clicked on, a video of SA-V, and predictions as good as the truth."""
    for images, masks in (("GrabCut/data_GT", "GrabCut/boundary_GT"), ("Berkeley/images", "Berkeley/masks")):
        write_image(root / images / "x.jpg", size=(HEIGHT, WIDTH))
        png(root / masks / "x.png", sole[0] * np.uint8(255), palette=False)
    store_sbd(root / "SBD", "x", sole[0])
    (root / "SBD" / "val.txt").write_text("x\n")
    for t in range(3):
        write_image(root / "sav_val" / "JPEGImages_24fps" / "v" / f"{t:05d}.jpg", size=(HEIGHT, WIDTH))
    store_objects(root / "sav_val" / "Annotations_6fps" / "v", two_of(sole))
    store_objects(root / "predictions" / "sav" / "v", two_of(sole))
    store_maps(root / "predictions" / "davis17" / "bear", sole)
    for t in (0, 2, 4):
        png(root / "predictions" / "ytvos" / "ant" / f"{t:05d}.png", late()[t])
    store_meta(root / "YouTubeVOS" / "valid", {"ant": {"1": "ape", "2": "gnu"}})
    store_meta(root / "YouTubeVOS" / "train", {"bee": {"1": "ape"}})
    store_video(root / "MOSE" / "valid", "ant", sole, annotated=(0,))
    store_video(root / "LVOS" / "valid", "ant", late())


def two_of(sole: np.ndarray) -> np.ndarray:
    """Another object below the one."""
    maps = sole.copy()
    maps[:, -8:, :8] = 2
    return maps


MEASURING = [line for line in commands(README) if line.startswith(("masklet val ", "masklet data check "))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: SAM) -> Path:
    """The folders that the pages name, one image or video each, and a small model whatever its name."""
    for folder in ("photos", "held_out", "heldout/a"):
        store_image(tmp_path / folder, "x", two_objects())
    for root in ("videos", "YouTubeVOS/valid"):
        store_video(tmp_path / root, "ant", late())
    sole = np.repeat((late()[:1] == 1).astype(np.uint8), 3, axis=0)
    store_video(tmp_path / "DAVIS", "480p/bear", sole, annotated=range(3))
    store_scribbles(tmp_path / "DAVIS", "bear", 3, {1: [line(1, 0.1, 0.3, 0.25, 0.3)]})
    store_benchmarks(tmp_path, sole)
    (tmp_path / "DAVIS" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "DAVIS" / "ImageSets" / "2017" / "val.txt").write_text("bear\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    monkeypatch.setattr("masklet.cli.val.open_model", lambda *_: tracker)
    monkeypatch.setattr("masklet.evaluate.synthetic.BENCHMARK_CLIPS", (SyntheticClip("small", 0),))
    monkeypatch.setattr("masklet.evaluate.synthetic.NUM_FRAMES", 8)
    return tmp_path


SLOW = ("masklet eval mask-generation", "masklet eval doubts", "masklet eval synthetic --", "masklet synth")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=[pytest.mark.slow] if line.startswith(SLOW) else [])
        for line in (*dict.fromkeys(commands(PAGE)), *MEASURING)
    ],
)
def test_a_command_runs(here: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "synth videos" in line:  # the folder is there; what the line makes goes elsewhere
        line = line.replace("synth videos", "synth made")
    with pytest.raises(SystemExit) as left:
        run(shlex.split(line, comments=True)[1:])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    assert output.out
    written = re.findall(r"--(?:report|contact-sheet|out) (\S+)", line)
    assert all((here / name).stat().st_size for name in written)
    if " report " in line:
        assert (here / "report" / "report.html").stat().st_size
    else:
        assert all((here / f"{name}.zip").stat().st_size for name in re.findall(r"--out (\S+)", line))


def test_the_readme_and_the_page_have_commands() -> None:
    assert len(MEASURING) == 2
    evaluated = {line.split()[2] for line in commands(PAGE) if line.startswith("masklet eval ")}
    assert evaluated == {
        "images",
        "doubts",
        "vos",
        "synthetic",
        "clicks",
        "interactive",
        "scribbles",
        "mask-generation",
        "davis17",
        "davis16",
        "sav",
        "ytvos",
        "mose",
        "lvos",
        "score",
        "report",
        "datasets",
    }


def test_the_python_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    assert names["again"].to_json() == names["found"].to_json()
    output = capsys.readouterr().out
    assert "1 image, 2 objects" in output
    assert "mine.zip 0." in output
