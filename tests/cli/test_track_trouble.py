"""`masklet track` killed, stopped, out of video or out of disk: nothing is lost, and --resume ends it the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import FRAMES, PROMPTS, Tracked, played, write_video, written
from masklet.cli import progress, track_job, track_resume
from masklet.cli.console import defer_interrupt
from masklet.errors import OutputError, SourceError
from masklet.writers import read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]


def driven(trouble: Tracked, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with trouble at a frame."""
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "helpers" / "cli_driver.py"),
        json.dumps(trouble),
        "track",
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("way", "at"), [("--both", 4), ("--reverse", 1)])
def test_a_killed_run_is_resumed_to_the_same_end(
    way: str,
    at: int,
    masklet: Masklet,
    small: None,
    tracking_file: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["film.mp4", *PROMPTS, way, "--save", "video,png,coco,numpy", "--model", str(tracking_file)]
    assert driven({"kill": at, "every": 3}, *words, "--out", "cut").returncode == -9
    lines = Path("cut/.film.track/film_masks.jsonl")
    assert not Path("cut/film_masks.jsonl").exists()
    assert lines.read_text().count("\n") == (5 if way == "--both" else 3)
    with lines.open("a") as file:
        file.write('{"frame":5,"time":0.5,"si')  # as a kill in the middle of a line leaves it
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    resumed = masklet("track", *words, "--out", "cut", "--resume")
    assert resumed.code == 0, resumed.err
    assert "looking back" not in resumed.err
    assert ("masklet: writing again what was tracked before, frame 4\n" in resumed.err) == (way == "--both")
    assert f"{3 if way == '--reverse' else 5} frame(s) were tracked before" in resumed.err
    whole = masklet("track", *words, "--out", "whole")
    assert whole.code == 0
    assert written(Path("cut")) == written(Path("whole"))
    assert resumed.out.splitlines()[1:] == whole.out.splitlines()[1:]


def test_ctrl_c_leaves_a_video_that_plays_and_can_be_gone_on_with(
    masklet: Masklet, small: None, tracking_file: Path, video: Path
) -> None:
    words = ["film.mp4", *PROMPTS, "--save", "video,png,coco", "--model", str(tracking_file)]
    stopped = driven({"interrupt": 5}, *words, "--out", "o")
    assert stopped.returncode == 130
    files = "o/video_overlay.mp4, o/video, o/video_masks.jsonl"
    line = f"masklet: stopped after 6 frame(s); written: {files}; --resume goes on"
    assert stopped.stderr.splitlines()[-1] == line
    assert played(Path("o/film_overlay.mp4")) == 6
    assert [record.frame_idx for record in read_tracks("o/film_masks.jsonl")] == list(range(6))
    assert masklet("track", *words, "--out", "o", "--resume").code == 0
    assert masklet("track", *words, "--out", "whole").code == 0
    assert written(Path("o")) == written(Path("whole"))


def test_ctrl_c_waits_for_what_is_being_written() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)  # ignored, where the shell started the tests in the background

    def write() -> None:
        with defer_interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is before


def stopped(masklet: Masklet, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *words: object) -> Any:
    """A run in which `error` comes after so many frames."""
    keep = track_job._TrackRun._record_frame

    def broken(self: Any, frame: Any, session: Any) -> None:
        if self.tally.frames == at:
            raise error
        keep(self, frame, session)

    with monkeypatch.context() as patched:
        patched.setattr(track_job._TrackRun, "_record_frame", broken)
        return masklet("track", "film.mp4", *words)


