"""Make the screenshots of `masklet app` in docs/images: the empty page, photographs with objects, a video with lanes.

    python scripts/app_screenshots.py docs/images

It needs the extras `app` and `test`, and Chromium. The photographs are scikit-image's `chelsea` (CC0, Stefan van der
Walt) and `coffee` (CC0, Rachel Michetti), the video is one of `masklet.synthetic`; masks are those of the model inside
the package, as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage import data

from masklet.synthetic import SCENARIOS, ProceduralSource

MAX_BYTES = 150_000
WAIT_SECONDS = 60
WINDOW, PHONE = {"width": 1200, "height": 720}, {"width": 390, "height": 844}
CAT_CLICKS, CUP_BOX, SPOON_CLICK = ((205, 160), (330, 240)), (165, 12, 420, 275), (365, 285)


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        Image.fromarray(data.coffee()).save(folder / "coffee.png")
        Image.fromarray(data.chelsea()).save(folder / "chelsea.png")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with running_app("--project", folder / "empty.masklet") as address:
            page = open_page(browser, address, WINDOW, "light")
            save(page, target / "app_empty.jpg")
        with running_app(
            folder / "coffee.png", folder / "chelsea.png", "--project", folder / "cafe.masklet"
        ) as address:
            page = open_page(browser, address, WINDOW, "light")
            drag(page, CUP_BOX)
            rename(page, "cup")
            click(page, *SPOON_CLICK)
            rename(page, "spoon")
            page.keyboard.press("1")
            save(page, target / "app_image.jpg")
            page = open_page(browser, address, WINDOW, "dark")
            page.keyboard.press("PageDown")
            settle(page)
            for point in CAT_CLICKS:
                click(page, *point)
            rename(page, "cat")
            save(page, target / "app_dark.jpg")
            page = open_page(browser, address, PHONE, "dark")
            save(page, target / "app_phone.jpg")
        clip = SCENARIOS["long"](9, 0, (360, 640), 48, ProceduralSource())
        write_video(folder / "clip.mp4", clip.frames_THW3)
        with running_app(folder / "clip.mp4", "--project", folder / "video.masklet") as address:
            page = open_page(browser, address, WINDOW, "light")
            for name, mask in zip(("ring", "car"), clip.masks_TNHW[0], strict=False):
                drag(page, xyxy_of(mask))
                rename(page, name)
            page.keyboard.press("k")
            settle(page)
            page.keyboard.press("2")
            show_frame(page, 24)
            drag(page, xyxy_of(clip.masks_TNHW[24][1]))  # a correction: the difference lane shows what it changed
            page.keyboard.press("k")
            settle(page)
            show_frame(page, 30)
            page.wait_for_timeout(3000)  # doubts are read when nothing has changed for a moment
            save(page, target / "app_video.jpg")
        browser.close()


def write_video(path: Path, frames_THW3: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=12, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = *frames_THW3.shape[1:3], "yuv420p"
        for frame in frames_THW3:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def xyxy_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box of a mask, with a pixel around it."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()) - 1, int(rows.min()) - 1, int(columns.max()) + 2, int(rows.max()) + 2


def show_frame(page: Any, frame: int) -> None:
    page.evaluate(f"() => masklet.store.showFrame({frame})")
    settle(page)


@contextmanager
def running_app(*words: object) -> Iterator[str]:
    """Run `masklet app` on a free port, and yield its address."""
    command = [sys.executable, "-m", "masklet", "app", *map(str, words), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            found = re.search(r"http://\S+", line)
            if found is not None:
                yield found[0]
                break
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def open_page(browser: Any, address: str, viewport: dict[str, int], scheme: str) -> Any:
    page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
    page.goto(address)
    settle(page)
    return page


def settle(page: Any) -> None:
    """Wait until all is saved and shown."""
    page.wait_for_timeout(150)
    end = time.monotonic() + WAIT_SECONDS
    shown = "window.masklet && masklet.store.isOnline && !masklet.store.busy"
    while not page.evaluate(f"() => Boolean({shown} && (masklet.store.image || !masklet.store.sources.length))"):
        if time.monotonic() > end:
            raise SystemExit(f"the page did not get ready: {page.locator('#status').inner_text()}")
        page.wait_for_timeout(50)


def on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the image is on the screen."""
    left, top, scale = page.evaluate(
        "() => { const v = masklet.viewer, b = v.canvas.getBoundingClientRect();"
        " return [b.left + v.left, b.top + v.top, v.scale]; }"
    )
    return left + x * scale, top + y * scale


def click(page: Any, x: float, y: float) -> None:
    page.mouse.click(*on_screen(page, x, y))
    settle(page)


def drag(page: Any, box: tuple[int, int, int, int]) -> None:
    page.mouse.move(*on_screen(page, *box[:2]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *box[2:]), steps=4)
    page.mouse.up()
    settle(page)


def rename(page: Any, name: str) -> None:
    """Name the chosen object, and choose none."""
    page.locator("[data-object][aria-current=true] .name").dblclick()
    page.keyboard.insert_text(name)
    page.keyboard.press("Enter")
    settle(page)
    page.get_by_role("application").focus()
    page.keyboard.press("n")


def save(page: Any, path: Path) -> None:
    page.mouse.move(1, 1)
    settle(page)
    page.screenshot(path=path, type="jpeg", quality=82)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} has more than {MAX_BYTES} bytes: show less, or lower its quality")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
