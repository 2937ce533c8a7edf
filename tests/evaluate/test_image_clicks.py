"""Clicks that an object needs, where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import png, write_image
from helpers.synthetic_truth import Oracle, store_image, store_video, two_objects
from masklet import SAM
from masklet.cli.main import run
from masklet.errors import MissingExtraError, SourceError
from masklet.evaluate.image_click_datasets import click_images
from masklet.evaluate.image_clicks import ClickResult, area_under_curve, click_report, evaluate_clicks, number_of_clicks
from masklet.evaluate.prompts_from_masks import Click, next_correction_click
from masklet.image import Prediction
from masklet.prompts import ObjectPrompt

NO_VIDEOS = np.zeros((0, 60, 80), np.uint8)


def square(size: int = 20) -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[10 : 10 + size, 10 : 10 + size] = True
    return mask


class Grows:
    """Predicts a square of 20 x 20 with one more row for each click; its logits are the number of clicks."""

    def __init__(self, rows: int = 1) -> None:
        self.rows = rows
        self.prompts: list[ObjectPrompt] = []
        self.logits: list[Any] = []
        self.multimask: list[bool | None] = []

    def set_image(self, rgb: np.ndarray) -> None:
        self.size = rgb.shape[:2]

    def predict_prompts(
        self, prompts: list[ObjectPrompt], *, mask_input: Any = None, multimask_output: bool | None = None
    ) -> Prediction:
        [prompt] = prompts
        self.prompts.append(prompt)
        self.logits.append(mask_input)
        self.multimask.append(multimask_output)
        assert prompt.points is not None
        count = len(prompt.points.labels)
        mask = square()
        mask[10 + self.rows * count :] = False
        return Prediction(mask[None, None], np.ones((1, 1), np.float32), np.full((1, 1, 8, 8), count, np.float32))


def clicked(model: Any, root: Path) -> list[ClickResult]:
    return [row for image in click_images(root) for row in evaluate_clicks(model, image)]


def one_image(root: Path, masks: np.ndarray) -> Path:
    store_image(root / "a", "x", masks)
    return root


def test_who_knows_the_truth_needs_one_click_and_has_the_whole_area(tmp_path: Path) -> None:
    oracle = Oracle(two_objects(), NO_VIDEOS)
    found = click_report(clicked(oracle, one_image(tmp_path, two_objects())))
    assert (found.images, found.objects) == (1, 2)
    assert found.noc == {"85": 1, "90": 1}
    assert found.nof == {"85": 0, "90": 0}
    assert found.iou_curve == (1.0,) * 20
    assert found.auc == 1
    assert oracle.encoded == 1
    assert oracle.click_counts == [1]  # what is perfect is not clicked on again


@pytest.mark.parametrize(("shift", "iou"), [(10, 0.5), (300, 0)])
def test_who_never_gets_there_counts_twenty_and_as_a_failure(tmp_path: Path, shift: int, iou: float) -> None:
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 10:40, 10:40] = True
    oracle = Oracle(mask, NO_VIDEOS, shift=shift, empty=iou == 0)
    found = click_report(clicked(oracle, one_image(tmp_path, mask)))
    assert found.noc == {"85": 20, "90": 20}
    assert found.nof == {"85": 1, "90": 1}
    assert found.iou_curve == pytest.approx((iou,) * 20)
    assert found.auc == pytest.approx(iou)
    assert oracle.click_counts == list(range(1, 21))


def test_a_model_that_gets_better_by_a_row_a_click(tmp_path: Path) -> None:
    model = Grows()
    [row] = clicked(model, one_image(tmp_path, square()[None]))
    assert row.iou_curve == pytest.approx([n / 20 for n in range(1, 21)])
    found = click_report([row])
    assert found.noc == {"85": 17, "90": 18}
    assert found.auc == pytest.approx((1 / 20 + 1) / 2)  # a straight line
    assert model.multimask == [True, *[False] * 19]
    assert model.logits[0] is None
    assert [earlier.flat[0] for earlier in model.logits[1:]] == list(range(1, 20))  # of the answer before


def test_the_first_click_is_the_middle_and_the_next_the_middle_of_what_is_missing(tmp_path: Path) -> None:
    model = Grows(rows=9)
    clicked(model, one_image(tmp_path, square(19)[None]))
    assert [prompt.points.xy.tolist() for prompt in model.prompts[:2]] == [  # type: ignore[union-attr]
        [[19, 19]],
        [[19, 19], [14, 23]],  # of rows 19 to 28 the first that is 5 from all sides
    ]


def test_the_very_twentieth_click_is_no_failure() -> None:
    curve = (0.5,) * 19 + (0.95,)
    found = click_report([ClickResult("x", 1, curve)])
    assert found.noc == {"85": 20, "90": 20}
    assert found.nof == {"85": 0, "90": 0}


def test_clicks_to_a_target_are_those_of_the_first_time() -> None:
    assert number_of_clicks([0.5, 0.86, 0.84, 0.9], 0.85) == 2
    assert number_of_clicks([0.5, 0.86, 0.84, 0.9], 0.9) == 4
    assert number_of_clicks([0.5, 0.6], 0.85) == 20


def test_the_area_under_a_curve_made_by_hand() -> None:
    assert area_under_curve([0.0, 1.0, 1.0]) == pytest.approx(0.75)  # a triangle and a square, over two
    assert area_under_curve([0.2, 0.4, 0.8, 1.0]) == pytest.approx((0.3 + 0.6 + 0.9) / 3)
    assert area_under_curve([0.6] * 20) == pytest.approx(0.6)


def test_objects_count_the_same_in_the_mean() -> None:
    rows = [ClickResult("x", 1, (1.0,) * 20), ClickResult("x", 2, (0.0,) * 19 + (0.9,))]
    found = click_report(rows)
    assert (found.images, found.objects) == (1, 2)
    assert found.noc["90"] == 10.5
    assert found.iou_curve[0] == 0.5
    assert found.iou_curve[-1] == pytest.approx(0.95)


def test_nothing_to_click_on_is_an_error() -> None:
    with pytest.raises(SourceError, match="nothing to click on"):
        click_report([])


def test_no_pixel_is_clicked_twice_and_equal_depths_are_excess() -> None:
    truth = np.zeros((9, 9), bool)
    truth[2:5, 2:5] = True
    nothing = np.zeros_like(truth)
    assert next_correction_click(nothing, truth) == (3, 3, 1)
    assert next_correction_click(nothing, truth, [Click(3, 3, 1)]) == (2, 2, 1)
    found = np.zeros_like(truth)
    found[2:5, 2:5] = True
    found[0, 0], found[2, 2] = True, False
    assert next_correction_click(found, truth) == (0, 0, 0)
    assert next_correction_click(found, truth, [Click(0, 0, 0)]) == (2, 2, 1)
    assert next_correction_click(found, truth, [Click(0, 0, 0), Click(2, 2, 1)]) is None
    assert next_correction_click(truth, truth) is None


def test_who_is_wrong_where_nobody_judges_is_right(tmp_path: Path) -> None:
    write_image(tmp_path / "data_GT" / "a.jpg", size=(60, 80))
    trimap = np.zeros((60, 80), np.uint8)
    trimap[8:32, 8:32] = 128
    trimap[10:30, 10:30] = 255
    png(tmp_path / "boundary_GT" / "a.bmp", trimap, palette=False)
    seen = np.zeros((1, 60, 80), bool)
    seen[0, 8:32, 8:32] = True
    [row] = clicked(Oracle(seen, NO_VIDEOS), tmp_path)
    assert row.iou_curve == (1.0,) * 20


@pytest.mark.parametrize(
    ("folders", "kind", "suffix"),
    [
        (("data_GT", "boundary_GT"), None, ".bmp"),
        (("images", "masks"), "berkeley", ".png"),
        (("img", "gt"), None, ".png"),
        (("img", "masks"), None, ".png"),
    ],
)
def test_the_layouts_of_the_sets(tmp_path: Path, folders: tuple[str, str], kind: str | None, suffix: str) -> None:
    for name in ("b", "a"):
        write_image(tmp_path / folders[0] / f"{name}.jpg", size=(60, 80))
        (tmp_path / folders[1]).mkdir(exist_ok=True)
        Image.fromarray((square() * 255).astype(np.uint8)).save(tmp_path / folders[1] / f"{name}{suffix}")
    found = click_images(tmp_path, data_format=kind)
    assert [one.name for one in found] == ["a", "b"]
    shown = found[0].read()
    assert shown.rgb.shape == (60, 80, 3)
    np.testing.assert_array_equal(shown.masks[1], square())
    assert len(click_images(tmp_path, data_format=kind, limit=1)) == 1


def test_a_frame_of_davis_is_one_object_whatever_its_colors(tmp_path: Path) -> None:
    write_image(tmp_path / "img" / "a.jpg", size=(60, 80))
    labels = square().astype(np.uint8)
    labels[12:14, 12:14] = 3
    png(tmp_path / "gt" / "a.png", labels, palette=True)
    [found] = click_images(tmp_path)
    np.testing.assert_array_equal(found.read().masks[1], square())


def store_sbd(root: Path, name: str, instances: np.ndarray) -> None:
    io = pytest.importorskip("scipy.io")
    write_image(root / "img" / f"{name}.jpg", size=(60, 80))
    (root / "inst").mkdir(exist_ok=True)
    record = np.zeros((1, 1), [("Segmentation", object), ("Boundaries", object), ("Categories", object)])
    record[0, 0] = (instances, 0, np.array([[7], [15]], np.uint8))
    io.savemat(root / "inst" / f"{name}.mat", {"GTinst": record})


def test_sbd_has_a_list_and_an_object_for_each_instance(tmp_path: Path) -> None:
    instances = square().astype(np.uint8)
    instances[40:50, 40:50] = 2
    store_sbd(tmp_path, "2008_000002", instances)
    (tmp_path / "val.txt").write_text("2008_000002\n")
    [found] = click_images(tmp_path)
    masks = found.read().masks
    assert sorted(masks) == [1, 2]
    np.testing.assert_array_equal(masks[1], square())
    with pytest.raises(SourceError, match="no list 'train'"):
        click_images(tmp_path, split="train")


def test_sbd_without_scipy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_sbd(tmp_path, "a", square().astype(np.uint8))
    (tmp_path / "val.txt").write_text("a\n")
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(MissingExtraError, match=r"masklet\[sbd\]"):
        click_images(tmp_path)[0].read()


def test_what_is_damaged_or_missing_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "data_GT" / "a.jpg", size=(60, 80))
    (tmp_path / "boundary_GT").mkdir()
    with pytest.raises(SourceError, match=r"a\.jpg has no mask"):
        click_images(tmp_path)
    (tmp_path / "boundary_GT" / "a.bmp").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"a\.bmp cannot be read"):
        click_images(tmp_path)[0].read()
    cv2.imwrite(str(tmp_path / "boundary_GT" / "a.bmp"), np.zeros((10, 10), np.uint8))
    with pytest.raises(SourceError, match="10 x 10"):
        click_images(tmp_path)[0].read()
    with pytest.raises(SourceError, match="img/ID"):
        click_images(tmp_path, data_format="sbd")
    with pytest.raises(SourceError, match=r"'grabcut'.*'png'"):
        click_images(tmp_path, data_format="grabcuts")
    with pytest.raises(SourceError, match="remove split"):
        click_images(tmp_path, split="val")


def test_every_annotated_frame_of_a_video_is_a_image(tmp_path: Path) -> None:
    labels = np.repeat(square()[None].astype(np.uint8), 3, axis=0)
    store_video(tmp_path, "ant", labels, annotated=(0, 2))
    assert [one.name for one in click_images(tmp_path)] == ["ant:0", "ant:2"]


def test_the_command_says_the_figures_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tracker: SAM
) -> None:
    monkeypatch.setattr("masklet.SAM", lambda *_, **__: tracker)
    root, report = one_image(tmp_path / "data", two_objects()), tmp_path / "clicks.json"
    with pytest.raises(SystemExit) as left:
        run(["eval", "clicks", str(root), "--report", str(report)])
    output = capsys.readouterr()
    assert left.value.code == 0, output.err
    assert "2 objects in 1 image;" in output.out
    stored = json.loads(report.read_text())
    assert f"NoC@90 {stored['noc']['90']:.2f}, not reached {stored['nof']['90']}" in output.out
    assert len(stored["rows"]) == 2
    assert len(stored["rows"][0]["iou_curve"]) == 20


def test_after_ctrl_c_the_figures_of_what_was_done_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stops(Oracle):
        def set_image(self, rgb: np.ndarray) -> None:
            if self.encoded:
                raise KeyboardInterrupt
            super().set_image(rgb)

    monkeypatch.setattr("masklet.SAM", lambda *_, **__: Stops(two_objects(), NO_VIDEOS))
    for name in ("x", "y"):
        store_image(tmp_path / "data", name, two_objects())
    with pytest.raises(SystemExit) as left:
        run(["eval", "clicks", str(tmp_path / "data"), "--report", str(tmp_path / "clicks.json")])
    assert left.value.code != 0
    assert "NoC@85 1.00" in capsys.readouterr().out
    assert json.loads((tmp_path / "clicks.json").read_text())["images"] == 1