def test_ctrl_c_before_the_first_frame_leaves_nothing(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = stopped(masklet, monkeypatch, 0, KeyboardInterrupt(), *PROMPTS, "--out", "o")
    assert outcome.code == 130
    assert outcome.err == "masklet: stopped before the first frame; written: nothing\n"
    assert list(Path("o").iterdir()) == []


def test_a_video_that_breaks_is_named_and_what_was_tracked_is_there(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = SourceError("'video.mp4': frame 4 is 10 x 10")
    outcome = stopped(masklet, monkeypatch, 4, error, *PROMPTS, "--save", "video,coco", "--out", "o")
    assert outcome.code == 2
    assert outcome.err == (
        "masklet: 'video.mp4': frame 4 is 10 x 10; 4 frame(s) were tracked; written: o/video_overlay.mp4, "
        "o/video_masks.jsonl; --resume goes on\n"
    )
    assert played(Path("o/film_overlay.mp4")) == 4


def test_images_that_change_their_size_end_the_run(
    masklet: Masklet, small: None, folder: Path, small_video: np.ndarray
) -> None:
    (folder / "shots").mkdir()
    for number, frame in enumerate(small_video[:6]):
        Image.fromarray(frame if number < 4 else frame[:32]).save(folder / "shots" / f"{number}.png")
    outcome = masklet("track", "shots", "--point", "20,25", "--out", "o")
    assert outcome.code == 2
    assert "shots/4.png': frame 4 is 96 x 32" in outcome.err
    assert "4 frame(s) were tracked; written: o/shots_overlay.mp4" in outcome.err
    assert played(Path("o/shots_overlay.mp4")) == 4


def test_a_video_that_ends_early_is_told(masklet: Masklet, small: None, video: Path, small_video: np.ndarray) -> None:
    write_video(Path("long.mkv"), np.concatenate([small_video] * 4))
    content = Path("long.mkv").read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) // 2])
    outcome = masklet("track", "cut.mkv", "--point", "20,25", "--out", "o", "--save", "coco")
    assert outcome.code == 2
    tracked = len(list(read_tracks("o/cut_masks.jsonl")))
    assert 0 < tracked < 40
    assert f"masklet: cut.mkv broke off: it has {tracked} of " in outcome.err
    assert not Path("o/.cut.track").exists()


def test_a_full_disk_is_named_and_the_run_resumed(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*PROMPTS, "--save", "png,coco", "--out", "o"]
    error = OutputError("o/video/00005.png could not be written (No space left on device)")
    outcome = stopped(masklet, monkeypatch, 5, error, *words)
    assert outcome.code == 2
    assert "No space left on device); 5 frame(s) were tracked" in outcome.err
    assert masklet("track", video, *words, "--resume").code == 0
    assert masklet("track", video, *words[:-1], "whole").code == 0
    assert written(Path("o")) == written(Path("whole"))


def test_leftovers_without_resume_are_replaced(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", video, "--point", "30,30", "--save", "coco", "--out", "o")
    assert outcome.code == 0
    assert outcome.err == (
        "masklet: the interrupted run in o/.video.track is replaced; --resume would have gone on with it\n"
    )
    assert [track.id for track in next(read_tracks("o/film_masks.jsonl")).objects] == [1]
    assert not Path("o/.film.track").exists()


def test_nothing_to_resume_is_said(masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert outcome.err.startswith(
        "masklet: nothing to resume in o/.video.track, there is no interrupted run: beginning"
    )
    monkeypatch.setattr(track_resume, "SAVE_EVERY_FRAMES", 99)
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "the interrupted run had saved no state yet: beginning with the first frame" in outcome.err
    assert played(Path("o/film_overlay.mp4")) == FRAMES


def test_lost_lines_are_tracked_again(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    lines = Path("o/.film.track/film_masks.jsonl")
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:2]))  # a disk that lost what it had taken
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "lines are missing in o/.video.track: beginning with the first frame" in outcome.err
    assert played(Path("o/film_overlay.mp4")) == FRAMES


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--point", "21,25"], "other prompts"),
        ([*PROMPTS, "--frame", "5", "--negative", "1,1", "--point", "4,4"], "other prompts"),
        ([*PROMPTS, "--both"], "both False, now True"),
        ([*PROMPTS, "--until", "8"], "until None, now 8"),
        ([*PROMPTS, "--exclusive"], "exclusive False, now True"),
        ([*PROMPTS, "--model", "sam2.1_t.pt"], "model 'the built-in model', now 'sam2.1_t.pt'"),
        ([*PROMPTS, "--precision", "bf16"], "precision 'fp32', now 'bf16'"),
    ],
)
def test_another_run_is_not_resumed(
    words: list[str], told: str, masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    before = Path("o/.film.track/film_masks.jsonl").read_bytes()
    outcome = masklet("track", video, *words, "--out", "o", "--resume")
    assert outcome.code == 2
    assert outcome.err.startswith("masklet: the interrupted run in o/.video.track was asked something else (")
    assert told in outcome.err
    assert Path("o/.film.track/film_masks.jsonl").read_bytes() == before
    assert masklet("track", video, *PROMPTS, "--out", "o", "--resume").code == 0


def test_a_source_that_changed_is_not_resumed(
    masklet: Masklet, small: None, video: Path, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    write_video(video, small_video[::-1])
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 2
    assert "other content of the source" in outcome.err


def test_two_runs_do_not_share_a_folder(masklet: Masklet, small: None, video: Path) -> None:
    held = track_resume.ResumeLog(Path("o"), "film")
    held.acquire()
    outcome = masklet("track", video, *PROMPTS, "--out", "o")
    assert outcome.code == 2
    assert "another masklet track is writing o/.video.track" in outcome.err
    assert held.folder.exists()
    held.remove()
    assert masklet("track", video, *PROMPTS, "--out", "o").code == 0
