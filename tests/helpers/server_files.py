"""A server in this process with a small network, and the files that it may open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from starlette.testclient import TestClient

from masklet.server import ServerLimits, ServerOptions
from masklet.server.application import make_app, server_config
from masklet.server.wire_format import unpack_message

if TYPE_CHECKING:
    from starlette.testclient import WebSocketTestSession

BASE = "http://127.0.0.1:8700"


def write_clip(folder: Path, frames: np.ndarray) -> Path:
    """Write frames as a folder of images, which lose nothing."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return folder


def write_sources(folder: Path, video: np.ndarray) -> Path:
    """Write a clip and a photograph where the server may open them, and return the folder."""
    write_clip(folder / "files" / "clip", video)
    Image.fromarray(video[0]).save(folder / "files" / "photo.png")
    return folder


@contextmanager
def running_server(folder: Path, model: Any, *, token: str | None = None, **limits: Any) -> Iterator[TestClient]:
    """Run the application on the projects and the files of `folder`."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    options = ServerOptions(folder / "projects", (files,), token=token, limits=ServerLimits(**limits))
    with TestClient(make_app(options, lambda: model), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@contextmanager
def listening_server(folder: Path, model: Any, *, token: str | None = None, **limits: Any) -> Iterator[int]:
    """Run a server that listens, and yield its port; its projects and files are those of `running_server`."""
    import uvicorn

    (folder / "files").mkdir(exist_ok=True)
    bounds = ServerLimits(**limits)
    options = ServerOptions(folder / "projects", (folder / "files",), token=token, port=0, limits=bounds)
    server = uvicorn.Server(server_config(make_app(options, lambda: model), options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def open_api_session(client: TestClient, **body: Any) -> str:
    """Open a session and return its address."""
    answer = client.post("/api/sessions", json=body)
    assert answer.status_code == 200, answer.text
    return f"/api/sessions/{answer.json()['id']}"


def open_socket(client: TestClient, session: str, **options: Any) -> WebSocketTestSession:
    """Open the WebSocket of a session."""
    socket: WebSocketTestSession = client.websocket_connect(f"ws{BASE[4:]}{session}/socket", **options)
    return socket


def receive(socket: WebSocketTestSession) -> tuple[dict[str, Any], bytes]:
    """Receive one message."""
    return unpack_message(socket.receive_bytes())
