"""What all sinks guarantee: a table, checked folders, safe names, complete files, earlier runs replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.frame_results import SAMPLE_FRAMES, box_mask, empty, frame
from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.writers import SINKS, SinkOptions, open_sink
from masklet.writers.video_base import safe_stem

OUTPUT_FILES = {
    "video": ["clip_overlay.mp4"],
    "png": ["clip"],
    "masks": ["clip"],
    "coco": ["clip_masks.jsonl"],
    "mots": ["clip_mots.txt"],
    "numpy": ["clip_masks.npz"],
}


def test_all_sinks_are_covered() -> None:
    assert sorted(OUTPUT_FILES) == sorted(SINKS)


@pytest.mark.parametrize("name", SINKS)
def test_only_the_listed_paths_are_written(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with open_sink(name, folder, stem="clip") as sink:
        assert os.listdir(folder) == []
        for results in SAMPLE_FRAMES:
            sink.write(results)
    assert [path.name for path in sink.paths] == OUTPUT_FILES[name]
    assert sorted(os.listdir(folder)) == OUTPUT_FILES[name]


@pytest.mark.parametrize("name", SINKS)
def test_no_frames_leave_an_earlier_run_untouched(name: str, tmp_path: Path) -> None:
    with open_sink(name, tmp_path, stem="clip") as sink:
        sink.write(frame(0))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with open_sink(name, tmp_path, stem="clip") as sink:
        pass
    assert sink.paths == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", SINKS)
def test_error_in_the_block_keeps_what_was_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_sink(name, tmp_path, stem="clip") as sink:  # noqa: PT012
        sink.write(frame(0))
        raise KeyboardInterrupt
    assert [path.name for path in sink.paths] == sorted(os.listdir(tmp_path)) == OUTPUT_FILES[name]
    with pytest.raises(StateError, match="is closed"):
        sink.write(frame(1))


@pytest.mark.parametrize("name", SINKS)
def test_folder_is_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        open_sink(name, tmp_path / "file", stem="clip")


@pytest.mark.parametrize("name", SINKS)
def test_frames_without_frame_idx_are_counted(name: str, tmp_path: Path) -> None:
    with open_sink(name, tmp_path / "counted", stem="clip") as counted:
        counted.write(frame(None))
        counted.write(frame(None))
    with open_sink(name, tmp_path / "explicit", stem="clip") as explicit:
        explicit.write(frame(0))
        explicit.write(frame(1, {3: box_mask((0, 2, 9, 12)), 7: box_mask((30, 10, 36, 20))}))

    def files(folder: Path) -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    assert files(tmp_path / "counted") == files(tmp_path / "explicit")


@pytest.mark.parametrize("name", ["video", "mots", "numpy"])
def test_formats_that_cannot_be_resumed(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="read_tracks"):
        open_sink(name, tmp_path, stem="clip", append=True)


def test_unknown_name_suggests_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'video'"):
        open_sink("vidoe", tmp_path, stem="clip")


@pytest.mark.parametrize("options", [{"fps": 0.0}, {"fps": float("nan")}, {"crf": 52}])
def test_invalid_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        SinkOptions(**options)


def test_arguments_override_options(tmp_path: Path) -> None:
    options = SinkOptions(fps=25.0, labels=True)
    assert open_sink("coco", tmp_path, stem="clip", options=options).options == options
    assert open_sink("coco", tmp_path, stem="clip", fps=12.0, options=options).options == SinkOptions(12.0, labels=True)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("clip", "clip"),
        ("été 2026", "été 2026"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\\b:c*d\n", "a_b_c_d_"),
        ("..", "video"),
        ("", "video"),
        ("é" * 300, "é" * 60),
    ],
)
def test_stems_are_valid_file_names(stem: str, name: str, tmp_path: Path) -> None:
    assert safe_stem(stem) == name
    with open_sink("coco", tmp_path, stem=stem) as sink:
        sink.write(frame(0))
    assert [path.parent for path in sink.paths] == [tmp_path]


@pytest.mark.parametrize(("name", "bad"), [("png", 0), ("png", -1), ("png", 65536), ("mots", -1)])
def test_ids_that_do_not_fit_are_rejected_before_tracking(name: str, bad: int, tmp_path: Path) -> None:
    with open_sink(name, tmp_path, stem="clip") as sink:
        sink.check_ids([1, 255, 999])
        with pytest.raises(OutputError, match=f"object id {bad} "):
            sink.check_ids([1, bad])
        with pytest.raises(OutputError, match=f"object id {bad} "):
            sink.write(frame(0, {bad: box_mask((1, 1, 5, 5))}))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["png", "mots"])
def test_overlap_is_reported_once(name: str, tmp_path: Path) -> None:
    large, small = box_mask((0, 0, 20, 20)), box_mask((5, 5, 15, 15))
    with open_sink(name, tmp_path, stem="clip") as sink:
        with pytest.warns(MaskletWarning, match=r"object 8 of frame 4: .* keeps IoU 0.75") as caught:
            sink.write(frame(4, {8: large, 2: small}))
        assert len(caught) == 1
        sink.write(frame(5, {8: large, 2: small}))


FULL_DISK = """
import resource, signal, sys
from helpers.frame_results import frame
import numpy as np
from masklet.errors import OutputError
from masklet.writers import open_sink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # a disk that is full at this size of a file
noise = np.random.default_rng(0)
written = 0
try:
    with open_sink(sys.argv[1], sys.argv[2], stem="clip") as sink:
        for number in range(500):
            results = frame(number, {1: noise.random((96, 128)) > 0.5})
            results.orig_img[:] = noise.integers(0, 256, results.orig_img.shape)
            sink.write(results)
            written += 1
except OutputError as error:
    assert "clip" in str(error), error
    print(written)
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    search_path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("name", ["video", "coco", "mots", "numpy"])
def test_full_disk_keeps_what_was_written(name: str, tmp_path: Path) -> None:
    ended = run(FULL_DISK, name, tmp_path)
    assert ended.returncode == 0, ended.stderr
    written = int(ended.stdout)
    assert 2 < written < 500
    assert os.listdir(tmp_path) == OUTPUT_FILES[name]
    assert count_frames(name, tmp_path / OUTPUT_FILES[name][0]) in (
        {written} if name != "video" else range(1, written + 1)
    )


def count_frames(name: str, path: Path) -> int:
    if name == "video":
        import av

        with av.open(str(path)) as video:
            return sum(1 for packet in video.demux(video=0) if packet.size)
    if name == "numpy":
        arrays = np.load(path)
        return sum(arrays[f"masks_{number:05d}"].shape == (1, 96, 128) for number in arrays["frames"])
    lines = path.read_bytes()
    assert lines.endswith(b"\n")
    return lines.count(b"\n")


def test_empty_frames_in_all_formats(tmp_path: Path) -> None:
    for name in SINKS:
        with open_sink(name, tmp_path / name, stem="clip") as sink:
            sink.write(empty(0))
            sink.write(empty(1))
        assert [path.name for path in sink.paths] == OUTPUT_FILES[name]
