"""`masklet track`: the files that come out, videos and streams, and what cannot be meant."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.cli_videos import FRAMES, PROMPTS, played, written
from masklet.cli import progress, segment_job, track_job
from masklet.cli.track_outputs import TRACK_FORMATS
from masklet.writers import SINKS, read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]


def test_the_names_of_formats_are_those_of_the_sinks() -> None:
    assert sorted(TRACK_FORMATS) == sorted(SINKS)


def test_a_whole_run(masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, *PROMPTS, "--out", "o", "--save", ",".join(TRACK_FORMATS), "--both")
    assert outcome.code == 0, outcome.err
    files = written(Path("o"))
    assert files["film_overlay.mp4"] == FRAMES
    assert {name for name in files if name.endswith(".png")} == {
        f"film/{folder}{n:05d}.png" for n in range(FRAMES) for folder in ("", "1/", "2/")
    }
    assert {name for name in files if not name.endswith(".png")} == {
        "film_overlay.mp4", "film_masks.jsonl", "film_masks.npz", "film_mots.txt",
    }  # fmt: skip
    records = list(read_tracks("o/film_masks.jsonl"))
    assert [record.frame_idx for record in records] == list(range(FRAMES))
    assert all([track.id for track in record.objects] == [1, 2] for record in records)
    first, *objects = outcome.out.splitlines()
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
        (["--until", "6"], [*range(7)]),
        (["--start", "2", "--until", "2"], [2]),
        (["--reverse"], [3, 2, 1, 0]),
        (["--reverse", "--until", "2"], [3, 2]),
        (["--reverse", "--start", "5", "--until", "0"], [5, 4, 3, 2, 1, 0]),
        (["--both", "--start", "1", "--until", "5"], [1, 2, 3, 4, 5]),
    ],
)
def test_a_part_of_a_video(words: list[str], frames: list[int], masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, *PROMPTS, *words, "--save", "video,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    lines = Path("o/film_masks.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == frames
    assert played(Path("o/film_overlay.mp4")) == len(frames)


def test_folders_and_globs_are_videos(masklet: Masklet, small: None, folder: Path, small_video: np.ndarray) -> None:
    shots = folder / "shots"
    shots.mkdir()
    for number, frame in enumerate(small_video[:3]):
        Image.fromarray(frame).save(shots / f"{number}.png")
    for source in ("shots", "shots/", "shots/*.png", "./shots"):
        outcome = masklet("track", source, "--point", "20,25", "--save", "png", "--out", f"o{len(source)}")
        assert outcome.code == 0, outcome.err
        assert len(list(Path(f"o{len(source)}/shots").glob("*.png"))) == 3
    before = [path.read_bytes() for path in sorted(shots.iterdir())]
    assert masklet("track", "shots", "--point", "20,25", "--save", "png", "--out", ".").code == 0
    assert [path.read_bytes() for path in sorted(shots.iterdir())] == before, "images that were tracked are kept"
    assert len(list(Path("shots_labels").glob("*.png"))) == 3


def test_quiet_prints_nothing(masklet: Masklet, small: None, video: Path) -> None:
    outcome = masklet("track", video, "--point", "20,25", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert played(Path("masklet-out/film_overlay.mp4")) == FRAMES


def test_progress_is_a_plain_line_where_there_is_no_terminal(
    masklet: Masklet, small: None, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    outcome = masklet("track", video, *PROMPTS, "--both")
    lines = outcome.err.splitlines()
    assert lines[0] == "masklet: looking back, at frame 3"
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


def test_a_session_is_left_to_edit(masklet: Masklet, small: None, video: Path, tracker: Any) -> None:
    assert masklet("track", video, *PROMPTS, "--keep", "all", "--out", "o").code == 0
    with tracker.session(video, resume="o/film_session.safetensors") as session:
        session.correct(2, frame=6, points=[50, 30], labels=[0])
        assert len(list(session.update())) > 0


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


def test_a_camera_is_followed_up_to_a_frame_and_prompted_late(
    masklet: Masklet, small: None, folder: Path, camera: None
) -> None:
    outcome = masklet("track", "0", *PROMPTS, "--until", "11", "--save", "video,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("camera 0: 12 frames, ")
    records = list(read_tracks("o/camera 0_masks.jsonl"))
    assert [[track.id for track in record.objects] for record in records] == [[1]] * 3 + [[1, 2]] * 9
    assert played(Path("o/camera 0_overlay.mp4")) > 0


def test_ctrl_c_ends_an_endless_source(
    masklet: Masklet, small: None, folder: Path, camera: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = track_job._TrackRun._record_frame

    def interrupted(self: Any, frame: Any, session: Any) -> None:
        keep(self, frame, session)
        if frame.frame == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(track_job._TrackRun, "_record_frame", interrupted)
    outcome = masklet("track", "0", "--point", "20,25", "--save", "video,coco", "--out", "o")
    assert outcome.code == 130
    files = "o/camera 0_overlay.mp4, o/camera 0_masks.jsonl"
    assert outcome.err == f"masklet: stopped after 14 frame(s); written: {files}\n"
    assert len(list(read_tracks("o/camera 0_masks.jsonl"))) == 14
    assert sorted(path.name for path in Path("o").iterdir()) == ["camera 0_masks.jsonl", "camera 0_overlay.mp4"]


# command line -> words its one line on standard error must have
BAD: list[tuple[str, list[str]]] = [
    ("track", ["FILM", "masklet track --help"]),
    ("track video.mp4 --point 5,5 --object", ["--object", "masklet track --help"]),
    ("track video.mp4 --point 5,5 --object 2", ["nothing is said after --object 2"]),
    ("track video.mp4 --point 5,5 --save mp4", ["'mp4'", "video, masks, png"]),
    ("track video.mp4 --point 5,5 --save vidoe", ["did you mean video"]),
    ("track video.mp4 --point 5,5 --both --reverse", ["--both and --reverse"]),
    ("track video.mp4 --point 5,5 --keep none", ["--keep 'none'", "recent or all"]),
    ("track video.mp4 --point 5,5 --start -1", ["--start", "masklet track --help"]),
    ("track video.mp4 --frame 5 --point 5,5 --until 4", ["--until 4", "before frame 5"]),
    ("track video.mp4 --start 3 --point 5,5 --until 2", ["--until 2", "before frame 3", "--start"]),
    ("track video.mp4 --frame 5 --point 5,5 --until 6 --reverse", ["--until 6", "after frame 5"]),
    ("track video.mp4 --frame 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track video.mp4 --start 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track video.mp4 --object 3 --frame 2 --point 500,5", ["object 3 on frame 2", "[500, 5]", "96 wide"]),
    ("track video.mp4 --mask rough.png", ["object 1 on frame 0", "(48, 64)", "(64, 96)"]),
    ("track video.mp4 --mask gone.png", ["gone.png"]),
    ("track video.mp4 --object 0 --point 5,5 --save png", ["object id 0", "1 to 65535"]),
    ("track video.mp4 --point 5,5 --out video.mp4", ["film.mp4", "is a file"]),
    ("track gone.mp4 --point 5,5", ["gone.mp4"]),
    ("track empty.mp4 --point 5,5", ["empty.mp4"]),
    ("track nothing/ --point 5,5", ["nothing"]),
    ("track *.jpeg --point 5,5", ["*.jpeg"]),
    ("track ftp://here/a.mp4 --point 5,5", ["ftp", "rtsp"]),
    ("track http://127.0.0.1:9/a.mp4 --point 5,5", ["cannot open", "127.0.0.1:9"]),
    ("track 7 --point 5,5", ["camera 7", "cannot be opened"]),
    ("track 0 --point 5,5 --resume", ["--resume", "camera 0", "come once"]),
    ("track 0 --point 5,5 --both", ["--both", "come once"]),
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
    for words, told in (
        (["--device", "gpu"], "'gpu'"),
        (["--precision", "int8"], "int8"),
        (["--model", "x.pt"], "x.pt"),
    ):
        model = [] if "--model" in words else ["--model", builtin_file]
        outcome = masklet("track", video, "--point", "5,5", *model, *words)
        assert outcome.code == 2
        assert told in outcome.err
        assert outcome.err.count("\n") == 1
        assert not list(Path("masklet-out").iterdir())


def test_a_model_is_not_loaded_for_nothing(masklet: Masklet, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(segment_job, "open_model", must_not)
    monkeypatch.setattr(track_job, "open_model", must_not)
    for line in (["gone.mp4"], [video, "--out", video], [video, "--save", "jpg"], [video, "--object", "x"]):
        assert masklet("track", *line, "--point", "5,5").code == 2
