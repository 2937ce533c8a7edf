"""A stage over the items of a source: every item once, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers import batch_stage
from helpers.batch_stage import LoggingStage, write_images
from masklet.errors import InputError, ModelError, OutputError, SourceError
from masklet.scale.batch_manifest import ManifestRow, read_manifests
from masklet.scale.item_files import read_item_file
from masklet.scale.items import ItemSource
from masklet.scale.leases import Leases
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import BatchOptions, BatchProgress, run_batch
from masklet.scale.shards import Shard
from masklet.scale.storage import LocalStorage, storage_of

NAMES = ["1.jpg", "2.jpg", "10.jpg", "cats/a.png", "cats/b.png"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos", NAMES)
    return tmp_path / "photos"


@pytest.fixture(params=["local", "memory"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out")
    pytest.importorskip("fsspec")
    return f"memory://batch{tmp_path}"


@pytest.fixture
def stage(tmp_path: Path) -> LoggingStage:
    return LoggingStage(tmp_path / "seen.log")


def run(photos: Path, stage: LoggingStage, out: str, **options: object) -> list[BatchProgress]:
    return list(run_batch(ItemSource([photos]), stage, out, BatchOptions(**options)))  # type: ignore[arg-type]


def rows(out: str) -> list[ManifestRow]:
    return list(read_manifests(storage_of(out), out))


def test_every_item_has_a_file_and_a_line(photos: Path, stage: LoggingStage, out: str) -> None:
    progress = run(photos, stage, out)
    assert [one.item for one in progress] == stage.seen() == NAMES
    assert (progress[-1].done, progress[-1].failed, progress[-1].finished_before) == (5, 0, 0)
    found = read_item_file(out, "cats/a.png")
    assert found is not None
    row, size = found
    assert row["item"] == "cats/a.png"
    assert row["digest"] == row["sha256"] == next(one.sha256 for one in rows(out) if one.item == "cats/a.png")
    assert {one.item: one.size for one in rows(out)}["cats/a.png"] == size
    assert all(one.outcome == "done" and one.error == "" and one.shard == "0/1" for one in rows(out))
    leases = storage_of(out).walk(f"{out}/.masklet/leases") if storage_of(out).is_folder(f"{out}/.masklet") else []
    assert list(leases) == []


def test_what_is_finished_is_not_done_again(photos: Path, stage: LoggingStage, out: str) -> None:
    run(photos, stage, out)
    write_images(photos, ["3.jpg"])
    progress = run(photos, stage, out)
    assert stage.seen() == [*NAMES, "3.jpg"]
    assert (progress[-1].done, progress[-1].finished_before) == (1, 5)
    run(photos, stage, out, resume=False)
    assert Counter(stage.seen()) == Counter([*NAMES, *NAMES, "3.jpg", "3.jpg"])


def test_a_broken_item_is_a_line_and_does_not_end_the_run(photos: Path, stage: LoggingStage, out: str) -> None:
    write_images(photos, ["bad.jpg", "bug.jpg"])
    progress = run(photos, stage, out, batch_size=3)
    assert (progress[-1].done, progress[-1].failed) == (5, 2)
    errors = {one.item: one.error for one in rows(out) if one.outcome == "failed"}
    assert errors["bad.jpg"] == "a bad image"
    assert "unexpected error RuntimeError: a bug" in errors["bug.jpg"]
    assert json.loads(storage_of(out).read(f"{out}/failed/bad.jpg.json"))["error"] == "a bad image"
    assert read_item_file(out, "bad.jpg") is None
    (photos / "bug.jpg").unlink()
    time.sleep(0.02)
    assert run(photos, stage, out)[-1].failed == 1  # tried again
    assert stage.seen().count("bad.jpg") == 2
    assert stage.seen().count("1.jpg") == 1


def test_an_item_that_succeeds_later_is_no_failure_any_more(photos: Path, stage: LoggingStage, out: str) -> None:
    class Offline:
        def __call__(self, batch: dict[str, list[object]]) -> dict[str, list[object]]:
            raise SourceError("no network")

    list(run_batch(ItemSource([photos]), Offline(), out))
    assert storage_of(out).find(f"{out}/failed/1.jpg.json") is not None
    time.sleep(0.02)
    assert run(photos, stage, out)[-1].done == 5
    assert storage_of(out).find(f"{out}/failed/1.jpg.json") is None


def test_a_file_that_was_cut_short_is_written_again(photos: Path, stage: LoggingStage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, stage, str(out))
    files = [out / "items/1.jpg.json", out / "items/cats/a.png.json"]
    complete = [file.read_bytes() for file in files]
    files[0].write_bytes(complete[0][:20])  # a copy that was cut
    files[1].unlink()
    for manifest in (out / "manifest").iterdir():  # killed before the line of 2.jpg was complete
        lines = [line for line in manifest.read_text().splitlines() if '"2.jpg"' not in line]
        manifest.write_text("\n".join(lines) + '\n{"item":"2.jpg","sour')
    progress = run(photos, stage, str(out))
    assert stage.seen()[5:] == ["1.jpg", "cats/a.png"]
    assert [file.read_bytes() for file in files] == complete
    assert (progress[-1].done, progress[-1].finished_before) == (2, 3)
    assert "2.jpg" in {one.item for one in rows(str(out))}


def test_an_error_that_concerns_every_item_ends_the_run(photos: Path, out: str) -> None:
    def no_model(batch: object) -> dict[str, list[object]]:
        raise ModelError("no such model")

    with pytest.raises(ModelError):
        list(run_batch(ItemSource([photos]), no_model, out))
    with pytest.raises(SourceError, match="has none of the images"):
        list(run_batch(ItemSource([photos.parent / "photos/*.gif"]), no_model, out))


def test_a_full_disk_ends_the_run_and_the_next_one_resumes(
    photos: Path, tmp_path: Path, stage: LoggingStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, out = LocalStorage.write, str(tmp_path / "out")

    def write_until_full(self: LocalStorage, location: str, content: bytes) -> None:
        if location.endswith("10.jpg.json"):
            raise OutputError("no space left")
        write(self, location, content)

    monkeypatch.setattr(LocalStorage, "write", write_until_full)
    with pytest.raises(OutputError, match="no space left"):
        run(photos, stage, out)
    assert {"1.jpg", "2.jpg"} <= {one.item for one in rows(out)} <= {*NAMES} - {"10.jpg"}
    monkeypatch.setattr(LocalStorage, "write", write)
    progress = run(photos, stage, out)
    assert progress[-1].done + progress[-1].finished_before == 5
    assert {one.item for one in rows(out)} == set(NAMES)
    assert set(Counter(stage.seen()).values()) <= {1, 2}
    assert stage.seen().count("1.jpg") == 1


def test_other_settings_are_refused(photos: Path, stage: LoggingStage, out: str) -> None:
    source = ItemSource([photos])
    list(run_batch(source, stage, out, settings={"model": "a.pt", "task": "embed"}))
    with pytest.raises(InputError, match=r"model was 'a\.pt', now 'b\.pt'"):
        list(run_batch(source, stage, out, settings={"model": "b.pt", "task": "embed"}))
    list(run_batch(source, stage, out, BatchOptions(resume=False), settings={"model": "b.pt", "task": "embed"}))
    assert len(stage.seen()) == 10


def test_shards_together_do_every_item_once(tmp_path: Path, stage: LoggingStage, out: str) -> None:
    names = [f"{number}.jpg" for number in range(40)]
    write_images(tmp_path / "photos", names)
    for index in range(3):
        list(run_batch(ItemSource([tmp_path / "photos"], shard=Shard(index, 3)), stage, out))
        assert 0 < len(stage.seen()) < 40 or index == 2
    assert Counter(stage.seen()) == Counter(names)
    again = [list(run_batch(ItemSource([tmp_path / "photos"], shard=Shard(n, 5)), stage, out)) for n in range(5)]
    assert sum(one[-1].finished_before for one in again if one) == 40  # another number of shards finds them as well
    assert len(stage.seen()) == 40


def test_arrays_are_stored_as_they_are(photos: Path, out: str) -> None:
    def embed(batch: dict[str, list[object]]) -> dict[str, list[object]]:
        numbers = [np.arange(3, dtype=np.float32) + len(str(name)) for name in batch["item"]]
        return {
            "item": batch["item"],
            "embedding": numbers,
            "shape": [[3]] * len(numbers),
            "error": [""] * len(numbers),
        }

    list(run_batch(ItemSource([photos]), embed, out, BatchOptions(batch_size=2)))  # type: ignore[arg-type]
    found = read_item_file(out, "10.jpg")
    assert found is not None
    assert found[0]["embedding"].tolist() == [6.0, 7.0, 8.0]
    assert found[0]["embedding"].dtype == np.float32
    assert found[0]["shape"] == [3]


def test_batches_have_the_size_and_videos_go_alone(tmp_path: Path, out: str) -> None:
    write_images(tmp_path, ["a.mp4", "b.mp4"])
    batches = []

    def track(batch: dict[str, list[object]]) -> dict[str, list[object]]:
        batches.append({name: len(column) for name, column in batch.items()})
        assert Path(str(batch["path"][0])).read_bytes() == b"content of " + str(batch["item"][0]).encode()
        return {"item": batch["item"], "error": [""]}

    list(run_batch(ItemSource([tmp_path], "videos"), track, out, BatchOptions(batch_size=4)))  # type: ignore[arg-type]
    assert batches == [{"item": 1, "path": 1}] * 2


def test_names_that_are_too_long_or_odd_have_files(tmp_path: Path, stage: LoggingStage, out: str) -> None:
    names = ["x" * 245 + ".jpg", "ü\n.jpg", "a" * 100 + "/" + "b" * 210 + ".jpg"]
    write_images(tmp_path / "photos", names)
    assert run(tmp_path / "photos", stage, out)[-1].done == 3
    assert run(tmp_path / "photos", stage, out)[-1].finished_before == 3


def test_ctrl_c_gives_leases_back_and_loses_nothing(photos: Path, tmp_path: Path) -> None:
    out, stage = str(tmp_path / "out"), LoggingStage(tmp_path / "seen.log")
    events = run_batch(ItemSource([photos]), stage, out)
    next(events)
    events.close()  # as an exception in the loop does
    assert [path for path in (tmp_path / "out/.masklet").rglob("*") if path.is_file()] == []
    assert run(photos, stage, out)[-1].done + len({one.item for one in rows(out)}) >= 5
    assert Counter(stage.seen()) == Counter(NAMES)


def start(photos: Path, out: Path, log: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, batch_stage.__file__, str(photos), str(out), str(log), json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_two_processes_with_one_shard_do_no_item_twice(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(60)]
    write_images(tmp_path / "photos", names)
    log = tmp_path / "seen.log"
    both = [start(tmp_path / "photos", tmp_path / "out", log, seconds=0.02) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert Counter(log.read_text().splitlines()) == Counter(names)
    done = [sum(line.endswith(" done") for line in lines) for lines in printed]
    assert sum(done) == 60
    assert all(len(lines) == 60 for lines in printed)  # each tells of all items


def test_after_a_kill_the_next_process_does_what_is_left(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(30)]
    write_images(tmp_path / "photos", names)
    log, out = tmp_path / "seen.log", tmp_path / "out"
    with start(tmp_path / "photos", out, log, seconds=0.05) as process:
        assert process.stdout is not None
        for _ in range(8):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    finished = {path.name.removesuffix(".json") for path in (out / "items").iterdir() if not path.name.startswith(".")}
    assert 8 <= len(finished) < 30
    again = start(tmp_path / "photos", out, log)
    again.communicate(timeout=60)
    assert again.returncode == 0
    seen = Counter(log.read_text().splitlines())
    assert set(seen) == set(names)
    assert [name for name in finished if seen[name] != 1] == []  # what was finished is not done again
    assert sum(seen.values()) <= 30 + 9  # only what was being written at that moment is
    assert {one.item for one in rows(str(out))} == set(names)


def test_what_another_process_has_is_waited_for(photos: Path, tmp_path: Path, stage: LoggingStage) -> None:
    out = str(tmp_path / "out")
    with Leases(storage_of(out), f"{out}/.masklet/leases", 30) as other:
        assert other.take("2.jpg")
        events = run_batch(ItemSource([photos]), stage, out, BatchOptions(lease_s=2.0))
        first = [next(events).item for _ in range(4)]
        assert "2.jpg" not in first
        other.release("2.jpg")  # as if it had been stopped
        assert [one.item for one in events] == ["2.jpg"]


@pytest.mark.slow
def test_whatever_is_killed_every_item_is_done(tmp_path: Path) -> None:
    """Three processes with one shard; again and again one of them is killed and another one started."""
    names = [f"{number // 50}/{number}.jpg" for number in range(600)]
    write_images(tmp_path / "photos", names)
    log, out = tmp_path / "seen.log", tmp_path / "out"
    options = {"seconds": 0.02, "lease_s": 20, "read_ahead": 3}
    running = [start(tmp_path / "photos", out, log, **options) for _ in range(3)]
    num_killed, deadline = 0, time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(1.5)
        still = [process for process in running if process.poll() is None]
        if not still:
            break
        if num_killed < 8:
            victim = still[num_killed % len(still)]
            victim.kill()
            victim.communicate()
            num_killed += 1
            running.append(start(tmp_path / "photos", out, log, **options))
    for process in running:
        process.communicate(timeout=60)
    assert running[-1].returncode == 0
    assert num_killed >= 2
    seen = Counter(log.read_text().splitlines())
    assert set(seen) == set(names)
    assert sum(seen.values()) - 600 <= num_killed * (1 + 8)  # those in the stage, and those being written
    summary = merge_batch(out, source=ItemSource([tmp_path / "photos"]))
    assert (summary.done, summary.missing, summary.is_complete) == (600, 0, True)
    left = [path for path in (out / ".masklet").rglob("*") if path.is_file()]
    assert all(path.name.startswith(".") for path in left)  # of a process that was killed while it wrote a lease
