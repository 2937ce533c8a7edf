"""The Python of docs/data.md runs as written, and its tables hold what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.dataset_files import coco, label_map, labeled_video, native
from masklet.datasets import DATASET_READERS, open_mixture

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    native(tmp_path / "cats")
    labeled_video(tmp_path / "videos", "dog", {0: label_map()}, 3)
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.startswith("a2 (40, 60, 3) [")
    assert (tmp_path / "sheet.png").exists()


def test_the_mixture_opens(tmp_path: Path) -> None:
    coco(tmp_path / "coco", split="train2017")
    labeled_video(tmp_path / "my_videos", "dog", {0: label_map()}, 3)
    [block] = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    json.loads(block)
    (tmp_path / "mixture.json").write_text(block)
    assert [(data.data_format, weight) for data, weight in open_mixture(tmp_path / "mixture.json")] == [
        ("coco", 3.0),
        ("davis", 1.0),
    ]


def test_every_kind_has_its_row_and_its_section() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE) == list(DATASET_READERS)
    assert set(re.findall(r"^## ([a-z]\w*)$", PAGE, flags=re.MULTILINE)) == set(DATASET_READERS)
