"""masklet serve: what its options mean, and what it refuses before it listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from masklet.server import ServerOptions, application

TOKEN = "a-token-of-this-test"


def test_options_reach_the_server(masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ServerOptions] = []
    monkeypatch.setattr(application, "serve", started.append)
    monkeypatch.setenv("MASKLET_TOKEN", TOKEN)
    words = ["--host", "0.0.0.0", "--port", 8123, "--allow-host", "label.example", "--max-upload", 2, "--max-job", 5]
    done = masklet("serve", tmp_path, *words, "--project", tmp_path / "zoo.masklet")
    assert done.code == 0
    assert "serving http://0.0.0.0:8123" in done.err
    assert TOKEN not in done.err + done.out
    [options] = started
    assert (options.folders, options.projects) == ((tmp_path,), tmp_path / "zoo.masklet")
    assert (options.token, options.allowed_hosts) == (TOKEN, ("label.example",))
    assert (options.limits.max_upload_bytes, options.limits.max_job_s) == (2 << 20, 5)


def test_other_machines_need_a_token(masklet: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKLET_TOKEN", raising=False)
    done = masklet("serve", "--host", "0.0.0.0")
    assert done.code == 2
    assert "a token is needed" in done.err


def test_a_port_that_is_taken_is_one_line(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "1000000")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = masklet("serve", "--project", tmp_path, "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "choose another --port" in done.err


def test_a_folder_in_which_no_project_can_be_written_is_one_line(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "serve", lambda options: pytest.fail("it was started"))
    (tmp_path / "file").write_text("no folder")
    for project in ("file", "file/projects", "file/zoo.masklet"):
        done = masklet("serve", "--project", tmp_path / project)
        assert done.code != 0
        assert done.err.count("\n") == 1
        assert "no project can be written in" in done.err


def test_missing_folders_of_projects_are_made(
    masklet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "serve", lambda options: None)
    assert masklet("serve", "--project", tmp_path / "a" / "projects").code == 0
    assert masklet("serve", "--project", tmp_path / "b" / "zoo.masklet").code == 0
    assert not any((tmp_path / "a" / "projects").iterdir())
    assert not any((tmp_path / "b").iterdir())
