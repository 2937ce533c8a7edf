"""`masklet track` killed, stopped, out of video or out of disk: nothing is lost, and --resume ends the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import FRAMES, PROMPTS, Tracked, played, write_video, written
from helpers.forked_python import python_process
from masklet.atomic_files import defer_interrupt
from masklet.cli import progress
from masklet.errors import OutputError, SourceError
from masklet.results import Results
from masklet.video import Session, job_files
from masklet.writers import read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]


def driven(trouble: Tracked, *words: str) -> int:
    """The exit code of the command in its own process, killed at a frame."""
    driver = Path(__file__).parents[1] / "helpers" / "cli_driver.py"
    command = [str(driver), json.dumps(trouble), "track", *words]
    process = python_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate(timeout=120)
    return int(process.returncode)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "at"), [("--bidirectional", 4), ("--reverse", 1)])
def test_a_killed_run_is_resumed_to_the_same_end(
    way: str,
    at: int,
    masklet: Masklet,
    small: None,
    tracking_file: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["video.mp4", *PROMPTS, way, "--format", "video,png,coco,numpy", "--model", str(tracking_file)]
    assert driven({"kill": at, "every": 3}, *words, "--out", "cut") == -9
    lines = Path("cut/.video.track/video_masks.jsonl")
    assert not Path("cut/video_masks.jsonl").exists()
    assert lines.read_text().count("\n") == (5 if way == "--bidirectional" else 3)
    with lines.open("a") as file:
        file.write('{"frame":5,"time":0.5,"si')  # as a kill in the middle of a line leaves it
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    resumed = masklet("track", *words, "--out", "cut", "--resume")
    assert resumed.code == 0, resumed.err
    assert "tracking backward" not in resumed.err
    assert ("masklet: rewriting frame 4 of the interrupted run\n" in resumed.err) == (way == "--bidirectional")
    assert f"{3 if way == '--reverse' else 5} frame(s) were tracked" in resumed.err
    at_once = masklet("track", *words, "--out", "at_once")
    assert at_once.code == 0
    assert written(Path("cut")) == written(Path("at_once"))
    assert resumed.out.splitlines()[1:] == at_once.out.splitlines()[1:]


def test_ctrl_c_leaves_a_video_that_plays_and_resumes(
    masklet: Masklet, small: None, tracking_file: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["video.mp4", *PROMPTS, "--format", "video,png,coco", "--model", str(tracking_file)]
    save = job_files.ResumeFolder.save_if_due

    def interrupted(self: job_files.ResumeFolder, session: Session) -> None:
        save(self, session)
        if session.last_frame == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(job_files.ResumeFolder, "save_if_due", interrupted)
        stopped = masklet("track", *words, "--out", "o")
    assert stopped.code == 130
    files = "o/video_overlay.mp4, o/video, o/video_masks.jsonl"
    line = f"masklet: stopped after 6 frame(s); written: {files}; --resume continues"
    assert stopped.err.splitlines()[-1] == line
    assert played(Path("o/video_overlay.mp4")) == 6
    assert [record.frame_idx for record in read_tracks("o/video_masks.jsonl")] == list(range(6))
    assert masklet("track", *words, "--out", "o", "--resume").code == 0
    assert masklet("track", *words, "--out", "at_once").code == 0
    assert written(Path("o")) == written(Path("at_once"))


def test_ctrl_c_waits_for_the_end_of_a_write() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)  # ignored, where the shell started the tests in the background

    def write() -> None:
        with defer_interrupt():
            signal.raise_signal(signal.SIGINT)  # in this thread, whatever threads other tests left behind
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is before


def stopped(masklet: Masklet, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *words: object) -> Any:
    """A run in which `error` comes after so many frames."""
    propagate = Session.propagate

    def broken(self: Session, *given: Any, **options: Any) -> Iterator[Results]:
        for number, frame in enumerate(propagate(self, *given, **options)):
            if number == at:
                raise error
            yield frame

    with monkeypatch.context() as patched:
        patched.setattr(Session, "propagate", broken)
        return masklet("track", "video.mp4", *words)


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
    outcome = stopped(masklet, monkeypatch, 4, error, *PROMPTS, "--format", "video,coco", "--out", "o")
    assert outcome.code == 2
    assert outcome.err == (
        "masklet: 'video.mp4': frame 4 is 10 x 10; 4 frame(s) were tracked; written: o/video_overlay.mp4, "
        "o/video_masks.jsonl; --resume continues\n"
    )
    assert played(Path("o/video_overlay.mp4")) == 4


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


def test_a_video_that_ends_early_is_reported(
    masklet: Masklet, small: None, video: Path, small_video: np.ndarray
) -> None:
    write_video(Path("long.mkv"), np.concatenate([small_video] * 4))
    content = Path("long.mkv").read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) // 2])
    outcome = masklet("track", "cut.mkv", "--point", "20,25", "--out", "o", "--format", "coco")
    assert outcome.code == 2
    tracked = len(list(read_tracks("o/cut_masks.jsonl")))
    assert 0 < tracked < 40
    assert f"masklet: cut.mkv ended early: it has {tracked} of " in outcome.err
    assert not Path("o/.cut.track").exists()


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_resumed(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*PROMPTS, "--format", "png,coco", "--out", "o"]
    error = OutputError("o/video/00005.png could not be written (No space left on device)")
    outcome = stopped(masklet, monkeypatch, 5, error, *words)
    assert outcome.code == 2
    assert "No space left on device); 5 frame(s) were tracked" in outcome.err
    assert masklet("track", video, *words, "--resume").code == 0
    assert masklet("track", video, *words[:-1], "at_once").code == 0
    assert written(Path("o")) == written(Path("at_once"))


def test_an_interrupted_run_without_resume_is_overwritten(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", video, "--point", "30,30", "--format", "coco", "--out", "o")
    assert outcome.code == 0
    assert outcome.err == (
        "masklet: the interrupted run in o/.video.track is overwritten; resume would have continued it\n"
    )
    assert [track.id for track in next(read_tracks("o/video_masks.jsonl")).objects] == [1]
    assert not Path("o/.video.track").exists()


@pytest.mark.slow
def test_nothing_to_resume_is_a_notice(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert outcome.err.startswith("masklet: nothing to resume in o/.video.track, there is no interrupted run: starting")
    monkeypatch.setattr(job_files, "SAVE_EVERY_FRAMES", 99)
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "the interrupted run had saved no state yet: starting with the first frame" in outcome.err
    assert played(Path("o/video_overlay.mp4")) == FRAMES


def test_lost_lines_are_tracked_again(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    lines = Path("o/.video.track/video_masks.jsonl")
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:2]))  # a disk that lost what it had accepted
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "lines are missing in o/.video.track: starting with the first frame" in outcome.err
    assert played(Path("o/video_overlay.mp4")) == FRAMES


SHORT = [*PROMPTS, "--stop", "5"]


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["--point", "21,25", "--stop", "5"], "other prompts"),
        ([*SHORT, "--frame", "4", "--negative", "1,1", "--point", "4,4"], "other prompts"),
        ([*SHORT, "--bidirectional"], "bidirectional False, now True"),
        (PROMPTS, "stop 5, now None"),
        ([*SHORT, "--non-overlapping"], "non_overlapping None, now True"),
        ([*SHORT, "--memory", "samurai"], "memory 'sam2', now 'samurai'"),
        ([*SHORT, "--no-scene-cuts"], "scene_cuts True, now False"),
        ([*SHORT, "--no-verify-returns"], "verify_returns True, now False"),
        ([*SHORT, "--model", "sam2.1_t.pt"], "model 'the built-in model', now 'sam2.1_t.pt'"),
        ([*SHORT, "--precision", "bf16"], "precision 'auto', now 'bf16'"),
        ([*SHORT, "--image-size", "64"], "image_size None, now 64"),
        ([*SHORT, "--save-session"], "retain 'recent', now 'all'"),
    ],
)
def test_another_run_is_not_resumed(
    words: list[str], change: str, masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *SHORT, "--out", "o").code == 130
    before = Path("o/.video.track/video_masks.jsonl").read_bytes()
    outcome = masklet("track", video, *words, "--out", "o", "--resume")
    assert outcome.code == 2
    assert outcome.err.startswith("masklet: the interrupted run in o/.video.track has other settings (")
    assert change in outcome.err
    assert Path("o/.video.track/video_masks.jsonl").read_bytes() == before
    assert masklet("track", video, *SHORT, "--out", "o", "--resume").code == 0


def test_a_source_that_changed_is_not_resumed(
    masklet: Masklet, small: None, video: Path, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    write_video(video, small_video[::-1])
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 2
    assert "other content of the source" in outcome.err


def test_two_runs_cannot_use_one_folder(masklet: Masklet, small: None, video: Path) -> None:
    running = job_files.ResumeFolder(Path("o"), "video")
    running.acquire()
    outcome = masklet("track", video, *PROMPTS, "--out", "o")
    assert outcome.code == 2
    assert "another masklet track is writing o/.video.track" in outcome.err
    assert running.path.exists()
    running.remove()
    assert masklet("track", video, *PROMPTS, "--out", "o").code == 0


OLD_RECORD = {
    "model": "the built-in model",
    "precision": "fp32",
    "prompts": [
        {"object": 1, "frame": 0, "points": [[20.1, 25.0]], "labels": [1], "box": None, "mask": None},
        {"object": 2, "frame": 3, "points": [], "labels": [], "box": [30.0, 10.0, 70.0, 50.0], "mask": None},
    ],
    "exclusive": False,
    "keep": "recent",
}


@pytest.mark.parametrize(
    ("words", "old"),
    [
        ([], {"both": False, "reverse": False, "start": None, "until": None}),
        (["--bidirectional", "--stop", "9"], {"both": True, "reverse": False, "start": None, "until": 8}),
        (["--reverse", "--stop", "0"], {"both": False, "reverse": True, "start": None, "until": 1}),
        (["--reverse", "--start", "3"], {"both": False, "reverse": True, "start": 3, "until": 0}),
    ],
)
def test_a_run_that_an_earlier_version_began_is_resumed(
    words: list[str], old: Tracked, masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["--point", "20.1,25", *PROMPTS[2:], "--format", "video,coco", "--precision", "fp32", *words]
    assert stopped(masklet, monkeypatch, 2, KeyboardInterrupt(), *prompts, "--out", "o").code == 130
    stat = video.stat()
    record = {"source": str(video.absolute()), "stamp": [stat.st_size, stat.st_mtime_ns], **OLD_RECORD, **old}
    Path("o/.video.track/job.json").write_text(json.dumps(record))
    outcome = masklet("track", video, *prompts, "--out", "o", "--resume")
    assert outcome.code == 0, outcome.err
    assert "2 frame(s) were tracked" in outcome.err
    assert masklet("track", video, *prompts, "--out", "at_once").code == 0
    assert written(Path("o")) == written(Path("at_once"))
