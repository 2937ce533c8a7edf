"""`masklet track` without prompts: the files and lines it writes, Ctrl-C, and options that need prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.cli_videos import FRAMES, played
from masklet.sam import model
from masklet.video import AutoTrackStream, Detection
from masklet.video.auto_tracker import AutoTracker
from masklet.writers import read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]
track = sys.modules["masklet.cli.track"]


@pytest.fixture
def detections(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> list[str]:
    """The command gets the small tracker, and a detector of the red square; the preset of each call is listed."""
    presets: list[str] = []

    def make_detector(predictor: object, everything: str) -> Any:
        def detect(rgb: np.ndarray) -> list[Detection]:
            presets.append(everything)
            return [Detection(0.9, mask=rgb[..., 0].astype(int) - rgb[..., 1] > 100)]

        return detect

    monkeypatch.setattr(track, "open_model", lambda *_: tracker)
    monkeypatch.setattr(model, "MaskGeneratorDetector", make_detector)
    return presets


def test_everything_is_tracked_and_reported(masklet: Masklet, detections: list[str], video: Path) -> None:
    outcome = masklet("track", video, "--format", "video,png,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert detections == ["fast"]
    records = list(read_tracks("o/video_masks.jsonl"))
    assert [record.frame_idx for record in records] == list(range(FRAMES))
    assert all([track.id for track in record.objects] == [1] for record in records)
    assert played(Path("o/video_overlay.mp4")) == FRAMES
    assert len(list(Path("o/video").glob("*.png"))) == FRAMES
    tracks = json.loads(Path("o/video_tracks.json").read_text())
    assert [(one["id"], one["first"], one["reason"]) for one in tracks] == [(1, 0, "end of the video")]
    first, *objects = outcome.out.splitlines()
    assert first.startswith(f"video.mp4: {FRAMES} frames, ")
    assert first.endswith("-> o/video_overlay.mp4, o/video, o/video_masks.jsonl, o/video_tracks.json")
    assert objects == [f"object 1: object, frames 0 to {tracks[0]['last']}, end of the video"]
    assert [path.name for path in Path("o").glob(".*")] == [".masklet.sqlite"]


def test_options_choose_how_objects_are_detected(masklet: Masklet, detections: list[str], video: Path) -> None:
    words = ["--detect-every", "2", "--start", "3", "--stop", "8", "--preset", "fine", "--max-objects", "1"]
    outcome = masklet("track", video, *words, "--format", "coco", "--out", "o", "--quiet")
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    assert detections == ["fine"] * 3
    assert [record.frame_idx for record in read_tracks("o/video_masks.jsonl")] == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (True, True, True)),
        (["--no-scene-cuts"], (False, True, True)),
        (["--no-verify-returns", "--scene-cuts"], (True, False, True)),
        (["--no-reidentify"], (True, True, False)),
        (["--reidentify", "--verify-returns"], (True, True, True)),
    ],
)
def test_what_happens_to_lost_objects_is_chosen(
    words: list[str],
    expected: tuple[bool, bool, bool],
    masklet: Masklet,
    detections: list[str],
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    opened = AutoTracker.__init__

    def watched(self: AutoTracker, *args: Any, **kwargs: Any) -> None:
        opened(self, *args, **kwargs)
        options = self.live.tracker.options
        seen.append((options.scene_cuts, options.verify_returns, self.options.reidentify))

    monkeypatch.setattr(AutoTracker, "__init__", watched)
    outcome = masklet("track", video, *words, "--stop", "2", "--out", "o", "--quiet")
    assert outcome.code == 0, outcome.err
    assert seen == [expected]


def test_every_frame_by_itself(masklet: Masklet, detections: list[str], video: Path) -> None:
    outcome = masklet("track", video, "--per-frame", "--format", "coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert len(detections) == FRAMES
    assert outcome.out.splitlines()[1:] == [f"{FRAMES} objects in {FRAMES} frames, each frame by itself"]
    assert not Path("o/video_tracks.json").exists()


def test_many_objects_are_counted_not_listed(
    masklet: Masklet, detections: list[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "MAX_OBJECTS_LISTED", 0)
    outcome = masklet("track", video, "--stop", "2", "--out", "o")
    assert outcome.out.splitlines()[1:] == ["and 1 more, in o/video_tracks.json"]


def test_ctrl_c_and_trouble_keep_the_frames_so_far(
    masklet: Masklet, detections: list[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masklet.errors import SourceError

    following = AutoTrackStream.__next__
    for error, code, message in (
        (KeyboardInterrupt(), 130, "stopped after 4 frame(s)"),
        (SourceError("gone"), 2, "gone; 4 frame(s) were tracked"),
    ):

        def broken(self: AutoTrackStream, error: BaseException = error) -> Any:
            frame = following(self)
            if frame.frame_idx == 4:
                raise error
            return frame

        monkeypatch.setattr(AutoTrackStream, "__next__", broken)
        outcome = masklet("track", video, "--format", "video,coco", "--out", "o")
        assert outcome.code == code
        files = "o/video_overlay.mp4, o/video_masks.jsonl, o/video_tracks.json"
        assert outcome.err == f"masklet: {message}; written: {files}\n"
        assert played(Path("o/video_overlay.mp4")) == 4
        assert len(list(read_tracks("o/video_masks.jsonl"))) == 4
        assert json.loads(Path("o/video_tracks.json").read_text())[0]["reason"] is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("video.mp4 --resume", ["--resume needs prompts", "--point 210,350"]),
        ("video.mp4 --bidirectional", ["--bidirectional needs prompts"]),
        ("video.mp4 --reverse", ["--reverse needs prompts"]),
        ("video.mp4 --save-session", ["--save-session needs prompts"]),
        ("video.mp4 --stop 3 --start 3", ["--stop 3", "with frame 3", "above 3"]),
        ("video.mp4 --detect-every 0", ["--detect-every", "masklet track --help"]),
        ("video.mp4 --preset finest", ["--preset 'finest'", "fast, default, fine"]),
        ("video.mp4 --start 50", ["no frame 50", "0 to 9"]),
        ("video.mp4 --object 2", ["no prompt follows --object 2"]),
        ("video.mp4 --frame 2", ["no prompt follows --frame 2"]),
        ("video.mp4 --point 5,5 --detect-every 3", ["--detect-every is for videos without prompts"]),
        ("video.mp4 --box 5,5,20,20 --per-frame", ["--per-frame is for videos without prompts"]),
        ("video.mp4 --point 5,5 --no-reidentify", ["--no-reidentify is for videos without prompts"]),
        ("video.mp4 --point 5,5 --reidentify", ["--reidentify is for videos without prompts"]),
        ("video.mp4 --format vidoe", ["did you mean video"]),
        ("gone.mp4", ["gone.mp4"]),
    ],
)
def test_bad_command_line(line: str, words: list[str], masklet: Masklet, detections: list[str], video: Path) -> None:
    outcome = masklet("track", *line.split(" "))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert [word for word in words if word not in outcome.err] == [], outcome.err
