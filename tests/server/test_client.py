"""`Client` against a server that listens: the verbs of a session, with the same masks."""

from __future__ import annotations

import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'app')")

import uvicorn

from helpers.server_files import write_clip
from helpers.video_files import make_video
from masklet.client import Client
from masklet.errors import InputError, SourceError
from masklet.image.automatic_mask_generator import PRESETS
from masklet.server import ServerOptions
from masklet.server.api_errors import ApiError
from masklet.server.application import make_app, server_config

if TYPE_CHECKING:
    from masklet import SAM

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tracker: SAM, small_video: np.ndarray) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("listening")
    write_clip(folder / "files" / "clip", small_video)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ServerOptions(folder / "projects", (folder / "files",), token=TOKEN, port=port)
    server = uvicorn.Server(server_config(make_app(options, lambda: tracker), options))
    thread = threading.Thread(target=server.run)
    thread.start()
    for _ in range(1000):
        if server.started:
            break
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def clip(address: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(next(tmp_path_factory.getbasetemp().glob("listening*")) / "files" / "clip")


def test_prompts_and_tracking_are_those_of_a_session(address: str, clip: str, tracker: SAM) -> None:
    with Client(address, TOKEN, project="tracked") as client, tracker.session(clip) as plain:
        source = client.add_source(clip)
        answer = source.add_prompt(3, 0, points=[[20, 25]])
        expected = plain.add_prompt(3, 0, points=[[20, 25]])
        assert expected.masks is not None
        assert answer.ids == (3,)
        assert np.array_equal(answer.masks, expected.masks.data)
        found = list(source.propagate(stop=6))
        assert [one.frame_idx for one in found] == list(range(6))
        for one, frame in zip(found, plain.propagate(stop=6), strict=True):
            assert frame.masks is not None
            assert np.array_equal(one.masks, frame.masks.data)
            assert (one.ids, one.states, one.scores) == ((3,), frame.states, tuple(map(float, frame.scores)))
        for one in source.propagate():
            if one.frame_idx == 2:
                break  # leaves the loop, and the server stops
        assert client.undo()
        assert client.redo()


def test_an_upload_is_a_source_and_can_be_exported(
    address: str, tmp_path: Path, small_video: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masklet.client.CHUNK_BYTES", 100)
    Image.fromarray(small_video[3]).save(tmp_path / "my photo.png")
    with Client(address, TOKEN, project="uploaded", author="bo") as client:
        source = client.upload(tmp_path / "my photo.png")
        assert np.array_equal(source.frame(), small_video[3])
        mask = np.zeros((64, 96), bool)
        mask[15:40, 19:44] = True
        assert len(source.add_prompt(1, mask=mask)) == 1
        path = client.export("coco", tmp_path / "out.zip")
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        assert [one.info["name"] for one in client.sources()] == ["my photo"]


def test_refusals_are_errors_with_the_words_of_the_server(address: str, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="token is missing or wrong"):
        Client(address)
    with pytest.raises(SourceError, match="start it with masklet serve"):
        Client("http://127.0.0.1:9", TOKEN)
    with pytest.raises(InputError, match="no address of a server"):
        Client("clip.mp4")
    with Client(address, TOKEN) as client:
        with pytest.raises(ApiError, match="lies outside") as refused:
            client.add_source("/etc/passwd")
        assert refused.value.status == 403
        (tmp_path / "model.pt").write_bytes(b"x")
        with pytest.raises(ApiError, match="no image and no video"):
            client.upload(tmp_path / "model.pt")
        with pytest.raises(SourceError, match="cannot be read"):
            client.upload(tmp_path / "none.png")


def test_tracking_without_prompts_is_refused(address: str, clip: str) -> None:
    with Client(address, TOKEN, project="empty") as client, pytest.raises(ApiError, match="nothing to track"):
        list(client.add_source(clip).propagate())


@pytest.mark.slow
def test_the_python_of_the_page_runs(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "default", replace(PRESETS["default"], points_per_side=8))  # not 1,024 points
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "clip.mp4")
    block = block.replace('"http://127.0.0.1:8700"', f'"{address}", "{TOKEN}", project="page"')
    exec(block.replace("[[210, 350]]", "[[20, 25]]"), {})
    assert (tmp_path / "clip_coco.zip").is_file()
