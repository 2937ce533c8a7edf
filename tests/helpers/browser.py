"""Chromium on the page of a server in this process, with the built-in model; skips by name without either."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("playwright", reason="playwright is not installed (extra 'test')")

import uvicorn
from playwright import sync_api

from masklet import SAM
from masklet.app.run_app import PAGE
from masklet.server import ServerOptions
from masklet.server.application import make_app, server_config

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_SECONDS = 60.0


@contextmanager
def running_page(folder: Path, model: SAM) -> Iterator[str]:
    """Serve the page with projects in `folder`/projects; yields its address."""
    options = ServerOptions(folder / "projects", (folder,), port=0, page=PAGE)
    server = uvicorn.Server(server_config(make_app(options, lambda: model), options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + WAIT_SECONDS
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running_browser() -> Iterator[Any]:
    """Start Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class AppPage:
    """The page in a tab, with what tests do on it. Points are in pixels of the image."""

    def __init__(self, browser: Any, address: str, project: str | None = None, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 760}, **options})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.take_line)
        self.page.goto(address if project is None else f"{address}/?project={project}")
        self.wait("window.masklet && masklet.store.isOnline && !masklet.store.busy")

    def take_line(self, line: Any) -> None:
        """Note what the policy of the page forbade."""
        if line.type == "error" and "Content Security Policy" in line.text:
            self.errors.append(line.text)

    def close(self) -> None:
        """Close the tab; nothing may have failed in it."""
        self.context.close()
        assert self.errors == []

    def get(self, expression: str) -> Any:
        """Evaluate an expression of the page."""
        return self.page.evaluate(f"() => ({expression})")

    def wait(self, expression: str) -> None:
        """Wait until an expression of the page holds; its policy forbids what Playwright evaluates for that."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.get(f"!!({expression})"):
            assert time.monotonic() < end, f"{expression} never held; the page says {self.status!r}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until all is saved."""
        self.wait("masklet.store.busy === 0")

    @property
    def status(self) -> str:
        """What the page says."""
        return str(self.page.get_by_role("status").last.inner_text())

    def on_screen(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the image is on the screen."""
        script = (
            "([x, y]) => { const v = masklet.viewer; const b = v.canvas.getBoundingClientRect();"
            " return [b.left + v.left + x * v.scale, b.top + v.top + y * v.scale]; }"
        )
        left, top = self.page.evaluate(script, [x, y])
        return float(left), float(top)

    def hover(self, x: float, y: float) -> None:
        """Move the pointer."""
        self.page.mouse.move(*self.on_screen(x, y))

    def click(self, x: float, y: float, *modifiers: str) -> None:
        """Click, and wait for the answer."""
        before = self.get("masklet.store.revision")
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.on_screen(x, y))
        for key in modifiers:
            self.page.keyboard.up(key)
        self.wait(f"masklet.store.revision !== {before} && masklet.store.busy === 0")

    def drag(self, *points: tuple[float, float]) -> None:
        """Press, move along points and release, and wait for the answer."""
        before = self.get("masklet.store.revision")
        self.page.mouse.move(*self.on_screen(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.on_screen(*point), steps=4)
        self.page.mouse.up()
        self.wait(f"masklet.store.revision !== {before} && masklet.store.busy === 0")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, and wait for what each does."""
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()
