"""masklet synth: clips in a folder, and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from masklet.datasets import open_dataset
from masklet.evaluate.davis_sequences import find_davis_sequences, load_ground_truth

SMALL = ("--size", "96x64", "--frames", "8", "--scenario", "reentry")


def test_clips_are_written_once_and_are_a_data_set(masklet: Callable[..., Any], folder: Path) -> None:
    done = masklet("synth", "clips", "--clips", 1, "--seed", 3, *SMALL, "--lossless")
    assert (done.code, done.out, done.err) == (0, "clips: 1 clips written\n", "")
    again = masklet("synth", "clips", "--clips", 2, "--seed", 3, *SMALL, "--lossless")
    assert again.out == "clips: 1 clips written, 1 existed\n"
    dataset = open_dataset(folder / "clips")
    assert [entry.name.rsplit("/", 1)[-1] for entry in dataset.samples] == ["reentry-0000", "reentry-0001"]
    [frame] = dataset.samples[0].read((0,))
    assert frame.rgb.shape == (64, 96, 3)
    assert frame.masks
    assert json.loads((folder / "clips" / "synth.json").read_text())["seed"] == 3


def test_frames_are_jpeg_unless_lossless(masklet: Callable[..., Any], folder: Path) -> None:
    assert masklet("synth", "clips", "--clips", 1, *SMALL).code == 0
    [video] = find_davis_sequences(folder / "clips", "train")
    assert [path.name for path in video.frame_paths] == [f"{t:05d}.jpg" for t in range(8)]
    assert load_ground_truth(video).shape == (8, 64, 96)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0x0"], "size 0 x 0 is too small"),
        (["--size", "big"], "size 'big' is invalid; give width x height in pixels, such as 480x270"),
        (["--frames", "1"], "frames=1 is too few"),
        (["--scenario", "twinz"], "'twinz'"),
        (["--from-dataset", "nowhere"], "nowhere"),
        (["--clips", "0"], "--clips"),
    ],
)
def test_an_invalid_option_is_one_line_and_no_folder(
    masklet: Callable[..., Any], folder: Path, words: list[str], message: str
) -> None:
    done = masklet("synth", "clips", *words)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (folder / "clips").exists()


def test_a_folder_that_cannot_be_made_is_named(masklet: Callable[..., Any], folder: Path) -> None:
    done = masklet("synth", "a.png/clips", "--clips", 1, *SMALL)
    assert done.code == 2
    assert "a.png" in done.err


def test_rigid_bodies_join_the_scenarios(
    masklet: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenarios: list[list[str]] = []
    monkeypatch.setattr(
        "masklet.synthetic.write_clips", lambda out, options, count, names, **_: scenarios.append(list(names)) or []
    )
    assert masklet("synth", "clips", "--rigid-bodies", "--scenario", "twins").code == 0
    assert masklet("synth", "clips", "--rigid-bodies", "--scenario", "bodies").code == 0
    assert masklet("synth", "clips", "--rigid-bodies").code == 0
    assert scenarios[:2] == [["twins", "bodies"], ["bodies"]]
    assert scenarios[2][-1] == "bodies"
    assert len(scenarios[2]) == 9
