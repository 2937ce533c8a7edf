"""The page in Chromium: point, correct, undo, export, draw, two tabs, a phone, the keyboard alone, and Python."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.browser import AppPage, running_browser, running_page
from masklet import SAM, open_project
from masklet.image.automatic_mask_generator import PRESETS
from masklet.masks import iou_matrix, rle

pytestmark = pytest.mark.slow

SIZE = (180, 260)
DISC, SQUARE = (70, 90), (190, 90)
"""Centers of the two objects, xy."""


def scene(shift: int = 0) -> Image.Image:
    """Draw a red disc and a blue square on a gradient."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = Image.fromarray(np.stack([90 + columns // 4, 120 + rows // 4, 90 + rows // 5], -1).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((DISC[0] - 35 + shift, 55, DISC[0] + 35 + shift, 125), fill=(200, 40, 30))
    draw.rectangle((SQUARE[0] - 30 - shift, 60, SQUARE[0] + 30 - shift, 120), fill=(30, 50, 190))
    return image


@pytest.fixture(scope="module")
def model() -> SAM:
    return SAM()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    scene().save(folder / "scene.png")
    clip = folder / "clip"
    clip.mkdir()
    for frame in range(12):
        scene(frame).save(clip / f"{frame:03d}.png")
    return folder


@pytest.fixture(scope="module")
def address(files: Path, model: SAM) -> Iterator[str]:
    with running_page(files, model) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as browser:
        yield browser


@pytest.fixture
def project(files: Path, request: pytest.FixtureRequest) -> str:
    """A project with the image, named after the test."""
    name = request.node.name.replace("[", "_").replace("]", "")[:60]
    source = "clip" if request.node.get_closest_marker("clip") else "scene.png"
    with open_project(files / "projects" / f"{name}.masklet") as made:
        made.add_source(files / source)
    return name


@pytest.fixture
def page(browser: Any, address: str, project: str) -> Iterator[AppPage]:
    page = AppPage(browser, address, project)
    page.wait("masklet.store.image")
    yield page
    page.close()


def stored(files: Path, project: str) -> dict[str, np.ndarray]:
    """Return the masks of the first frame by the name of their object."""
    with open_project(files / "projects" / f"{project}.masklet") as opened:
        names = {one.id: one.name for one in opened.objects()}
        return {names[one.object_id]: one.mask for one in opened.masks(opened.sources[0], 0, 1)}


def test_a_dropped_image_is_opened_and_hovering_shows_what_a_click_keeps(
    browser: Any, address: str, files: Path
) -> None:
    page = AppPage(browser, address, "dropped")
    assert page.page.get_by_role("heading", name="Drop an image or a video here").is_visible()
    with page.page.expect_file_chooser() as chooser:
        page.page.get_by_role("button", name="Choose files").click()
    chooser.value.set_files(files / "scene.png")
    page.wait("masklet.store.image && masklet.store.busy === 0")
    page.hover(*DISC)
    page.wait("masklet.viewer.preview")
    preview = page.get("masklet.viewer.preview")
    page.click(*DISC)
    [mask] = page.get("[...masklet.store.masks.values()].map((one) => one.rle)")
    assert mask == preview
    assert page.get("masklet.viewer.preview") is None
    page.close()


def test_masks_are_those_of_the_library_and_exported_whole(page: AppPage, files: Path, model: SAM) -> None:
    page.click(*DISC)
    page.press("n")
    page.drag((SQUARE[0] - 34, 55), (SQUARE[0] + 34, 125))
    page.click(SQUARE[0], 110)
    rgb = np.asarray(Image.open(files / "scene.png"))
    one = model(rgb, points=[[list(DISC)]], labels=[[1]])[0].masks.data[0]
    box = page.get("masklet.store.promptOf(masklet.store.objectId).box")
    points = page.get("masklet.store.promptOf(masklet.store.objectId).points")
    two = model(rgb, bboxes=[box], points=[points], labels=[[1]])[0].masks.data[0]
    page.press("Control+e")
    page.page.get_by_label("Format").select_option("coco")
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Export").last.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".json")]
        document = json.loads(archive.read(name))
    exported = np.stack([rle.decode(one["segmentation"]) for one in document["annotations"]])
    assert np.diag(iou_matrix(exported, np.stack([one, two]))).min() > 0.99


