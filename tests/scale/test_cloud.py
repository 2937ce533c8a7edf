"""Addresses: retries, what is never printed, and files of an HTTP server that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.batch_stage import LoggingStage, write_images
from helpers.fault_proxy import FaultProxy, fault_proxy
from masklet.errors import OutputError, SourceError
from masklet.scale.batch_manifest import read_manifests
from masklet.scale.items import ItemSource
from masklet.scale.redact_urls import redact_url, redact_urls
from masklet.scale.run_batch import run_batch
from masklet.scale.storage import storage_of

pytest.importorskip("fsspec")

from masklet.scale.cloud import CloudStorage, RetryPolicy, with_retries

QUICK = RetryPolicy(attempts=4, first_s=0.001, longest_s=0.01)


def test_what_passes_is_tried_again_and_what_does_not_is_not() -> None:
    calls: list[Exception] = []

    def fail(error: Exception) -> None:
        calls.append(error)
        raise error

    for error, expected in [
        (TimeoutError(), 4),
        (OSError("reset"), 4),
        (FileNotFoundError(), 1),
        (PermissionError(), 1),
    ]:
        calls.clear()
        with pytest.raises(type(error)):
            with_retries(partial(fail, error), QUICK)
        assert len(calls) == expected


def test_answers_of_http_are_tried_again_by_their_status() -> None:
    class StatusError(Exception):
        status = 0

    for status, expected in [(404, 1), (403, 1), (429, 4), (503, 4)]:
        calls = []

        def ask(status: int = status, calls: list[int] = calls) -> None:
            calls.append(status)
            error = StatusError()
            error.status = status
            raise error

        with pytest.raises(StatusError):
            with_retries(ask, QUICK)
        assert len(calls) == expected


def test_delays_double_and_are_random() -> None:
    policy = RetryPolicy(first_s=1.0, longest_s=8.0)
    for failures, longest in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (9, 8.0)]:
        delays = [policy.delay(failures) for _ in range(300)]
        assert longest * 0.9 < max(delays) <= longest
        assert min(delays) < longest * 0.1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("https://h/a.jpg?X-Amz-Signature=abc&X-Amz-Credential=AKIA#x", "https://h/a.jpg"),
        ("photos/a?b.jpg", "photos/a?b.jpg"),
    ],
)
def test_addresses_lose_their_credentials(text: str, clean: str) -> None:
    assert redact_url(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Cannot connect to https://me:hunter2@host/a?x=1",
        "403, message='', url='https://host/a?sig=hunter2'",
        "aws_secret_access_key=hunter2 is wrong",
        "{'Authorization': 'Bearer hunter2'}",
        "token: hunter2, other",
    ],
)
def test_errors_lose_their_credentials(text: str) -> None:
    assert "hunter2" not in redact_urls(text)
    assert len(redact_urls(text)) > 10


def test_objects_are_written_once_and_found(tmp_path: Path) -> None:
    storage = CloudStorage("memory")
    place = "memory://cloud/x"
    assert storage.find(f"{place}/a") is None
    assert storage.create(f"{place}/a", b"1")
    assert not storage.create(f"{place}/a", b"2")
    assert storage.create(f"{place}/a", b"1")  # our own, whose answer was lost
    (tmp_path / "c").write_bytes(b"2")
    storage.write_file(f"{place}/b/c", tmp_path / "c")
    assert storage.read(f"{place}/b/c") == b"2"
    assert [name for name, _ in storage.walk(place)] == ["a", "b/c"]
    assert [file.location for file in storage.glob(f"{place}/*/*")] == ["memory:///cloud/x/b/c"]
    assert (storage.is_folder(place), storage.is_folder(f"{place}/a")) == (True, False)
    storage.remove(f"{place}/a")
    storage.remove(f"{place}/a")
    with pytest.raises(SourceError, match="there is no file 'memory://cloud/x/a'"):
        storage.read(f"{place}/a")


def test_errors_of_a_server_name_the_address_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("signature=hunter2 refused for https://me:hunter2@host/a")

    storage = CloudStorage("memory", QUICK)
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", refuse)
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(SourceError) as read:
        storage.read("memory://me:hunter2@cloud/a?token=hunter2")
    with pytest.raises(OutputError) as written:
        storage.write("memory://cloud/a", b"")
    for error in (read, written):
        assert "memory://cloud/a" in str(error.value)
        assert "hunter2" not in str(error.value)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The files of tmp_path/www behind a server with faults."""
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, failures: 0.01)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with fault_proxy(server.server_address[1]) as proxy:
        yield proxy
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_list_of_addresses_is_read_through_faults(tmp_path: Path, web: FaultProxy) -> None:
    names = [f"{number}.jpg" for number in range(6)]
    write_images(tmp_path / "www", names)
    secret = "token=hunter2"
    (tmp_path / "list.txt").write_text("".join(f"{web.url}/{name}?{secret}\n" for name in [*names, "gone.jpg"]))
    for kind, name in [("503", "0.jpg"), ("503", "0.jpg"), ("cut", "1.jpg"), ("slow", "2.jpg"), ("403", "3.jpg")]:
        web.add(kind, "GET", name)
    out = tmp_path / "out"
    stage = LoggingStage(tmp_path / "seen.log")
    list(run_batch(ItemSource([tmp_path / "list.txt"]), stage, out))
    rows = {one.item.rpartition("/")[2]: one for one in read_manifests(storage_of(str(out)), str(out))}
    assert {name for name, row in rows.items() if row.outcome == "failed"} == {"3.jpg", "gone.jpg"}
    assert "403" in rows["3.jpg"].error
    assert "there is no file" in rows["gone.jpg"].error
    stored = json.loads(next(path for path in (out / "items").rglob("1.jpg.json")).read_text())
    assert stored["sha256"] == stored["digest"]
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert stage.log.read_text().count("hunter2") == 0


@pytest.mark.network
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_of_a_web_server_is_listed(tmp_path: Path, web: FaultProxy) -> None:
    write_images(tmp_path / "www", ["photos/2.jpg", "photos/10.jpg", "photos/cats/a.png", "photos/notes.md"])
    items = list(ItemSource([f"{web.url}/photos/"]))
    assert [item.name for item in items] == ["2.jpg", "10.jpg", "cats/a.png"]
    assert storage_of(web.url).read(items[2].location) == b"content of photos/cats/a.png"
