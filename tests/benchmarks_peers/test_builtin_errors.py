"""Where a model loses: an oracle with known errors is measured, and tables and plot have what was measured."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.builtin_errors import (
    ObjectErrors,
    choose_samples,
    error_tables,
    measure_objects,
    read_rows,
    reliability,
    reliability_svg,
    write_rows,
)
from helpers.synthetic_truth import Oracle, store_image
from masklet.errors import SourceError
from masklet.evaluate import find_image_samples
from masklet.prompts import ObjectPrompt


def measured(folder: Path, shift: int) -> list[ObjectErrors]:
    """Two objects of a 40 x 60 image, 30 and 14 wide, predicted `shift` pixels to the right."""
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:20, 10:40] = True
    masks[1, 22:36, 30:44] = True
    store_image(folder / "src", "a", masks)
    oracle = Oracle(masks, np.zeros((0, 40, 60), np.uint8), shift=shift)
    [sample] = find_image_samples(folder)
    return measure_objects(oracle, sample, "held-out", max_crops=0, cells=20)


class BrightRegion(Oracle):
    """Predicts what is bright, in crops too."""

    model = SimpleNamespace(still_image_size=80)

    def set_image(self, rgb: np.ndarray) -> None:
        self.images = (rgb[..., 0] > 127)[None]

    def object_at(self, prompt: ObjectPrompt, objects: np.ndarray) -> np.ndarray:
        return objects[0]


def test_crops_show_the_object_at_twice_the_size(tmp_path: Path) -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 2:14, 3:20] = True
    masks[1, :30] = True  # too large for a crop of half the image
    store_image(tmp_path / "src", "a", masks)
    cv2.imwrite(str(tmp_path / "src" / "images" / "a.jpg"), np.repeat(masks[0, ..., None] * np.uint8(255), 3, axis=2))
    [sample] = find_image_samples(tmp_path)
    model = BrightRegion(masks, np.zeros((0, 40, 60), np.uint8))
    small, large = measure_objects(model, sample, "held-out", cells=20)
    assert (small.crop_box, small.crop_click) == (1, 1)
    assert np.isnan(large.crop_box)
    assert large.box == pytest.approx(204 / 1800)
    assert large.click_any == pytest.approx(204 / 1800)


def test_known_errors_are_measured(tmp_path: Path) -> None:
    wide, small = measured(tmp_path, 6)
    assert (wide.area, small.area) == (450 / 2400, 196 / 2400)
    assert wide.box == wide.click == wide.click_best == wide.clicks_5 == pytest.approx(24 / 36)
    assert small.box == pytest.approx(8 / 20)
    assert small.missed == pytest.approx(6 / 20)
    assert (wide.parts, wide.holes) == (1, 0)
    assert wide.grid > 0.85  # 20 cells of 3 x 2 pixels
    assert wide.box_inner == 1  # two cells are six pixels: the shift stays within the band
    assert (wide.box_score, wide.click_score) == (pytest.approx(0.1), pytest.approx(0.9))
    assert wide.click_ious == pytest.approx((0, 0, 24 / 36))
    assert np.isnan(small.crop_box)


def test_tables_and_plot_show_rows(tmp_path: Path) -> None:
    rows = measured(tmp_path, 0)
    rows += [replace(row, split="training", box=0.5, box_score=0.9) for row in rows]
    write_rows(rows, tmp_path / "rows.json")
    assert "NaN" not in (tmp_path / "rows.json").read_text()
    assert repr(read_rows(tmp_path / "rows.json")) == repr(rows)
    tables = error_tables(rows)
    header, total, *_ = tables["answers by size"]
    assert total[header.index("held-out box")] == "1.000"
    assert total[header.index("training box")] == "0.500"
    assert tables["predicted IoU, training"][1] == ("box", "0.900", "0.500", "0.400")
    assert reliability(rows[2:], "box") == [(2, pytest.approx(0.9), 0.5)]
    drawing = ElementTree.fromstring(reliability_svg(rows))
    assert [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")].count("predicted IoU") == 2
    with pytest.raises(SourceError, match="no image has an object"):
        error_tables([])


def test_samples_are_spread_over_the_common_sources(tmp_path: Path) -> None:
    mask = np.ones((1, 8, 8), bool)
    for source, count in (("many", 9), ("few", 2), ("other", 3)):
        for number in range(count):
            store_image(tmp_path / "a" / source, f"{number}", mask)
            if source != "other":
                store_image(tmp_path / "b" / source, f"{number}", mask)
    chosen = choose_samples({"a": tmp_path / "a", "b": tmp_path / "b"}, 6)
    assert [sample.name for sample in chosen["a"]] == ["few/0", "few/1", "many/0", "many/3", "many/5", "many/8"]
    assert [sample.name for sample in chosen["b"]] == [sample.name for sample in chosen["a"]]
    store_image(tmp_path / "c" / "alone", "0", mask)
    with pytest.raises(SourceError, match="no source in common"):
        choose_samples({"a": tmp_path / "a", "c": tmp_path / "c"}, 6)


def test_the_command_prints_tables_and_writes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 2:14, 3:20] = True
    store_image(tmp_path / "stills" / "src", "a", mask)
    model = BrightRegion(mask, np.zeros((0, 40, 60), np.uint8))
    monkeypatch.setattr("masklet.sam.SAM", lambda name: model)
    files = ["--rows", str(tmp_path / "rows.json"), "--plot", str(tmp_path / "plot.svg")]
    with pytest.raises(SystemExit) as left:
        run(["builtin-errors", f"mine={tmp_path / 'stills'}", *files])
    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert re.search(r"^\| +\| +mine objects \| +mine box \|", printed, re.MULTILINE)
    assert "predicted IoU, mine" in printed
    assert read_rows(tmp_path / "rows.json")[0].box == 0  # the image is black
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
