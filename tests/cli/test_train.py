"""masklet train as people type it: what comes out, and one line with exit code 2 for what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Outcome
from helpers.train_data import store_discs, store_squares
from masklet.load_model import load

Masklet = Callable[..., Outcome]
SMALL = (
    "--image-size",
    64,
    "--clip-length",
    2,
    "--workers",
    0,
    "--device",
    "cpu",
    "--override",
    "stage.prompts.round_probs=[1.0]",
)


@pytest.fixture
def data(folder: Path, builtin_file: Path) -> Path:
    """photos with four images, videos with one, and a run of two steps in `words`."""
    store_discs(folder / "photos", 4)
    store_squares(folder / "videos", 1, frames=3)
    return folder


@pytest.fixture
def words(builtin_file: Path) -> tuple[object, ...]:
    return ("train", "--out", "runs/mine", "--model", builtin_file, *SMALL)


@pytest.mark.slow
def test_a_run_prints_progress_and_writes_a_model(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    often = ("--override", "log_every=1", "--override", "save_every=1")
    done = masklet(*words, "--data", "photos", "--data", "videos=0.5", "--steps", 2, *often)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("step 1/2  loss ")
    assert lines[1].startswith("step 2/2  loss ")
    assert lines[1].endswith("00:00:00 left")
    assert lines[2].startswith("done: runs/mine/model.safetensors (")
    assert load(data / "runs" / "mine" / "model.safetensors").name == "builtin"
    again = masklet(*words, "--data", "photos", "--data", "videos=0.5", "--steps", 2, *often)
    assert again.code == 0
    assert again.out.startswith("done: ")
    other = masklet(*words, "--data", "photos", "--steps", 3)
    assert other.code == 2
    assert "stages" in other.err
    assert other.err.count("\n") == 1


def test_a_dry_run_writes_nothing(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    done = masklet(*words, "--data", "photos", "--epochs", 5, "--batch", 2, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("4 images and videos; ")
    assert "10 steps at 64 x 64: " in done.out
    assert "in all 10 steps" in done.out
    assert not (data / "runs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data", "nowhere", "--steps", 1], "nowhere"),
        (["--data", "photos=lots", "--steps", 1], "must be PATH or PATH=WEIGHT"),
        (["--data", "photos=-1", "--steps", 1], "weight"),
        (["--data", "photos"], "say how long"),
        (["--data", "photos", "--steps", 1, "--epochs", 1], "say how long"),
        (["--data", "photos", "--steps", 0], "--steps"),
        (["--data", "photos", "--steps", 1, "--image-size", 100], "size=100 must be a multiple of 32"),
        (["--data", "photos", "--steps", 1, "--freeze", "trunk"], "'trunk' is no part of a network"),
        (["--data", "photos", "--steps", 1, "--precision", "fp8"], "bf16 or fp32"),
        (["--data", "photos", "--steps", 1, "--lr", -1], "lr=-1.0"),
        (["--data", "photos", "--steps", 1, "--lora", 9999], "rank 9999"),
        (["--data", "photos", "--steps", 1, "--override", "losses.vocal=1"], "there is no 'vocal'"),
        (["--data", "photos", "--steps", 1, "--override", "cached_views=2"], "the encoder learns"),
        (["--data", "photos", "--steps", 1, "--device", "toaster"], "device 'toaster' cannot be used"),
        (["--data", "photos", "--steps", 1, "--model", "sam9.pt"], "sam9.pt"),
        (["--data", "photos", "--recipe", "smoke"], "--recipe smoke has all of these settings itself"),
        (["--steps", 1], "--data"),
    ],
)
def test_an_invalid_option_is_one_line(
    masklet: Masklet, data: Path, words: tuple[object, ...], given: list[object], message: str
) -> None:
    done = masklet(*words, *given)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert not (data / "runs" / "mine" / "state.pt").exists()


def test_an_unknown_recipe_gets_the_known_ones(masklet: Masklet, data: Path) -> None:
    done = masklet("train", "--data", "photos", "--out", "a", "--recipe", "soup")
    assert done.code == 2
    assert "'soup' is unknown; choose one of builtin, builtin_video" in done.err


def test_a_file_where_the_folder_should_be(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    (data / "runs").write_text("mine")
    done = masklet(*words, "--data", "photos", "--steps", 1)
    assert done.code == 2
    assert "cannot be the folder of a run" in done.err


@pytest.mark.filterwarnings("default::masklet.errors.MaskletWarning")
def test_a_broken_image_is_named(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    (data / "photos" / "images" / "02.png").write_bytes(b"not an image")
    done = masklet(*words, "--data", "photos", "--steps", 2, "--batch", 4)
    assert done.code == 0
    assert "left out: " in done.err
    assert "02.png" in done.err


def test_all_broken_is_one_line(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    for image in (data / "photos" / "images").iterdir():
        image.write_bytes(b"not an image")
    done = masklet(*words, "--data", "photos", "--steps", 2)
    assert done.code == 2
    assert "masklet data check" in done.err


def test_a_run_is_exported_under_another_name(masklet: Masklet, data: Path, words: tuple[object, ...]) -> None:
    assert masklet(*words, "--data", "photos", "--steps", 1).code == 0
    done = masklet("export-weights", "runs/mine", "mine.pt")
    assert done.code == 0
    assert done.out.startswith("mine.pt: ")
    assert load(data / "mine.pt").name == "builtin"
    assert masklet("export-weights", "runs/nobody", "mine.pt").code == 2
