"""Runs that are killed, interrupted, out of disk space or restarted with other options, and how they resume."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.annotate_data import Blobs, contents, downgrade_log, make_photos
from helpers.forked_python import python_process
from masklet.annotate import AnnotateOptions, Summary, annotate, auto_annotate
from masklet.annotate.events import BatchDone, FrameDone
from masklet.annotate.inputs import InputFile, list_inputs
from masklet.annotate.labeler import annotate_batches
from masklet.detect import Detections
from masklet.errors import InputError, MaskletWarning, OutputError, StateError

DRIVER = Path(__file__).parents[1] / "helpers" / "annotate_driver.py"
OLD_KEYS = json.loads((Path(__file__).parent / "old_keys.json").read_text(encoding="utf-8"))
"""The keys of earlier versions by the current ones."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 8)


def label(photos: Path, out: Path, **more: Any) -> Summary:
    detector = more.pop("det_model", None) or Blobs()
    return auto_annotate(photos, detector, output_dir=out, detector_masks=True, **{"batch": 1, **more})


def run(photos: Path, out: Path, log: Path, **options: int) -> int:
    command = [str(DRIVER), str(photos), str(out), str(log), json.dumps(options)]
    search_path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"}
    if "workers" in options:  # fresh, and so are they
        return subprocess.run([sys.executable, *command], env=env, timeout=240, capture_output=True).returncode
    process = python_process(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.communicate(timeout=240)
    return int(process.returncode)


@pytest.fixture
def uninterrupted(photos: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of a run without an interruption."""
    options = {"formats": ("yolo", "coco"), "val_fraction": 0.5, "review_fraction": 0.5}
    label(photos, tmp_path / "complete", batch=2, **options)
    return contents(tmp_path / "complete")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"kill_at": 4}, {"kill_writing": 6}])
def test_killed_run_resumes_and_annotates_nothing_twice(
    photos: Path, tmp_path: Path, uninterrupted: dict[str, bytes], options: dict[str, int]
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert run(photos, out, log, **options) == -9
    assert not [path for path in out.rglob("*") if path.name.startswith(".") and path.name != ".masklet"]
    assert 0 < len(log.read_text().split()) < 9
    assert run(photos, out, log) == 0
    assert contents(out) == uninterrupted
    counts = Counter(log.read_text().split())
    assert len(counts) == 9
    assert set(counts.values()) == {1}


@pytest.mark.slow
def test_several_workers_write_the_same_files(photos: Path, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert run(photos, out, log, workers=2) == 0
    assert contents(out) == uninterrupted
    assert set(Counter(log.read_text().split()).values()) == {1}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_killed_worker_is_an_error_and_its_results_are_kept(photos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with pytest.raises(StateError, match=r"masklet annotate \d .*ended without an error message.*fewer workers"):
        label(photos, out, det_model=Blobs(log, kill_at=3), workers=2)
    summary = label(photos, out, det_model=Blobs(log))
    assert summary.images == 9
    assert summary.done_before >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_error_in_a_worker_is_raised_in_the_main_process(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class 'blue' is unknown"):
        label(photos, tmp_path / "out", classes=["blue"], workers=2)
    with pytest.raises(InputError, match=r"cannot be sent to other processes.*top of a module"):
        label(photos, tmp_path / "out", det_model=lambda rgb: ([], [], []), workers=2)
    assert label(photos, tmp_path / "out").images == 9  # a refused run does not block the next


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_models_are_made_once_per_worker_and_a_warning_reaches_the_main_process(photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.warns(MaskletWarning, match="image 1 of a worker") as caught:
        summary = label(photos, tmp_path / "out", det_model=WarningBlobs(log), workers=2)
    assert 1 <= len(caught) <= 2  # each detector counts its images from 1
    assert (summary.images, len(summary.failures)) == (9, 1)  # broken.jpg fails alone
    assert set(Counter(log.read_text().split()).values()) == {1}


class WarningBlobs(Blobs):
    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        found = super().detect(images)
        if self.num_images == 1:
            warnings.warn("image 1 of a worker", MaskletWarning, stacklevel=2)
        return found


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_interrupted_workers_hand_over_what_is_done_and_end(photos: Path, tmp_path: Path) -> None:
    options = AnnotateOptions(Blobs(), detector_masks=True, workers=2)
    inputs = [item for item in list_inputs(photos) if item.name != "broken"]

    def batches() -> Iterator[list[InputFile]]:
        yield from ([item] for item in inputs[:4])
        raise KeyboardInterrupt  # as the fifth is pulled: the first of the four is done

    events: list[FrameDone | BatchDone] = []
    with pytest.raises(KeyboardInterrupt):
        events.extend(annotate_batches(batches(), options, tmp_path))
    names = [done.item.name for event in events if isinstance(event, BatchDone) for done in event.done]
    assert 1 <= len(names) == len(set(names)) <= 4
    assert not multiprocessing.active_children()


def test_interrupted_run_loses_nothing(photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        label(photos, tmp_path / "out", det_model=Blobs(log, interrupt_at=4))
    assert len(list((tmp_path / "out").rglob("p*.txt"))) == 2  # and nothing.png: it comes first
    summary = label(photos, tmp_path / "out", det_model=Blobs(log))
    assert (summary.done_before, summary.images) == (3, 9)
    assert set(Counter(log.read_text().split()).values()) == {1}


def test_leaving_the_iterator_loses_nothing(photos: Path, tmp_path: Path) -> None:
    options = AnnotateOptions(Blobs(), detector_masks=True, batch=1)
    stream = annotate(photos, options, tmp_path / "out")
    names = [next(stream).name for _ in range(5)]
    stream.close()
    rest = [progress.name for progress in annotate(photos, options, tmp_path / "out") if progress.name]
    assert sorted({*names, *rest}) == sorted([*names[1:], *rest])  # broken.jpg is tried again, the others are not


def test_finished_run_annotates_only_new_images(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    detector = Blobs()
    assert label(photos, tmp_path / "out", det_model=detector).done_before == 9
    assert detector.num_images == 0
    Image.new("RGB", (30, 20), (0, 255, 0)).save(photos / "more.png")
    Image.new("RGB", (31, 20), (0, 255, 0)).save(photos / "broken.jpg", "PNG")  # now readable
    summary = label(photos, tmp_path / "out", det_model=detector)
    assert detector.num_images == 2
    assert (summary.images, summary.failures) == (11, ())


def test_other_options_are_refused_and_can_overwrite(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(photos, out)
    (out / "mine.txt").write_text("not of a run")
    with pytest.raises(InputError, match=r"conf was 0.25, now 0.5.*choose another output folder, or overwrite it"):
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


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_number_of_workers_may_change(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out", batch=3, review_fraction=0)
    assert label(photos, tmp_path / "out", batch=2, workers=2, device="cpu").done_before == 9


def test_changed_image_is_reported(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    Image.new("RGB", (30, 20), (0, 255, 0)).save(photos / "p0.png")
    with pytest.warns(MaskletWarning, match=r"1 image\(s\) changed since they were annotated \(p0"):
        label(photos, tmp_path / "out")


def test_removed_labels_are_written_again_without_detection(photos: Path, tmp_path: Path) -> None:
    label(photos, tmp_path / "out")
    text = (tmp_path / "out/p1.txt").read_text()
    (tmp_path / "out/p1.txt").unlink()
    detector = Blobs()
    label(photos, tmp_path / "out", det_model=detector)
    assert detector.num_images == 0
    assert (tmp_path / "out/p1.txt").read_text() == text


def test_full_disk_is_reported_and_leaves_complete_lines(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    connect = sqlite3.connect

    def connect_small(path: Path, **options: Any) -> sqlite3.Connection:
        connection = connect(path, **options)
        if path.name == "annotate.sqlite":
            connection.execute("PRAGMA page_size = 512")
            connection.execute("PRAGMA max_page_count = 14")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_small)
    with pytest.raises(OutputError, match=r"No space left on device.*are kept: free disk space and run the same again"):
        label(photos, out)
    monkeypatch.undo()
    with closing(sqlite3.connect(out / ".masklet/annotate.sqlite")) as connection:
        lines = [line for (line,) in connection.execute("SELECT line FROM lines")]
        (items,) = connection.execute("SELECT count(*) FROM items").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(lines) == items > 0
    assert all(json.loads(line) for line in lines)
    detector = Blobs()
    summary = label(photos, out, det_model=detector)
    assert summary.images == 9
    assert 0 < summary.done_before == 9 - detector.num_images


def test_labels_that_did_not_fit_are_written_by_the_next_run(
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
    assert detector.num_images == 9 - 4  # the fourth was annotated, and its labels are written from the log
    assert len(list((tmp_path / "out").rglob("*.txt"))) == 9 + 1


def test_log_of_an_earlier_version_is_resumed(photos: Path, tmp_path: Path) -> None:
    """Earlier versions wrote other keys, and as `split` the fraction for training."""
    options = {"formats": ("yolo",), "val_fraction": 0.2}
    first = label(photos, tmp_path / "out", **options)
    expected = contents(tmp_path / "out")
    settings, log = downgrade_log(tmp_path / "out")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    records = [{OLD_KEYS["record"].get(key, key): value for key, value in record.items()} for record in records]
    assert sum("part" in record for record in records) == 10
    log.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    document = json.loads(settings.read_text())
    for new, old in OLD_KEYS["settings"].items():
        document[old] = document.pop(new)
    document["split"] = 1 - document.pop("val_fraction")
    settings.write_text(json.dumps(document))
    detector = Blobs()
    summary = label(photos, tmp_path / "out", det_model=detector, **options)
    assert (summary.done_before, detector.num_images) == (9, 0)
    assert summary.splits == first.splits
    assert contents(tmp_path / "out") == expected


def test_summary_of_an_earlier_version_is_read(photos: Path, tmp_path: Path) -> None:
    summary = label(photos, tmp_path / "out", val_fraction=0.2)
    text = (tmp_path / "out/summary.json").read_text()
    assert Summary.from_json(text) == replace(summary, losses=Summary.from_json(text).losses)
    document = json.loads(text)
    for new, old in OLD_KEYS["summary"].items():
        document[old] = document.pop(new)
    document["by_class"] = {"earlier": 3, **document["by_class"]}
    assert Summary.from_json(json.dumps(document)) == replace(
        Summary.from_json(text), by_class={"earlier": 3, **summary.by_class}
    )
