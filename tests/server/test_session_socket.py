"""Tracking, hovering and cancelling over the WebSocket, and what a crash leaves."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from helpers.server_files import open_api_session, open_socket, receive, running_server, write_sources
from masklet.image import ImagePredictor
from masklet.masks import rle
from masklet.server.wire_format import unpack_masks
from masklet.video.doubts import disagreements

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from masklet import SAM


@pytest.fixture
def folder(tmp_path: Path, small_video: np.ndarray) -> Path:
    return write_sources(tmp_path, small_video)


def prompted(client: TestClient, folder: Path, frame: int = 0) -> tuple[str, int, int]:
    """Open a session on the video with one object that has a point."""
    session = open_api_session(client)
    source = client.post(f"{session}/sources", json={"path": str(folder / "files" / "clip")}).json()["id"]
    obj = client.post(f"{session}/objects", json={"source": source}).json()["id"]
    body = {"object": obj, "frame": frame, "points": [[20 + 3 * frame, 25]]}
    assert client.post(f"{session}/prompts", json=body).status_code == 200
    return session, source, obj


def test_tracking_is_that_of_the_library_and_waits_for_acknowledgements(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker, max_unacknowledged=2) as client:
        session, source, obj = prompted(client, folder)
        frames: dict[int, Any] = {}
        with open_socket(client, session) as socket:
            socket.send_json({"type": "track", "id": 7, "source": source, "stop": 5})
            first = [receive(socket) for _ in range(2)]
            time.sleep(0.2)
            assert "masklet_tracked_frames_total 2" in client.get("/metrics").text  # the third waits
            messages = iter([*first])
            while True:
                header, payload = next(messages, None) or receive(socket)
                if header["type"] == "done":
                    break
                assert (header["type"], header["request"]) == ("frame", 7)
                frames[header["frame"]] = unpack_masks(header, payload)
                socket.send_json({"type": "ack", "seq": header["seq"]})
        assert (header["num_frames"], header["canceled"], header["seq"]) == (5, False, 6)
        stored = client.get(f"{session}/masks", params={"source": source}).json()["objects"]
    with tracker.session(folder / "files" / "clip") as plain:
        plain.add_prompt(obj, 0, points=[[20, 25]])
        expected = {one.frame_idx: one for one in plain.propagate(stop=5)}
    assert sorted(frames) == sorted(expected) == list(range(5))
    for frame, [(known, code)] in frames.items():
        assert code == rle.encode(expected[frame].masks.data[0])
        assert (known["object"], known["state"]) == (obj, expected[frame].states[0])
        assert known["score"] == float(expected[frame].scores[0])
    assert [one["rle"] for one in stored] == [frames[frame][0][1] for frame in range(5)]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_cancelling_keeps_what_was_tracked(folder: Path, tracker: SAM, bidirectional: bool) -> None:
    with running_server(folder, tracker, max_unacknowledged=1) as client:
        session, source, _ = prompted(client, folder, frame=2)
        with open_socket(client, session) as socket:
            socket.send_json({"type": "track", "id": 1, "source": source, "bidirectional": bidirectional})
            header, _ = receive(socket)
            assert header["type"] == "frame"
            socket.send_json({"type": "track", "id": 2, "source": source})
            assert receive(socket)[0]["error"]["status"] == 409
            socket.send_json({"type": "cancel", "request": 1})
            header, _ = receive(socket)
            assert (header["type"], header["canceled"], header["num_frames"]) == ("done", True, 1)
            assert len(client.get(f"{session}/masks", params={"source": source}).json()["objects"]) in (1, 2)
            socket.send_json({"type": "predict", "id": 3, "source": source, "points": [[20, 25]]})
            assert receive(socket)[0]["type"] == "masks"


def test_a_crash_of_tracking_leaves_server_and_session(
    folder: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masklet.video.tracker import Tracker

    usual = Tracker.track_frame

    def crash(self: Tracker, frame: Any, *args: Any) -> Any:
        if frame.index == 2:
            raise MemoryError("made by this test")
        return usual(self, frame, *args)

    with running_server(folder, tracker) as client:
        session, source, _ = prompted(client, folder)
        with open_socket(client, session) as socket:
            with monkeypatch.context() as patch:
                patch.setattr(Tracker, "track_frame", crash)
                socket.send_json({"type": "track", "id": 1, "source": source})
                kinds = [receive(socket)[0] for _ in range(3)]
            assert [one["type"] for one in kinds] == ["frame", "frame", "error"]
            assert kinds[2]["error"]["status"] == 500
            assert "made by" not in kinds[2]["error"]["message"]
            socket.send_json({"type": "track", "id": 2, "source": source, "stop": 2})
            assert [receive(socket)[0]["type"] for _ in range(3)] == ["frame", "frame", "done"]
        assert len(client.get(f"{session}/masks", params={"source": source}).json()["objects"]) == 2


class SlowModel:
    """A model that answers when it may, to see what waits."""

    def __init__(self, model: SAM) -> None:
        self.model, self.may, self.started = model, threading.Event(), threading.Event()
        self.calls: list[Any] = []

    def __call__(self, rgb: np.ndarray, **request: Any) -> Any:
        self.calls.append(request["points"])
        self.started.set()
        assert self.may.wait(10)
        return self.model(rgb, **request)


def test_a_newer_hover_overtakes_those_that_wait(folder: Path, tracker: SAM) -> None:
    model = SlowModel(tracker)
    with running_server(folder, model) as client:
        session = open_api_session(client)
        source = client.post(f"{session}/sources", json={"path": str(folder / "files" / "photo.png")}).json()["id"]
        with open_socket(client, session) as socket:

            def hover(number: int, **more: Any) -> None:
                socket.send_json({"type": "hover", "id": number, "source": source, "points": [[20, number]], **more})

            hover(1)
            assert model.started.wait(10)
            hover(2)
            hover(3, logits=True)
            assert [receive(socket)[0][key] for key in ("request",)] == [2]
            model.may.set()
            answers = {header["request"]: (header, payload) for header, payload in (receive(socket), receive(socket))}
    assert (answers[1][0]["type"], answers[3][0]["type"]) == ("masks", "logits")
    assert [points[0][0][1] for points in model.calls] == [1, 3]
    header, payload = answers[3]
    [expected] = tracker(str(folder / "files" / "photo.png"), points=[[[20, 3]]])
    assert expected.logits is not None
    logits = np.frombuffer(payload, np.int8).reshape(header["shape"])
    expected_int8 = np.clip(np.rint(expected.logits * header["scale"]), -127, 127)
    assert np.array_equal(logits, expected_int8)


def test_a_shown_frame_is_encoded_before_it_is_hovered_over(
    folder: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[tuple[int, ...]] = []
    usual = ImagePredictor._set_preprocessed

    def count(self: ImagePredictor, pixels: torch.Tensor, size: tuple[int, int]) -> None:
        encoded.append(size)
        usual(self, pixels, size)

    monkeypatch.setattr(ImagePredictor, "_set_preprocessed", count)
    with running_server(folder, copy.copy(tracker)) as client:
        session = open_api_session(client)
        source = client.post(f"{session}/sources", json={"path": str(folder / "files" / "clip")}).json()["id"]
        with open_socket(client, session) as socket:
            socket.send_json({"type": "prepare", "id": 1, "source": source, "frame": 3})
            assert receive(socket)[0]["type"] == "prepared"
            assert encoded == [(64, 96)]
            socket.send_json({"type": "hover", "id": 2, "source": source, "frame": 3, "points": [[20, 25]]})
            assert receive(socket)[0]["type"] == "masks"
            assert len(encoded) == 1
            socket.send_json({"type": "prepare", "id": 3, "source": source, "frame": 99})
            assert receive(socket)[0]["error"]["status"] == 404


def test_a_full_queue_and_a_long_wait_are_429(folder: Path, tracker: SAM) -> None:
    model = SlowModel(tracker)
    with running_server(folder, model, max_queue=1, max_wait_s=0.3) as client:
        session = open_api_session(client)
        source = client.post(f"{session}/sources", json={"path": str(folder / "files" / "photo.png")}).json()["id"]
        statuses: list[int] = []

        def ask() -> None:
            body = {"source": source, "points": [[20, 25]]}
            statuses.append(client.post(f"{session}/predict", json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for one in threads:
            one.start()
            assert model.started.wait(10)
        wait_for(lambda: len(statuses) == 2)
        assert statuses == [429, 429]
        model.may.set()
        for one in threads:
            one.join()
        assert statuses == [429, 429, 200]


def test_an_idle_model_is_released_and_loaded_again(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker, idle_model_s=1e-6, idle_session_s=1e-6) as client:
        state = client.app.state.masklet  # type: ignore[attr-defined]
        prompted(client, folder)
        assert client.get("/api/health").json()["model_loaded"]
        assert state.queue.release_idle()
        assert not client.get("/api/health").json()["model_loaded"]
        assert client.get("/api/model").json()["supports_video"]
        state.close_idle()
        assert client.get("/api/sessions").json() == {"sessions": []}


def test_closed_pages_make_room_for_new_ones_and_open_ones_stay(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker, max_sessions=3) as client:
        client_only = open_api_session(client)  # no page: it is kept for a minute
        with open_socket(client, open_api_session(client)) as socket:
            for _ in range(20):  # tabs that are opened and closed
                with open_socket(client, open_api_session(client)):
                    assert client.post("/api/sessions", json={}).status_code == 429
            socket.send_json({"type": "ack", "id": 1, "seq": 0})
            socket.send_json({"type": "prepare", "id": 2, "source": 99})
            assert receive(socket)[0]["error"]["status"] == 404  # the page is served
        assert client.get(client_only).status_code == 200


def test_tracking_backward_is_compared_while_nothing_else_waits(folder: Path, tracker: SAM) -> None:
    with running_server(folder, tracker) as client:
        session, source, obj = prompted(client, folder)
        with open_socket(client, session) as socket:

            def run(number: int, kind: str) -> dict[str, Any]:
                socket.send_json({"type": kind, "id": number, "source": source})
                while True:
                    header, _ = receive(socket)
                    if header["type"] != "frame":
                        return header
                    socket.send_json({"type": "ack", "seq": header["seq"]})

            assert run(1, "track")["num_frames"] == 10
            address = f"{session}/doubts?source={source}"
            assert client.get(address).json()["backward"] == []
            revision = client.get(session).json()["revision"]
            ended = run(2, "check_backward")
            assert (ended["type"], ended["canceled"], ended["num_frames"]) == ("done", False, 10)
            assert client.get(session).json()["revision"] == revision  # nothing is stored
            found = {one["frame"]: one["difference"] for one in client.get(address).json()["backward"]}
            stored = client.get(f"{session}/masks?source={source}").json()["objects"]
            masks = {(one["frame"], obj): rle.decode(one["rle"]) for one in stored}
            with tracker.session(folder / "files" / "clip") as plain:
                plain.add_prompt(obj, 9, mask=masks[9, obj])
                back = {(one.frame_idx, obj): one.masks.data[0] for one in plain.propagate(9, reverse=True)}
            expected = disagreements(masks, back)
            assert found == {frame: round(value, 4) for (frame, _), value in expected.items()}
            body = {"object": obj, "frame": 4, "mask": rle.encode(masks[3, obj])}
            assert client.put(f"{session}/masks", json=body).status_code == 200
            left = {one["frame"] for one in client.get(address).json()["backward"]}
            assert left == set(range(10)) - {4}
            socket.send_json({"type": "check_backward", "id": 3, "source": source})
            socket.send_json({"type": "check_backward", "id": 4, "source": source})
            socket.send_json({"type": "track", "id": 5, "source": source, "stop": 1})
            answers = [receive(socket)[0] for _ in range(4)]
            by_request = {one["request"]: one for one in answers if one["type"] != "frame"}
            assert by_request[4]["error"]["status"] == 409
            assert by_request[3]["canceled"]  # tracking comes first
            assert by_request[5]["type"] == "done"


def area(code: Any) -> int:
    return int(rle.decode(code).sum())


@pytest.mark.parametrize("file", ["photo.png", "clip"])
def test_logits_are_those_of_the_library_and_a_threshold_is_applied_to_them(
    folder: Path, tracker: SAM, file: str
) -> None:
    with running_server(folder, tracker) as client:
        session = open_api_session(client)
        source = client.post(f"{session}/sources", json={"path": str(folder / "files" / file)}).json()["id"]
        prompt = {"source": source, "points": [[20, 25]]}
        made = client.post(f"{session}/prompts", json=prompt).json()["objects"][0]
        with open_socket(client, session) as socket:
            socket.send_json({"type": "logits", "id": 1, "object": made["object"], "points": [[20, 25]]})
            header, payload = receive(socket)
            socket.send_json({"type": "logits", "id": 2, "object": made["object"]})
            assert receive(socket)[0]["error"]["status"] == 400
        if file == "clip":
            with tracker.session(folder / "files" / "clip") as plain:
                plain.add_prompt(1, 0, points=[[20, 25]])
                logits = plain.logits_at(1, 0)
        else:
            logits = tracker(str(folder / "files" / file), points=[[[20, 25]]])[0].logits[0]
        found = np.frombuffer(payload, np.int8).reshape(header["shape"])
        assert np.array_equal(found, np.clip(np.rint(logits * header["scale"]), -127, 127))
        assert header["box"] == [0, 0, 96, 64]
        level = float(np.quantile(logits, 0.8))
        body = {"object": made["object"], "points": [[20, 25]], "threshold": level}
        higher = client.post(f"{session}/prompts", json=body).json()["objects"][0]
        lower = client.post(f"{session}/prompts", json={**body, "threshold": level - 0.5}).json()["objects"][0]
        assert area(higher["rle"]) < area(lower["rle"])
        [stored] = client.get(f"{session}/masks", params={"source": source}).json()["objects"]
        assert (stored["rle"], stored["origin"]) == (lower["rle"], "edit")
        assert client.post(f"{session}/prompts", json={**body, "threshold": 99}).status_code == 400
        if file == "clip":
            with open_socket(client, session) as socket:
                socket.send_json({"type": "track", "id": 1, "source": source, "stop": 2})
                assert receive(socket)[0]["type"] == "frame"
                assert receive(socket)[0]["type"] == "frame"
            [kept] = client.get(f"{session}/masks", params={"source": source, "stop": 1}).json()["objects"]
            assert kept["rle"] == lower["rle"]  # chosen by a person


def test_prompts_in_a_view_change_only_what_lies_in_it(folder: Path, tracker: SAM) -> None:
    view = [8, 10, 72, 58]
    with running_server(folder, tracker) as client:
        session = open_api_session(client)
        source = client.post(f"{session}/sources", json={"path": str(folder / "files" / "photo.png")}).json()["id"]
        stripe = np.zeros((64, 96), bool)
        stripe[:, 5:30] = True
        obj = client.put(f"{session}/masks", json={"source": source, "mask": rle.encode(stripe)}).json()["object"]
        body = {"object": obj, "points": [[20, 25]], "view": view}
        [made] = client.post(f"{session}/prompts", json=body).json()["objects"]
        [expected] = tracker(str(folder / "files" / "photo.png"), points=[[[20, 25]]], view=view)
        stripe[10:58, 8:72] = expected.masks.data[0, 10:58, 8:72]
        assert (rle.decode(made["rle"]) == stripe).all()
        with open_socket(client, session) as socket:
            socket.send_json({"type": "prepare", "id": 1, "source": source, "view": view})
            assert receive(socket)[0]["type"] == "prepared"
            socket.send_json({"type": "hover", "id": 2, "source": source, "points": [[20, 25]], "view": view})
            [(_, code)] = unpack_masks(*receive(socket))
            assert (rle.decode(code) == expected.masks.data[0]).all()
            socket.send_json({"type": "logits", "id": 3, "source": source, "points": [[20, 25]], "view": view})
            assert receive(socket)[0]["box"] == view
        beside = client.post(f"{session}/prompts", json={"source": source, "points": [[80, 25]], "view": view})
        assert beside.status_code == 400
        assert "lies in the view" in beside.json()["error"]["message"]
        assert client.post(f"{session}/prompts", json={**body, "view": [1, 1, 4, 4]}).status_code == 400


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for ten seconds at most."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within ten seconds")


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    yield
    wait_for(lambda: not any(one.name == "masklet-model" for one in threading.enumerate()))
