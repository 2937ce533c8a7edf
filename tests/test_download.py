"""Download a file from a local server: complete, checked, resumed, or an error that helps."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from masklet.checkpoints import cache_dir, download
from masklet.errors import DownloadError

pytestmark = pytest.mark.network

MODULE = sys.modules["masklet.checkpoints.download"]  # the package has a function of that name
BODY = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves BODY at any address; what it does wrong is set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str | None] = []  # the Range header of each request
        self.statuses: list[int] = []  # failures to answer with first
        self.cuts: list[int] = []  # bytes after which to hang up, one a request
        self.ranges = True
        self.lengths = True
        self.body = BODY

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        start = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if start >= len(self.server.body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        if self.server.lengths:
            self.send_header("Content-Length", str(len(self.server.body) - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(self.server.body[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no waiting between tries, no leftovers of the environment."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("MASKLET_OFFLINE", raising=False)
    monkeypatch.setattr(MODULE, "_RETRY_DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "weights.pt"


def part_of(target: Path) -> Path:
    return target.with_name("weights.pt.part")


def put_part(target: Path, data: bytes) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(data)


def refused(call: Callable[[], object], target: Path, *words: str) -> None:
    with pytest.raises(DownloadError) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in ("weights.pt", str(target), *words)), message
    assert not target.exists()


def test_a_file_arrives_complete_and_progress_is_reported(server: Server, target: Path) -> None:
    reported: list[tuple[int, int | None]] = []
    path = download(server.url, target, size=len(BODY), sha256=SHA.upper(), progress=lambda *now: reported.append(now))
    assert path == target
    assert target.read_bytes() == BODY
    assert reported[0] == (0, len(BODY))
    assert reported[-1] == (len(BODY), len(BODY))
    assert not part_of(target).exists()


def test_a_file_that_is_there_is_not_fetched(server: Server, target: Path) -> None:
    download(server.url, target, size=len(BODY))
    download(server.url, target, size=len(BODY))
    assert len(server.requests) == 1


def test_a_file_of_another_size_is_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"half")
    assert download(server.url, target, size=len(BODY)).read_bytes() == BODY


def test_an_earlier_part_is_continued(server: Server, target: Path) -> None:
    put_part(target, BODY[:1000])
    download(server.url, target, size=len(BODY), sha256=SHA)
    assert server.requests == ["bytes=1000-"]
    assert target.read_bytes() == BODY


def test_a_part_without_a_hash_is_not_trusted(server: Server, target: Path) -> None:
    put_part(target, b"x" * 1000)
    download(server.url, target, size=len(BODY))
    assert server.requests == [None]
    assert target.read_bytes() == BODY


def test_a_complete_part_is_only_checked(server: Server, target: Path) -> None:
    put_part(target, BODY)
    download(server.url, target, size=len(BODY), sha256=SHA)
    assert server.requests == []


def test_a_wrong_part_is_thrown_away_and_all_is_fetched(server: Server, target: Path) -> None:
    put_part(target, b"x" * 1000)
    download(server.url, target, size=len(BODY), sha256=SHA)
    assert server.requests == ["bytes=1000-", None]
    assert target.read_bytes() == BODY


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, target: Path) -> None:
    put_part(target, BODY + b"more")
    download(server.url, target, sha256=SHA)
    assert server.requests == [f"bytes={len(BODY) + 4}-", None]


def test_a_server_that_cannot_resume_sends_all(server: Server, target: Path) -> None:
    server.ranges = False
    put_part(target, BODY[:1000])
    download(server.url, target, size=len(BODY), sha256=SHA)
    assert target.read_bytes() == BODY


def test_a_broken_transfer_is_resumed_in_the_same_call(server: Server, target: Path) -> None:
    server.cuts = [300_000, 500_000]
    download(server.url, target, size=len(BODY), sha256=SHA)
    assert server.requests == [None, "bytes=300000-", "bytes=800000-"]
    assert target.read_bytes() == BODY


def test_a_transfer_that_always_breaks_is_given_up_and_kept(server: Server, target: Path) -> None:
    server.cuts = [1000, 1000, 1000]
    refused(
        lambda: download(server.url, target, size=len(BODY), sha256=SHA),
        target,
        "broke off 3 times",
        f"3000 of {len(BODY)} bytes",
        "are kept; download again",
        server.url,
    )
    assert part_of(target).read_bytes() == BODY[:3000]
    assert download(server.url, target, size=len(BODY), sha256=SHA).read_bytes() == BODY


def test_a_cut_without_a_stated_length_is_noticed(server: Server, target: Path) -> None:
    server.lengths, server.cuts = False, [1000, 1000, 1000]
    refused(lambda: download(server.url, target, size=len(BODY)), target, f"1000 of {len(BODY)} bytes")


def test_a_busy_server_is_tried_again(server: Server, target: Path) -> None:
    server.statuses = [503, 429]
    assert download(server.url, target, sha256=SHA).read_bytes() == BODY


def test_a_wrong_hash_leaves_nothing(server: Server, target: Path) -> None:
    refused(lambda: download(server.url, target, sha256="0" * 64), target, SHA, "0" * 64, "it was removed")
    assert not part_of(target).exists()
    assert len(server.requests) == 1


def test_another_size_is_refused_before_it_is_fetched(server: Server, target: Path) -> None:
    refused(lambda: download(server.url, target, size=99), target, f"offers {len(BODY)} bytes where 99")
    assert not part_of(target).exists()


def test_more_than_the_size_is_refused(server: Server, target: Path) -> None:
    server.lengths = False
    refused(lambda: download(server.url, target, size=99), target, "more than the 99 bytes")


def test_an_empty_answer_is_refused(server: Server, target: Path) -> None:
    server.body, server.lengths = b"", False
    server.ranges = False
    server.statuses = [204, 204, 204]
    refused(lambda: download(server.url, target), target, "nothing arrived")


def test_not_found_is_not_tried_again(server: Server, target: Path) -> None:
    server.statuses = [404]
    refused(lambda: download(server.url, target), target, "answers 404", server.url)
    assert len(server.requests) == 1


def test_no_network(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections
        url = f"http://127.0.0.1:{free.getsockname()[1]}/weights.pt"
        refused(lambda: download(url, target, size=1_500_000), target, "no connection", url, "(1.5 MB)")


def test_no_such_host(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused(lambda: download("https://weights.invalid/w", target), target, "Name or service not known")


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_sends_no_request(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MASKLET_OFFLINE", value)
    refused(lambda: download(server.url, target), target, "MASKLET_OFFLINE", server.url)
    assert server.requests == []
    assert not target.parent.exists()


@pytest.mark.parametrize("value", ["0", "false", ""])
def test_offline_can_be_switched_off(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MASKLET_OFFLINE", value)
    assert download(server.url, target).exists()


def test_a_full_disk_is_noticed_first(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(MODULE.shutil, "disk_usage", lambda _: usage(10, 0, 5_000_000))
    refused(lambda: download(server.url, target), target, "has 5.0 MB free and 68.2 MB are needed")
    assert not part_of(target).exists()


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "weights.pt"
    refused(lambda: download(server.url, target), target, "cannot be written", "MASKLET_HOME")


def test_two_at_once_fetch_once(server: Server, target: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(download, server.url, target, sha256=SHA) for _ in range(4)]
    assert {call.result() for call in calls} == {target}
    assert len(server.requests) == 1


def test_the_cache_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path))
    assert cache_dir() == tmp_path


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "", ".cache/masklet"),
        ("linux", "XDG_CACHE_HOME", "chosen/masklet"),
        ("darwin", "", "Library/Caches/masklet"),
        ("win32", "", "AppData/Local/masklet"),
        ("win32", "LOCALAPPDATA", "chosen/masklet"),
    ],
)
def test_the_cache_folder_is_the_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, expected: str
) -> None:
    for name in ("MASKLET_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(MODULE.sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "chosen"))
    assert cache_dir() == tmp_path / expected
