"""`masklet app` in its own process, and its page in Chromium: starts, restarts, names, files and fast hands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from helpers.app_process import ON_DISC, ON_SQUARE, disc_mask, running_app, write_shapes
from helpers.browser import AppPage, running_browser
from masklet import open_project
from masklet.masks import rle
from masklet.masks.ops import iou

pytestmark = pytest.mark.slow
MARKUP = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app") / "zoo.masklet"


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    images = [write_shapes(project.with_name("shapes.png")), write_shapes(project.with_name("other.png"), shift=10)]
    with running_app(*images, "--project", project) as address:
        yield address


@pytest.fixture
def app(browser: Any, address: str, project: Path) -> Iterator[AppPage]:
    """A page on the first image, without objects."""
    with open_project(project) as opened:
        for one in opened.objects():
            opened.update_object(one, locked=False)
            opened.delete_object(one)
    app = AppPage(browser, address)
    app.wait("masklet.store.image !== null && masklet.store.objects.length === 0")
    yield app
    app.close()


def only_mask(app: AppPage) -> np.ndarray:
    """Return the one mask that a page shows."""
    [code] = app.get("[...masklet.store.masks.values()].map((one) => one.rle)")
    return rle.decode(code)


def test_clicks_that_do_not_wait_for_the_answer_are_of_one_object(app: AppPage, project: Path) -> None:
    for x, y in (ON_DISC, (ON_DISC[0] + 20, ON_DISC[1]), (ON_DISC[0], ON_DISC[1] + 20)):
        app.page.mouse.click(*app.on_screen(x, y))
    app.page.keyboard.press("n")
    app.page.mouse.click(*app.on_screen(*ON_SQUARE))
    app.wait("masklet.store.objects.length === 2 && !masklet.store.busy")
    with open_project(project) as opened:
        assert [len(one.points or ()) for one in opened.prompts(opened.sources[0])] == [3, 1]


def test_keys_that_do_not_wait_undo_and_redo_every_step(app: AppPage) -> None:
    for step in range(12):
        app.page.mouse.click(*app.on_screen(ON_DISC[0] + step, ON_DISC[1] - step))
    app.wait("masklet.store.prompts[0]?.points.length === 12 && !masklet.store.busy")
    before = only_mask(app)
    for _ in range(12):
        app.page.keyboard.press("Control+z")
    app.wait("masklet.store.objects.length === 0 && !masklet.store.busy")
    for _ in range(12):
        app.page.keyboard.press("Control+Shift+z")
    app.wait("masklet.store.prompts[0]?.points.length === 12 && !masklet.store.busy")
    assert np.array_equal(only_mask(app), before)
    app.press("Control+Shift+z")
    assert app.status == "There is nothing to redo."


def test_a_click_that_removes_needs_an_object(app: AppPage) -> None:
    app.page.mouse.click(*app.on_screen(*ON_DISC), button="right")
    app.wait("masklet.store.isError")
    assert "needs an object" in app.status
    app.click(*ON_DISC)
    app.page.mouse.click(*app.on_screen(20, 220), button="right")
    app.wait("masklet.store.prompts[0].points.length === 2")
    assert app.get("masklet.store.prompts[0].labels") == [1, 0]


def test_an_object_is_named_classed_hidden_locked_and_deleted(app: AppPage, project: Path) -> None:
    app.click(*ON_DISC)
    app.page.get_by_label("Name of a new class").fill(MARKUP)
    app.page.keyboard.press("Enter")
    app.wait("masklet.store.object?.class_id && !masklet.store.busy")
    app.page.locator(".objects .name").dblclick()
    app.page.get_by_label("Name of the object").fill(MARKUP)
    app.page.keyboard.press("Enter")
    app.wait(f"masklet.store.object.name === {MARKUP!r} && !masklet.store.busy")
    assert app.page.get_by_text(MARKUP).count() >= 2
    assert app.get("[document.querySelectorAll('img[src=x]').length, window.hacked ?? 0]") == [0, 0]
    app.page.get_by_role("application").focus()
    app.press("c", "h", "l")
    with open_project(project) as opened:
        [one] = opened.objects(opened.sources[0])
        assert (one.name, one.hidden, one.locked) == (MARKUP, True, True)
        assert one.class_id == next(each.id for each in opened.classes if each.name == MARKUP)
        assert (one.id, 0) in opened.verified(opened.sources[0])
    app.page.mouse.click(*app.on_screen(*ON_SQUARE))
    app.wait("masklet.store.isError")
    assert "locked" in app.status
    app.press("l", "Delete")
    assert app.page.locator("[data-object]").count() == 0


def test_a_mask_and_its_cut_out_are_saved_as_png(app: AppPage) -> None:
    app.click(*ON_DISC)
    mask = only_mask(app)
    app.press("Control+e")
    saved = []
    for name in ("Cut-out (PNG)", "Mask (PNG)"):
        with app.page.expect_download() as waiting:
            app.page.get_by_role("button", name=name).click()
        saved.append(np.array(Image.open(waiting.value.path())))
    rows, columns = np.nonzero(mask)
    inside = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(saved[0][..., 3] > 0, mask[inside])
    assert np.array_equal(saved[1][..., 0] > 0, mask)


def test_dropped_files_are_uploaded_named_and_opened(app: AppPage, project: Path, tmp_path: Path) -> None:
    def drop(path: Path) -> None:
        app.page.evaluate(
            "([name, bytes]) => { const data = new DataTransfer();"
            " data.items.add(new File([new Uint8Array(bytes)], name, { lastModified: 1 }));"
            " for (const type of ['dragover', 'drop']) document.querySelector('#stage').dispatchEvent("
            "new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true })); }",
            [path.name, list(path.read_bytes())],
        )

    (tmp_path / "notes.txt").write_text("none")
    drop(tmp_path / "notes.txt")
    app.wait("masklet.store.isError")
    assert "neither image nor video" in app.status
    drop(write_shapes(tmp_path / f"{MARKUP}.png", shift=20))
    app.wait("masklet.store.sources.length === 3 && masklet.store.image && !masklet.store.busy")
    assert app.get("[masklet.store.source.name, document.querySelectorAll('img[src=x]').length]") == [MARKUP, 0]
    app.click(ON_DISC[0] + 20, ON_DISC[1])
    assert iou(only_mask(app), np.roll(disc_mask(), 20, axis=1)) > 0.9
    app.press("PageUp")
    assert app.get("masklet.store.source.name") == "other"
    app.press("PageDown")
    assert app.get("masklet.store.source.name") == MARKUP
    with open_project(project) as opened:
        opened.delete_source(opened.sources[-1])
    app.wait("masklet.store.sources.length === 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_all_buttons_on_its_screen(browser: Any, address: str, app: AppPage, scheme: str) -> None:
    options = {"has_touch": True, "is_mobile": True, "color_scheme": scheme}
    phone = AppPage(browser, address, viewport={"width": 390, "height": 844}, **options)
    phone.wait("masklet.store.image !== null")
    assert phone.get("document.documentElement.dataset.theme") == scheme
    boxes = [one.bounding_box() for one in phone.page.locator("#bar button:visible, #tools button:visible").all()]
    assert len(boxes) > 8
    assert all(one["x"] >= 0 and one["x"] + one["width"] <= 390 and one["height"] >= 30 for one in boxes)
    phone.close()


def test_the_first_click_takes_seconds_and_a_restart_of_the_server_is_survived(browser: Any, tmp_path: Path) -> None:
    words = (write_shapes(tmp_path / "shapes.png"), "--project", tmp_path / "one.masklet")
    begun = time.monotonic()
    with running_app(*words, fresh=True) as first:
        app = AppPage(browser, first)
        app.wait("masklet.store.image !== null")
        app.click(*ON_DISC)
        assert iou(only_mask(app), disc_mask()) > 0.9
        assert time.monotonic() - begun < 20  # a person waits ten; tests share the processor
    app.wait("!masklet.store.isOnline")
    assert "Not connected" in app.status
    with running_app(*words, "--port", first.strip("/").rpartition(":")[2]):
        app.wait("masklet.store.isOnline && !masklet.store.busy")
        assert iou(only_mask(app), disc_mask()) > 0.9
        app.press("n")
        app.click(*ON_SQUARE)
        assert app.get("masklet.store.masks.size") == 2
    app.close()


def test_a_token_in_the_address_opens_the_page_and_is_taken_out(browser: Any, tmp_path: Path) -> None:
    image = write_shapes(tmp_path / "shapes.png")
    with running_app(image, "--token", "a-token-of-this-test") as address:
        assert address.endswith("/#token=a-token-of-this-test")
        app = AppPage(browser, address)
        app.wait("masklet.store.image !== null")
        assert "token" not in app.page.url
        app.page.reload()
        app.wait("window.masklet && masklet.store.image !== null && masklet.store.isOnline")
        app.click(*ON_DISC)
        assert iou(only_mask(app), disc_mask()) > 0.9
        app.close()
    assert (tmp_path / "shapes.masklet").is_dir()


def test_a_folder_of_frames_is_one_video(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        write_shapes(frames / f"{index:05d}.png", shift=index)
    with running_app(frames, "--frames") as address, open_project(tmp_path / "frames.masklet") as opened:
        urlopen(address).close()  # it answers, so that Ctrl-C finds its handler
        [source] = opened.sources
        assert (source.kind, source.num_frames) == ("video", 3)
