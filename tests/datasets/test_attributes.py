"""Attributes of objects (class, score, track id), class names, and the splits of samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from helpers.dataset_files import RING, coco, native, text, videos, write_image, yolo
from masklet.datasets import ObjectAttributes, check_dataset, open_dataset
from masklet.masks import rle


def test_coco_keeps_class_score_and_track(tmp_path: Path) -> None:
    file = coco(tmp_path)
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 2, "name": "écureuil"}, {"id": 1, "name": "dog"}, {"id": "x", "name": "none"}]
    content["annotations"][0] |= {"score": 0.5, "track_id": 12}
    content["annotations"][2] |= {"score": "high", "category_id": None}
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    data = open_dataset(file)
    assert data.names == {1: "dog", 2: "écureuil"}
    [annotated] = data.samples[-1].read([0])
    assert [annotated.attributes(n) for n in (1, 2, 3)] == [
        ObjectAttributes(1, score=0.5, track_id=12),
        ObjectAttributes(),
        ObjectAttributes(),
    ]
    assert data.splits == dict.fromkeys(("000002", "000003", "000010"), "val2017")


def test_coco_prefers_the_lossless_code_to_the_outline(tmp_path: Path) -> None:
    file = coco(tmp_path)
    content = json.loads(file.read_text())
    content["annotations"][0]["rle"] = rle.encode(RING)
    [annotated] = open_dataset(text(file, content)).samples[-1].read([0])
    np.testing.assert_array_equal(annotated.masks[1], RING)


def test_coco_files_are_splits(tmp_path: Path) -> None:
    for split in ("zoo", "val2017"):
        coco(tmp_path, split=split)
    data = open_dataset(tmp_path)
    assert {data.splits[sample.name] for sample in data.samples if sample.name.startswith("zoo/")} == {"zoo"}
    assert set(data.splits.values()) == {"zoo", "val2017"}
    assert set(open_dataset(tmp_path, split="zoo").splits.values()) == {"zoo"}
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    assert open_dataset(tmp_path).splits == {}  # one file, and what it is called says nothing


def test_yolo_keeps_classes_and_their_names(tmp_path: Path) -> None:
    root = yolo(tmp_path)
    file = next(iter((root / "labels" / "train").glob("*.txt")))
    file.write_text("7" + file.read_text()[1:])
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cat, 7: dog, x: y}\n")
    data = open_dataset(root)
    assert data.names == {0: "cat", 7: "dog"}
    sample = next(sample for sample in data.samples if sample.name == f"train/{file.stem}")
    assert sample.read([0])[0].attributes(1) == ObjectAttributes(class_id=7)
    assert data.splits[sample.name] == "train"


def test_yolo_without_a_yaml_may_have_a_list_of_classes(tmp_path: Path) -> None:
    root = yolo(tmp_path, yaml=False)
    (root / "classes.txt").write_text("cat\na dog\n")
    assert open_dataset(root).names == {0: "cat", 1: "a dog"}


def test_images_of_train_and_val_are_listed_once(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt", "")
    text(tmp_path / "data.yaml", "train: images\nval: images\nnames: [cat]\n")
    data = open_dataset(tmp_path)
    assert ([sample.name for sample in data.samples], dict(data.splits)) == (["a"], {})
    assert [sample.name for sample in open_dataset(tmp_path, split="val").samples] == ["val/a"]


def test_videos_are_in_lists_or_in_folders(tmp_path: Path) -> None:
    videos(tmp_path)
    text(tmp_path / "ImageSets" / "2016" / "train.txt", "ant\nbee\n")
    text(tmp_path / "ImageSets" / "2017" / "val.txt", "bee\n")
    text(tmp_path / "ImageSets" / "2017" / "all.txt", "ant\n")
    assert open_dataset(tmp_path).splits == {"ant": "train", "bee": "val"}
    for split in ("train", "valid"):
        videos(tmp_path / "trees" / split)
    assert open_dataset(tmp_path / "trees").splits == {
        "train/ant": "train", "train/bee": "train", "valid/ant": "valid", "valid/bee": "valid",
    }  # fmt: skip


def test_a_format_without_classes_has_no_attributes(tmp_path: Path) -> None:
    data = open_dataset(native(tmp_path, ["a"]))
    assert (dict(data.names), dict(data.splits), data.samples[0].read([0])[0].attributes(1)) == (
        {},
        {},
        ObjectAttributes(),
    )


def test_an_image_without_a_name_is_an_issue_and_no_crash(tmp_path: Path) -> None:
    file = coco(tmp_path)
    content = json.loads(file.read_text())
    content["images"][2]["file_name"] = "."
    data = open_dataset(text(file, content))
    assert "." in [sample.name for sample in data.samples]
    assert any("val2017" in issue.reason for issue in check_dataset(data))
