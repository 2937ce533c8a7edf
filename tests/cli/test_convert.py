"""masklet convert: its summary, its files, and its errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.dataset_files import BOX, RING, native, videos, yolo
from helpers.labeled_images import PARTS
from helpers.labeling_tool_files import labelme
from masklet.datasets import open_dataset
from masklet.masks import rle


def test_the_summary_has_what_was_written_and_lost(masklet: Callable[..., Any], folder: Path) -> None:
    labelme(folder / "in")
    code = rle.encode(BOX | PARTS)
    (folder / "more" / "masks").mkdir(parents=True)
    native(folder / "more", ["a"])
    (folder / "more" / "masks" / "a.json").write_text(json.dumps([code, rle.encode(RING)]))
    done = masklet("convert", "more", "out", "--to", "yolo", "--report", "report.json")
    assert (done.code, done.err) == (0, "")
    first, second = done.out.splitlines()
    assert first == "more (native) -> out (yolo): 1 image written, 2 objects of 1 class"
    report = json.loads((folder / "report.json").read_text())
    assert (report["images"], report["objects"], report["findings"]) == (1, {"object": 2}, [])
    loss = report["loss"]
    assert (loss["objects"], loss["exact"], loss["worst_in"]) == (2, 1, "a")
    assert 0.5 < loss["worst"] < 1
    means = f"mean IoU {loss['mean']:.4f}, worst {loss['worst']:.4f} (in a)"
    assert second == f"  1 of 2 objects lost something of their masks: {means}"
    again = masklet("convert", "more", "out", "--to", "yolo")
    assert again.out.splitlines()[0] == (
        "more (native) -> out (yolo): 0 images written (1 existed), 2 objects of 1 class"
    )
    done = masklet("convert", "in", "davis", "--to", "davis")
    assert done.out.splitlines() == [
        "in (labelme) -> davis (davis): 2 images written, 4 objects of 2 classes",
        "  2 x a class left out",
    ]


def test_images_are_linked_copied_or_left(masklet: Callable[..., Any], folder: Path) -> None:
    native(folder / "in", ["a"])
    for how in ("link", "copy", "none"):
        assert masklet("convert", "in", how, "--to", "coco", "--images", how).code == 0
        there = folder / how / "images" / "a.jpg"
        assert there.exists() == (how != "none")
        assert (how == "none") or os.path.samefile(there, folder / "in" / "images" / "a.jpg") == (how == "link")


def test_a_split_stays_a_split(masklet: Callable[..., Any], folder: Path) -> None:
    videos(folder / "in")
    (folder / "in" / "ImageSets" / "2017").mkdir(parents=True)
    (folder / "in" / "ImageSets" / "2017" / "val.txt").write_text("bee\n")
    done = masklet("convert", "in", "out", "--to", "coco", "--split", "2017/val")
    assert (done.code, done.out.splitlines()[0]) == (
        0,
        "in (davis) -> out (coco): 3 images written, 6 objects of 1 class",
    )
    assert [file.name for file in (folder / "out" / "annotations").iterdir()] == ["instances_val.json"]
    assert {entry.name for entry in open_dataset(folder / "out").samples} == {f"bee/{n:05d}" for n in (0, 2, 4)}
    native(folder / "mine", [str(n) for n in range(12)])
    masklet("convert", "mine", "parts", "--to", "yolo", "--val-fraction", "0.4")
    assert set(open_dataset(folder / "parts").splits.values()) == {"train", "val"}


def test_broken_images_are_named_and_the_exit_code_is_1(masklet: Callable[..., Any], folder: Path) -> None:
    native(folder / "in", [f"{n:02d}" for n in range(30)])
    for number in range(25):
        (folder / "in" / "masks" / f"{number:02d}.json").write_text("[{]")
    (folder / "in" / "masks" / "29.json").unlink()
    done = masklet("convert", "in", "out", "--to", "labelme", "--report", "report.json")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("in (native) -> out (labelme): 4 images written, 8 objects")
    assert lines[2:4] == ["", "26 broken and skipped:"]
    assert "29.jpg has no masks/29.json" in lines[4]
    assert "00.json is no JSON" in lines[5]
    assert lines[-1] == "  ... and 6 more (--report FILE names all of them)"
    assert len(json.loads((folder / "report.json").read_text())["findings"]) == 26


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "out", "--to", "coco"], "nowhere"),
        (["in", "out", "--to", "cocoa"], "no format 'cocoa' to write; formats are yolo, coco.*did you mean coco?"),
        (["in", "out"], "'--to'"),
        (
            ["in", "out", "--to", "coco", "--images", "move"],
            "images='move' is unknown; choose 'none', 'copy', 'link'",
        ),
        (["in", "out", "--to", "coco", "--segmentation", "boxes"], "segmentation='boxes' is unknown"),
        (["in", "out", "--to", "voc", "--segmentation", "both"], "voc has one way to hold masks"),
        (["in", "out", "--to", "coco", "--min-iou", "2"], "min_iou=2.0 is not an IoU"),
        (["in", "out", "--to", "coco", "--val-fraction", "2"], "--val-fraction"),
        (["in", "out", "--to", "coco", "--split", "dogs"], "no source 'dogs'"),
        (["in", "in/out", "--to", "coco"], "OUT 'in/out' is in IN 'in'"),
        (["in", "in", "--to", "coco"], "OUT 'in' is in IN 'in'"),
        (["in", "a.png", "--to", "coco"], "'a.png' is a file"),
        (["in", "out", "--to", "coco", "--data-format", "voc"], "has boxes only, no masks"),
    ],
)
def test_an_invalid_option_is_one_line(
    masklet: Callable[..., Any], folder: Path, words: list[str], message: str
) -> None:
    native(folder / "in", ["a"])
    done = masklet("convert", *words)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert all(part in done.err for part in message.split(".*"))
    assert not (folder / "out").exists()


def test_other_options_do_not_resume(masklet: Callable[..., Any], folder: Path) -> None:
    native(folder / "in", ["a"])
    masklet("convert", "in", "out", "--to", "coco")
    done = masklet("convert", "in", "out", "--to", "coco", "--segmentation", "polygon")
    assert done.code == 2
    assert "segmentation 'rle', now 'polygon'" in done.err
    native(folder / "other", ["a"])  # of the same name, and not the same
    assert "/other'): use the same options to resume" in masklet("convert", "other", "out", "--to", "coco").err
    assert "val '0', now '0.5'" in masklet("convert", "in", "out", "--to", "coco", "--val-fraction", "0.5").err


def test_one_split_after_the_other_is_one_data_set(masklet: Callable[..., Any], folder: Path) -> None:
    yolo(folder / "in")
    for split in ("train", "val"):
        assert masklet("convert", "in", "out", "--to", "coco", "--split", split).code == 0
    masklet("convert", "in", "at_once", "--to", "coco")
    assert tree(folder / "out") == tree(folder / "at_once")


TROUBLED = """
import os, signal, sys
from masklet.cli.main import run
from masklet.datasets.writer import DatasetWriter
usual, count = DatasetWriter.write, [0]
def write(self, *arguments):
    usual(self, *arguments)
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), int(sys.argv[1]))
DatasetWriter.write = write
run(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "to"), [(signal.SIGINT, "coco"), (signal.SIGKILL, "voc")])
def test_it_is_stopped_and_resumes(masklet: Callable[..., Any], folder: Path, number: signal.Signals, to: str) -> None:
    native(folder / "in", [f"{n:02d}" for n in range(8)])
    words = ("convert", "in", "out", "--to", to, "--images", "copy")
    stopped = subprocess.run([sys.executable, "-c", TROUBLED, str(int(number)), *words], capture_output=True, text=True)
    if number is signal.SIGINT:
        assert stopped.returncode == 130
        assert "3 of 8 images are in out; the same command resumes" in stopped.stderr
        assert len(open_dataset(folder / "out").samples) == 3  # what is there is a data set
    done = masklet(*words)
    assert done.out.splitlines()[0].endswith("(3 existed), 16 objects of 1 class")
    masklet("convert", "in", "at_once", "--to", to, "--images", "copy")
    assert tree(folder / "out") == tree(folder / "at_once")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".masklet" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
