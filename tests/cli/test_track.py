"""`masklet track`: the files that come out, also after a kill, Ctrl-C, a film that breaks off, and a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from masklet.cli import following, job, journal, watch
from masklet.cli.interrupt import unbroken
from masklet.cli.outputs import SAVES
from masklet.errors import OutputError, SourceError
from masklet.formats import SINKS, read_tracks

pytestmark = pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")

Masklet = Callable[..., Any]
Tracked = dict[str, Any]
PROMPTS = ["--point", "20,25", "--object", "2", "--frame", "3", "--box", "30,10,70,50"]
FRAMES = 10


def write_film(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture
def film(folder: Path, small_film: np.ndarray) -> Path:
    """film.mp4 in the current folder: ten frames of 96 x 64."""
    write_film(folder / "film.mp4", small_film)
    return Path("film.mp4")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    """The command gets the small tracker, whatever model is asked for, and saves its state every second frame."""
    monkeypatch.setattr(following, "open_model", lambda *_: tracker)
    monkeypatch.setattr(journal, "EVERY_FRAMES", 2)
    monkeypatch.setattr(journal, "SHARE", 0)


def played(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def written(out: Path) -> Tracked:
    """All files of a run, as what they hold; no other file may be there."""
    found: Tracked = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".png":
            found[name] = np.array(Image.open(path)).tobytes()
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: arrays[key].tobytes() for key in arrays}
        elif path.suffix == ".mp4":
            found[name] = played(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def test_the_names_of_formats_are_those_of_the_sinks() -> None:
    assert sorted(SAVES) == sorted(SINKS)


def test_a_whole_run(masklet: Masklet, small: None, film: Path) -> None:
    outcome = masklet("track", film, *PROMPTS, "--out", "o", "--save", ",".join(SAVES), "--both")
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
    assert [record.frame for record in records] == list(range(FRAMES))
    assert all([track.id for track in record.objects] == [1, 2] for record in records)
    first, *objects = outcome.out.splitlines()
    assert first.startswith(f"film.mp4: {FRAMES} frames, ")
    assert first.endswith("-> o/film_overlay.mp4, o/film, o/film_mots.txt, o/film_masks.npz, o/film_masks.jsonl")
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
def test_a_part_of_a_film(words: list[str], frames: list[int], masklet: Masklet, small: None, film: Path) -> None:
    outcome = masklet("track", film, *PROMPTS, *words, "--save", "video,coco", "--out", "o")
    assert outcome.code == 0, outcome.err
    lines = Path("o/film_masks.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == frames
    assert played(Path("o/film_overlay.mp4")) == len(frames)


def test_folders_and_globs_are_films(masklet: Masklet, small: None, folder: Path, small_film: np.ndarray) -> None:
    shots = folder / "shots"
    shots.mkdir()
    for number, frame in enumerate(small_film[:3]):
        Image.fromarray(frame).save(shots / f"{number}.png")
    for source in ("shots", "shots/", "shots/*.png", "./shots"):
        outcome = masklet("track", source, "--point", "20,25", "--save", "png", "--out", f"o{len(source)}")
        assert outcome.code == 0, outcome.err
        assert len(list(Path(f"o{len(source)}/shots").glob("*.png"))) == 3
    before = [path.read_bytes() for path in sorted(shots.iterdir())]
    assert masklet("track", "shots", "--point", "20,25", "--save", "png", "--out", ".").code == 0
    assert [path.read_bytes() for path in sorted(shots.iterdir())] == before, "pictures that were tracked are kept"
    assert len(list(Path("shots_labels").glob("*.png"))) == 3


def test_quiet_prints_nothing(masklet: Masklet, small: None, film: Path) -> None:
    outcome = masklet("track", film, "--point", "20,25", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert played(Path("masklet-out/film_overlay.mp4")) == FRAMES


def test_progress_is_a_plain_line_where_there_is_no_terminal(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PLAIN_EVERY_S", 0.0)
    outcome = masklet("track", film, *PROMPTS, "--both")
    lines = outcome.err.splitlines()
    assert lines[0] == "masklet: looking back, at frame 3"
    assert lines[-1].startswith(f"masklet: {FRAMES} of {FRAMES} frames, ")
    assert "frames/s, 0:00:00 left, " in lines[-1]
    assert lines[-1].endswith("visible")


def test_progress_is_drawn_on_a_terminal(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    outcome = masklet("track", film, *PROMPTS)
    assert outcome.code == 0
    assert f"{FRAMES} of {FRAMES} frames" in outcome.err
    assert "━" in outcome.err


def test_a_session_is_left_to_edit(masklet: Masklet, small: None, film: Path, tracker: Any) -> None:
    assert masklet("track", film, *PROMPTS, "--keep", "all", "--out", "o").code == 0
    with tracker.session(film, resume="o/film_session.safetensors") as session:
        session.correct(2, frame=6, points=[50, 30], labels=[0])
        assert len(list(session.update())) > 0


# trouble -----------------------------------------------------------------------------------------------------------


def driven(trouble: Tracked, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with trouble at a frame."""
    command = [sys.executable, str(Path(__file__).parent / "driver.py"), json.dumps(trouble), "track", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("way", "at"), [("--both", 4), ("--reverse", 1)])
