"""`masklet bench family`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.networks import small_network
from helpers.yolo_files import TINY_SEG
from masklet.benchmark import model_family
from masklet.benchmark.markdown_tables import record_table
from masklet.benchmark.record import read_record
from masklet.models.yolo import YOLOv8

Masklet = Callable[..., Any]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the family's kinds that take milliseconds; no file is here."""

    def network(card: Any) -> Any:
        return YOLOv8(TINY_SEG) if card.family in ("yolo", "fastsam") else small_network()

    monkeypatch.setattr(model_family, "_build_network", network)
    monkeypatch.setattr(model_family, "is_downloaded", lambda card: False)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_a_table_with_prompted_and_everything_apart(masklet: Masklet, folder: Path) -> None:
    outcome = masklet(
        "bench", "family", "--models", "sam2.1_t.pt, yolov8n-seg", "--everything-points", 2, "--repeats", 1,
        "--json", "family.json",
    )  # fmt: skip
    assert outcome.code == 0
    heading, dashes, segmenter, detector = (cells(line) for line in outcome.out.splitlines() if "|" in line)
    assert heading == [
        "model", "parameters", "published", "file", "encode", "click", "everything", "one pass", "weights",
    ]  # fmt: skip
    assert set("".join(dashes)) <= set("-:")
    assert segmenter[0] == "SAM 2.1 tiny"
    assert segmenter[2:4] == ["38.9 M", "156.0 MB"]
    assert segmenter[4].endswith("ms")
    assert segmenter[6].endswith(" s")
    assert (segmenter[7], segmenter[8]) == ("", "random")
    assert detector[4:7] == ["", "", ""]
    assert detector[7].endswith("ms")
    assert "image of 1280 x 720, median of 1, wall time" in outcome.out
    assert "sam2.1_hiera_tiny: the parameters are not those that were published" in outcome.err
    told = json.loads(Path("family.json").read_text())
    assert [row["name"] for row in told["models"]] == ["sam2.1_hiera_tiny", "yolov8n-seg"]
    assert told["models"][0]["everything"] == {
        "seconds": pytest.approx(0, abs=60),
        "points": 4,
        "estimated": False,
    }
    assert list(told)[:4] == ["protocol", "model", "options", "machine"]
    assert told["options"]["picture"] == [1280, 720]
    assert told["machine"]["threads"] > 0
    table = "\n".join(record_table(read_record("family.json")))  # as a page has it
    assert table in outcome.out


def test_a_image_of_ones_own(masklet: Masklet, folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (50, 30)).save("small.png")
    outcome = masklet("bench", "family", "--models", "FastSAM-s", "--picture", "small.png", "--processor-time")
    assert outcome.code == 0
    assert "image of 50 x 30, median of 3, processor time" in outcome.out


def test_what_is_estimated_has_a_sign(masklet: Masklet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_family, "_time_grid", lambda predictor, options, how, side: 2.0 + 0.01 * side**2)
    outcome = masklet("bench", "family", "--models", "builtin", "--limit", 5, "--repeats", 1)
    assert re.search(r"~1[2-4]\.\d s", outcome.out)  # 12.24 and encoding


def test_an_unknown_model_is_one_line(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("bench", "family", "--models", "sam7")
    assert outcome.code == 2
    assert "'sam7' is not a known model" in outcome.err
