"""`masklet track` without prompts: what is written and said, Ctrl-C, and options that do not go with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.cli_videos import FRAMES, played
from masklet.cli import track_everything_job
from masklet.sam import model
from masklet.video import Detection
from masklet.writers import read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> list[str]:
    """The command gets the small tracker, and a finder that sees the red square; what it was asked for is listed."""
    asked: list[str] = []

    def finder(predictor: object, everything: str) -> Any:
        def find(rgb: np.ndarray) -> list[Detection]:
            asked.append(everything)
            return [Detection(0.9, mask=rgb[..., 0].astype(int) - rgb[..., 1] > 100)]

        return find

    monkeypatch.setattr(track_everything_job, "open_model", lambda *_: tracker)
    monkeypatch.setattr(model, "MaskGeneratorDetector", finder)
    return asked


def test_everything_is_followed_and_reported(masklet: Masklet, looks: list[str], video: Path) -> None:
    outcome = masklet("track", video, "--save", "video,png,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert looks == ["fast"]
    records = list(read_tracks("o/film_masks.jsonl"))
    assert [record.frame_idx for record in records] == list(range(FRAMES))
    assert all([track.id for track in record.objects] == [1] for record in records)
    assert played(Path("o/film_overlay.mp4")) == FRAMES
    assert len(list(Path("o/film").glob("*.png"))) == FRAMES
    lives = json.loads(Path("o/film_lives.json").read_text())
    assert [(life["id"], life["first"], life["reason"]) for life in lives] == [(1, 0, "end of the video")]
    first, *objects = outcome.out.splitlines()
    assert first.startswith(f"video.mp4: {FRAMES} frames, ")
    assert first.endswith("-> o/video_overlay.mp4, o/video, o/video_masks.jsonl, o/video_lives.json")
    assert objects == [f"object 1: object, frames 0 to {lives[0]['last']}, end of the video"]
    assert not list(Path("o").glob(".*"))


def test_how_it_is_looked_at_is_said_by_options(masklet: Masklet, looks: list[str], video: Path) -> None:
    words = ["--every", "2", "--start", "3", "--until", "7", "--preset", "fine", "--max-objects", "1"]
    outcome = masklet("track", video, *words, "--save", "coco", "--out", "o", "--quiet")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    assert looks == ["fine"] * 3
    assert [record.frame_idx for record in read_tracks("o/film_masks.jsonl")] == [3, 4, 5, 6, 7]


def test_each_frame_by_itself(masklet: Masklet, looks: list[str], video: Path) -> None:
    outcome = masklet("track", video, "--each-frame", "--save", "coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert len(looks) == FRAMES
    assert outcome.out.splitlines()[1:] == [f"{FRAMES} objects in {FRAMES} frames, each frame by itself"]
    assert not Path("o/film_lives.json").exists()


def test_many_objects_are_counted_not_listed(
    masklet: Masklet, looks: list[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track_everything_job, "MAX_OBJECTS_LISTED", 0)
    outcome = masklet("track", video, "--until", "1", "--out", "o")
    assert outcome.out.splitlines()[1:] == ["and 1 more, in o/video_lives.json"]


def test_ctrl_c_and_trouble_keep_the_frames_so_far(
    masklet: Masklet, looks: list[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masklet.errors import SourceError

    keep = track_everything_job._TrackEverythingRun._record_frame
    for error, code, told in (
        (KeyboardInterrupt(), 130, "stopped after 4 frame(s)"),
        (SourceError("gone"), 2, "gone; 4 frame(s) were followed"),
    ):

        def broken(self: Any, frame: Any, error: BaseException = error) -> None:
            if frame.frame == 4:
                raise error
            keep(self, frame)

        monkeypatch.setattr(track_everything_job._TrackEverythingRun, "_record_frame", broken)
        outcome = masklet("track", video, "--save", "video,coco", "--out", "o")
        assert outcome.code == code
        files = "o/video_overlay.mp4, o/video_masks.jsonl, o/video_lives.json"
        assert outcome.err == f"masklet: {told}; written: {files}\n"
        assert played(Path("o/film_overlay.mp4")) == 4
        assert len(list(read_tracks("o/film_masks.jsonl"))) == 4
        assert json.loads(Path("o/film_lives.json").read_text())[0]["reason"] is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("video.mp4 --resume", ["--resume needs prompts", "--point 210,350"]),
        ("video.mp4 --both", ["--both needs prompts"]),
        ("video.mp4 --reverse", ["--reverse needs prompts"]),
        ("video.mp4 --keep all", ["--keep needs prompts"]),
        ("video.mp4 --until 2 --start 3", ["--until 2", "before frame 3"]),
        ("video.mp4 --every 0", ["--every", "masklet track --help"]),
        ("video.mp4 --preset finest", ["--preset 'finest'", "fast, default, fine"]),
        ("video.mp4 --start 50", ["no frame 50", "0 to 9"]),
        ("video.mp4 --object 2", ["nothing is said after --object 2"]),
        ("video.mp4 --frame 2", ["nothing is said after --frame 2"]),
        ("video.mp4 --point 5,5 --every 3", ["--every is for videos without prompts"]),
        ("video.mp4 --box 5,5,20,20 --each-frame", ["--each-frame is for videos without prompts"]),
        ("video.mp4 --save vidoe", ["did you mean video"]),
        ("gone.mp4", ["gone.mp4"]),
    ],
)
def test_bad_command_line(line: str, words: list[str], masklet: Masklet, looks: list[str], video: Path) -> None:
    outcome = masklet("track", *line.split(" "))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert [word for word in words if word not in outcome.err] == [], outcome.err
