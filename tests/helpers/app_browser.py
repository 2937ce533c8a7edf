"""`masklet app` in its own process, and the page in Debian's or Playwright's Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import masklet

pytest.importorskip("starlette", reason="Starlette is not installed (extra 'app')")
pytest.importorskip("playwright", reason="Playwright is not installed (extra 'test')")

from playwright.sync_api import Browser, Page, sync_playwright

SIZE = (320, 240)
DISC, SQUARE = (60, 50, 160, 150), (200, 120, 280, 200)
ON_DISC, ON_SQUARE = (110, 100), (240, 160)


def write_shapes(path: Path, *, shift: int = 0) -> Path:
    """Write an image of a red disc and a green square on gray noise."""
    noise = np.random.default_rng(0).integers(90, 120, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    draw.ellipse([DISC[0] + shift, DISC[1], DISC[2] + shift, DISC[3]], fill=(205, 40, 40))
    draw.rectangle(SQUARE, fill=(40, 180, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@contextmanager
def running_app(*words: object) -> Iterator[str]:
    """Run `masklet app` on a free port, and yield the address that it prints; it is ended as by Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": str(Path(masklet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    port = [] if "--port" in words else ["--port", "0"]
    command = [sys.executable, "-m", "masklet", "app", *map(str, words), "--no-browser", *port]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            found = re.search(r"http://\S+", line)
            if found is not None:
                yield found[0]
                break
        else:
            raise AssertionError(f"the app did not start: {''.join(lines)}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            _, rest = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert (process.returncode, "Traceback" in rest) in ((0, False), (130, False)), rest


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start Chromium; skips if there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("Chromium is not installed (playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class AppPage:
    """A page and what a person does on it; `errors` are those of its scripts and of its policy."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport=options.pop("viewport", {"width": 1200, "height": 760}), **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(address)
        self.wait("masklet.store.isOnline && !masklet.store.busy")

    def wait(self, condition: str) -> None:
        """Wait for a condition in JavaScript, which is polled from here: the page allows no `eval`."""
        for _ in range(600):
            if self.page.evaluate(f"() => Boolean(window.masklet && ({condition}))"):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{condition} did not come; the page says {self.status!r}; errors {self.errors}")

    @property
    def status(self) -> str:
        return self.page.locator("#status").inner_text()

    @property
    def objects(self) -> list[str]:
        """Names of the objects that the list shows."""
        rows = self.page.get_by_role("listbox", name="Objects", exact=True).get_by_role("option")
        return [str(one) for one in rows.locator(".name").all_inner_texts()]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the image is on the screen."""
        left, top = self.page.evaluate(
            "([x, y]) => { const v = masklet.viewer, b = v.canvas.getBoundingClientRect();"
            " return [b.left + v.left + x * v.scale, b.top + v.top + y * v.scale]; }",
            [x, y],
        )
        return left, top

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of the image that a click on `at(x, y)` means, which the zoom rounds."""
        left, top = self.page.evaluate(
            "([x, y]) => { const v = masklet.viewer, b = v.canvas.getBoundingClientRect();"
            " return [(x - b.left - v.left) / v.scale, (y - b.top - v.top) / v.scale]; }",
            list(self.at(x, y)),
        )
        return left, top

    def idle(self) -> None:
        """Wait until nothing is under way."""
        self.page.wait_for_timeout(30)
        self.wait("!masklet.store.busy")

    def click(self, x: float, y: float, **options: Any) -> None:
        self.page.mouse.move(*self.at(x, y))
        self.page.mouse.click(*self.at(x, y), **options)
        self.idle()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.idle()

    def drag(self, first: tuple[float, float], last: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*first))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*last), steps=4)
        self.page.mouse.up()
        self.idle()

    def drop(self, *paths: Path) -> None:
        """Drop files, as from the desktop."""
        files = [[path.name, list(path.read_bytes())] for path in paths]
        self.page.evaluate(
            "(files) => { const data = new DataTransfer();"
            " for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name,"
            " { lastModified: 1700000000000 }));"
            " for (const type of ['dragover', 'drop']) document.querySelector('#stage').dispatchEvent("
            "new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true })); }",
            files,
        )

    def masks(self) -> dict[str, np.ndarray]:
        """Return the masks of the frame by the names of their objects, as the page has them."""
        found = self.page.evaluate(
            "() => masklet.store.objects.filter((one) => masklet.store.masks.has(one.id))"
            ".map((one) => [one.name, masklet.store.masks.get(one.id).rle])"
        )
        return {name: masklet.masks.rle.decode(code) for name, code in found}


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Return intersection over union of two masks."""
    return float(np.logical_and(one, other).sum() / max(1, np.logical_or(one, other).sum()))
