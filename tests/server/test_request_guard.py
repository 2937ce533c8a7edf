"""Who may call: Host, Origin, token, bounds; each refusal is JSON and names value, rule and remedy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from starlette.websockets import WebSocketDisconnect

from helpers.server_files import open_api_session, open_socket, running_server
from masklet.errors import InputError
from masklet.server import ServerLimits, ServerOptions

TOKEN = "a-token-of-this-test"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1234"}, 200),
        ({"host": "evil.example:8700"}, 403),  # DNS rebinding
        ({"host": "192.168.1.7:8700"}, 403),
        ({"host": "[::1"}, 403),
        ({"origin": "http://127.0.0.1:8700"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_host_and_origin(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with running_server(tmp_path, None) as client:
        answer = client.get("/api/health", headers=headers)
        assert answer.status_code == status
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if status == 403:
            assert answer.json()["error"]["message"].count(":") >= 1


def test_a_page_of_another_site_gets_no_socket(tmp_path: Path) -> None:
    with running_server(tmp_path, None) as client:
        address = open_api_session(client)
        for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
            with pytest.raises(WebSocketDisconnect), open_socket(client, address, headers=headers):
                pass
        with open_socket(client, address, headers={"origin": "http://127.0.0.1:8700"}):
            pass
        with pytest.raises(WebSocketDisconnect), open_socket(client, "/api/sessions/none"):
            pass


def test_a_token_is_needed_everywhere(tmp_path: Path) -> None:
    with running_server(tmp_path, None, token=TOKEN) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
            for path in ("/api/health", "/metrics", "/api/openapi.json", "/none"):
                answer = client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        client.headers["authorization"] = f"Bearer {TOKEN}"
        address = open_api_session(client)
        del client.headers["authorization"]
        with pytest.raises(WebSocketDisconnect), open_socket(client, address):
            pass
        protocols = ["masklet", f"masklet.token.{TOKEN}"]  # what a browser can send
        with open_socket(client, address, subprotocols=protocols) as socket:
            assert socket.accepted_subprotocol == "masklet"


def test_options_that_would_open_the_server_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="token is needed"):
        ServerOptions(tmp_path, host="0.0.0.0")
    with pytest.raises(InputError, match="at least 16"):
        ServerOptions(tmp_path, token="short")
    with pytest.raises(InputError, match="above 0"):
        ServerLimits(max_queue=0)
    assert not ServerOptions(tmp_path, host="0.0.0.0", token=TOKEN).is_loopback


def test_bounds_of_sessions_bodies_uploads_and_pixels(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"max_sessions": 1, "max_body_bytes": 400, "max_upload_bytes": 700, "max_pixels": 100}
    with running_server(tmp_path, None, **limits) as client:
        address = open_api_session(client)
        answer = client.post("/api/sessions", json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert client.put(f"{address}/uploads/a.png", content=b"x" * 401).status_code == 413
        assert client.put(f"{address}/uploads/a.png", content=iter([b"x" * 300] * 2)).status_code == 413
        assert client.put(f"{address}/uploads/a.png?offset=0", content=b"x" * 400).status_code == 200
        assert client.put(f"{address}/uploads/a.png?offset=400", content=b"x" * 400).status_code == 413
        Image.fromarray(np.zeros((11, 10, 3), np.uint8)).save(tmp_path / "files" / "big.png")
        answer = client.post(f"{address}/sources", json={"path": str(tmp_path / "files" / "big.png")})
        assert answer.status_code == 413
        assert "max_pixels=100" in answer.json()["error"]["message"]


def test_a_fault_is_an_answer_and_its_text_stays_in_the_log(tmp_path: Path) -> None:
    model = SimpleNamespace(info=lambda: 1 / 0)
    with running_server(tmp_path, model) as client:
        answer = client.get("/api/model")
        assert answer.status_code == 500
        assert "division" not in answer.text
        assert client.get("/api/health").status_code == 200
        assert "masklet_errors_total 1" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/none", 404), ("DELETE", "/api/health", 405), ("GET", "/api/sessions/none", 404)],
)
def test_unknown_addresses_are_json(tmp_path: Path, method: str, path: str, status: int) -> None:
    with running_server(tmp_path, None) as client:
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["status"]) == (status, status)