def test_twenty_steps_are_undone_and_done_again(page: AppPage, files: Path, project: str) -> None:
    page.click(*DISC)
    for i in range(9):
        page.click(DISC[0] - 20 + 4 * i, DISC[1] + 3 * (i % 3), *(["Alt"] if i % 3 == 2 else []))
    page.press("n")
    page.drag((SQUARE[0] - 34, 55), (SQUARE[0] + 34, 125))
    for i in range(9):
        page.click(SQUARE[0] - 20 + 4 * i, SQUARE[1])
    before = stored(files, project)
    assert len(before) == 2
    for _ in range(20):
        page.press("Control+z")
    assert stored(files, project) == {}
    assert page.get("masklet.store.objects.length") == 0
    page.press("Control+z")  # the image itself
    assert page.get("masklet.store.sources.length") == 0
    page.press("Control+z")
    assert page.status == "There is nothing to undo."
    for _ in range(21):
        page.press("Control+Shift+z")
    after = stored(files, project)
    assert after.keys() == before.keys()
    assert all((after[name] == before[name]).all() for name in before)


def test_tab_shows_other_masks_and_low_scores_are_marked(page: AppPage) -> None:
    page.click(*DISC)
    first = page.get("[...masklet.store.masks.values()][0].rle.counts")
    page.press("Tab")
    assert page.status in ("Mask 2 of 3", "Mask 1 of 3")
    assert page.get("[...masklet.store.masks.values()][0].rle.counts") != first
    page.press("Tab", "Tab", "Tab")
    identity = page.get("[...masklet.store.masks.keys()][0]")
    body = {"object": identity, "frame": 0, "mask": page.get("[...masklet.store.masks.values()][0].rle"), "score": 0.2}
    page.page.evaluate(
        "(body) => masklet.store.api.request('PUT', masklet.store.path + '/masks', {...body, origin: 'click'})", body
    )
    row = page.page.get_by_role("listitem", name="object 1")
    page.wait("masklet.store.masks.values().next().value.score === 0.2")
    assert "unsure" in row.inner_text()
    page.press("c")
    assert "checked" in row.inner_text()


def test_masks_are_drawn_by_brush_eraser_and_lasso_and_combined(page: AppPage, files: Path, project: str) -> None:
    page.press("p")
    page.drag((40, 30), (120, 30))
    brushed = stored(files, project)["object 1"]
    rows, columns = np.nonzero(brushed)
    assert (rows.min(), rows.max()) == (20, 39)
    assert (columns.min(), columns.max()) == (30, 129)
    page.press("e")
    page.drag((80, 30), (80, 31))
    assert not stored(files, project)["object 1"][30, 80]
    page.press("n", "g")
    page.drag((100, 10), (140, 10), (140, 50), (100, 50))
    lasso = stored(files, project)["object 2"]
    expected = np.zeros(SIZE, bool)
    expected[10:50, 100:140] = True
    assert iou_matrix(lasso[None], expected[None])[0, 0] > 0.9
    erased = stored(files, project)["object 1"]
    page.press("1", "m", "2")
    page.wait("masklet.store.objectId === masklet.store.objects[0].id && masklet.store.busy === 0")
    assert (stored(files, project)["object 1"] == (erased & ~lasso)).all()
    page.press("Control+z")
    assert (stored(files, project)["object 1"] == erased).all()


def test_everything_offers_masks_that_a_click_keeps(
    page: AppPage, files: Path, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "default", replace(PRESETS["default"], points_per_side=10))  # the server is here
    page.press("a")
    page.wait(
        "masklet.store.busy === 0 && document.querySelector('#everything span').textContent.includes('click those')"
    )
    offered = page.page.get_by_role("group", name="Everything").inner_text()
    assert int(offered.split()[0]) >= 2
    page.click(*DISC)
    page.press("Escape")
    [mask] = stored(files, project).values()
    disc = np.asarray(scene())[..., 0] > 170
    assert iou_matrix(mask[None], disc[None])[0, 0] > 0.8


