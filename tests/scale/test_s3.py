"""A batch on a real S3 server on this machine, through a proxy that refuses, cuts, slows down and stalls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers import batch_stage
from helpers.batch_stage import LoggingStage
from helpers.fault_proxy import FaultProxy, fault_proxy
from masklet.scale.batch_manifest import ManifestRow, read_manifests
from masklet.scale.items import ItemSource
from masklet.scale.leases import Leases
from masklet.scale.merge_batch import merge_batch
from masklet.scale.run_batch import BatchOptions, run_batch
from masklet.scale.storage import storage_of
from masklet.scale.webdataset import WebDatasetWriter

pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")

WARNINGS = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning")
"""What the server and the clients warn of, which are not ours."""
pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.filterwarnings(*WARNINGS)]
NAMES = [f"cats/{number}.jpg" for number in range(12)]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def s3(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultProxy, Any]]:
    """The proxy before the server, and a client without it; a bucket with the images of NAMES."""
    import fsspec
    import s3fs

    for name, value in {"AWS_ACCESS_KEY_ID": "AKIAHUNTER2", "AWS_SECRET_ACCESS_KEY": "hunter2hunter2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server}")
    client.create_bucket(Bucket="bucket")
    for name in NAMES:
        client.put_object(Bucket="bucket", Key=f"photos/{name}", Body=f"content of {name} ".encode() * 400)
    with fault_proxy(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        config = {"read_timeout": 1.0, "connect_timeout": 2.0, "retries": {"max_attempts": 0}}
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": config})
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy, client
    s3fs.S3FileSystem.clear_instance_cache()
    for one in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=one["Key"])
    client.delete_bucket(Bucket="bucket")


def rows(out: str) -> dict[str, ManifestRow]:
    return {row.item: row for row in read_manifests(storage_of(out), out)}


def run(stage: LoggingStage, out: str = "s3://bucket/out", **options: Any) -> list[Any]:
    return list(run_batch(ItemSource(["s3://bucket/photos"]), stage, out, BatchOptions(**options)))


def test_faults_that_pass_are_no_failures(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    proxy, _ = s3
    stage = LoggingStage(tmp_path / "seen.log")
    for kind, number in [("503", 0), ("503", 0), ("503", 1), ("cut", 2), ("cut", 2), ("slow", 3), ("stall", 4)]:
        proxy.add(kind, "GET", f"photos/cats/{number}.jpg")
    for kind, path in [("503", "list-type=2"), ("503", "list-type=2")]:
        proxy.add(kind, "GET", path)
    for path in ("items/cats/5.jpg.json", "items/cats/6.jpg.json", "leases", "manifest"):
        proxy.add("503", "PUT", path)
    assert run(stage)[-1].done == len(NAMES)
    assert proxy.faults == []  # each happened
    assert Counter(stage.seen()) == Counter(NAMES)
    assert {row.outcome for row in rows("s3://bucket/out").values()} == {"done"}
    assert set(rows("s3://bucket/out")) == set(NAMES)


def test_an_object_that_changes_between_list_and_read_is_an_error(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    proxy, client = s3
    stage = LoggingStage(tmp_path / "seen.log")

    def change() -> None:
        client.put_object(Bucket="bucket", Key="photos/cats/3.jpg", Body=b"x" * len(b"content of cats/3.jpg ") * 400)

    proxy.add("before", "GET", "photos/cats/3.jpg", change)
    progress = run(stage)
    assert (progress[-1].done, progress[-1].failed) == (11, 1)
    assert (
        "changed between the time it was listed and the time it was read" in rows("s3://bucket/out")["cats/3.jpg"].error
    )
    assert "cats/3.jpg" not in stage.seen()
    time.sleep(1.1)  # times of objects are whole seconds
    again = run(stage)
    assert (again[-1].done, again[-1].failed, again[-1].finished_before) == (1, 0, 11)


def test_faults_that_stay_are_rows_without_credentials(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    proxy, client = s3
    stage = LoggingStage(tmp_path / "seen.log")
    for _ in range(8):
        proxy.add("403", "GET", "photos/cats/0.jpg")
        proxy.add("403", "HEAD", "photos/cats/1.jpg")
    proxy.add(
        "before", "GET", "photos/cats/2.jpg", lambda: client.delete_object(Bucket="bucket", Key="photos/cats/2.jpg")
    )
    progress = run(stage)
    assert (progress[-1].done, progress[-1].failed) == (9, 3)
    found = rows("s3://bucket/out")
    assert "PermissionError" in found["cats/0.jpg"].error
    assert "there is no file" in found["cats/2.jpg"].error
    for one in client.list_objects_v2(Bucket="bucket", Prefix="out/")["Contents"]:
        content = client.get_object(Bucket="bucket", Key=one["Key"])["Body"].read()
        assert b"hunter2" not in content.lower()
        assert b"secret=hidden" not in content


def test_several_processes_share_the_items_of_a_shard(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    _, client = s3
    stage = LoggingStage(tmp_path / "seen.log", seconds=0.01)
    with ThreadPoolExecutor(3) as pool:  # three runs: owners of leases as processes are
        done = list(pool.map(lambda _: run(stage, read_ahead=2)[-1].done, range(3)))
    assert sum(done) == len(NAMES)
    assert Counter(stage.seen()) == Counter(NAMES)
    keys = (
        [one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="out/.masklet")["Contents"]]
        if (client.list_objects_v2(Bucket="bucket", Prefix="out/.masklet").get("KeyCount"))
        else []
    )
    assert keys == []


def test_one_of_many_gets_a_lease(s3: tuple[FaultProxy, Any]) -> None:
    storage = storage_of("s3://bucket")
    several = [Leases(storage, "s3://bucket/leases") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for name in "abc":
            assert sum(pool.map(lambda leases, name=name: leases.take(name), several)) == 1


def test_after_a_kill_the_bucket_is_finished_by_the_next_process(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    proxy, client = s3
    log = tmp_path / "seen.log"
    options = json.dumps({"seconds": 0.1, "lease_s": 60})
    command = [sys.executable, batch_stage.__file__, "s3://bucket/photos", "s3://bucket/out", str(log), options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    finished = {one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="out/items")["Contents"]}
    assert 3 <= len(finished) < 12
    for kind, path in (("503", "out/.masklet"), ("cut", "photos/cats/11.jpg")):
        proxy.add(kind, "GET", path)
    progress = run(LoggingStage(log))
    assert progress[-1].done + progress[-1].finished_before == 12
    seen = Counter(log.read_text().splitlines())
    assert set(seen) == set(NAMES)
    assert [key for key in finished if seen[key.removeprefix("out/items/").removesuffix(".json")] != 1] == []
    assert set(rows("s3://bucket/out")) == set(NAMES)  # also of what was finished without a line


def test_archives_and_lists_are_read_from_s3(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    proxy, client = s3
    for number in range(2):
        with WebDatasetWriter(f"s3://bucket/tars/{number}") as writer:
            for key in "ba":
                writer.add(key, {"jpg": f"{number}{key}".encode() * 1000, "cls": b"1"})
    stage = LoggingStage(tmp_path / "seen.log")
    proxy.add("503", "GET", "tars/0/000000.tar")
    proxy.add("cut", "GET", "tars/1/000000.tar")
    source = ItemSource(["s3://bucket/tars/{0,1}/000000.tar"])
    assert list(run_batch(source, stage, tmp_path / "out"))[-1].done == 4
    assert stage.seen() == [f"{number}/000000.tar/{key}.jpg" for number in range(2) for key in "ba"]
    client.put_object(Bucket="bucket", Key="lists/some.csv", Body=b"item,url\none,s3://bucket/photos/cats/1.jpg\n")
    [item] = ItemSource(["s3://bucket/lists/some.csv"])
    assert (item.name, item.location) == ("one", "s3://bucket/photos/cats/1.jpg")


def test_a_merged_webdataset_lies_in_the_bucket(s3: tuple[FaultProxy, Any], tmp_path: Path) -> None:
    _, client = s3
    run(LoggingStage(tmp_path / "seen.log"))
    summary = merge_batch("s3://bucket/out", "webdataset", ItemSource(["s3://bucket/photos"]), samples_per_archive=5)
    assert (summary.is_complete, summary.objects) == (True, 12)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="out/webdataset")["Contents"]]
    assert keys == [f"out/webdataset/00000{number}.tar" for number in range(3)]
