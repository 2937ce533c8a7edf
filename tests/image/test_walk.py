"""docs/internals/walk_image.md names the files of one click, in the order of their first call."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import numpy as np

import masklet
from masklet import SAM

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "walk_image.md"
PACKAGE = Path(masklet.__file__).parent


def test_the_page_names_the_files_of_a_click(builtin_file: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"^\| \d+ \| `([\w/.]+)` \|", text, re.MULTILINE)
    below = re.findall(r"`([\w/]+\.py)`", text.partition("## What runs below")[2])
    model, image = SAM(builtin_file), np.zeros((120, 160, 3), np.uint8)
    files: dict[str, None] = {}

    def record(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.setdefault(path.relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(record)
    try:
        model(image, points=[50, 50])
    finally:
        sys.setprofile(before)
    explained = {*named, *below, "models/fast_cpu/convnet.py", "models/fast_cpu/__init__.py"}
    assert [file for file in files if file not in explained] == []
    assert [file for file in named if file not in files] == []
    assert len(named) <= 12