def test_two_tabs_and_python_see_each_other(
    browser: Any, address: str, page: AppPage, files: Path, project: str
) -> None:
    other = AppPage(browser, address, project)
    page.click(*DISC)
    other.wait("masklet.store.masks.size === 1")
    with open_project(files / "projects" / f"{project}.masklet", author="python") as opened:
        [obj] = opened.objects()
        opened.update_object(obj, name="<img src=x onerror=window.hacked=1>")
        square = np.zeros(SIZE, bool)
        square[60:121, 160:221] = True
        opened.set_mask(opened.add_object(opened.sources[0], name="by Python"), 0, square)
    for one in (page, other):
        one.wait("masklet.store.objects.length === 2 && masklet.store.masks.size === 2")
        assert one.page.get_by_text("<img src=x onerror=window.hacked=1>").count() == 1  # text, no markup
        assert one.get("window.hacked") is None
    other.press("1", "2")
    assert other.get("[...document.querySelectorAll('[data-object][aria-current=true]')].length") == 1
    other.press("Delete")
    page.wait("masklet.store.objects.length === 1")
    other.close()


def test_the_keyboard_alone_is_enough(page: AppPage, files: Path, project: str) -> None:
    page.press("x")
    x = page.get("masklet.viewer.cross.x")
    page.press(*(["ArrowLeft"] * round((x - DISC[0]) / 10)))
    assert abs(page.get("masklet.viewer.cross.x") - DISC[0]) <= 5
    page.page.keyboard.press("Enter")
    page.wait("masklet.store.masks.size === 1 && masklet.store.busy === 0")
    disc = np.asarray(scene())[..., 0] > 170
    assert iou_matrix(stored(files, project)["object 1"][None], disc[None])[0, 0] > 0.8
    page.press("x", "?")
    dialog = page.page.get_by_role("dialog", name="Keys")
    assert "Another mask for the same clicks" in dialog.inner_text()
    page.page.keyboard.press("Escape")
    page.press("Escape")  # no object is chosen: Tab moves the focus again
    for _ in range(40):
        page.page.keyboard.press("Tab")
        if page.get("document.activeElement.dataset.object") is not None:
            break
    else:
        pytest.fail("Tab never reached the list of objects")


def test_an_error_stays_until_the_person_does_something_else(page: AppPage) -> None:
    page.page.evaluate(
        "() => { const { store } = masklet; window.ends = []; const wait = () => new Promise((end) => ends.push(end));"
        " window.earlier = store.run('Working', wait); store.say('no such file', true);"
        " window.background = store.run('', wait, true); }"
    )
    page.page.evaluate("async () => { ends.forEach((end) => end()); await Promise.all([earlier, background]); }")
    page.page.evaluate("masklet.store.socket.dispatchEvent(new Event('online'))")
    assert page.status == "no such file"
    page.page.evaluate("masklet.store.run('', async () => {})")
    assert page.status == "Saved"


