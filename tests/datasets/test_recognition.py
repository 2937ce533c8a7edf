"""Folders in which labels of two formats lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import (
    BOX,
    HEIGHT,
    WIDTH,
    coco,
    native,
    png,
    pngs,
    text,
    videos,
    write_image,
    yolo,
    yolo_line,
)
from helpers.labeling_tool_files import cvat, labelme, points, rows_of, voc
from masklet.datasets import WriteOptions, convert, list_items, open_dataset, open_dataset_writer
from masklet.errors import SourceError

WHITE = BOX.astype(np.uint8) * 255


def labelme_files(root: Path, count: int) -> None:
    """Images 0, 1 ... with a JSON."""
    for number in range(count):
        write_image(root / f"{number}.jpg")
        shapes = [{"label": label, "points": points(BOX)} for label in ("cat", "dog")]
        text(root / f"{number}.json", {"shapes": shapes, "imagePath": f"{number}.jpg"})


def test_masks_of_masklet_do_not_hide_a_folder_of_labelme(tmp_path: Path) -> None:
    labelme_files(tmp_path, 2)
    png(tmp_path / "0_mask.png", WHITE, palette=False)
    data = open_dataset(tmp_path)
    assert data.data_format == "labelme"
    assert dict(data.names) == {0: "cat", 1: "dog"}
    png(tmp_path / "1_mask_0.png", WHITE, palette=False)
    png(tmp_path / "1_mask_1.png", WHITE, palette=False)
    assert open_dataset(tmp_path).data_format == "labelme"


@pytest.mark.parametrize(
    ("num_labelme", "num_png", "expected"),
    [(1, 1, None), (5, 1, "labelme"), (5, 2, "labelme"), (4, 2, "labelme"), (3, 2, None), (2, 3, None), (1, 5, "png")],
)
def test_the_format_of_most_images_is_read(
    tmp_path: Path, num_labelme: int, num_png: int, expected: str | None
) -> None:
    labelme_files(tmp_path, num_labelme)
    for number in range(num_png):
        write_image(tmp_path / f"p{number}.jpg")
        png(tmp_path / f"p{number}_mask.png", WHITE, palette=False)
    if expected:
        assert open_dataset(tmp_path).data_format == expected
    else:
        with pytest.raises(SourceError, match=r"labels of two formats: .*--data-format (png|labelme)"):
            open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, data_format="labelme").samples) == num_labelme
    assert len(open_dataset(tmp_path, data_format="png").samples) == num_png


def test_one_label_left_of_labelme_does_not_hide_the_masks(tmp_path: Path) -> None:
    labelme_files(tmp_path, 1)
    for number in range(5):
        write_image(tmp_path / f"{number}.jpg")
        png(tmp_path / f"{number}_mask.png", WHITE, palette=False)
    assert open_dataset(tmp_path).data_format == "png"


def test_a_png_beside_a_jpg_of_cvat_is_an_image(tmp_path: Path) -> None:
    cvat(tmp_path, ["a", "b", "c"])
    write_image(tmp_path / "images" / "a.png")
    assert open_dataset(tmp_path).data_format == "cvat"


def test_labels_in_two_layouts_are_refused_with_both_names(tmp_path: Path) -> None:
    pngs(tmp_path)
    for name in ("a", "b"):
        text(tmp_path / "labels" / f"{name}.txt", yolo_line(BOX))
    with pytest.raises(SourceError, match="yolo for 2 images and png for 2; one of them is read: say which"):
        open_dataset(tmp_path)
    (tmp_path / "labels" / "b.txt").unlink()
    assert open_dataset(tmp_path).data_format == "png"
    assert open_dataset(tmp_path, data_format="yolo").data_format == "yolo"


def test_a_format_that_cannot_be_opened_is_none(tmp_path: Path) -> None:
    labelme_files(tmp_path, 1)
    text(tmp_path / "settings.yaml", "train: nowhere\n")
    assert open_dataset(tmp_path).data_format == "labelme"
    with pytest.raises(SourceError, match="nowhere"):
        open_dataset(tmp_path, data_format="yolo")


@pytest.mark.parametrize("make", [native, videos, coco, yolo, pngs, voc, labelme, cvat])
def test_a_single_format_is_recognized_beside_notes_and_images(tmp_path: Path, make) -> None:
    expected = open_dataset(make(tmp_path / "one")).data_format
    make(tmp_path / "two")
    text(tmp_path / "two" / "notes.json", {"a": 1})
    text(tmp_path / "two" / "settings.yaml", "a: 1\n")
    write_image(tmp_path / "two" / "cover.jpg", size=(HEIGHT, WIDTH))
    assert open_dataset(tmp_path / "two").data_format == expected


def test_a_png_and_a_jpg_of_one_name_are_two_images_of_cvat(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / "images" / name)
    shape = f'<mask label="dog" {rows_of(BOX)}/>'
    images = [f'<image name="{name}" width="{WIDTH}" height="{HEIGHT}">{shape}</image>' for name in ("a.png", "a.jpg")]
    text(tmp_path / "annotations.xml", f"<annotations>{''.join(images)}</annotations>")
    data = open_dataset(tmp_path)
    assert (data.data_format, [sample.name for sample in data.samples]) == ("cvat", ["a.jpg", "a.png"])
    with open_dataset_writer("cvat", tmp_path / "out", options=WriteOptions(images="copy")) as writer:
        assert [step.issue for step in convert(data, list_items(data), writer)] == [None, None]
    assert len(open_dataset(tmp_path / "out").samples) == 2
