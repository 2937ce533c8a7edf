"""`masklet predict|segment|track` with the key=value words of the `yolo` command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.cli_videos import played
from helpers.known_models import known_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def here(folder: Path, models: Path) -> Path:
    for file in models.iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def test_the_words_of_yolo_save_where_yolo_does(masklet: Callable[..., Any], here: Path) -> None:
    words = ["model=sam2.1_b.pt", "source=a.png", "bboxes=20,10,50,30"]
    outcome = masklet("predict", *words, "save_txt=True", "project=out", "name=first", "conf=0.1")
    assert outcome.code == 0, outcome.err
    assert "48x64 1 0" in outcome.out
    assert (here / "out/first/a.png").is_file()
    assert (here / "out/first/labels/a.txt").read_text().startswith("0 ")


def test_segment_takes_them_too(masklet: Callable[..., Any], here: Path) -> None:
    assert masklet("segment", "model=sam2.1_b.pt", "source=a.png", "bboxes=20,10,50,30", "out=o").code == 0
    assert (here / "o" / "a_overlay.png").is_file()


def test_a_detector_is_opened_by_its_name(masklet: Callable[..., Any], here: Path) -> None:
    outcome = masklet("predict", "model=yolov8n-seg.pt", "source=a.png", "imgsz=64", "conf=0.9")
    assert outcome.code == 0, outcome.err
    assert (here / "runs/segment/predict/a.png").is_file()


@pytest.mark.slow
def test_everything_is_segmented_without_prompts(masklet: Callable[..., Any], here: Path) -> None:
    assert masklet("predict", "model=sam2.1_b.pt", "source=a.png", "imgsz=128", "out=o").code == 0
    assert (here / "o" / "a_overlay.png").is_file()


@pytest.mark.slow
def test_a_video_is_tracked(masklet: Callable[..., Any], here: Path, video: Path) -> None:
    outcome = masklet("track", "model=sam2.1_b.pt", f"source={video.name}", "points=20,25", "imgsz=128")
    assert outcome.code == 0, outcome.err
    assert played(here / "runs/segment/predict" / f"{video.stem}.mp4") == 10
