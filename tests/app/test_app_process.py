"""The page in Chromium, on `masklet app` with the model inside the package: what a person does, and what is stored."""

from __future__ import annotations

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.app_browser import (
    DISC,
    ON_DISC,
    ON_SQUARE,
    SIZE,
    AppPage,
    Browser,
    iou,
    running_app,
    running_chromium,
    write_shapes,
)
from masklet import SAM, open_project
from masklet.masks import rle

pytestmark = pytest.mark.slow
BACKGROUND = (20, 220)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def project(folder: Path) -> Path:
    return folder / "zoo.masklet"


@pytest.fixture(scope="module")
def address(folder: Path, project: Path) -> Iterator[str]:
    write_shapes(folder / "shapes.png")
    write_shapes(folder / "other.png", shift=10)
    with running_app(folder / "shapes.png", folder / "other.png", "--project", project) as address:
        yield address


@pytest.fixture
def app(browser: Browser, address: str, project: Path) -> Iterator[AppPage]:
    """A page on the first image, without objects."""
    with open_project(project) as opened:
        for one in opened.objects():
            opened.delete_object(one)
    app = AppPage(browser, address)
    app.wait("masklet.store.image !== null && masklet.store.objects.length === 0")
    yield app
    app.context.close()
    assert app.errors == []


def disc() -> np.ndarray:
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return (x - (DISC[0] + DISC[2]) / 2) ** 2 + (y - (DISC[1] + DISC[3]) / 2) ** 2 < ((DISC[2] - DISC[0]) / 2) ** 2


def test_hover_previews_and_a_click_gives_the_mask_of_the_library(app: AppPage, folder: Path) -> None:
    app.page.mouse.move(*app.at(*ON_DISC))
    app.wait("masklet.viewer.preview !== null")
    preview = rle.decode(app.page.evaluate("() => masklet.viewer.preview"))
    assert app.masks() == {}, "hovering stores nothing"
    app.click(*ON_DISC)
    [(name, mask)] = app.masks().items()
    assert app.objects == [name]
    [expected] = SAM()(folder / "shapes.png", points=[*app.pixel(*ON_DISC)], labels=[1])
    assert expected.masks is not None
    assert iou(mask, expected.masks.data[0]) > 0.999
    assert iou(mask, preview) > 0.98
    assert iou(mask, disc()) > 0.9
    assert app.status == "Saved"


def test_box_refinement_and_a_second_object(app: AppPage, project: Path) -> None:
    app.drag((DISC[0] - 6, DISC[1] - 6), (DISC[2] + 6, DISC[3] + 6))
    assert iou(next(iter(app.masks().values())), disc()) > 0.9
    app.click(*ON_DISC)
    app.page.keyboard.down("Alt")
    app.click(*BACKGROUND)
    app.page.keyboard.up("Alt")
    app.click(BACKGROUND[0] + 30, BACKGROUND[1], button="right")
    with open_project(project) as opened:
        [prompt] = opened.prompts(opened.sources[0])
        assert prompt.labels == (1, 0, 0)
        assert prompt.box == pytest.approx((DISC[0] - 6, DISC[1] - 6, DISC[2] + 6, DISC[3] + 6), abs=1)
    app.press("n")
    app.click(*ON_SQUARE)
    assert len(app.masks()) == len(app.objects) == 2
    app.press("1")
    first = app.page.get_by_role("option", selected=True).filter(has_text=app.objects[0])
    assert first.is_visible()
    app.press("n")
    app.page.keyboard.down("Alt")
    app.click(*BACKGROUND)
    app.page.keyboard.up("Alt")
    assert "needs an object" in app.status
    assert len(app.objects) == 2


def test_clicks_that_do_not_wait_for_the_answer_are_of_one_object(app: AppPage, project: Path) -> None:
    for x, y in (ON_DISC, (ON_DISC[0] + 20, ON_DISC[1]), (ON_DISC[0], ON_DISC[1] + 20)):
        app.page.mouse.click(*app.at(x, y))
    app.page.keyboard.press("n")
    app.page.mouse.click(*app.at(*ON_SQUARE))
    app.wait("masklet.store.objects.length === 2 && !masklet.store.busy")
    with open_project(project) as opened:
        counts = [len(one.points or ()) for one in opened.prompts(opened.sources[0])]
    assert counts == [3, 1]


def test_twenty_steps_are_undone_and_redone(app: AppPage) -> None:
    app.click(*ON_DISC)
    for step in range(19):
        app.page.mouse.click(*app.at(ON_DISC[0] + step, ON_DISC[1] - step))
    app.wait("masklet.store.prompts[0]?.points.length === 20 && !masklet.store.busy")
    before = app.masks()
    for _ in range(20):
        app.page.keyboard.press("Control+z")
    app.wait("masklet.store.objects.length === 0 && !masklet.store.busy")
    for _ in range(20):
        app.page.keyboard.press("Control+Shift+z")
    app.wait("masklet.store.prompts[0]?.points.length === 20 && !masklet.store.busy")
    after = app.masks()
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    app.press("Control+Shift+z")
    assert "nothing to redo" in app.status


