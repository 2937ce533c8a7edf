"""The code of docs/connectors.md: every block is Python, and the pages of Gradio and Streamlit find objects."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet import SAM

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()


def snippet(heading: str) -> str:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    return code


def test_every_block_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        ast.parse(block)


def test_gradio_answers_a_click(square: np.ndarray, small_sam: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    monkeypatch.setattr("masklet.SAM", lambda: small_sam)
    page: dict[str, object] = {"__name__": "page"}
    exec(snippet("Gradio"), page)
    event = gradio.SelectData(None, {"index": (22, 27), "value": None})
    image, [(mask, label)] = page["segment"](square, event)
    assert image is square
    assert mask[27, 22]
    assert label.startswith("object, 0.")
    drawn = page["found"].postprocess((image, [(mask, label)]))  # what the browser gets
    assert [one.label for one in drawn.annotations] == [label]
    [event] = page["demo"].fns.values()
    assert (event.fn, event.inputs, event.outputs) == (page["segment"], [page["picked"]], [page["found"]])


def test_streamlit_shows_the_object_under_the_sliders(
    square: np.ndarray, small_sam: SAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    testing = pytest.importorskip("streamlit.testing.v1")
    import streamlit

    monkeypatch.setattr("masklet.SAM", lambda: small_sam)
    page = testing.AppTest.from_string(snippet("Streamlit"), default_timeout=60)
    assert not page.run().exception
    assert not page.slider  # no file yet
    Image.fromarray(square).save(tmp_path / "square.png")
    monkeypatch.setattr(streamlit, "file_uploader", lambda *a: (tmp_path / "square.png").open("rb"))
    page.run()
    assert not page.exception
    page.slider[0].set_value(22)
    page.slider[1].set_value(27).run()
    assert not page.exception
    expected = small_sam(square, points=[22, 27])[0]
    assert page.caption[0].value == f"{expected.masks.data.sum()} pixels, score {expected.scores[0]:.2f}"
