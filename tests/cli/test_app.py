"""masklet app: which project it opens, what becomes a source, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")

from masklet import open_project
from masklet.app import AppOptions, run_app
from masklet.errors import InputError
from masklet.server import ServerOptions, application

if TYPE_CHECKING:
    from starlette.applications import Starlette

TOKEN = "a-token-of-this-test"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 9, 3), 60 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser is opened on; the server starts and ends at once."""
    import webbrowser

    found: list[str] = []

    def start_and_end(app: Starlette, options: ServerOptions, on_start: Callable[[int], None]) -> None:
        on_start(options.port or 8123)
        app.state.masklet.close()

    monkeypatch.setattr(webbrowser, "open", found.append)
    monkeypatch.setattr(application, "run_server", start_and_end)
    monkeypatch.delenv("MASKLET_TOKEN", raising=False)
    return found


def test_each_image_of_a_folder_is_a_source_once(masklet: Callable[..., Any], photos: Path, opened: list[str]) -> None:
    for _ in range(2):
        done = masklet("app", photos, "--no-browser", "--port", 0)
        assert done.code == 0, done.err
        assert "http://127.0.0.1:8123/" in done.err
    assert opened == []
    with open_project(photos.with_name("photos.masklet")) as project:
        assert [(one.name, one.kind) for one in project.sources] == [("0", "image"), ("1", "image"), ("2", "image")]


def test_the_browser_opens_the_project_that_is_named(
    masklet: Callable[..., Any], photos: Path, opened: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    done = masklet("app", photos / "1.png", broken, "--project", tmp_path / "deep" / "zoo", "--port", 8711)
    assert done.code == 0, done.err
    assert opened == ["http://127.0.0.1:8711/"]
    assert "left out" in done.err
    assert "broken.png" in done.err
    with open_project(tmp_path / "deep" / "zoo.masklet") as project:
        assert [one.name for one in project.sources] == ["1"]


def test_the_printed_address_of_another_host_has_the_token(
    masklet: Callable[..., Any], photos: Path, opened: list[str]
) -> None:
    words = ["app", photos, "--port", 8712, "--host", "0.0.0.0"]
    refused = masklet(*words)
    assert refused.code == 2
    assert "a token is needed" in refused.err
    assert not photos.with_name("photos.masklet").exists()
    done = masklet(*words, "--token", TOKEN)
    assert done.code == 0, done.err
    assert opened == [f"http://127.0.0.1:8712/#token={TOKEN}"]


@pytest.mark.parametrize(
    ("paths", "project", "expected"),
    [
        ((), None, Path("masklet_projects/default.masklet")),
        ((), Path("zoo"), Path("zoo.masklet")),
        ((Path("/clips/dog.mp4"), Path("/other/cat.png")), None, Path("/clips/dog.masklet")),
        ((Path("/clips/old.masklet"),), None, Path("/clips/old.masklet")),
    ],
)
def test_the_project_is_beside_the_first_path(paths: tuple[Path, ...], project: Path | None, expected: Path) -> None:
    assert AppOptions(paths, project=project).project_folder == expected


def test_paths_that_have_nothing_to_open_are_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, text in (
        (tmp_path / "gone.png", "does not exist"),
        (photos / "notes.txt", "is neither image nor video"),
        (tmp_path / "empty", "has no image and no video"),
    ):
        with pytest.raises(InputError, match=text):
            run_app(AppOptions((path,), opens_browser=False))
    assert not list(tmp_path.glob("*.masklet"))
