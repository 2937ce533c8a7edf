"""Addresses are read from a server on this machine; each way a download fails has its own message."""

from __future__ import annotations

import http.server
import io
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from masklet.errors import SourceError
from masklet.media import image, open_images

pytestmark = pytest.mark.network

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


# path: (status, headers besides the length, length that is announced or None, body)
ANSWERS = {
    "/good.png": (200, {}, len(png()), png()),
    "/no%20length%20%C3%A9.png": (200, {}, None, png()),
    "/moved": (302, {"Location": "/good.png"}, 0, b""),
    "/page": (200, {}, 27, b"<html><body>dog</body></htm"),
    "/cut.png": (200, {}, len(png()) + 500, png()),
    "/cut_quietly.png": (200, {}, None, png()[:2000]),
    "/empty": (200, {}, 0, b""),
    "/denied": (403, {}, 0, b""),
    "/broken": (500, {}, 0, b""),
    "/huge_announced": (200, {}, 10**12, b"x"),
    "/huge": (200, {}, None, b"x" * 300_000),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, length, body = ANSWERS.get(self.path, (404, {}, 0, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(image, "DOWNLOAD_TIMEOUT_S", 5.0)


@pytest.mark.parametrize("path", ["/good.png", "/no length é.png", "/no%20length%20%C3%A9.png", "/moved"])
def test_an_image_is_fetched(server: str, path: str) -> None:
    images = open_images(server + path)
    assert len(images) == 1
    image = next(images)
    assert np.array_equal(image.rgb, PIXELS)
    assert image.path == server + path


BAD_ADDRESSES = {
    "/missing.png": ["404", "Not Found", "browser"],
    "/denied": ["403", "public address"],
    "/broken": ["500"],
    "/page": ["cannot be read as an image", "web page"],
    "/cut.png": ["cut short", f"{len(png())} of {len(png()) + 500} bytes", "try again"],
    "/cut_quietly.png": ["cut short", "again"],
    "/empty": ["empty", "0 bytes"],
    "/huge_announced": ["1000000000000 bytes", "at most 200000", "make it smaller"],
    "/huge": ["bytes", "at most 200000", "make it smaller"],
}


@pytest.mark.parametrize("path", BAD_ADDRESSES)
def test_failures_name_the_address_and_the_remedy(server: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MAX_DOWNLOAD_BYTES", 200_000)
    with pytest.raises(SourceError) as caught:
        next(open_images(server + path))
    for word in [path, *BAD_ADDRESSES[path]]:
        assert word in str(caught.value)


def test_the_limit_is_two_hundred_megabytes() -> None:
    assert image.MAX_DOWNLOAD_BYTES == 200 * 1024 * 1024


def test_no_server_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.png"
        with pytest.raises(SourceError, match=r"a\.png.*refused.*check the address and the network"):
            next(open_images(url))


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "DOWNLOAD_TIMEOUT_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceError, match="timed out"):
            next(open_images(f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"))


@pytest.mark.parametrize("url", ["http://", "https:///a.png", "http://[::1/a.png", "http://127.0.0.1:port/a.png"])
def test_malformed_addresses(url: str) -> None:
    with pytest.raises(SourceError, match="reachable http or https address"):
        next(open_images(url))


def test_garbage_instead_of_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError, match="cannot fetch"):
            next(open_images(f"http://127.0.0.1:{server.getsockname()[1]}/a.png"))
        thread.join()
