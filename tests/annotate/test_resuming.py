"""Runs that are killed, interrupted, out of room or asked something else, and the ones that follow."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.annotate_data import Blobs, contents, make_photos
from masklet.annotate import AnnotateOptions, Summary, annotate, auto_annotate, resume_log
from masklet.errors import InputError, MaskletWarning, OutputError, StateError

DRIVER = Path(__file__).parents[1] / "helpers" / "annotate_driver.py"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 8)


def label(photos: Path, out: Path, **more: Any) -> Summary:
    detector = more.pop("det_model", None) or Blobs()
    return auto_annotate(photos, detector, output_dir=out, detector_masks=True, **{"batch": 1, **more})


def run(photos: Path, out: Path, log: Path, **trouble: int) -> int:
    words = [sys.executable, str(DRIVER), str(photos), str(out), str(log), json.dumps(trouble)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=env, timeout=240, capture_output=True).returncode


@pytest.fixture
def undisturbed(photos: Path, tmp_path: Path) -> dict[str, bytes]:
    """What comes of a run that nothing happens to."""
    options = {"formats": ("yolo", "coco"), "split": 0.5, "review": 0.5}
    label(photos, tmp_path / "whole", batch=2, **options)
    return contents(tmp_path / "whole")


@pytest.mark.parametrize("trouble", [{"die_at": 4}, {"die_writing": 6}])
def test_a_killed_run_goes_on_and_does_nothing_twice(
    photos: Path, tmp_path: Path, undisturbed: dict[str, bytes], trouble: dict[str, int]
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert run(photos, out, log, **trouble) == -9
    assert not [path for path in out.rglob("*") if path.name.startswith(".") and path.name != ".masklet"]
    assert 0 < len(log.read_text().split()) < 9
    assert run(photos, out, log) == 0
    assert contents(out) == undisturbed
    looked = Counter(log.read_text().split())
    assert len(looked) == 9
    assert set(looked.values()) == {1}


def test_several_workers_make_the_same_files(photos: Path, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert run(photos, out, log, workers=2) == 0
    assert contents(out) == undisturbed
    assert set(Counter(log.read_text().split()).values()) == {1}


def test_a_worker_that_dies_is_an_error_and_what_was_found_is_kept(photos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with pytest.raises(StateError, match=r"ended without a word.*fewer workers"):
        label(photos, out, det_model=Blobs(log, die_at=3), workers=2)
    summary = label(photos, out, det_model=Blobs(log))
    assert summary.images == 9
    assert summary.done_before >= 1


def test_what_a_worker_refuses_is_refused_here(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class 'blue' is unknown"):
        label(photos, tmp_path / "out", classes=["blue"], workers=2)
    with pytest.raises(InputError, match=r"cannot be sent to other processes.*top of a module"):
        label(photos, tmp_path / "out", det_model=lambda rgb: ([], [], []), workers=2)
    assert label(photos, tmp_path / "out").images == 9  # what was refused does not stand in the way


def test_ctrl_c_loses_nothing(photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        label(photos, tmp_path / "out", det_model=Blobs(log, stop_at=4))
    assert len(list((tmp_path / "out").rglob("p*.txt"))) == 2  # and nothing.png: it comes first
    summary = label(photos, tmp_path / "out", det_model=Blobs(log))
    assert (summary.done_before, summary.images) == (3, 9)
    assert set(Counter(log.read_text().split()).values()) == {1}


def test_leaving_the_iterator_is_no_loss_either(photos: Path, tmp_path: Path) -> None:
    asked = AnnotateOptions(Blobs(), detector_masks=True, batch=1)
    stream = annotate(photos, asked, tmp_path / "out")
    names = [next(stream).name for _ in range(5)]
    stream.close()
    rest = [progress.name for progress in annotate(photos, asked, tmp_path / "out") if progress.name]
    assert sorted({*names, *rest}) == sorted([*names[1:], *rest])  # broken.jpg is tried again, the others are not


def test_a_finished_run_has_nothing_to_do_until_there_is_more(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    detector = Blobs()
    assert label(photos, tmp_path / "out", det_model=detector).done_before == 9
    assert detector.seen == 0
    Image.new("RGB", (30, 20), (0, 255, 0)).save(photos / "more.png")
    Image.new("RGB", (31, 20), (0, 255, 0)).save(photos / "broken.jpg", "PNG")  # mended
    summary = label(photos, tmp_path / "out", det_model=detector)
    assert detector.seen == 2
    assert (summary.images, summary.failures) == (11, ())


def test_other_settings_are_refused_with_the_remedy_and_anew_begins_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(photos, out)
    (out / "mine.txt").write_text("not of a run")
    with pytest.raises(InputError, match=r"conf was 0.25, now 0.5.*choose another output folder, or begin anew"):
        label(photos, out, conf=0.5)
    summary = label(photos, out, classes=["green"], resume=False)
    assert dict(summary.by_class) == {"green": 4}
    assert (out / "p0.txt").read_text() == ""
    assert (out / "mine.txt").exists()
    (photos / "p0.png").unlink()
    label(photos, out, formats=["yolo"], resume=False)
    assert not list(out.glob("p*.txt"))
    label(photos, out, resume=False)
    assert not (out / "yolo").exists()


def test_how_many_work_at_it_may_change(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", batch=3, review=0)
    assert label(photos, tmp_path / "out", batch=2, workers=2, device="cpu").done_before == 9


def test_a_changed_image_is_told_of(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    Image.new("RGB", (30, 20), (0, 255, 0)).save(photos / "p0.png")
    with pytest.warns(MaskletWarning, match=r"1 image\(s\) changed since they were annotated \(p0"):
        label(photos, tmp_path / "out")


def test_labels_that_were_removed_are_written_again_without_looking(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    text = (tmp_path / "out/p1.txt").read_text()
    (tmp_path / "out/p1.txt").unlink()
    detector = Blobs()
    label(photos, tmp_path / "out", det_model=detector)
    assert detector.seen == 0
    assert (tmp_path / "out/p1.txt").read_text() == text


def test_a_full_disk_is_said_and_leaves_whole_lines(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write, room = os.write, 1500

    def short(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(room, len(data))
        room -= taken
        return write(descriptor, bytes(data[:taken]))

    monkeypatch.setattr(resume_log.os, "write", short)
    with pytest.raises(OutputError, match=r"No space left on device.*is kept: make room and run the same again"):
        label(photos, out)
    monkeypatch.undo()
    lines = (out / ".masklet/annotate.jsonl").read_text()
    assert lines.endswith("\n")
    assert all(json.loads(line) for line in lines.splitlines())
    detector = Blobs()
    summary = label(photos, out, det_model=detector)
    assert summary.images == 9
    assert 0 < summary.done_before == 9 - detector.seen


def test_labels_for_which_there_is_no_room_come_with_the_next_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masklet.datasets.formats import yolo

    write, written = yolo.write_text, 0

    def full(path: Path, text: str) -> Path:
        nonlocal written
        written += 1
        if written == 4:
            raise OutputError(f"{path} could not be written (No space left on device); make room")
        return write(path, text)

    monkeypatch.setattr(yolo, "write_text", full)
    with pytest.raises(OutputError, match="No space left on device"):
        label(photos, tmp_path / "out")
    monkeypatch.undo()
    detector = Blobs()
    assert label(photos, tmp_path / "out", det_model=detector).images == 9
    assert detector.seen == 9 - 4  # the fourth had been found, and is written from what was remembered
    assert len(list((tmp_path / "out").rglob("*.txt"))) == 9 + 1
