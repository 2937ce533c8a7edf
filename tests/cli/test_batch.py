"""masklet batch: a source in, a file for each item out, and the exit code of the outcome."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.batch_stage import LoggingStage, write_images
from masklet.scale.item_files import read_item_file

Masklet = Callable[..., Any]


@pytest.fixture
def stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoggingStage:
    """Whatever the task, each item costs nothing."""
    logging = LoggingStage(folder / "seen.log")
    made = sys.modules["masklet.cli.batch"]._stage
    monkeypatch.setattr(sys.modules["masklet.cli.batch"], "_stage", lambda *args: (logging, made(*args)[1]))
    write_images(folder / "photos", ["1.jpg", "2.jpg", "cats/3.jpg"])
    return logging


def test_a_source_becomes_files_and_a_manifest(masklet: Masklet, folder: Path, stage: LoggingStage) -> None:
    done = masklet("batch", "photos", "--out", "out")
    assert (done.code, done.err) == (0, "")
    assert done.out == "shard 0/1: 3 done, 0 failed, 0 finished before -> out\n"
    assert json.loads((folder / "out/items/cats/3.jpg.json").read_text())["item"] == "cats/3.jpg"
    again = masklet("batch", "photos", "--out", "out", "--resume", "--quiet")
    assert (again.code, again.out, len(stage.seen())) == (0, "", 3)
    assert masklet("batch", "photos", "--out", "out", "--overwrite").code == 0
    assert len(stage.seen()) == 6


def test_the_exit_code_says_what_happened(masklet: Masklet, folder: Path, stage: LoggingStage) -> None:
    write_images(folder / "photos", ["bad.jpg"])
    done = masklet("batch", "photos", "--out", "out")
    assert (done.code, done.err) == (1, "masklet: bad.jpg: a bad image\n")
    assert "3 done, 1 failed" in done.out
    allowed = masklet("batch", "photos", "--out", "out", "--allow-failed")
    assert (allowed.code, "1 failed, 3 finished before" in allowed.out) == (0, True)
    for words, message in [
        (("photos", "--out", "out", "--task", "embed"), "task was 'everything', now 'embed'"),
        (("photos", "--out", "out", "--shard", "2/2"), "numbered from 0 to 1"),
        (("photso", "--out", "out"), "did you mean 'photos'"),
        (("photos", "--out", "out", "--lease", "0.1"), "120 is usual"),
        (("photos", "--out", "out", "--task", "draw"), "--task"),
        (("photos", "--out", "out", "--on", "ray", "--shard", "0/2"), "goes without --shard"),
        (("photos",), "--out"),
    ]:
        wrong = masklet("batch", *words)
        assert wrong.code == 2, words
        assert message in wrong.err
        assert len(wrong.err.splitlines()) == 1


def test_a_long_run_writes_its_progress_to_the_log(
    masklet: Masklet, folder: Path, stage: LoggingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["masklet.cli.batch"], "LOG_INTERVAL_S", 0.0)
    lines = masklet("batch", "photos", "--out", "out").err.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"masklet: shard 0/1: 3 done, 0 failed, 0 finished before, \d+\.\d\d items/s", lines[-1])
    assert masklet("batch", "photos", "--out", "out", "--quiet").err == ""


def test_auto_takes_the_shard_of_the_job(
    masklet: Masklet, folder: Path, stage: LoggingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    for rank in range(2):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        done = masklet("batch", "photos", "--out", "out", "--shard", "auto")
        assert (done.code, f"shard {rank}/2" in done.out) == (0, True)
    assert sorted(stage.seen()) == ["1.jpg", "2.jpg", "cats/3.jpg"]


def test_manifests_are_merged(masklet: Masklet, folder: Path, stage: LoggingStage) -> None:
    masklet("batch", "photos", "--out", "out", "--shard", "0/2")
    missing = 3 - len(stage.seen())
    assert 0 < missing < 3
    done = masklet("batch", "merge", "out", "--source", "photos")
    assert done.code == 1
    assert f"{missing} missing" in done.out
    assert "is missing: run its shard again" in done.err
    masklet("batch", "photos", "--out", "out", "--shard", "1/2")
    done = masklet("batch", "merge", "out", "--source", "photos", "--to", "coco")
    assert (done.code, done.err) == (0, "")
    assert "3 done, 0 failed, 0 missing" in done.out
    assert "-> out/coco.json" in done.out
    assert len((folder / "out/manifest.jsonl").read_text().splitlines()) == 3
    assert masklet("batch", "merge", "photos").code == 2
    assert masklet("batch", "merge", "out", "--to", "webdataset").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes(
    masklet: Masklet,
    folder: Path,
    stage: LoggingStage,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    number: int,
) -> None:
    call = LoggingStage.__call__
    if number == signal.SIGINT:  # ignored where the tests run in the background
        request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.default_int_handler)))

    def stop_at_the_second(self: LoggingStage, batch: dict[str, Any]) -> dict[str, Any]:
        if batch["item"] == ["2.jpg"]:
            os.kill(os.getpid(), number)
        return call(self, batch)

    monkeypatch.setattr(LoggingStage, "__call__", stop_at_the_second)
    stopped = masklet("batch", "photos", "--out", "out")
    assert stopped.code == 130
    assert "the same command resumes" in stopped.err
    assert not [path for path in (folder / "out/.masklet").rglob("*") if path.is_file()]
    monkeypatch.setattr(LoggingStage, "__call__", call)
    done = masklet("batch", "photos", "--out", "out")
    assert done.code == 0
    assert sorted(stage.seen()) == ["1.jpg", "2.jpg", "cats/3.jpg"]


def test_addresses_are_printed_without_credentials(masklet: Masklet, folder: Path, stage: LoggingStage) -> None:
    pytest.importorskip("fsspec")
    (folder / "list.txt").write_text("memory://me:hunter2@cli/gone.jpg?token=hunter2\n")
    done = masklet("batch", "list.txt", "--out", "memory://me:hunter2@cli/out")
    assert done.code == 1
    assert "hunter2" not in done.out + done.err
    assert "memory://cli/gone.jpg" in done.err


def test_each_task_has_its_stage() -> None:
    from masklet.cli.batch import Task, _stage
    from masklet.scale import Annotator, Embedder, Segmenter, VideoTracker

    words = (None, "cpu", "auto", "everything", None, "everything", None, ["dog", "2"], True, 4)
    kinds = {task: _stage(task, *words) for task in Task}
    assert [type(kinds[task][0]) for task in Task] == [Segmenter, Annotator, VideoTracker, Embedder]
    annotator = kinds[Task.ANNOTATE][0]
    assert isinstance(annotator, Annotator)
    assert (annotator.options.detect.classes, annotator.options.batch) == (("dog", 2), 4)
    assert [kinds[task][1].get("everything") for task in Task] == ["default", "default", "fast", None]


def test_a_model_embeds_an_image(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    done = masklet("batch", "a.png", "--out", "out", "--model", builtin_file, "--task", "embed")
    assert (done.code, done.err) == (0, "")
    found = read_item_file("out", "a.png")
    assert found is not None
    assert [len(found[0]["embedding"])] == found[0]["shape"]
    assert np.isfinite(found[0]["embedding"]).all()
    assert (found[0]["width"], found[0]["height"]) == (64, 48)
