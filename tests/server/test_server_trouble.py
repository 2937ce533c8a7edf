"""Full disks, clients that leave, and several clients at once: the server and the sessions of the others go on."""

from __future__ import annotations

import copy
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("httpx2", reason="httpx2 is not installed (extra 'app')")

import httpx2

from helpers.server_files import listening_server, open_api_session, open_socket, receive, running_server, write_sources
from helpers.small_disk import mounted_disk
from masklet.masks import rle

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from masklet import SAM


@pytest.fixture
def folder(tmp_path: Path, small_video: np.ndarray) -> Path:
    return write_sources(tmp_path, small_video)


def add_object(client: TestClient, session: str, path: Path) -> tuple[int, int]:
    """Add a source with one object, and return both ids."""
    answer = client.post(f"{session}/sources", json={"path": str(path)})
    assert answer.status_code == 200, answer.text
    source = answer.json()["id"]
    return source, client.post(f"{session}/objects", json={"source": source}).json()["id"]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for ten seconds at most."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 2 MB for the projects, which only root can make."""
    with mounted_disk(folder / "projects", "2m") as path:
        yield path


@pytest.mark.slow
def test_a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest(folder: Path, small_disk: Path, tracker: SAM) -> None:
    with running_server(folder, tracker) as client:
        session = open_api_session(client)
        _, obj = add_object(client, session, folder / "files" / "photo.png")
        body = {"object": obj, "points": [[20, 25]]}
        first = client.post(f"{session}/prompts", json=body).json()
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            filler.write(bytes(2 << 20))
        answer = client.put(f"{session}/uploads/a.png", content=bytes(50_000))
        assert (answer.status_code, answer.json()["error"]["kind"]) == (507, "storage")
        statuses = {
            client.post(f"{session}/prompts", json={**body, "points": [[x, 25]]}).status_code for x in range(90)
        }
        assert statuses <= {200, 507}
        assert 507 in statuses
        answer = client.post(f"{session}/export", json={"format": "coco"})
        assert answer.status_code == 507
        assert client.get("/api/health").status_code == 200
        (small_disk / "filler").unlink()
        again = client.post(f"{session}/prompts", json=body).json()
        assert again["objects"] == first["objects"]
        assert client.put(f"{session}/uploads/a.png", content=bytes(50_000)).json() == {"offset": 50_000}
        assert "\nmasklet_errors_total " not in client.get("/metrics").text


def test_a_client_that_vanishes_in_the_middle_of_an_upload_continues_later(folder: Path, tracker: SAM) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 150, 3), np.uint8)).save(buffer, "png")
    content = buffer.getvalue()
    with listening_server(folder, tracker) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        session = open_api_session(client)
        route = f"{session}/uploads/noise.png"
        assert client.put(route, content=content[:20_000]).json() == {"offset": 20_000}
        lines = [f"PUT {route}?offset=20000 HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(content)}"]
        for sent in (b"", content[20_000:40_000]):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + sent)
        wait_for(lambda: "masklet_requests_active 1\n" in client.get("/metrics").text)
        assert client.get(route).json() == {"offset": 20_000}
        assert client.put(route, params={"offset": 20_000}, content=content[20_000:]).json() == {"offset": len(content)}
        assert client.post(f"{route}/finish", json={}).json()["size"] == [150, 150]
        assert "\nmasklet_errors_total " not in client.get("/metrics").text


