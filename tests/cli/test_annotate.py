"""masklet annotate: labels for a folder, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import masklet.detect
from helpers.annotate_data import Blobs, make_photos


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> Blobs:
    """Whatever detector is named, blobs are detected."""
    from masklet.detect.adapters import FilteredDetector

    detector = Blobs()
    monkeypatch.setattr(
        masklet.detect, "open_detector", lambda what, options, device="": FilteredDetector(detector, options)
    )
    return detector


def test_a_folder_is_labeled_and_summed_up(masklet: Callable[..., Any], folder: Path, blobs: Blobs) -> None:
    make_photos(folder / "photos")
    (folder / "photos/broken.jpg").unlink()
    done = masklet(
        *("annotate", "photos", "--det-model", "mine.pt", "--detector-masks", "--classes", "green,0"),
        *(
            "--format",
            "yolo,coco",
            "--format",
            "yolo",
            "--val-fraction",
            "0.5",
            "--out",
            "out",
            "--review-fraction",
            "1",
        ),
    )
    assert (done.code, done.err) == (0, "")
    assert "7 image(s), 9 object(s), 1 image(s) without any" in done.out
    assert "-> out/yolo/data.yaml" in done.out
    assert json.loads((folder / "out/summary.json").read_text())["by_class"] == {"red": 6, "green": 3}
    again = masklet(
        *("annotate", "photos", "--det-model", "mine.pt", "--detector-masks", "--classes", "green,0"),
        *(
            "--format",
            "yolo,coco",
            "--val-fraction",
            "0.5",
            "--out",
            "out",
            "--review-fraction",
            "1",
            "--resume",
            "--quiet",
        ),
    )
    assert (again.code, again.out, blobs.num_images) == (0, "", 7)


def test_a_broken_image_is_named_and_the_code_is_two(masklet: Callable[..., Any], folder: Path, blobs: Blobs) -> None:
    make_photos(folder / "photos")
    done = masklet("annotate", "photos", "--detector-masks")
    assert done.code == 2
    assert "7 image(s)" in done.out
    first, last = done.err.splitlines()
    assert "photos/broken.jpg" in first
    assert last == "masklet: 1 image(s) or video(s) could not be annotated"
    assert (folder / "photos_auto_annotate_labels/p0.txt").exists()


def test_ctrl_c_loses_nothing_and_the_same_command_resumes(
    masklet: Callable[..., Any], folder: Path, blobs: Blobs
) -> None:
    make_photos(folder / "photos")
    blobs.interrupt_at = 3
    done = masklet("annotate", "photos", "--detector-masks", "--batch", 1)
    assert done.code == 130
    assert "stopped after 3 of 8; nothing is lost: the same command resumes from there" in done.err
    assert "7 image(s)" in masklet("annotate", "photos", "--detector-masks", "--batch", 1).out
    assert blobs.num_images == 8  # one of seven was interrupted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no such image, video or folder"),
        (["photos", "--classes", "blue"], "class 'blue' is unknown"),
        (["photos", "--val-fraction", "2"], "must be between 0 and 1"),
        (["photos", "--format", "coca"], "no format 'coca'"),
        (["photos", "--out", "a.png/labels"], "a.png/labels cannot be written"),
    ],
)
def test_an_invalid_option_is_one_line(
    masklet: Callable[..., Any], folder: Path, blobs: Blobs, words: list[str], message: str
) -> None:
    make_photos(folder / "photos", 2)
    (folder / "photos/broken.jpg").unlink()
    done = masklet("annotate", *words, "--detector-masks")
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_other_settings_name_the_option_that_helps(masklet: Callable[..., Any], folder: Path, blobs: Blobs) -> None:
    make_photos(folder / "photos", 2)
    (folder / "photos/broken.jpg").unlink()
    assert masklet("annotate", "photos", "--detector-masks").code == 0
    refused = masklet("annotate", "photos", "--detector-masks", "--conf", "0.5")
    assert refused.code == 2
    assert "resume=False" in refused.err
    assert masklet("annotate", "photos", "--detector-masks", "--conf", "0.5", "--overwrite").code == 0
