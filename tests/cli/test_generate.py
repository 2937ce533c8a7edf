"""`masklet generate`: files, the line per image, options that reach the network, and invalid options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Masklet = Callable[..., Any]
ANY = (
    "--pred-iou-thresh",
    "0",
    "--stability-score-thresh",
    "0",
    "--points-per-side",
    "2",
    "--merge-thresh",
    "1",
    "--min-points",
    "1",
)
LINE = re.compile(r"a\.png: (\d+) masks?, \d+% covered, \d+\.\d s -> masklet-out/a_overlay\.png\n")


def test_a_line_says_how_many_masks_and_how_much_is_covered(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet("generate", "a.png", *ANY, "--model", builtin_file)
    assert (outcome.code, outcome.err) == (0, "")
    found = LINE.fullmatch(outcome.out)
    assert found, outcome.out
    assert int(found[1]) >= 1
    assert Path("masklet-out/a_overlay.png").is_file()


@pytest.mark.slow
def test_formats_hold_every_mask(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet(
        "generate", "a.png", "b.png", *ANY, "--mask-nms-thresh", 1, "--refine", 0, "-m", builtin_file, "-f", "coco,json"
    )
    assert outcome.code == 0, outcome.err
    document = json.loads(Path("masklet-out/annotations.coco.json").read_text())
    assert len(document["images"]) == 2
    counts = [int(n) for n in re.findall(r"(\d+) masks?,", outcome.out)]
    assert counts == [12, 12]  # three masks for each of 2 x 2 points
    assert len(document["annotations"]) == sum(counts)


@pytest.mark.filterwarnings("ignore::masklet.errors.MaskletWarning")
def test_an_image_without_masks_is_like_any_other(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    outcome = masklet(
        "generate", "a.png", *ANY, "--pred-iou-thresh", 1, "-m", builtin_file, "-f", "overlay,coco,yolo,json,png"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("a.png: 0 masks, 0% covered")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--preset", "best"), ["'best'", "fast, default, fine"]),
        (("--pred-iou-thresh", "2"), ["pred_iou_thresh=2.0", "0 to 1"]),
        (("--points-per-side", "0"), ["points_per_side=0", "1 to 512"]),
        (("--sort-by", "size"), ["'size'", "score, area"]),
    ],
)
def test_an_option_without_meaning_is_one_clear_line(
    masklet: Masklet, folder: Path, builtin_file: Path, words: tuple[str, str], parts: list[str]
) -> None:
    outcome = masklet("generate", "a.png", *words, "--model", builtin_file)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert all(word in outcome.err for word in parts), outcome.err


def test_segment_without_prompts_names_generate(masklet: Masklet, folder: Path) -> None:
    outcome = masklet("segment", "a.png")
    assert outcome.code == 2
    assert "masklet generate" in outcome.err


def test_auto_is_a_hidden_alias(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    assert masklet("auto", "a.png", *ANY, "--model", builtin_file, "--quiet").code == 0
    assert "\n  auto " not in masklet("--help").out
