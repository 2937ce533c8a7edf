"""`masklet track`: the files it writes, videos and streams, and invalid options."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import FRAMES, PROMPTS, played, written
from masklet.cli import progress, segment_job
from masklet.cli.shared_options import VIDEO_FORMATS
from masklet.video import Session
from masklet.writers import read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]


def test_a_complete_run(masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--format", ",".join(VIDEO_FORMATS), "--bidirectional")
    assert outcome.code == 0, outcome.err
    files = written(Path("o"))
    assert files["video_overlay.mp4"] == FRAMES
    assert {name for name in files if name.endswith(".png")} == {
        f"video/{folder}{n:05d}.png" for n in range(FRAMES) for folder in ("", "1/", "2/")
    }
    assert {name for name in files if not name.endswith(".png")} == {
        "video_overlay.mp4", "video_masks.jsonl", "video_masks.npz", "video_mots.txt",
    }  # fmt: skip
    records = list(read_tracks("o/video_masks.jsonl"))
    assert [record.frame_idx for record in records] == list(range(FRAMES))
    assert all([track.id for track in record.objects] == [1, 2] for record in records)
    first, *objects, doubts = outcome.out.splitlines()
    assert re.fullmatch(r"check frames (\d \(object [12]: [\w ,]+\)(, )?){1,3}", doubts)
    assert first.startswith(f"video.mp4: {FRAMES} frames, ")
    assert first.endswith("-> o/video_overlay.mp4, o/video, o/video_mots.txt, o/video_masks.npz, o/video_masks.jsonl")
    for number, line in zip((1, 2), objects, strict=True):
        states = [track.state for record in records for track in record.objects if track.id == number]
        visible, occluded, lost = (states.count(state) for state in ("visible", "occluded", "lost"))
        assert line == f"object {number}: visible on {visible} frames, occluded on {occluded}, lost on {lost}"


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        ([], [*range(FRAMES)]),
        (["--stop", "7"], [*range(7)]),
        (["--start", "2", "--stop", "3"], [2]),
        (["--reverse"], [3, 2, 1, 0]),
        (["--reverse", "--stop", "1"], [3, 2]),
        (["--reverse", "--start", "5"], [5, 4, 3, 2, 1, 0]),
        (["--bidirectional", "--start", "1", "--stop", "6"], [1, 2, 3, 4, 5]),
    ],
)
def test_a_part_of_a_video(words: list[str], frames: list[int], masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, *PROMPTS, *words, "--format", "video,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    lines = Path("o/video_masks.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == frames
    assert played(Path("o/video_overlay.mp4")) == len(frames)


def test_folders_and_globs_are_videos(masklet: Masklet, small: None, folder: Path, small_video: np.ndarray) -> None:
    shots = folder / "shots"
    shots.mkdir()
    for number, frame in enumerate(small_video[:3]):
        Image.fromarray(frame).save(shots / f"{number}.png")
    for source in ("shots", "shots/", "shots/*.png", "./shots"):
        outcome = masklet("track", source, "--point", "20,25", "--format", "png", "--out", f"o{len(source)}")
        assert outcome.code == 0, outcome.err
        assert len(list(Path(f"o{len(source)}/shots").glob("*.png"))) == 3
    before = [path.read_bytes() for path in sorted(shots.iterdir())]
    assert masklet("track", "shots", "--point", "20,25", "--format", "png", "--out", ".").code == 0
    assert [path.read_bytes() for path in sorted(shots.iterdir())] == before, "images that were tracked are kept"
    assert len(list(Path("shots_labels").glob("*.png"))) == 3


def test_quiet_prints_nothing(masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, "--point", "20,25", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert played(Path("masklet-out/video_overlay.mp4")) == FRAMES


def test_progress_is_a_plain_line_where_there_is_no_terminal(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    outcome = masklet("track", video, *PROMPTS, "--bidirectional")
    lines = outcome.err.splitlines()
    assert lines[0] == "masklet: tracking backward, frame 3"
    assert lines[-1].startswith(f"masklet: {FRAMES} of {FRAMES} frames, ")
    assert "frames/s, 0:00:00 left, " in lines[-1]
    assert lines[-1].endswith("visible")


def test_progress_is_drawn_on_a_terminal(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    outcome = masklet("track", video, *PROMPTS)
    assert outcome.code == 0
    assert f"{FRAMES} of {FRAMES} frames" in outcome.err
    assert "━" in outcome.err


def test_a_saved_session_can_be_edited(masklet: Masklet, small: None, video: Path, tracker: Any) -> None:
    assert masklet("track", video, *PROMPTS, "--save-session", "--out", "o").code == 0
    with tracker.session(video, resume="o/video_session.safetensors") as session:
        session.correct(2, frame_idx=6, points=[50, 30], labels=[0])
        assert len(list(session.repropagate())) > 0


def test_prompts_from_a_file_are_those_of_the_options(masklet: Masklet, small: None, video: Path) -> None:
    entries = [{"points": [[20, 25]]}, {"object": 2, "frame": 3, "box": [30, 10, 70, 50]}]
    Path("prompts.json").write_text(json.dumps(entries))
    assert masklet("track", video, *PROMPTS, "--format", "coco", "--out", "typed").code == 0
    outcome = masklet("track", video, "--prompts", "prompts.json", "--format", "coco", "--out", "file")
    assert outcome.code == 0, outcome.err
    assert written(Path("file")) == written(Path("typed"))
    both = masklet("track", video, "--point", "5,5", "--prompts", "prompts.json")
    assert both.code == 2
    assert "--point and --prompts exclude each other" in both.err


# streams -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, small_video: np.ndarray) -> None:
    """Camera 0: an endless video of which every frame is waited for."""
    from masklet.media import video_stream

    class Capture:
        number = -1

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def read(self) -> tuple[bool, np.ndarray]:
            self.number += 1
            time.sleep(0.005)
            return True, small_video[self.number % FRAMES][..., ::-1]

        def get(self, _: int) -> float:
            return 10.0

        def release(self) -> None:
            pass

    opened = video_stream.open_camera
    monkeypatch.setattr(video_stream, "open_capture", lambda _: Capture())
    monkeypatch.setattr(video_stream, "open_camera", lambda number, ahead, _: opened(number, ahead, "wait"))


def test_a_camera_is_tracked_up_to_a_frame_and_prompted_late(
    masklet: Masklet, small: None, folder: Path, camera: None
) -> None:
    outcome = masklet("track", "0", *PROMPTS, "--stop", "12", "--format", "video,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("camera 0: 12 frames, ")
    records = list(read_tracks("o/camera 0_masks.jsonl"))
    assert [[track.id for track in record.objects] for record in records] == [[1]] * 3 + [[1, 2]] * 9
    assert played(Path("o/camera 0_overlay.mp4")) > 0


def test_ctrl_c_ends_an_endless_source(
    masklet: Masklet, small: None, folder: Path, camera: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    propagate = Session.propagate

    def interrupted(self: Session, *given: Any, **options: Any) -> Any:
        for number, frame in enumerate(propagate(self, *given, **options)):
            if number == 14:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(Session, "propagate", interrupted)
    outcome = masklet("track", "0", "--point", "20,25", "--format", "video,coco", "--out", "o")
    assert outcome.code == 130
    files = "o/camera 0_overlay.mp4, o/camera 0_masks.jsonl"
    assert outcome.err == f"masklet: stopped after 14 frame(s); written: {files}\n"
    assert len(list(read_tracks("o/camera 0_masks.jsonl"))) == 14
    assert sorted(path.name for path in Path("o").glob("[!.]*")) == ["camera 0_masks.jsonl", "camera 0_overlay.mp4"]


# command line -> words its one line on standard error must have
BAD: list[tuple[str, list[str]]] = [
    ("track", ["VIDEO", "masklet track --help"]),
    ("track video.mp4 --point 5,5 --object", ["--object", "masklet track --help"]),
    ("track video.mp4 --point 5,5 --object 2", ["no prompt follows --object 2"]),
    ("track video.mp4 --point 5,5 --format mp4", ["'mp4'", "video, masks, png"]),
    ("track video.mp4 --point 5,5 --format vidoe", ["did you mean video"]),
    ("track video.mp4 --point 5,5 --bidirectional --reverse", ["--bidirectional and --reverse"]),
    ("track video.mp4 --point 5,5 --until 4", ["--until", "masklet track --help"]),
    ("track video.mp4 --point 5,5 --start -1", ["--start", "masklet track --help"]),
    ("track video.mp4 --frame 5 --point 5,5 --stop 5", ["--stop 5", "with frame 5", "above 5"]),
    ("track video.mp4 --start 3 --point 5,5 --stop 3", ["--stop 3", "with frame 3", "--start"]),
    ("track video.mp4 --frame 5 --point 5,5 --stop 5 --reverse", ["--stop 5", "with frame 5", "below 5"]),
    ("track video.mp4 --frame 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track video.mp4 --start 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track video.mp4 --object 3 --frame 2 --point 500,5", ["object 3 on frame 2", "[500, 5]", "96 wide"]),
    ("track video.mp4 --mask rough.png", ["object 1 on frame 0", "(48, 64)", "(64, 96)"]),
    ("track video.mp4 --mask gone.png", ["gone.png"]),
    ("track video.mp4 --object 0 --point 5,5 --format png", ["object id 0", "1 to 65535"]),
    ("track video.mp4 --point 5,5 --out video.mp4", ["video.mp4", "is a file"]),
    ("track gone.mp4 --point 5,5", ["gone.mp4"]),
    ("track empty.mp4 --point 5,5", ["empty.mp4"]),
    ("track nothing/ --point 5,5", ["nothing"]),
    ("track *.jpeg --point 5,5", ["*.jpeg"]),
    ("track ftp://here/a.mp4 --point 5,5", ["ftp", "rtsp"]),
    ("track http://127.0.0.1:9/a.mp4 --point 5,5", ["cannot open", "127.0.0.1:9"]),
    ("track 7 --point 5,5", ["camera 7", "cannot be opened"]),
    ("track 0 --point 5,5 --resume", ["--resume", "camera 0", "come once"]),
    ("track 0 --point 5,5 --bidirectional", ["--bidirectional", "come once"]),
    ("track 0 --point 5,5 --start 4", ["--start", "come once"]),
    ("track 0 --frame 4 --point 5,5", ["first prompt is on frame 4", "frame 0"]),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_bad_command_line(
    line: str,
    words: list[str],
    masklet: Masklet,
    small: None,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
    camera: None,
) -> None:
    from masklet.media import video_stream

    if " 7 " in line:
        monkeypatch.setattr(video_stream, "open_capture", lambda _: None)
    Path("empty.mp4").touch()
    Path("nothing").mkdir()
    outcome = masklet(*line.split(" "))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("masklet: ")
    assert [word for word in words if word not in outcome.err] == [], outcome.err
    assert not list(Path().rglob(".*.track")), "a run that did not begin leaves nothing to resume"


def test_bad_options_of_the_model_are_one_line(masklet: Masklet, video: Path, builtin_file: Path) -> None:
    for words, message in (
        (["--device", "gpu"], "'gpu'"),
        (["--precision", "int8"], "int8"),
        (["--model", "x.pt"], "x.pt"),
    ):
        model = [] if "--model" in words else ["--model", builtin_file]
        outcome = masklet("track", video, "--point", "5,5", *model, *words)
        assert outcome.code == 2
        assert message in outcome.err
        assert outcome.err.count("\n") == 1
        assert not list(Path("masklet-out").iterdir())


def test_a_model_is_not_loaded_for_nothing(masklet: Masklet, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(segment_job, "open_model", must_not)
    monkeypatch.setattr(sys.modules["masklet.cli.track"], "open_model", must_not)
    for line in (["gone.mp4"], [video, "--out", video], [video, "--format", "jpg"], [video, "--object", "x"]):
        assert masklet("track", *line, "--point", "5,5").code == 2


def test_a_file_of_somebody_else_is_kept(masklet: Masklet, small: None, video: Path) -> None:
    words = ["track", video, "--point", "20,25", "--out", "o", "--format", "coco,png", "--stop", "2"]
    assert masklet(*words).code == 0
    assert masklet(*words).code == 0, "files of masklet's own runs are replaced"
    for path in (Path("o/video/00001.png"), Path("o/video_masks.jsonl")):
        path.write_bytes(path.read_bytes() + b"\n")
        outcome = masklet(*words)
        assert outcome.code == 2
        assert outcome.err.startswith(f"masklet: {path} was not written by masklet, or was changed since, and is kept")
        assert path.read_bytes().endswith(b"\n")
        assert masklet(*words, "--overwrite").code == 0
