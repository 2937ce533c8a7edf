"""A command line as a function, and a folder with images to run it in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import write_video
from helpers.reference import encode_images_once
from masklet.cli.main import run
from masklet.video import job_files


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def masklet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`masklet("segment", "a.png", ...)`: what the installed command does, in this process."""

    def call(*args: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run([str(arg) for arg in args])
        printed = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, printed.out, printed.err)

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_models: None) -> Path:
    """The current folder, with a.png (64 wide, 48 high), b.png (40 x 40), rough.png (a mask for a.png); no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    rows, columns = np.mgrid[:48, :64]
    image = np.stack([rows * 5, columns * 3, rows + columns], axis=2).astype(np.uint8)
    image[10:30, 20:50] = (220, 40, 40)
    Image.fromarray(image).save("a.png")
    Image.fromarray(image[:40, :40]).save("b.png")
    rough = np.zeros((48, 64), np.uint8)
    rough[12:28, 22:48] = 255
    Image.fromarray(rough).save("rough.png")
    return tmp_path


@pytest.fixture
def video(folder: Path, small_video: np.ndarray) -> Path:
    """video.mp4 in the current folder: ten frames of 96 x 64."""
    write_video(folder / "video.mp4", small_video)
    return Path("video.mp4")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    """The command gets the small tracker, whatever the model option, and saves its state every second frame."""
    monkeypatch.setattr(sys.modules["masklet.cli.track"], "open_model", lambda *_: tracker)
    monkeypatch.setattr(job_files, "SAVE_EVERY_FRAMES", 2)
    monkeypatch.setattr(job_files, "SAVE_INTERVAL_FACTOR", 0)
    encode_images_once(monkeypatch)
