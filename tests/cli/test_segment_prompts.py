"""Words of a command line to the nesting of `parse_prompts`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.cli.predict import parse_key_values
from masklet.cli.segment_job import parse_formats
from masklet.cli.segment_prompts import PromptArgs, Prompts, parse_segment_prompts, read_masks


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (PromptArgs(points=["1,2"]), Prompts([[[1, 2]]], [[1]])),
        (PromptArgs(points=["1 2", "3, 4"]), Prompts([[[1, 2], [3, 4]]], [[1, 1]])),
        (PromptArgs(points=["1,2", "3,4,0"]), Prompts([[[1, 2], [3, 4]]], [[1, 0]])),
        (PromptArgs(points=["1,2"], negatives=["3,4"]), Prompts([[[1, 2], [3, 4]]], [[1, 0]])),
        (PromptArgs(points=["1,2", "3,4"], point_per_object=True), Prompts([[[1, 2]], [[3, 4]]], [[1], [1]])),
        (PromptArgs(boxes=["1,2,3,4"]), Prompts(bboxes=[[1, 2, 3, 4]])),
        (PromptArgs(boxes=["1,2,3,4", "5.5,6,7,8"]), Prompts(bboxes=[[1, 2, 3, 4], [5.5, 6, 7, 8]])),
        (PromptArgs(boxes=["1,2,3,4"], negatives=["3,4"]), Prompts([[[3, 4]]], [[0]], [[1, 2, 3, 4]])),
        (
            PromptArgs(points=["1,2"], negatives=["6,6"], boxes=["1,2,3,4", "5,6,7,8"], point_per_object=True),
            Prompts([[[1, 2]], [[6, 6]]], [[1], [0]], [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ),
    ],
)
def test_what_words_mean(words: PromptArgs, meant: Prompts) -> None:
    assert parse_segment_prompts(words) == meant


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (10, 128)])
def test_a_mask_image_is_what_is_bright(low: int, high: int, tmp_path: Path) -> None:
    truth = np.zeros((5, 7), bool)
    truth[1:3, 2:6] = True
    Image.fromarray(np.where(truth, high, low).astype(np.uint8)).save(tmp_path / "m.png")
    read = read_masks([tmp_path / "m.png"])
    assert read.shape == (1, 5, 7)
    assert np.array_equal(read[0], truth)


def test_formats_are_listed_once() -> None:
    assert parse_formats(None) == ("overlay",)
    assert parse_formats(["png, COCO", "png"]) == ("png", "coco")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("points=150,150", [150, 150]),
        ("points=[150, 150]", [150, 150]),
        ("points=[[1,2],[3,4]]", [[1, 2], [3, 4]]),
        ("POINTS=[[[1,2],[3,4]]]", [[[1, 2], [3, 4]]]),
        ("points=-1.5,2", [-1.5, 2]),
    ],
)
def test_values_are_nested_as_in_python(word: str, meant: object) -> None:
    assert parse_key_values(["source=a.png", word]).prompts.points == meant


def test_key_value_words_make_a_job() -> None:
    words = ["model=sam2_b.pt", "source=a.png", "bboxes=1,2,3,4", "labels=1", "out=o", "format=png,coco"]
    job = parse_key_values([*words, "device=cpu", "precision=bf16", "quiet=True", "multimask=no"])
    assert job.sources == ("a.png",)
    assert (job.model, job.device, job.precision, job.out) == ("sam2_b.pt", "cpu", "bf16", Path("o"))
    assert (job.formats, job.quiet, job.multimask) == (("png", "coco"), True, None)
    assert (job.prompts.bboxes, job.prompts.labels) == ([1, 2, 3, 4], 1)
