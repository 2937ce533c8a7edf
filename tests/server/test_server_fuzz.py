"""Malformed requests: none ends the process, is a fault of the server, or touches the session of somebody else."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from helpers.server_files import listening_server, open_api_session, open_socket, receive, running_server
from masklet.benchmark.machine import resident_mb
from masklet.server.api_routes import ROUTES
from masklet.server.wire_format import LENGTH

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from masklet import SAM

MAX_GROWTH_MB = 48.0
"""What the process may grow after the first fifth of the requests; a leak of 10 kB in each would take 80."""
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, 1e308, "", "a", "\0", "../../etc", "\ud800", "x" * 5000, [], {},
    [[]], [1, 2], [[1, 2]], [[1e300, -5]], [["a", 2]], [None], {"size": [2, 3], "counts": "06"},
    {"size": [10**9, 10**9], "counts": "0"}, {"size": [64, 96], "counts": "\x00~"}, {"size": [-1, 2], "counts": 5},
)  # fmt: skip
TEXTS = (b"", b"{", b"[]", b"null", b'{"a":NaN}', b"[" * 50_000, b'{"frame":1e999}', b"\xff\xfe", b'"text"')
NAMES = (
    "a.png",
    "b.jpg",
    "clip.mp4",
    "m.pt",
    "..",
    ".bashrc",
    "%2e%2e%2fx.png",
    "con.png",
    "x" * 300 + ".png",
    "a%00.png",
)
FILES = (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\x00\x00\x00\x18ftypmp42", b"#EXTM3U\n/etc/passwd", b"\x80\x04K\x01.")
WIRE = (
    b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET " + b"/" * 70_000, b"\x00" * 500, b"\r\n" * 200,
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    b"POST /api/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n{",
    b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    b"GET /api/health HTTP/1.1\r\nHost: " + b"[" * 100 + b"\r\n\r\n",
    b"GET /page/%2e%2e/%2e%2e HTTP/1.1\r\nHost: localhost\r\n\r\n",
)  # fmt: skip
FRAMES = (
    b"\xf1\x80\x00\x00\x00\x00", b"\x82\x05hello", b"\x81\xfe\xff", b"\x81\xff" + b"\xff" * 8,
    b"\x01\x80\x00\x00\x00\x00" * 2,
    b"\x89\x80\x00\x00\x00\x00" * 50, b"\x88\x82\x00\x00\x00\x00\x00\x01", b"\x81\x82\x00\x00\x00\x00\xff\xfe",
    b"\x83\x80\x00\x00\x00\x00", b"\x80\x80\x00\x00\x00\x00",
)  # fmt: skip
"""Reserved bits, no mask, lengths that are cut or absurd, fragments that never end, pings, odd codes, no UTF-8."""


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests_uploads_and_messages(
    count: int, tmp_path: Path, tracker: SAM, small_video: np.ndarray
) -> None:
    rng = random.Random(count)
    with running_server(tmp_path, tracker) as client, untouched(client, tmp_path, small_video):
        session = open_api_session(client, project="fuzzed")
        readings = []
        for part in range(5):
            send_requests(client, session, rng, count * 2 // 25)
            send_uploads(client, session, rng, count * 1 // 25)
            send_messages(client, session, rng, count * 2 // 25)
            gc.collect()
            readings.append(resident_mb() or 0.0)
            if part == 0 and count > 1000:
                session = open_api_session(client, project="fuzzed too")
        assert max(readings) - readings[0] < MAX_GROWTH_MB, readings


@contextmanager
def untouched(client: TestClient, folder: Path, video: np.ndarray) -> Iterator[None]:
    """Open the session of somebody else, and check after the block that it is as it was, and works."""
    Image.fromarray(video[0]).save(folder / "files" / "photo.png")
    other = open_api_session(client, project="other", author="anna")
    source = client.post(f"{other}/sources", json={"path": str(folder / "files" / "photo.png")}).json()["id"]
    obj = client.post(f"{other}/objects", json={"source": source, "name": "Rex"}).json()["id"]
    before = client.get(other).json()
    yield
    assert client.get(other).json() == before
    body = {"object": obj, "points": [[20, 25]]}
    assert client.post(f"{other}/prompts", json=body).status_code == 200
    assert "\nmasklet_errors_total " not in client.get("/metrics").text


def send_requests(client: TestClient, session: str, rng: random.Random, count: int) -> None:
    routes = [one for one in ROUTES if (one.method, one.handler.__name__) != ("DELETE", "close_session")]
    for _ in range(count):
        route = rng.choice(routes)
        names = {name: "1" if kind.type == "integer" else "a.png" for name, kind in route.path_fields.items()}
        names["session"] = session.rpartition("/")[2] if rng.random() < 0.9 else "none"
        if "source" in names and rng.random() < 0.5:
            names["source"] = rng.choice(["0", "-1", "9" * 30, "%00", "a"])
        given = {rng.choice([*route.body, "extra"]): rng.choice(VALUES) for _ in range(rng.randrange(4))}
        if route.path == "/api/sessions":
            given["author"] = 5  # new sessions would use up what there may be
        query = {name: rng.choice(["-1", "1", "x", "9" * 40, "\0"]) for name in route.query if rng.random() < 0.7}
        body = json.dumps(given).encode() if rng.random() < 0.7 else rng.choice(TEXTS)
        if route.path == "/api/sessions" and not body:
            continue
        path = route.path.format(**names)
        answer = client.request(route.method, path, content=body, params=query)
        assert answer.status_code < 500, (route.path, query, body[:200], answer.text)


def send_uploads(client: TestClient, session: str, rng: random.Random, count: int) -> None:
    buffer = rng.randbytes(20_000)
    for _ in range(count):
        name = rng.choice(NAMES)
        offset = rng.choice([0, 0, 5, 10**6, 2**40, -1])
        content = rng.choice(FILES) + buffer[: rng.choice([0, 10, 5_000])]
        answer = client.put(f"{session}/uploads/{name}", params={"offset": offset}, content=content)
        assert answer.status_code < 500, (name, offset, answer.text)
        if rng.random() < 0.3:
            body = {} if rng.random() < 0.7 else {"sha256": rng.choice(["0" * 64, "", "x"])}
            answer = client.post(f"{session}/uploads/{name}/finish", json=body)
            assert 400 <= answer.status_code < 500, (name, answer.text)


def send_messages(client: TestClient, session: str, rng: random.Random, count: int) -> None:
    kinds = ["hover", "predict", "prompt", "everything", "track", "cancel", "ack", None, 5, "none"]
    fields = ["source", "objects", "frame", "points", "labels", "box", "mask", "seq", "request", "start", "id"]
    with open_socket(client, session) as socket:
        for _ in range(count):
            message = {rng.choice(fields): rng.choice(VALUES) for _ in range(rng.randrange(5))}
            message["type"] = rng.choice(kinds)
            data = json.dumps(message).encode()
            choice = rng.random()
            if choice < 0.6:
                socket.send_text(data.decode())
            elif choice < 0.8:
                socket.send_bytes(LENGTH.pack(rng.choice([len(data), 2**32 - 1, 3])) + data)
            else:
                socket.send_bytes(rng.choice(TEXTS))
        socket.send_text('{"type": "none", "id": 4242}')
        while True:
            header, _ = receive(socket)
            if header["type"] == "error":
                assert header["error"]["status"] < 500, header
            if header.get("request") == 4242:
                break


@pytest.mark.parametrize("count", [30, pytest.param(1_000, marks=pytest.mark.slow)])
def test_bytes_that_are_no_http_and_frames_that_are_none(count: int, tmp_path: Path, tracker: SAM) -> None:
    import httpx2

    rng = random.Random(count)
    with listening_server(tmp_path, tracker) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        session = client.post("/api/sessions", json={"project": "other", "author": "anna"}).json()["id"]
        shown = client.get(f"/api/sessions/{session}").json()
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, suppress(OSError):
                if rng.random() < 0.5:
                    connection.sendall(rng.choice([*WIRE, rng.randbytes(300)]))
                else:
                    open_raw(connection, f"/api/sessions/{session}/socket", port)
                    connection.sendall(rng.choice([*FRAMES, rng.randbytes(100)]))
                if rng.random() < 0.5:
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(4096)
        wait_until(lambda: "masklet_requests_active 1\n" in client.get("/metrics").text)
        assert client.get(f"/api/sessions/{session}").json() == shown
        assert "\nmasklet_errors_total " not in client.get("/metrics").text


def open_raw(connection: socket.socket, path: str, port: int) -> None:
    """Send the opening of a WebSocket, and read its answer."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    connection.recv(4096)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for ten seconds at most."""
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within ten seconds")