def test_a_phone_shows_the_image_and_opens_the_lists(browser: Any, address: str, project: str) -> None:
    page = AppPage(browser, address, project, viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait("masklet.store.image")
    panel = page.page.get_by_role("complementary", name="Objects")
    assert not panel.is_visible()
    page.page.touchscreen.tap(*page.on_screen(*DISC))
    page.wait("masklet.store.masks.size === 1 && masklet.store.busy === 0")
    page.page.get_by_role("button", name="Show or hide the objects").click()
    assert panel.is_visible()
    assert page.get("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_threshold_is_shown_at_once_and_made_by_the_server(
    page: AppPage, files: Path, project: str, model: SAM
) -> None:
    page.click(*DISC)
    usual = stored(files, project)["object 1"]
    page.page.get_by_text("Edge", exact=True).click()
    slider = page.page.get_by_label("Threshold")
    slider.evaluate("(slider) => { slider.value = 3; slider.dispatchEvent(new Event('input')); }")
    page.wait("masklet.viewer.replaced")
    assert (stored(files, project)["object 1"] == usual).all()  # the server knows nothing yet
    count = (
        "(() => { const image = masklet.viewer.replaced.image;"
        " const data = image.getContext('2d').getImageData(0, 0, image.width, image.height).data;"
        " let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] > 0; return count; })()"
    )
    shown = page.get(count)
    before = page.get("masklet.store.revision")
    slider.dispatch_event("change")
    page.wait(f"masklet.store.revision !== {before} && masklet.store.busy === 0")
    higher = stored(files, project)["object 1"]
    assert higher.sum() < usual.sum()
    assert abs(shown - int(higher.sum())) < 0.1 * higher.sum()
    assert page.get("document.querySelector('#edge-threshold').value") == "3"
    page.click(DISC[0] + 6, DISC[1])  # a further click keeps the threshold
    points = page.get("masklet.store.promptOf(masklet.store.objectId).points")
    rgb = np.asarray(Image.open(files / "scene.png"))
    expected = model(rgb, points=[points], labels=[[1, 1]], threshold=3)[0].masks.data[0]
    assert (stored(files, project)["object 1"] == expected).all()
    assert page.get("document.querySelector('#edge-threshold').value") == "3"
    page.press("Control+z", "Control+z")
    assert (stored(files, project)["object 1"] == usual).all()
    assert page.get("document.querySelector('#edge-threshold').value") == "0"
    page.page.get_by_label("Soft edge").check()
    page.wait("masklet.store.softAlpha")
    levels = page.get("new Set(masklet.store.softAlpha.alpha).size")
    assert levels > 20
    page.press("Control+e")
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Cut-out (PNG)").click()
    alpha = np.asarray(Image.open(download.value.path()))[..., 3]
    assert len(np.unique(alpha)) > 20
    page.page.get_by_role("button", name="Close").click()
    page.page.get_by_label("Soft edge").uncheck()
    page.wait("masklet.viewer.replaced === null")


def test_a_zoomed_view_is_segmented_at_its_full_detail(page: AppPage, files: Path, project: str, model: SAM) -> None:
    page.press("z")  # all of the image is visible
    assert page.get("masklet.store.view") is None
    page.page.evaluate("() => { const v = masklet.viewer; v.zoom(3, ...[300, 300]); }")
    page.press("z")
    left, top, right, bottom = view = page.get("masklet.store.view")
    assert 0 < right - left < 0.7 * SIZE[1]
    x, y = max(left + 5, min(right - 5, DISC[0])), max(top + 5, min(bottom - 5, DISC[1]))
    page.hover(x, y)
    page.wait("masklet.viewer.preview")
    page.click(x, y)
    point = page.get("masklet.store.promptOf(masklet.store.objectId).points")
    rgb = np.asarray(Image.open(files / "scene.png"))
    expected = model(rgb, points=[point], labels=[[1]], view=view)[0].masks.data[0]
    mask = stored(files, project)["object 1"]
    assert (mask == expected).all()
    assert not np.delete(mask, np.s_[left:right], axis=1).any()
    beside = mask.copy()
    beside[:, : left - 1] = True
    with open_project(files / "projects" / f"{project}.masklet") as opened:
        opened.set_mask(opened.objects()[0], 0, beside, author="person")
        page.wait(f"masklet.store.revision === {opened.revision} && masklet.store.busy === 0")
    page.press("Tab")  # another mask in the view leaves what is beside it
    other = stored(files, project)["object 1"]
    assert left > 1
    assert (other != beside)[top:bottom, left:right].any()
    other[top:bottom, left:right] = beside[top:bottom, left:right]
    assert (other == beside).all()
    page.press("0", "n")
    page.click(*SQUARE) if not left <= SQUARE[0] < right else page.press("z")
    assert page.get("masklet.store.view") is None


@pytest.mark.clip
def test_a_video_is_tracked_corrected_and_repaired(page: AppPage, files: Path, project: str) -> None:
    assert page.page.get_by_role("slider", name="Frame").is_visible()
    page.click(*DISC)
    page.press("ArrowRight", "ArrowRight", "ArrowRight", "n")
    page.click(SQUARE[0] - 3, SQUARE[1])  # added late
    page.press("Home")
    page.page.keyboard.press("b")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):  # scrub while it is tracked
        page.page.keyboard.press(key)
    page.settle()
    path = files / "projects" / f"{project}.masklet"
    with open_project(path) as opened:
        masks = {(one.object_id, one.frame): one.mask for one in opened.masks(opened.sources[0])}
    ids = page.get("masklet.store.objects.map((one) => one.id)")
    assert {key for key in masks if key[0] == ids[0]} == {(ids[0], frame) for frame in range(12)}
    disc = np.asarray(scene(9))[..., 0] > 170
    assert iou_matrix(masks[ids[0], 9][None], disc[None])[0, 0] > 0.7

    page.press("1", "Home", *(["ArrowRight"] * 6))
    page.click(DISC[0] + 6, DISC[1])  # corrected in the middle
    untouched = page.get(f"masklet.store.maskInfo.get({ids[1]}).get(8).at")
    page.press("k")
    assert page.get(f"masklet.store.maskInfo.get({ids[1]}).get(8).at") == untouched  # only the corrected one again
    page.press("s", "2")
    page.wait("masklet.store.status.startsWith('Exchanged')")
    with open_project(path) as opened:
        swapped = {(one.object_id, one.frame): one.mask for one in opened.masks(opened.sources[0])}
    assert (swapped[ids[1], 8] != masks[ids[1], 8]).any()
    assert (swapped[ids[1], 5] == masks[ids[1], 5]).all()
    page.press("2", "s", "1")
    page.wait("masklet.store.status.startsWith('Exchanged')")
    with open_project(path) as opened:
        assert (opened.mask(ids[1], 8).mask == masks[ids[1], 8]).all()
    script = "fetch(`${masklet.store.path}/doubts?source=${masklet.store.source.id}`).then((answer) => answer.json())"
    page.press("Control+e")
    page.page.get_by_label("Format").select_option("overlay")
    with page.page.expect_download() as download:
        page.page.get_by_role("button", name="Export").last.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == ["clip_overlay.mp4"]
    page.page.get_by_role("button", name="Close").click()
    found, end = page.page.evaluate(f"() => {script}"), time.monotonic() + 60
    while not found["backward"]:  # tracked backward while nothing happened
        assert time.monotonic() < end
        time.sleep(0.5)
        found = page.page.evaluate(f"() => {script}")
    assert {one["frame"] for one in found["backward"]} <= set(range(12))
    doubts = found["doubts"]
    expected, end = "Doubt " if doubts else "No frame is in doubt", time.monotonic() + 10
    page.press("d")
    while not page.status.startswith(expected):  # they are read when nothing has changed for a moment
        assert time.monotonic() < end, page.status
        page.press("d")


@pytest.mark.clip
def test_tracking_goes_on_after_the_tab_was_closed(
    browser: Any, address: str, page: AppPage, files: Path, project: str
) -> None:
    page.click(*DISC)
    page.page.keyboard.press("k")
    page.wait("masklet.store.maskInfo.size && [...masklet.store.maskInfo.values()][0].size > 2")
    page.context.close()
    again = AppPage(browser, address, project)
    again.wait("masklet.store.image && masklet.store.masks.size === 1")
    done = again.get("[...masklet.store.maskInfo.values()][0].size")
    assert 1 <= done <= 12
    again.press("k")
    assert again.get("[...masklet.store.maskInfo.values()][0].size") == 12
    again.close()


def test_a_frame_is_the_pixels_of_the_file(page: AppPage, files: Path) -> None:
    answer = page.page.evaluate(
        "async () => [...new Uint8Array(await (await fetch(masklet.store.path + '/sources/1/frames/0')).arrayBuffer())]"
    )
    assert (np.asarray(Image.open(io.BytesIO(bytes(answer)))) == np.asarray(scene())).all()