def test_a_client_that_vanishes_while_it_tracks_keeps_what_was_tracked(folder: Path, tracker: SAM) -> None:
    from websockets.sync.client import connect

    with (
        listening_server(folder, tracker, max_unacknowledged=2) as port,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        session = open_api_session(client)
        source, obj = add_object(client, session, folder / "files" / "clip")
        client.post(f"{session}/prompts", json={"object": obj, "points": [[20, 25]]})
        with connect(f"ws://127.0.0.1:{port}{session}/socket", proxy=None) as connection:
            connection.send(json.dumps({"type": "track", "id": 1, "source": source}))
            for _ in range(2):
                connection.recv(10)
            connection.socket.shutdown(socket.SHUT_RDWR)  # without goodbye

        def num_stored() -> int:
            return len(client.get(f"{session}/masks", params={"source": source}).json()["objects"])

        wait_for(lambda: num_stored() >= 2)
        with connect(f"ws://127.0.0.1:{port}{session}/socket", proxy=None) as again:
            again.send(json.dumps({"type": "predict", "id": 2, "source": source, "points": [[20, 25]]}))
            assert b'"masks"' in again.recv(10)
        assert num_stored() < 10
        assert "\nmasklet_errors_total " not in client.get("/metrics").text


def test_two_clients_on_one_project_see_each_other_and_undo_their_own_work(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker) as client:
        anna, bo = (open_api_session(client, project="zoo", author=name) for name in ("anna", "bo"))
        source, first = add_object(client, anna, folder / "files" / "photo.png")
        second = client.post(f"{bo}/objects", json={"source": source}).json()["id"]
        before = client.get(bo).json()["revision"]
        bodies = [(anna, {"object": first, "points": [[20, 25]]}), (bo, {"object": second, "points": [[80, 50]]})]
        with ThreadPoolExecutor() as pool:
            answers = [
                one.result().json()
                for one in [pool.submit(client.post, f"{session}/prompts", json=body) for session, body in bodies * 5]
            ]
        assert len({one["revision"] for one in answers}) == 10 or len(answers) == 10
        changes = client.get(f"{bo}/changes", params={"since": before}).json()["changes"]
        assert {one["author"] for one in changes} == {"anna", "bo"}
        assert client.post(f"{anna}/undo", json={"mine": True}).json()["actions"]
        shown = {one["object"]: one["author"] for one in masks(client, bo, source)}
        assert shown[second] == "bo"
        client.patch(f"{bo}/objects/{first}", json={"name": "of both"})
        client.delete(f"{bo}/objects/{second}")
        assert client.post(f"{anna}/prompts", json={"object": second, "points": [[1, 1]]}).status_code == 404
        with open_socket(client, anna) as left, open_socket(client, bo) as right:
            for connection, x in ((left, 20), (right, 60)):
                connection.send_json({"type": "predict", "id": x, "source": source, "points": [[x, 25]]})
            for connection, x in ((right, 60), (left, 20)):
                header = receive(connection)[0]
                while header["type"] != "masks":
                    header = receive(connection)[0]
                assert header["request"] == x


def masks(client: TestClient, session: str, source: int) -> list[dict[str, Any]]:
    """Return the stored masks of a source."""
    return list(client.get(f"{session}/masks", params={"source": source}).json()["objects"])


@pytest.mark.slow
def test_eight_clients_at_once_get_the_masks_of_the_library(
    folder: Path, tracker: SAM, small_video: np.ndarray
) -> None:
    for number in range(2):
        Image.fromarray(small_video[number]).save(folder / "files" / f"{number}.png")
    model = copy.copy(tracker)
    model.keep_images(2)
    gate = threading.Barrier(8)

    def work(client: TestClient, number: int) -> list[Any]:
        session = open_api_session(client, project=f"client {number}")
        _, obj = add_object(client, session, folder / "files" / f"{number % 2}.png")
        gate.wait(10)
        codes = []
        for x in (15, 25, 70):
            answer = client.post(f"{session}/prompts", json={"object": obj, "points": [[x + number, 25]]})
            assert answer.status_code == 200, answer.text
            codes.append(answer.json()["objects"][0]["rle"])
        client.delete(session)
        return codes

    with running_server(folder, model) as client, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: work(client, number), range(8)))
    for number, codes in enumerate(found):
        for x, code in zip((15, 25, 70), codes, strict=True):
            [expected] = model(small_video[number % 2], points=[[x + number, 25]])
            assert expected.masks is not None
            assert code == rle.encode(expected.masks.data[0])


def test_playlists_are_no_sources(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker) as client:
        session = open_api_session(client)
        for name, text in (("a.mp4", "ffconcat version 1.0\nfile b.mp4\n"), ("b.ts", "#EXTM3U\n/etc/c.ts\n")):
            (folder / "files" / name).write_text(text)
            answer = client.post(f"{session}/sources", json={"path": str(folder / "files" / name)})
            assert answer.status_code == 403
            assert "playlist" in answer.json()["error"]["message"]
            client.put(f"{session}/uploads/{name}", content=text.encode())
            assert client.post(f"{session}/uploads/{name}/finish", json={}).status_code == 403


def test_what_is_kept_of_a_source_is_released_with_it(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker) as client:
        session = open_api_session(client)
        source, _ = add_object(client, session, folder / "files" / "photo.png")
        work = client.app.state.masklet.session(session.rpartition("/")[2])  # type: ignore[attr-defined]
        route = f"{session}/sources/{source}/frames/0?format=jpeg"
        once, again = client.get(route), client.get(route)
        assert once.content == again.content
        assert work.encoded.num_bytes == len(once.content)
        client.delete(f"{session}/sources/{source}")
        assert client.get(route).status_code == 404
        assert work.encoded.num_bytes == 0
        client.post(f"{session}/undo")
        assert client.get(route).content == once.content
