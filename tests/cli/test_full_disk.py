"""A disk that is full: one line that names the file and the remedy, nothing finished lost, resumed with room."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import write_video
from helpers.dataset_files import native
from helpers.small_disk import mounted_disk
from masklet.errors import OutputError
from masklet.evaluate.results_file import ResultsFile, RunManifest
from masklet.resume_store import ResumeStore, StoredItem
from masklet.written_files import WrittenFiles

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]
FULL = "No space left on device"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB, which only root can make."""
    with mounted_disk(tmp_path / "small", "1m") as path:
        yield path


def fill(disk: Path, room: int = 0) -> Path:
    """Fill the disk but for `room` bytes; removing the returned file makes room."""
    path = disk / "filler"
    free = os.statvfs(disk)
    with path.open("wb", buffering=0) as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - room)))
    return path


def check_line(lines: list[str], path: Path) -> None:
    assert lines[-1].startswith("masklet: ")
    assert str(path) in lines[-1]
    assert "room" in lines[-1] or "free disk space" in lines[-1], lines[-1]


@pytest.mark.slow
def test_track_names_the_file_and_resumes(masklet: Masklet, small_disk: Path, tmp_path: Path) -> None:
    frames = np.full((12, 96, 128, 3), 60, np.uint8)
    for index in range(12):
        frames[index, 20:60, 10 + 3 * index : 50 + 3 * index] = (220, 40, 40)
    video = tmp_path / "f.mp4"
    write_video(video, frames)
    line = ["track", video, "--point", "30,40", "--format", "coco", "--out"]
    filler = fill(small_disk, 60_000)
    outcome = masklet(*line, small_disk / "o")
    assert outcome.code == 2
    check_line(outcome.err.splitlines(), small_disk / "o")
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert masklet(*line, small_disk / "o").code == 0
    assert masklet(*line, tmp_path / "right").code == 0
    [name] = [path.name for path in (tmp_path / "right").glob("*.jsonl")]
    assert (small_disk / "o" / name).read_text() == (tmp_path / "right" / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["annotate", "segment", "convert"])
def test_commands_over_images_resume(command: str, masklet: Masklet, small_disk: Path, tmp_path: Path) -> None:
    images = tmp_path / "ph"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (80, 120, 3), np.uint8)).save(images / f"{number}.png")
    out = small_disk / "o"
    lines = {
        "annotate": ["annotate", images, "--det-model", "everything", "--everything", "fast", "--format", "yolo,coco"],
        "segment": ["segment", images, "--point", "50,40", "--format", "overlay,coco,yolo"],
        "convert": ["convert", native(tmp_path / "data"), out, "--to", "yolo", "--images", "copy"],
    }
    words = lines[command] if command == "convert" else [*lines[command], "--out", out]
    filler = fill(small_disk, 24_000)
    outcome = masklet(*words)
    assert outcome.code == 2
    check_line(outcome.err.splitlines(), small_disk)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".png", ".txt", ".json")}
    assert not [path for path in out.rglob(".*.*") if path.suffix in (".png", ".txt", ".json")]
    filler.unlink()
    assert masklet(*words).code == 0
    assert all(path.read_bytes() == content for path, content in before.items() if path.name[0].isdigit())
    for path in out.rglob("*.json"):
        json.loads(path.read_text())


def test_stores_name_their_file_and_keep_what_they_have(small_disk: Path) -> None:
    files = WrittenFiles(small_disk)
    with ResumeStore(small_disk / "run.sqlite", busy="") as store:
        store.add([StoredItem("first", {"objects": 1})])
        (small_disk / "a.txt").write_text("ours")
        files.record(small_disk / "a.txt")
        filler = fill(small_disk)
        with pytest.raises(OutputError, match=r"run\.sqlite cannot be written \(.*full.*make room"):
            store.add([StoredItem("second", {}, ["x" * 100_000])])
        with pytest.raises(OutputError, match=r"\.masklet\.sqlite could not be written \(.*full.*make room"):
            files.set_note(small_disk / "a.txt", "x" * 100_000)
        assert [key for key, _ in store.items()] == ["first"]
        filler.unlink()
        store.add([StoredItem("second", {}, ["x" * 100])])
        assert [key for key, _ in store.items()] == ["first", "second"]
    assert files.is_own(small_disk / "a.txt")
    files.close()


def test_results_of_an_evaluation_keep_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    file = ResultsFile(path, RunManifest("p", "m", "", {}, ("a", "b")), StoredItem, lambda rows: {"n": len(rows)})
    file.add(0, [StoredItem("a", {}, ())], complete=True)
    before = path.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, FULL)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        file.add(1, [StoredItem("b", {}, ())], complete=True)
        with pytest.raises(OutputError, match=rf"r\.json could not be written \({FULL}\).*make room"):
            file.write()
    assert path.read_bytes() == before
    file.write()
    assert json.loads(path.read_text())["n"] == 2
