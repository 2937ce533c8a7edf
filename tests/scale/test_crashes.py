"""Items that end the process which runs them: they become failed items, and the others are finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.annotate_data import make_photos
from masklet.scale.crash_marks import CrashMarks
from masklet.scale.items import ItemSource
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import BatchOptions, BatchWorker
from masklet.scale.storage import LocalStorage

CRASHING = """
import os, sys
from masklet.scale.items import ItemSource
from masklet.scale.run_batch import BatchOptions, run_batch

def stage(batch):
    if any("3" in item for item in batch["item"]):
        os._exit(9)
    return {"item": batch["item"], "error": [""] * len(batch["item"])}

list(run_batch(ItemSource([sys.argv[1]]), stage, sys.argv[2], BatchOptions(batch_size=2, max_crashes=2)))
"""


@pytest.mark.slow
def test_an_item_that_ends_its_process_becomes_a_failed_item(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 6)
    (tmp_path / "photos" / "broken.jpg").unlink()
    out = tmp_path / "out"
    command = [sys.executable, "-c", CRASHING, str(tmp_path / "photos"), str(out)]
    codes = [subprocess.run(command, env=os.environ, timeout=60).returncode for _ in range(4)]
    assert codes == [9, 9, 9, 0]  # once together with others, twice alone
    summary = merge_batch(out, source=ItemSource([tmp_path / "photos"]))
    assert (summary.failed, summary.missing) == (1, 0)
    assert "ended 2 times" in summary.failures[0][1]
    left = [path for path in (out / ".masklet").rglob("*") if path.is_file() and "leases" not in path.parts]
    assert not left  # a process that ended can leave the lease of what it had finished


def test_marks_are_counted_for_each_item(tmp_path: Path) -> None:
    marks = CrashMarks(LocalStorage(), str(tmp_path), 2)
    assert [marks.add("a"), marks.add("b"), marks.add("a"), marks.add("a")] == [True, True, True, False]
    marks.clear("a")
    assert marks.add("a")


def test_a_worker_processes_several_lists(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    items = [item for item in ItemSource([tmp_path / "photos"]) if "broken" not in item.name][:4]
    out = tmp_path / "out"

    def stage(batch):
        return {"item": list(batch["item"]), "error": [""] * len(batch["item"])}

    with BatchWorker(stage, out, BatchOptions(batch_size=2)) as worker:
        first = [one.outcome for one in worker.process(items[:2])]
        second = [one.outcome for one in worker.process(items)]
    assert (first, sorted(second)) == (["done"] * 2, ["done"] * 2 + ["finished before"] * 2)
    [manifest] = (out / "manifest").iterdir()
    assert {json.loads(line)["item"] for line in manifest.read_text().splitlines()} == {item.name for item in items}
