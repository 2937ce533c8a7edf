"""`masklet demo`: the main job, from a photograph to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masklet.cli.demo import BOX, CLICK, PICTURE
from masklet.registry import BUILTIN, MODELS, is_downloaded

Masklet = Callable[..., Any]


def check_files(outcome: Any, out: Path) -> None:
    """Everything that the demo promises is there, and named."""
    assert outcome.code == 0, outcome.err
    size = np.array(Image.open(out / f"{PICTURE}.png")).shape[:2]
    for kind in ("click", "box"):
        assert np.array(Image.open(out / f"{PICTURE}_{kind}_overlay.png")).shape[:2] == size
        assert np.array(Image.open(out / f"{PICTURE}_{kind}.png")).shape == size
        assert f"{out / f'{PICTURE}_{kind}_overlay.png'}\n" in outcome.out
        assert f"{out / f'{PICTURE}_{kind}.png'}\n" in outcome.out
    coco = json.loads((out / "annotations.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{PICTURE}.png"]
    assert len(coco["annotations"]) == 2
    assert f"{out / 'annotations.coco.json'}\n" in outcome.out
    assert "segment" in outcome.out.split("then try:")[1]


def test_the_demo_writes_what_it_says(masklet: Masklet, folder: Path, builtin_file: Path) -> None:
    pytest.importorskip("skimage")
    check_files(masklet("demo", "--model", builtin_file, "--out", "seen"), Path("seen"))


def test_without_scikit_image_the_extra_is_named(
    masklet: Masklet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    outcome = masklet("demo")
    assert outcome.code == 2
    assert "pip install 'masklet[demo]'" in outcome.err
    assert not Path("masklet-demo").exists()


@pytest.mark.skipif(not is_downloaded(MODELS[BUILTIN]), reason="the built-in weights are not in the package yet")
def test_the_packaged_model_finds_the_object(masklet: Masklet, folder: Path) -> None:
    pytest.importorskip("skimage")
    check_files(masklet("demo"), Path("masklet-demo"))
    x, y = CLICK
    clicked = np.array(Image.open(f"masklet-demo/{PICTURE}_click.png")) > 0
    assert clicked[y, x], "the click is not on the object that was found"
    boxed = np.array(Image.open(f"masklet-demo/{PICTURE}_box.png")) > 0
    x1, y1, x2, y2 = BOX
    assert boxed[y1:y2, x1:x2].mean() > 0.4, "most of the box should be the object"
    assert boxed[y1:y2, x1:x2].sum() > 0.9 * boxed.sum(), "the object should lie in its box"
