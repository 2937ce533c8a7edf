"""The verbs of the server over HTTP: what they store, and that masks are those of the library."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from helpers.server_files import open_api_session, running_server, write_clip
from masklet.image.automatic_mask_generator import preset
from masklet.masks import rle

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from masklet import SAM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_video: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("server")
    write_clip(path / "files" / "clip", small_video[:4])
    Image.fromarray(small_video[0]).save(path / "files" / "photo.png")
    Image.fromarray(small_video[0]).save(path / "secret.png")
    return path


@pytest.fixture(scope="module")
def client(folder: Path, tracker: SAM) -> Iterator[TestClient]:
    with running_server(folder, tracker) as client:
        yield client


@pytest.fixture
def session(client: TestClient) -> Iterator[str]:
    address = open_api_session(client, author="anna")
    yield address
    client.delete(address)


def add(client: TestClient, session: str, path: Path) -> dict[str, Any]:
    answer = client.post(f"{session}/sources", json={"path": str(path)})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_health_model_limits_and_files(client: TestClient, folder: Path) -> None:
    assert client.get("/api/health").json()["status"] == "ok"
    info = client.get("/api/model").json()
    assert (info["supports_video"], "/" in info["path"]) == (True, False)
    assert client.get("/api/limits").json()["max_sessions"] == 32
    assert str(folder / "files" / "photo.png") in client.get("/api/files").json()["files"]


def test_a_click_on_an_image_is_that_of_the_library(
    client: TestClient, session: str, folder: Path, tracker: SAM
) -> None:
    source = add(client, session, folder / "files" / "photo.png")
    obj = client.post(f"{session}/objects", json={"source": source["id"]}).json()
    body = {"object": obj["id"], "points": [[20, 25], [80, 50]], "labels": [1, 0]}
    answer = client.post(f"{session}/prompts", json=body).json()
    [expected] = tracker(str(folder / "files" / "photo.png"), points=[[[20, 25], [80, 50]]], labels=[[1, 0]])
    assert expected.masks is not None
    assert answer["objects"][0]["rle"] == rle.encode(expected.masks.data[0])
    assert answer["objects"][0]["score"] == float(expected.scores[0])
    stored = client.get(f"{session}/masks", params={"source": source["id"]}).json()["objects"]
    assert [(one["object"], one["origin"], one["author"]) for one in stored] == [(obj["id"], "click", "anna")]
    assert client.post(f"{session}/undo").json()["actions"] == [answer["revision"]]
    assert client.get(f"{session}/masks", params={"source": source["id"]}).json()["objects"] == []
    assert client.get(f"{session}/prompts", params={"source": source["id"]}).json()["prompts"] == []
    assert client.post(f"{session}/redo").json()["actions"] == [answer["revision"]]
    kinds = [one["kind"] for one in client.get(f"{session}/history?limit=3").json()["actions"]]
    assert kinds == ["redo", "undo", "prompt"]


def test_a_click_on_a_video_is_that_of_a_session(client: TestClient, session: str, folder: Path, tracker: SAM) -> None:
    source = add(client, session, folder / "files" / "clip")
    obj = client.post(f"{session}/objects", json={"source": source["id"]}).json()
    for points in ([[50.0, 20.0]], [[20.0, 25.0]]):  # the second replaces the first
        answer = client.post(f"{session}/prompts", json={"object": obj["id"], "frame": 1, "points": points}).json()
    with tracker.session(folder / "files" / "clip") as plain:
        expected = plain.add_prompt(1, 1, points=[[20, 25]])
    assert expected.masks is not None
    assert answer["objects"][0]["rle"] == rle.encode(expected.masks.data[0])


def test_candidates_and_everything_are_those_of_the_library(
    client: TestClient, session: str, folder: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(preset(tracker.predictor.model, "fast"), points_per_side=2)
    monkeypatch.setattr("masklet.sam.prediction.preset", lambda model, name: few)
    source, path = add(client, session, folder / "files" / "photo.png"), str(folder / "files" / "photo.png")
    body = {"source": source["id"], "box": [10, 15, 35, 40], "multimask": True}
    answer = client.post(f"{session}/predict", json=body).json()
    [expected] = tracker(path, bboxes=[[10, 15, 35, 40]], multimask=True)
    assert expected.masks is not None
    assert len(expected) == 3
    assert [one["rle"] for one in answer["objects"]] == [rle.encode(mask) for mask in expected.masks.data]
    before = len(client.get(f"{session}/objects").json()["objects"])
    answer = client.post(f"{session}/everything", json={"source": source["id"], "preset": "fast", "store": True}).json()
    [expected] = tracker(path, everything="fast")
    assert expected.masks is not None
    assert [one["rle"] for one in answer["objects"]] == [rle.encode(mask) for mask in expected.masks.data]
    assert len(client.get(f"{session}/objects").json()["objects"]) == before + len(expected)


def test_a_frame_has_the_pixels_of_the_model(
    client: TestClient, session: str, folder: Path, small_video: np.ndarray
) -> None:
    source = add(client, session, folder / "files" / "clip")
    answer = client.get(f"{session}/sources/{source['id']}/frames/3")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), small_video[3])
    answer = client.get(f"{session}/sources/{source['id']}/frames/3?format=jpeg&quality=95")
    assert answer.headers["content-type"] == "image/jpeg"
    assert client.get(f"{session}/sources/{source['id']}/frames/4").status_code == 404


def test_an_upload_continues_where_it_ended(client: TestClient, session: str, small_video: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(small_video[5]).save(buffer, "png")
    data, route = buffer.getvalue(), f"{session}/uploads/up load.png"
    assert client.put(route, params={"offset": 0}, content=data[:50]).json() == {"offset": 50}
    assert client.put(route, params={"offset": 90}, content=data[90:]).status_code == 409  # a gap
    assert client.put(route, params={"offset": 20}, content=data[20:90]).json() == {"offset": 90}
    assert client.get(route).json() == {"offset": 90}
    assert client.put(route, params={"offset": 90}, content=data[90:]).json() == {"offset": len(data)}
    source = client.post(f"{route}/finish", json={"sha256": hashlib.sha256(data).hexdigest()}).json()
    assert (source["size"], source["sha256"]) == ([64, 96], hashlib.sha256(data).hexdigest())
    assert client.put(route, params={"offset": 0}, content=data).status_code == 409


@pytest.mark.parametrize(
    ("name", "status"),
    [("model.pt", 400), ("weights.safetensors", 400), (".hidden.png", 400), ("..%2fx.png", 404), ("con.png", 400)],
)
def test_uploads_are_images_and_videos(client: TestClient, session: str, name: str, status: int) -> None:
    answer = client.put(f"{session}/uploads/{name}", content=b"x")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_an_upload_that_is_broken_is_deleted(client: TestClient, session: str) -> None:
    route = f"{session}/uploads/broken.png"
    client.put(route, content=b"no image")
    assert client.post(f"{route}/finish", json={"sha256": "0" * 64}).status_code == 400
    client.put(route, content=b"no image")
    assert client.post(f"{route}/finish").status_code == 400
    assert client.get(route).json() == {"offset": 0}


def test_paths_outside_are_refused_links_too(client: TestClient, session: str, folder: Path) -> None:
    (folder / "files" / "link.png").symlink_to(folder / "secret.png")
    (folder / "files" / "linked").mkdir()
    (folder / "files" / "linked" / "0.png").symlink_to(folder / "secret.png")
    for path in ("/etc/passwd", folder / "secret.png", folder / "files" / "link.png", folder / "files" / "linked"):
        answer = client.post(f"{session}/sources", json={"path": str(path)})
        assert (answer.status_code, answer.json()["error"]["kind"]) == (403, "forbidden")
    assert client.post(f"{session}/sources", json={"path": str(folder / "files" / "none.png")}).status_code == 400
    assert client.post("/api/sessions", json={"project": "../evil"}).status_code == 400


def test_masks_are_set_verified_and_exported(client: TestClient, folder: Path) -> None:
    session = open_api_session(client, project="exported")
    source = add(client, session, folder / "files" / "photo.png")
    kind = client.post(f"{session}/classes", json={"name": "dog"}).json()
    obj = client.post(f"{session}/objects", json={"source": source["id"], "class": kind["id"], "name": "Rex"}).json()
    mask = np.zeros((64, 96), bool)
    mask[10:20, 10:30] = True
    assert client.put(f"{session}/masks", json={"object": obj["id"], "mask": rle.encode(mask)}).status_code == 200
    assert client.post(f"{session}/verify", json={"object": obj["id"]}).status_code == 200
    wrong = rle.encode(np.ones((2, 2), bool))
    assert client.put(f"{session}/masks", json={"object": obj["id"], "mask": wrong}).status_code == 400
    assert client.patch(f"{session}/objects/{obj['id']}", json={"locked": True}).json()["locked"]
    assert client.put(f"{session}/masks", json={"object": obj["id"]}).status_code == 409
    made = client.post(f"{session}/export", json={"format": "coco", "verified_only": True}).json()
    assert (made["num_images"], made["num_objects"], made["issues"]) == (1, 1, [])
    data = client.get(f"{session}/exports/{made['name']}").content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert any(name.endswith("photo.png") for name in archive.namelist())
        assert not any(".masklet" in name for name in archive.namelist())
    made = client.post(f"{session}/export", json={"format": "overlay"}).json()
    assert (made["num_objects"], made["loss"]) == (1, [])
    with zipfile.ZipFile(io.BytesIO(client.get(f"{session}/exports/{made['name']}").content)) as archive:
        assert archive.namelist() == ["photo_overlay.png"]
    assert client.get(f"{session}/exports/..%2fproject.sqlite").status_code == 404
    assert client.post(f"{session}/export", json={"format": "none"}).status_code == 400
    shown = client.get(session).json()
    assert [one["name"] for one in shown["objects"]] == ["Rex"]
    changes = client.get(f"{session}/changes?since=0").json()
    assert changes["revision"] == shown["revision"] == changes["changes"][-1]["revision"]


def put_square(client: TestClient, session: str, at: int, frame: int, **fields: Any) -> dict[str, Any]:
    """Store a mask of a square of 12 pixels; without an object it becomes a new one."""
    size = client.get(session).json()["sources"][0]["size"]
    mask = np.zeros(size, bool)
    mask[10:22, at : at + 12] = True
    answer = client.put(f"{session}/masks", json={"frame": frame, "mask": rle.encode(mask), **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_doubts_differences_and_swaps(client: TestClient, folder: Path, small_video: np.ndarray) -> None:
    session = open_api_session(client, project="review")
    write_clip(folder / "files" / "five", small_video[:5])
    source = add(client, session, folder / "files" / "five")["id"]
    one = put_square(client, session, 4, 0, source=source)["object"]
    other = put_square(client, session, 30, 0, source=source)["object"]
    for frame in (1, 2, 3, 4):
        put_square(client, session, 4, frame, object=one, origin="click", score=0.95)
        put_square(client, session, 30, frame, object=other, origin="click", score=0.3 if frame == 4 else 0.95)
    doubts = client.get(f"{session}/doubts", params={"source": source, "limit": 1}).json()["doubts"]
    assert [(known["object_id"], known["frame_idx"]) for known in doubts] == [(other, 4)]
    assert "uncertain mask" in doubts[0]["reasons"]
    client.post(f"{session}/verify", json={"object": other, "frame": 3})
    again = client.get(f"{session}/doubts", params={"source": source}).json()["doubts"]
    assert all((known["object_id"], known["frame_idx"]) != (other, 3) for known in again)  # a person has seen it

    since = client.get(session).json()["revision"]
    put_square(client, session, 7, 3, object=one, origin="click")
    put_square(client, session, 30, 3, object=other, origin="click")  # as it was
    changed = client.get(f"{session}/differences", params={"source": source, "since": since}).json()["differences"]
    assert changed == [{"object": one, "frame": 3, "iou": round(9 / 15, 4)}]

    def shown(frame: int) -> dict[int, tuple[str, str]]:
        query = {"source": source, "start": frame, "stop": frame + 1}
        objects = client.get(f"{session}/masks", params=query).json()["objects"]
        return {known["object"]: (known["rle"]["counts"], known["origin"]) for known in objects}

    before = [shown(frame) for frame in range(4)]
    assert client.post(f"{session}/swap", json={"first": one, "second": other, "frame": 1}).status_code == 200
    assert shown(0) == before[0]
    assert [shown(frame)[one][0] for frame in (1, 2, 3)] == [before[frame][other][0] for frame in (1, 2, 3)]
    assert [shown(1)[each][1] for each in (one, other)] == ["edit", "edit"]  # tracking starts from both
    assert shown(2)[one][1] == "click"
    client.post(f"{session}/undo")
    assert [shown(frame) for frame in range(4)] == before
    client.delete(session)


def test_changes_of_one_run_are_undone_together(client: TestClient, folder: Path) -> None:
    session = open_api_session(client, project="runs")
    source = add(client, session, folder / "files" / "photo.png")["id"]
    for at in (4, 20, 36):
        put_square(client, session, at, 0, source=source, run=7)
    obj = put_square(client, session, 40, 0, source=source)["object"]
    prompt = {"object": obj, "points": [[20, 25]]}
    assert client.post(f"{session}/prompts", json=prompt).status_code == 200
    client.post(f"{session}/prompts", json={"object": obj, "run": 8})
    client.put(f"{session}/masks", json={"object": obj, "run": 8})
    assert not client.get(f"{session}/prompts", params={"source": source}).json()["prompts"]
    client.post(f"{session}/undo")  # both
    assert len(client.get(f"{session}/prompts", params={"source": source}).json()["prompts"]) == 1
    for left in (4, 3, 0):  # the prompt, its object, and the three of one run
        client.post(f"{session}/undo")
        assert len(client.get(f"{session}/masks", params={"source": source}).json()["objects"]) == left
    client.delete(session)


def test_the_description_has_every_route(client: TestClient) -> None:
    from masklet.server.api_routes import ROUTES

    described = client.get("/api/openapi.json").json()
    for route in ROUTES:
        operation = described["paths"][route.path][route.method.lower()]
        names = {one["name"] for one in operation["parameters"]}
        assert names == {*route.path_fields, *route.query}
        assert all((operation["summary"], operation["description"]))
    routes = {one.path for one in client.app.routes}  # type: ignore[attr-defined]
    assert routes == set(described["paths"])


def test_metrics_count(client: TestClient, session: str) -> None:
    text = client.get("/metrics").text
    assert 'masklet_requests_total{route="open_session",status="200"}' in text
    assert "masklet_sessions " in text
