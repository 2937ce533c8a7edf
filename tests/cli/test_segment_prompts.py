"""Options of a command line to the nesting of `parse_prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masklet.cli.predict import parse_key_values
from masklet.cli.segment_prompts import PromptKeywords, parse_segment_prompts, read_masks
from masklet.cli.shared_options import IMAGE_FORMATS, PRESETS, VIDEO_FORMATS, parse_formats, split_commas


@pytest.mark.parametrize(
    ("words", "prompts"),
    [
        ({"points": ["1,2"]}, {"points": [[[1, 2]]], "labels": [[1]]}),
        ({"points": ["1 2", "3, 4"]}, {"points": [[[1, 2], [3, 4]]], "labels": [[1, 1]]}),
        ({"points": ["1,2", "3,4,0"]}, {"points": [[[1, 2], [3, 4]]], "labels": [[1, 0]]}),
        ({"points": ["1,2"], "negatives": ["3,4"]}, {"points": [[[1, 2], [3, 4]]], "labels": [[1, 0]]}),
        (
            {"points": ["1,2", "3,4"], "point_per_object": True},
            {"points": [[[1, 2]], [[3, 4]]], "labels": [[1], [1]]},
        ),
        ({"boxes": ["1,2,3,4"]}, {"bboxes": [[1, 2, 3, 4]]}),
        ({"boxes": ["1,2,3,4", "5.5,6,7,8"]}, {"bboxes": [[1, 2, 3, 4], [5.5, 6, 7, 8]]}),
        (
            {"boxes": ["1,2,3,4"], "negatives": ["3,4"]},
            {"points": [[[3, 4]]], "labels": [[0]], "bboxes": [[1, 2, 3, 4]]},
        ),
        (
            {
                "points": ["1,2"],
                "negatives": ["6,6"],
                "boxes": ["1,2,3,4", "5,6,7,8"],
                "point_per_object": True,
            },
            {"points": [[[1, 2]], [[6, 6]]], "labels": [[1], [0]], "bboxes": [[1, 2, 3, 4], [5, 6, 7, 8]]},
        ),
    ],
)
def test_options_become_keywords(words: dict[str, Any], prompts: PromptKeywords) -> None:
    assert parse_segment_prompts(**words) == prompts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (10, 128)])
def test_a_mask_image_is_what_is_bright(low: int, high: int, tmp_path: Path) -> None:
    truth = np.zeros((5, 7), bool)
    truth[1:3, 2:6] = True
    Image.fromarray(np.where(truth, high, low).astype(np.uint8)).save(tmp_path / "m.png")
    read = read_masks([tmp_path / "m.png"])
    assert read.shape == (1, 5, 7)
    assert np.array_equal(read[0], truth)


def test_formats_are_listed_once() -> None:
    assert parse_formats(None, IMAGE_FORMATS) == ("overlay",)
    assert parse_formats(["png, COCO", "png"], IMAGE_FORMATS) == ("png", "coco")
    assert split_commas(["a, b", "c,"]) == ["a", "b", "c"]


def test_names_in_the_help_are_those_of_the_library() -> None:
    from masklet.image.automatic_mask_generator import PRESETS as GENERATOR_PRESETS
    from masklet.video.job_files import TRACK_FORMATS
    from masklet.writers import SINKS, WRITERS

    assert list(IMAGE_FORMATS) == list(WRITERS)
    assert sorted(VIDEO_FORMATS) == sorted(SINKS)
    assert VIDEO_FORMATS == TRACK_FORMATS
    assert sorted(PRESETS) == sorted(GENERATOR_PRESETS)


@pytest.mark.parametrize(
    ("word", "points"),
    [
        ("points=150,150", [150, 150]),
        ("points=[150, 150]", [150, 150]),
        ("points=[[1,2],[3,4]]", [[1, 2], [3, 4]]),
        ("POINTS=[[[1,2],[3,4]]]", [[[1, 2], [3, 4]]]),
        ("points=-1.5,2", [-1.5, 2]),
    ],
)
def test_values_are_nested_as_in_python(word: str, points: object) -> None:
    assert parse_key_values(["source=a.png", word]).prompts["points"] == points


def test_key_value_words_make_a_job() -> None:
    words = ["model=sam2_b.pt", "source=a.png", "bboxes=1,2,3,4", "labels=1", "out=o", "format=png,coco"]
    job = parse_key_values([*words, "device=cpu", "precision=bf16", "quiet=True", "multimask=no", "imgsz=512"])
    assert job.sources == ("a.png",)
    assert (job.model, job.device, job.precision, job.out) == ("sam2_b.pt", "cpu", "bf16", Path("o"))
    assert (job.formats, job.quiet, job.multimask) == (("png", "coco"), True, None)
    assert job.image_size == 512
    assert job.prompts == {"bboxes": [1, 2, 3, 4], "labels": 1}
