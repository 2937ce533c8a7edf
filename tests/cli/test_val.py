from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Outcome
from helpers.synthetic_truth import Oracle, late, store_image, store_video, two_objects
from masklet import SAM
from masklet.evaluate import ValidationResult

Masklet = Callable[..., Outcome]


@pytest.fixture
def data(folder: Path) -> Path:
    """photos with three images, videos with one."""
    for name in ("x", "y", "z"):
        store_image(folder / "photos" / "a", name, two_objects())
    store_video(folder / "videos", "ant", late())
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The command gets a model that knows the truth; the arguments it opened it with."""
    calls: list[tuple[Any, ...]] = []

    def open_model(*given: Any) -> Oracle:
        calls.append(given)
        return Oracle(two_objects(), late(), shift=5)

    monkeypatch.setattr(sys.modules["masklet.cli.val"], "open_model", open_model)
    return calls


def test_a_table_comes_out_and_the_figures_are_written(masklet: Masklet, data: Path, opened: list[Any]) -> None:
    words = ["--model", "mine.pt", "--device", "cpu", "--precision", "bf16", "--report", "out/figures.json"]
    done = masklet("val", "--data", "photos", "--data", "videos", "--prompt", "box", "--prompt", "mask", *words)
    assert (done.code, done.err) == (0, "")
    assert opened == [("mine.pt", "cpu", "bf16", None)]
    assert done.out.startswith("3 images and 1 video (5 frames), 8 objects; ")
    text = (data / "out" / "figures.json").read_text()
    stored, raw = ValidationResult.from_json(text), json.loads(text)
    assert (raw["model"], raw["data"]) == ("mine.pt", ["photos", "videos"])
    assert str(stored) == done.out.rstrip("\n")
    assert list(stored.videos) == ["box", "mask"]


def test_data_format_split_and_limit_are_passed_on(masklet: Masklet, data: Path, opened: list[Any]) -> None:
    done = masklet(
        "val", "--data", "photos", "--data-format", "native", "--split", "a", "--limit", "2", "--objects", "1"
    )
    assert done.out.startswith("2 images, 2 objects")
    assert masklet("val", "--data", "photos", "--split", "b").code == 2


@pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")
def test_broken_samples_are_named_and_the_code_is_two(masklet: Masklet, data: Path, opened: list[Any]) -> None:
    (data / "photos" / "a" / "images" / "y.jpg").write_bytes(b"not an image")
    done = masklet("val", "--data", "photos", "--report", "figures.json", "--model", "mine.pt")
    assert done.code == 2
    assert done.out.startswith("2 images, 4 objects, 1 left out as broken")
    assert "a/y is left out" in done.err
    assert "broken, skipped: 1 of 3" in done.err
    assert list(ValidationResult.from_json((data / "figures.json").read_text()).skipped) == ["a/y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "no such data set"),
        (["--data", "photos", "--prompt", "scribble"], "'scribble' is unknown"),
        (["--data", "photos", "--prompt", "mask"], "does not apply to images"),
        (["--data", "photos", "--limit", "0"], "--limit"),
        ([], "--data"),
    ],
)
def test_an_invalid_option_is_one_line_and_code_two(
    masklet: Masklet, data: Path, opened: list[Any], words: list[str], message: str
) -> None:
    done = masklet("val", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_data_and_prompts_are_checked_before_a_model_is_opened(masklet: Masklet, data: Path, opened: list[Any]) -> None:
    masklet("val", "--data", "nowhere")
    masklet("val", "--data", "photos", "--prompt", "scribble")
    assert opened == []


def test_ctrl_c_shows_and_writes_what_was_measured(
    masklet: Masklet, data: Path, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Oracle):
        def set_image(self, rgb: Any) -> None:
            super().set_image(rgb)
            if self.encoded == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["masklet.cli.val"], "open_model", lambda *_: Stopped(two_objects(), late()))
    done = masklet("val", "--data", "photos", "--report", "figures.json", "--model", "mine.pt")
    assert done.code == 130
    assert done.out.startswith("2 images, 4 objects")
    assert "stopped after 2 of 3" in done.err
    assert ValidationResult.from_json((data / "figures.json").read_text()).counts.images == 2


@pytest.mark.slow
def test_a_real_model_is_measured(masklet: Masklet, data: Path, tracker: SAM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["masklet.cli.val"], "open_model", lambda *_: tracker)
    done = masklet("val", "--data", "photos", "--data", "videos", "--limit", "4", "--report", "figures.json")
    assert done.code == 0, done.err
    found = ValidationResult.from_json((data / "figures.json").read_text())
    assert found.images is not None
    assert 0 <= found.images.total.box <= 1
    assert list(found.videos) == ["box", "click", "mask"]