def test_tab_shows_three_candidates(app: AppPage) -> None:
    app.click(*ON_DISC)
    seen = []
    for _ in range(3):
        app.press("Tab")
        assert re.fullmatch(r"Mask [123] of 3", app.status)
        seen.append((app.status, next(iter(app.masks().values())).tobytes()))
    assert len({status for status, _ in seen}) == 3
    assert len({mask for _, mask in seen}) > 1


def test_objects_are_named_classed_hidden_locked_checked_and_deleted(app: AppPage, project: Path) -> None:
    app.click(*ON_DISC)
    app.page.get_by_label("Name of a new class").fill("ball")
    app.page.keyboard.press("Enter")
    app.wait("masklet.store.object?.class_id !== null && !masklet.store.busy")
    row = app.page.locator(".objects .name").first
    row.dblclick()
    app.page.get_by_label("Name of the object").fill("<img src=x onerror=alert(1)>")
    app.page.keyboard.press("Enter")
    app.idle()
    assert app.objects == ["<img src=x onerror=alert(1)>"]
    assert app.page.locator("img[src=x]").count() == 0
    app.page.locator("masklet-viewer canvas").focus()
    app.press("c", "h", "l")
    with open_project(project) as opened:
        source = opened.sources[0]
        [one] = opened.objects(source)
        assert (one.name, one.hidden, one.locked) == ("<img src=x onerror=alert(1)>", True, True)
        assert one.class_id == next(each.id for each in opened.classes if each.name == "ball")
        mask = opened.mask(one)
        assert mask is not None
        assert mask.verified
    app.click(*ON_SQUARE)
    assert "locked" in app.status
    app.press("l", "Delete")
    assert app.objects == []


def test_a_doubtful_mask_is_shown_at_its_object(app: AppPage, project: Path) -> None:
    app.click(*ON_DISC)
    app.press("n")
    app.click(*ON_SQUARE)
    with open_project(project) as opened:
        one = opened.objects(opened.sources[0])[0]
        mask = opened.mask(one)
        assert mask is not None
        opened.set_mask(one, 0, mask.mask, score=0.3, origin="click")
    row = app.page.get_by_role("option").filter(has_text="unsure")
    row.wait_for()
    assert row.count() == 1


def test_the_export_has_the_mask_of_the_page(app: AppPage) -> None:
    app.click(*ON_DISC)
    [mask] = app.masks().values()
    app.press("Control+e")
    dialog = app.page.get_by_role("dialog", name="Export")
    formats = dialog.get_by_label("Format").locator("option").all_inner_texts()
    assert {"coco", "yolo"} <= set(formats)
    dialog.get_by_label("Format").select_option("coco")
    with app.page.expect_download() as waiting:
        dialog.get_by_role("button", name="Export", exact=True).click()
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        [name] = [one for one in archive.namelist() if one.endswith(".json")]
        coco = json.loads(archive.read(name))
    [annotation] = coco["annotations"]
    code = annotation["segmentation"]
    if isinstance(code, list):
        pytest.importorskip("pycocotools")
        from pycocotools import mask as coco_masks

        code = coco_masks.merge(coco_masks.frPyObjects(code, *SIZE[::-1]))
        found = coco_masks.decode(code).astype(bool)
    else:
        found = rle.decode(code)
    assert iou(found, mask) > 0.99
    with app.page.expect_download() as waiting:
        dialog.get_by_role("button", name="Cut-out (PNG)").click()
    cut = np.array(Image.open(waiting.value.path()))
    rows, columns = np.nonzero(mask)
    inside = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert cut.shape == (*inside.shape, 4)
    assert np.array_equal(cut[..., 3] > 0, inside)
    app.press("Escape")


def test_two_pages_and_python_see_each_other(
    app: AppPage, browser: Browser, address: str, project: Path, folder: Path
) -> None:
    other = AppPage(browser, address)
    app.click(*ON_DISC)
    other.wait("masklet.store.masks.size === 1")
    [mask], [seen] = app.masks().values(), other.masks().values()
    assert np.array_equal(mask, seen)
    other.press("1", "h")
    app.wait("masklet.store.objects[0].hidden")
    with open_project(project, author="script") as opened:
        added = opened.add_object(opened.sources[0], name="from Python")
        opened.set_mask(added, 0, disc(), origin="edit")
    app.wait("masklet.store.masks.size === 2")
    assert app.objects[-1] == other.page.locator(".objects .name").last.inner_text() == "from Python"
    assert np.array_equal(app.masks()["from Python"], disc())
    assert other.errors == []
    other.context.close()


