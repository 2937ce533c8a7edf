"""Files that masklet did not write, or that a person changed, are kept; runs into one folder join."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.atomic_files import write_text
from masklet.errors import InputError, OutputError
from masklet.results import Masks, Results
from masklet.writers import open_writer
from masklet.written_files import RECORD_FILE, WrittenFiles

IMAGE = np.zeros((8, 10, 3), np.uint8)


def results(path: str, names: dict[int, str] | None = None) -> Results:
    mask = np.zeros((1, 8, 10), bool)
    mask[0, 2:6, 3:9] = True
    return Results(IMAGE, path, Masks(mask), [0.9], names=names or {0: "object"})


def coco_names(folder: Path) -> list[str]:
    content = json.loads((folder / "annotations.coco.json").read_text())
    assert [image["id"] for image in content["images"]] == [one["image_id"] for one in content["annotations"]]
    return [image["file_name"] for image in content["images"]]


def test_a_file_is_own_until_it_is_changed(tmp_path: Path) -> None:
    files, path = WrittenFiles(tmp_path), tmp_path / "a.txt"
    with files.protect():
        write_text(path, "one")
        write_text(path, "two")
    assert files.is_own(path)
    os.utime(path, ns=(1, 1))
    assert files.is_own(path), "a text that was copied has another time, and the same content"
    path.write_text("TWO")
    assert not files.is_own(path)
    with files.protect(), pytest.raises(OutputError, match=r"a\.txt was not written by masklet.*--overwrite"):
        write_text(path, "three")
    assert path.read_text() == "TWO"
    with WrittenFiles(tmp_path, overwrite=True).protect():
        write_text(path, "three")
    assert files.is_own(path)


def test_files_outside_of_the_folder_and_hidden_ones_are_not_guarded(tmp_path: Path) -> None:
    files = WrittenFiles(tmp_path / "out")
    (tmp_path / "a.txt").write_text("somebody's")
    with files.protect():
        write_text(tmp_path / "a.txt", "ours")
    assert (tmp_path / "a.txt").read_text() == "ours"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["json", "yolo", "overlay", "cutout", "png"])
def test_a_file_of_somebody_else_is_kept(name: str, tmp_path: Path) -> None:
    with open_writer(name, tmp_path / "first") as writer:
        [path, *_] = writer.write(results("shots/a.jpg"))
    target = tmp_path / "out" / path.name
    target.parent.mkdir()
    target.write_text("by hand")
    with open_writer(name, tmp_path / "out") as writer:
        with pytest.raises(OutputError, match="was not written by masklet"):
            writer.check(["shots/a.jpg"])
        with pytest.raises(OutputError, match="was not written by masklet"):
            writer.write(results("shots/a.jpg"))
    assert target.read_text() == "by hand"
    with open_writer(name, tmp_path / "out", overwrite=True) as writer:
        writer.write(results("shots/a.jpg"))
    assert target.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("name", "file"), [("coco", "annotations.coco.json"), ("yolo", "classes.txt")])
def test_a_file_of_the_run_is_checked_first(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("by hand")
    with pytest.raises(OutputError, match=f"{file} was not written by masklet"):
        open_writer(name, tmp_path)
    assert not (tmp_path / RECORD_FILE).exists()


def test_runs_join_their_coco_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("ph/0.png", "ph/1.png", "ph/0.png", "other/0.png"):
        with open_writer("coco", "out") as writer:
            writer.write(results(path))
    assert coco_names(Path("out")) == ["ph/1.png", "ph/0.png", "other/0.png"]


def test_classes_of_joined_runs(tmp_path: Path) -> None:
    for path, names in (("a.png", {0: "cat"}), ("b.png", {0: "dog"}), ("c.png", {1: "dog", 0: "cat"})):
        with open_writer("coco", tmp_path) as writer:
            writer.write(results(path, names))
    content = json.loads((tmp_path / "annotations.coco.json").read_text())
    assert [(one["id"], one["name"]) for one in content["categories"]] == [(1, "cat"), (2, "dog")]
    assert [one["category_id"] for one in content["annotations"]] == [1, 2, 1]
    for path, names in (("a.png", {0: "cat"}), ("b.png", {0: "cat", 1: "dog"})):
        with open_writer("yolo", tmp_path) as writer:
            writer.write(results(path, names))
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog\n"
    with open_writer("yolo", tmp_path) as writer, pytest.raises(InputError, match="a class has one name per run"):
        writer.write(results("c.png", {0: "cow"}))


def test_an_image_of_the_same_name_gets_a_number_in_a_later_run(tmp_path: Path) -> None:
    paths = []
    for path in ("a/f.png", "b/f.png", "b/f.png", "a/f.png"):
        with open_writer("json", tmp_path) as writer:
            paths += [path.name for path in writer.write(results(path))]
    assert paths == ["f.json", "f_2.json", "f_2.json", "f.json"]


def test_folders_below_the_root_are_kept(tmp_path: Path) -> None:
    for folder in ("1", "2"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        Image.fromarray(IMAGE).save(tmp_path / "p" / folder / "f.png")
    with open_writer("yolo", tmp_path / "out", root=tmp_path / "p") as writer:
        written = [writer.write(results(str(tmp_path / "p" / folder / "f.png"))) for folder in ("1", "2")]
    assert written == [[tmp_path / "out/1/f.txt"], [tmp_path / "out/2/f.txt"]]


@pytest.mark.parametrize("name", ["what?", "x" * 251, "caf\udce9", "dot."])
def test_odd_names_are_written_and_read_again(name: str, tmp_path: Path) -> None:
    for file_format in ("yolo", "coco", "overlay"):
        with open_writer(file_format, tmp_path) as writer:
            [*paths] = writer.write(results(f"shots/{name}.png"))
        assert all(path.exists() for path in paths)
        if len(name) < 9 and paths:
            assert paths[0].name.startswith(name)
    assert coco_names(tmp_path) == [f"{name}.png"]