def test_a_killed_run_is_resumed_to_the_same_end(
    way: str,
    at: int,
    masklet: Masklet,
    small: None,
    tracking_file: Path,
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["film.mp4", *PROMPTS, way, "--save", "video,png,coco,numpy", "--model", str(tracking_file)]
    assert driven({"kill": at, "every": 3}, *words, "--out", "cut").returncode == -9
    lines = Path("cut/.film.track/film_masks.jsonl")
    assert not Path("cut/film_masks.jsonl").exists()
    assert lines.read_text().count("\n") == (5 if way == "--both" else 3)
    with lines.open("a") as file:
        file.write('{"frame":5,"time":0.5,"si')  # as a kill in the middle of a line leaves it
    monkeypatch.setattr(watch, "PLAIN_EVERY_S", 0.0)
    resumed = masklet("track", *words, "--out", "cut", "--resume")
    assert resumed.code == 0, resumed.err
    assert "looking back" not in resumed.err
    assert ("masklet: writing again what was tracked before, frame 4\n" in resumed.err) == (way == "--both")
    assert f"{3 if way == '--reverse' else 5} frame(s) were tracked before" in resumed.err
    whole = masklet("track", *words, "--out", "whole")
    assert whole.code == 0
    assert written(Path("cut")) == written(Path("whole"))
    assert resumed.out.splitlines()[1:] == whole.out.splitlines()[1:]


def test_ctrl_c_leaves_a_film_that_plays_and_can_be_gone_on_with(
    masklet: Masklet, small: None, tracking_file: Path, film: Path
) -> None:
    words = ["film.mp4", *PROMPTS, "--save", "video,png,coco", "--model", str(tracking_file)]
    stopped = driven({"interrupt": 5}, *words, "--out", "o")
    assert stopped.returncode == 130
    files = "o/film_overlay.mp4, o/film, o/film_masks.jsonl"
    line = f"masklet: stopped after 6 frame(s); written: {files}; --resume goes on"
    assert stopped.stderr.splitlines()[-1] == line
    assert played(Path("o/film_overlay.mp4")) == 6
    assert [record.frame for record in read_tracks("o/film_masks.jsonl")] == list(range(6))
    assert masklet("track", *words, "--out", "o", "--resume").code == 0
    assert masklet("track", *words, "--out", "whole").code == 0
    assert written(Path("o")) == written(Path("whole"))


def test_ctrl_c_waits_for_what_is_being_written() -> None:
    done = []

    def write() -> None:
        with unbroken():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("written")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def stopped(masklet: Masklet, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *words: object) -> Any:
    """A run in which `error` comes after so many frames."""
    keep = following._Run._keep

    def broken(self: Any, frame: Any, session: Any) -> None:
        if self.tally.frames == at:
            raise error
        keep(self, frame, session)

    with monkeypatch.context() as patched:
        patched.setattr(following._Run, "_keep", broken)
        return masklet("track", "film.mp4", *words)


def test_ctrl_c_before_the_first_frame_leaves_nothing(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = stopped(masklet, monkeypatch, 0, KeyboardInterrupt(), *PROMPTS, "--out", "o")
    assert outcome.code == 130
    assert outcome.err == "masklet: stopped before the first frame; written: nothing\n"
    assert list(Path("o").iterdir()) == []


def test_a_film_that_breaks_is_named_and_what_was_tracked_is_there(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = SourceError("'film.mp4': frame 4 is 10 x 10")
    outcome = stopped(masklet, monkeypatch, 4, error, *PROMPTS, "--save", "video,coco", "--out", "o")
    assert outcome.code == 2
    assert outcome.err == (
        "masklet: 'film.mp4': frame 4 is 10 x 10; 4 frame(s) were tracked; written: o/film_overlay.mp4, "
        "o/film_masks.jsonl; --resume goes on\n"
    )
    assert played(Path("o/film_overlay.mp4")) == 4


def test_pictures_that_change_their_size_end_the_run(
    masklet: Masklet, small: None, folder: Path, small_film: np.ndarray
) -> None:
    (folder / "shots").mkdir()
    for number, frame in enumerate(small_film[:6]):
        Image.fromarray(frame if number < 4 else frame[:32]).save(folder / "shots" / f"{number}.png")
    outcome = masklet("track", "shots", "--point", "20,25", "--out", "o")
    assert outcome.code == 2
    assert "shots/4.png': frame 4 is 96 x 32" in outcome.err
    assert "4 frame(s) were tracked; written: o/shots_overlay.mp4" in outcome.err
    assert played(Path("o/shots_overlay.mp4")) == 4


def test_a_film_that_ends_early_is_told(masklet: Masklet, small: None, film: Path, small_film: np.ndarray) -> None:
    write_film(Path("long.mkv"), np.concatenate([small_film] * 4))
    content = Path("long.mkv").read_bytes()
    Path("cut.mkv").write_bytes(content[: len(content) // 2])
    outcome = masklet("track", "cut.mkv", "--point", "20,25", "--out", "o", "--save", "coco")
    assert outcome.code == 2
    tracked = len(list(read_tracks("o/cut_masks.jsonl")))
    assert 0 < tracked < 40
    assert f"masklet: cut.mkv broke off: it has {tracked} of " in outcome.err
    assert not Path("o/.cut.track").exists()


def test_a_full_disk_is_named_and_the_run_resumed(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*PROMPTS, "--save", "png,coco", "--out", "o"]
    error = OutputError("o/film/00005.png could not be written (No space left on device)")
    outcome = stopped(masklet, monkeypatch, 5, error, *words)
    assert outcome.code == 2
    assert "No space left on device); 5 frame(s) were tracked" in outcome.err
    assert masklet("track", film, *words, "--resume").code == 0
    assert masklet("track", film, *words[:-1], "whole").code == 0
    assert written(Path("o")) == written(Path("whole"))


def test_leftovers_without_resume_are_replaced(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", film, "--point", "30,30", "--save", "coco", "--out", "o")
    assert outcome.code == 0
    assert outcome.err == (
        "masklet: the interrupted run in o/.film.track is replaced; --resume would have gone on with it\n"
    )
    assert [track.id for track in next(read_tracks("o/film_masks.jsonl")).objects] == [1]
    assert not Path("o/.film.track").exists()


def test_nothing_to_resume_is_said(masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = masklet("track", film, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert outcome.err.startswith("masklet: nothing to resume in o/.film.track, there is no interrupted run: beginning")
    monkeypatch.setattr(journal, "EVERY_FRAMES", 99)
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    outcome = masklet("track", film, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "the interrupted run had saved no state yet: beginning with the first frame" in outcome.err
    assert played(Path("o/film_overlay.mp4")) == FRAMES


def test_lost_lines_are_tracked_again(
    masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 5, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    lines = Path("o/.film.track/film_masks.jsonl")
    lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:2]))  # a disk that lost what it had taken
    outcome = masklet("track", film, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 0
    assert "lines are missing in o/.film.track: beginning with the first frame" in outcome.err
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
    words: list[str], told: str, masklet: Masklet, small: None, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    before = Path("o/.film.track/film_masks.jsonl").read_bytes()
    outcome = masklet("track", film, *words, "--out", "o", "--resume")
    assert outcome.code == 2
    assert outcome.err.startswith("masklet: the interrupted run in o/.film.track was asked something else (")
    assert told in outcome.err
    assert Path("o/.film.track/film_masks.jsonl").read_bytes() == before
    assert masklet("track", film, *PROMPTS, "--out", "o", "--resume").code == 0


def test_a_source_that_changed_is_not_resumed(
    masklet: Masklet, small: None, film: Path, small_film: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stopped(masklet, monkeypatch, 3, KeyboardInterrupt(), *PROMPTS, "--out", "o").code == 130
    write_film(film, small_film[::-1])
    outcome = masklet("track", film, *PROMPTS, "--out", "o", "--resume")
    assert outcome.code == 2
    assert "other content of the source" in outcome.err


def test_two_runs_do_not_share_a_folder(masklet: Masklet, small: None, film: Path) -> None:
    held = journal.Journal(Path("o"), "film")
    held.hold()
    outcome = masklet("track", film, *PROMPTS, "--out", "o")
    assert outcome.code == 2
    assert "another masklet track is writing o/.film.track" in outcome.err
    assert held.folder.exists()
    held.remove()
    assert masklet("track", film, *PROMPTS, "--out", "o").code == 0


# streams -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch, small_film: np.ndarray) -> None:
    """Camera 0: an endless film of which every frame is waited for."""
    from masklet.media import streams

    class Capture:
        number = -1

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def read(self) -> tuple[bool, np.ndarray]:
            self.number += 1
            time.sleep(0.005)
            return True, small_film[self.number % FRAMES][..., ::-1]

        def get(self, _: int) -> float:
            return 10.0

        def release(self) -> None:
            pass

    opened = streams.open_camera
    monkeypatch.setattr(streams, "open_capture", lambda _: Capture())
    monkeypatch.setattr(streams, "open_camera", lambda number, ahead, _: opened(number, ahead, "wait"))


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
    keep = following._Run._keep

    def interrupted(self: Any, frame: Any, session: Any) -> None:
        keep(self, frame, session)
        if frame.frame == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(following._Run, "_keep", interrupted)
    outcome = masklet("track", "0", "--point", "20,25", "--save", "video,coco", "--out", "o")
    assert outcome.code == 130
    files = "o/camera 0_overlay.mp4, o/camera 0_masks.jsonl"
    assert outcome.err == f"masklet: stopped after 14 frame(s); written: {files}\n"
    assert len(list(read_tracks("o/camera 0_masks.jsonl"))) == 14
    assert sorted(path.name for path in Path("o").iterdir()) == ["camera 0_masks.jsonl", "camera 0_overlay.mp4"]


# command line -> words its one line on standard error must have
BAD: list[tuple[str, list[str]]] = [
    ("track", ["FILM", "masklet track --help"]),
    ("track film.mp4", ["nothing says what to follow", "--point 210,350"]),
    ("track film.mp4 --point 5,5 --object", ["--object", "masklet track --help"]),
    ("track film.mp4 --point 5,5 --object 2", ["nothing is said after --object 2"]),
    ("track film.mp4 --point 5,5 --save mp4", ["'mp4'", "video, masks, png"]),
    ("track film.mp4 --point 5,5 --save vidoe", ["did you mean video"]),
    ("track film.mp4 --point 5,5 --both --reverse", ["--both and --reverse"]),
    ("track film.mp4 --point 5,5 --keep none", ["--keep 'none'", "recent or all"]),
    ("track film.mp4 --point 5,5 --start -1", ["--start", "masklet track --help"]),
    ("track film.mp4 --frame 5 --point 5,5 --until 4", ["--until 4", "before frame 5"]),
    ("track film.mp4 --start 3 --point 5,5 --until 2", ["--until 2", "before frame 3", "--start"]),
    ("track film.mp4 --frame 5 --point 5,5 --until 6 --reverse", ["--until 6", "after frame 5"]),
    ("track film.mp4 --frame 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track film.mp4 --start 50 --point 5,5", ["no frame 50", "0 to 9"]),
    ("track film.mp4 --object 3 --frame 2 --point 500,5", ["object 3 on frame 2", "[500, 5]", "96 wide"]),
    ("track film.mp4 --mask rough.png", ["object 1 on frame 0", "(48, 64)", "(64, 96)"]),
    ("track film.mp4 --mask gone.png", ["gone.png"]),
    ("track film.mp4 --object 0 --point 5,5 --save png", ["object id 0", "1 to 65535"]),
    ("track film.mp4 --point 5,5 --out film.mp4", ["film.mp4", "is a file"]),
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
    film: Path,
    monkeypatch: pytest.MonkeyPatch,
    camera: None,
) -> None:
    from masklet.media import streams

    if " 7 " in line:
        monkeypatch.setattr(streams, "open_capture", lambda _: None)
    Path("empty.mp4").touch()
    Path("nothing").mkdir()
    outcome = masklet(*line.split(" "))
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("masklet: ")
    assert [word for word in words if word not in outcome.err] == [], outcome.err
    assert not list(Path().rglob(".*.track")), "a run that did not begin leaves nothing to resume"


def test_bad_options_of_the_model_are_one_line(masklet: Masklet, film: Path, builtin_file: Path) -> None:
    for words, told in (
        (["--device", "gpu"], "'gpu'"),
        (["--precision", "int8"], "int8"),
        (["--model", "x.pt"], "x.pt"),
    ):
        model = [] if "--model" in words else ["--model", builtin_file]
        outcome = masklet("track", film, "--point", "5,5", *model, *words)
        assert outcome.code == 2
        assert told in outcome.err
        assert outcome.err.count("\n") == 1
        assert not list(Path("masklet-out").iterdir())


def test_a_model_is_not_loaded_for_nothing(masklet: Masklet, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(job, "open_model", must_not)
    monkeypatch.setattr(following, "open_model", must_not)
    for line in (["gone.mp4"], [film, "--out", film], [film, "--save", "jpg"], [film, "--object", "x"]):
        assert masklet("track", *line, "--point", "5,5").code == 2