def test_dropped_files_are_uploaded_named_and_opened(app: AppPage, tmp_path: Path) -> None:
    dropped = write_shapes(tmp_path / "dropped & <b>bold<b>.png", shift=20)
    (tmp_path / "notes.txt").write_text("none")
    app.drop(tmp_path / "notes.txt")
    app.wait("masklet.store.isError")
    assert "neither image nor video" in app.status
    app.drop(dropped)
    app.wait("masklet.store.source?.name.includes('bold') && masklet.store.image && !masklet.store.busy")
    sources = app.page.get_by_role("listbox", name="Images and videos").get_by_role("option")
    assert sources.count() == 3
    assert app.page.locator("#sources b").count() == 0
    app.click(ON_DISC[0] + 20, ON_DISC[1])
    assert iou(next(iter(app.masks().values())), np.roll(disc(), 20, axis=1)) > 0.9
    print(app.page.evaluate("() => [masklet.store.sources.map((one) => one.name), masklet.store.source.name]"))
    app.press("PageUp")
    print(app.page.evaluate("() => [masklet.store.sources.map((one) => one.name), masklet.store.source.name]"))
    app.wait("masklet.store.source.name === 'other.png' && masklet.store.image")
    app.press("PageDown")
    app.wait("masklet.store.source.name.includes('bold')")
    app.page.evaluate("() => masklet.store.change('', 'DELETE', `/sources/${masklet.store.source.id}`)")
    app.wait("masklet.store.sources.length === 2")


def test_everything_is_possible_by_keyboard(app: AppPage, folder: Path) -> None:
    canvas = app.page.get_by_role("application")
    for _ in range(60):
        app.page.keyboard.press("Tab")
        if canvas.evaluate("(one) => one === document.activeElement"):
            break
    else:
        raise AssertionError("Tab does not reach the image")
    app.press("x", *["ArrowLeft"] * 5, *["ArrowUp"] * 2)
    app.page.keyboard.press("Enter")
    app.wait("masklet.store.masks.size === 1 && !masklet.store.busy")
    assert iou(next(iter(app.masks().values())), disc()) > 0.9
    app.press("x", "?")
    sheet = app.page.get_by_role("dialog", name="Keys")
    assert {"Undo", "Export", "Hide or show the object"} <= set(sheet.locator("dd").all_inner_texts())
    app.press("Escape")
    assert sheet.count() == 0
    app.press("Escape", "Tab")
    assert not canvas.evaluate("(one) => one === document.activeElement"), "Tab leaves the image when none is chosen"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_lists_as_drawers(browser: Browser, address: str, app: AppPage, scheme: str) -> None:
    phone = AppPage(
        browser, address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme=scheme
    )
    phone.wait("masklet.store.image !== null")
    width = phone.page.evaluate("() => document.documentElement.scrollWidth")
    assert width == 390, "nothing is wider than the screen"
    assert phone.page.evaluate("() => document.documentElement.dataset.theme") == scheme
    phone.page.touchscreen.tap(*phone.at(*ON_DISC))
    phone.wait("masklet.store.masks.size === 1 && !masklet.store.busy")
    assert iou(next(iter(phone.masks().values())), disc()) > 0.9
    shown = phone.page.get_by_role("listbox", name="Objects", exact=True)
    assert not shown.is_visible()
    phone.page.get_by_role("button", name="Show or hide the objects").tap()
    assert shown.is_visible()
    buttons = phone.page.locator("#bar button:visible, #tools button:visible")
    boxes = [one.bounding_box() for one in buttons.all()]
    assert all(box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390.5 for box in boxes)
    assert phone.errors == []
    phone.context.close()


def test_a_page_goes_through_a_restart_of_the_server(browser: Browser, tmp_path: Path) -> None:
    words = (write_shapes(tmp_path / "shapes.png"), "--project", tmp_path / "one.masklet")
    with running_app(*words) as first:
        begun = time.monotonic()
        app = AppPage(browser, first)
        app.wait("masklet.store.image !== null")
        app.click(*ON_DISC)
        assert len(app.masks()) == 1
        assert time.monotonic() - begun < 10, "the first click works within ten seconds"
    app.wait("!masklet.store.isOnline")
    assert "Not connected" in app.status
    with running_app(*words, "--port", first.rsplit(":", 1)[1].strip("/")):
        app.wait("masklet.store.isOnline && !masklet.store.busy")
        app.click(*ON_DISC)
        app.press("n")
        app.click(*ON_SQUARE)
        assert len(app.masks()) == 2
    app.context.close()


def test_a_token_in_the_address_opens_the_page_and_is_taken_out(browser: Browser, tmp_path: Path) -> None:
    image = write_shapes(tmp_path / "shapes.png")
    with running_app(image, "--token", "a-token-of-this-test") as address:
        assert address.endswith("/#token=a-token-of-this-test")
        app = AppPage(browser, address)
        app.wait("masklet.store.image !== null")
        assert "token" not in app.page.url
        app.page.reload()
        app.wait("masklet.store.image !== null && masklet.store.isOnline")
        app.click(*ON_DISC)
        assert len(app.masks()) == 1
        assert app.errors == []
        app.context.close()
