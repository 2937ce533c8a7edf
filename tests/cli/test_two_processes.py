"""Two processes that write into one folder at once: they join, or one is refused, and files are whole."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import native
from helpers.forked_python import python_process

pytestmark = pytest.mark.slow


def both(first: list[object], second: list[object]) -> list[tuple[int, str]]:
    """Run two commands at once: exit code and standard error of each."""
    started = [
        python_process(["-m", "masklet", *map(str, words)], stderr=subprocess.PIPE, text=True)
        for words in (first, second)
    ]
    return [(one.returncode, errors) for one in started for errors in [one.communicate(timeout=300)[1]]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "ph"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (80, 120, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def test_segment_joins(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = ["--point", "50,40", "--format", "coco,yolo", "--out", out]
    first, second = (["segment", *(images / f"{number}.png" for number in numbers)] for numbers in ((0, 1), (2, 3)))
    assert [code for code, _ in both([*first, *words], [*second, *words])] == [0, 0]
    content = json.loads((out / "annotations.coco.json").read_text())
    assert sorted(image["file_name"] for image in content["images"]) == ["0.png", "1.png", "2.png", "3.png"]
    assert sorted(one["image_id"] for one in content["annotations"]) == [1, 2, 3, 4]
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        *("0.txt", "1.txt", "2.txt", "3.txt"),
        *("annotations.coco.json", "classes.txt"),
    ]
    assert (out / "classes.txt").read_text() == "object\n"


@pytest.mark.parametrize("command", ["annotate", "convert"])
def test_the_second_run_waits_or_is_refused(
    command: str, images: Path, tmp_path: Path, masklet: Callable[..., Any]
) -> None:
    out = tmp_path / "o"
    words: list[object] = ["annotate", images, "--det-model", "everything", "--everything", "fast", "-o", out]
    if command == "convert":
        words = ["convert", native(tmp_path / "data"), out, "--to", "coco"]
    ended = both(words, words)
    for code, errors in ended:
        if code != 0:
            assert code == 2
            assert "another run is annotating into" in errors or "another process writes" in errors, errors
    assert min(code for code, _ in ended) == 0
    done = masklet(*words)
    assert done.code == 0, done.err
    if command == "convert":
        content = json.loads(next(out.rglob("instances*.json")).read_text())
        assert (len(content["images"]), len(content["annotations"])) == (3, 6)
    else:
        assert sorted(path.name for path in out.glob("?.txt")) == ["0.txt", "1.txt", "2.txt", "3.txt"]
