"""`masklet bench models`."""

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


@pytest.mark.slow
def test_the_table_separates_prompts_and_mask_generation(masklet: Masklet, folder: Path) -> None:
    outcome = masklet(
        "bench", "models", "--models", "sam2.1_t.pt, yolov8n-seg", "--points", 2, "--repeats", 1,
        "--report", "family.json",
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
    assert "sam2.1_hiera_tiny: the number of parameters is not the published one" in outcome.err
    stored = json.loads(Path("family.json").read_text())
    assert [row["name"] for row in stored["models"]] == ["sam2.1_hiera_tiny", "yolov8n-seg"]
    assert stored["models"][0]["mask_generation"] == {
        "seconds": pytest.approx(0, abs=60),
        "num_points": 4,
        "estimated": False,
    }
    assert list(stored)[:4] == ["protocol", "model", "options", "machine"]
    assert stored["options"]["image"] == [1280, 720]
    assert stored["machine"]["threads"] > 0
    table = "\n".join(record_table(read_record("family.json")))  # as on a page
    assert table in outcome.out


def test_another_image(masklet: Masklet, folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (50, 30)).save("small.png")
    outcome = masklet("bench", "models", "--models", "FastSAM-s", "--image", "small.png", "--cpu-time")
    assert outcome.code == 0
    assert "image of 50 x 30, median of 3, CPU time" in outcome.out


def test_estimates_are_marked(masklet: Masklet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_family, "_time_grid", lambda predictor, options, how, side: 2.0 + 0.01 * side**2)
    outcome = masklet("bench", "models", "--models", "builtin", "--max-seconds", 5, "--repeats", 1)
    assert re.search(r"~1[2-4]\.\d s", outcome.out)  # 12.24 and encoding


def test_an_unknown_model_is_one_line(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("bench", "models", "--models", "sam7")
    assert outcome.code == 2
    assert "'sam7' is not a known model" in outcome.err
