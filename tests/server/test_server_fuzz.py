"""Malformed requests: none ends the process, is a fault of the server, or touches the session of somebody else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from helpers.server_files import open_api_session, open_socket, receive, running_server
from masklet.server.api_routes import ROUTES
from masklet.server.wire_format import LENGTH

if TYPE_CHECKING:
    from masklet import SAM

COUNT = 1000
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, 1e308, "", "a", "\0", "../../etc", "\ud800", "x" * 5000, [], {},
    [[]], [1, 2], [[1, 2]], [[1e300, -5]], [["a", 2]], [None], {"size": [2, 3], "counts": "06"},
    {"size": [10**9, 10**9], "counts": "0"}, {"size": [64, 96], "counts": "\x00~"}, {"size": [-1, 2], "counts": 5},
)  # fmt: skip
TEXTS = (b"", b"{", b"[]", b"null", b'{"a":NaN}', b"[" * 50_000, b'{"frame":1e999}', b"\xff\xfe", b'"text"')


@pytest.mark.slow
def test_two_thousand_malformed_requests(tmp_path: Path, tracker: SAM, small_video: np.ndarray) -> None:
    rng = random.Random(7)
    with running_server(tmp_path, tracker) as client:
        Image.fromarray(small_video[0]).save(tmp_path / "files" / "photo.png")
        other = open_api_session(client, project="other", author="anna")
        source = client.post(f"{other}/sources", json={"path": str(tmp_path / "files" / "photo.png")}).json()["id"]
        obj = client.post(f"{other}/objects", json={"source": source, "name": "Rex"}).json()["id"]
        before = client.get(other).json()
        session = open_api_session(client, project="fuzzed")
        routes = [one for one in ROUTES if (one.method, one.handler.__name__) != ("DELETE", "close_session")]
        for _ in range(COUNT):
            route = rng.choice(routes)
            names = {name: "1" if kind.type == "integer" else "a.png" for name, kind in route.path_fields.items()}
            names["session"] = session.rpartition("/")[2] if rng.random() < 0.9 else "none"
            if "source" in names and rng.random() < 0.5:
                names["source"] = rng.choice(["0", "-1", "9" * 30, "%00", "a"])
            given = {rng.choice([*route.body, "extra"]): rng.choice(VALUES) for _ in range(rng.randrange(4))}
            query = {name: rng.choice(["-1", "1", "x", "9" * 40, "\0"]) for name in route.query if rng.random() < 0.7}
            body = json.dumps(given).encode() if rng.random() < 0.7 else rng.choice(TEXTS)
            path = route.path.format(**names)
            answer = client.request(route.method, path, content=body, params=query)
            assert answer.status_code < 500, (route.path, query, body[:200], answer.text)
        with open_socket(client, session) as socket:
            kinds = ["hover", "predict", "prompt", "everything", "track", "cancel", "ack", None, 5, "none"]
            fields = ["source", "objects", "frame", "points", "labels", "box", "mask", "seq", "request", "start", "id"]
            for _ in range(COUNT):
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
                if header["request"] == 4242:
                    break
        assert client.get(other).json() == before
        body = {"object": obj, "points": [[20, 25]]}
        assert client.post(f"{other}/prompts", json=body).status_code == 200
        assert "\nmasklet_errors_total " not in client.get("/metrics").text
