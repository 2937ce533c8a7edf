"""A server that gets SIGTERM ends within seconds, whatever is under way."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'app')")

import httpx2
import numpy as np

from helpers.server_files import open_api_session, write_sources

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to be handled")

SERVER = """
import sys, time
from pathlib import Path
from masklet.server import ServerOptions, application

folder = Path(sys.argv[1])
application.STOP_SECONDS = 0.5
options = ServerOptions(folder / "projects", (folder / "files",), port=0)
app = application.make_app(options, lambda: time.sleep(600))
application.run_server(app, options, lambda port: print(port, flush=True))
"""


@contextmanager
def server_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server, whose model takes ten minutes to load, in its own process; yields that and the port."""
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Stop a server as `docker stop` does, and return its exit status and what it printed."""
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=9)
    return process.returncode, printed


@pytest.mark.slow
def test_a_server_that_waits_ends_without_a_word(tmp_path: Path, small_video: np.ndarray) -> None:
    with server_process(write_sources(tmp_path, small_video)) as (process, port):
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            open_api_session(client)
        assert stop(process) == (0, "")


@pytest.mark.slow
def test_work_that_does_not_end_is_given_up(tmp_path: Path, small_video: np.ndarray) -> None:
    folder = write_sources(tmp_path, small_video)
    with (
        server_process(folder) as (process, port),
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        session = open_api_session(client)
        body = {"path": str(folder / "files" / "photo.png")}
        source = client.post(f"{session}/sources", json=body).json()["id"]

        def work() -> None:
            with suppress(httpx2.HTTPError):  # the server has gone
                client.post(f"{session}/everything", json={"source": source})

        thread = threading.Thread(target=work)
        thread.start()
        while "masklet_requests_active 2\n" not in httpx2.get(f"http://127.0.0.1:{port}/metrics").text:
            time.sleep(0.01)
        status, printed = stop(process)
        thread.join()
    assert status == 128 + signal.SIGTERM
    assert printed == (
        "masklet: SIGTERM: work under way did not end within 0.5 s and is given up; what was acknowledged is stored\n"
    )
