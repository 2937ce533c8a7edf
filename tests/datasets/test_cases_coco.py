"""COCO files as tools and people write them: every object is read, or it is named and costs only itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.datasets import (
    ConversionStep,
    DatasetWriter,
    WriteOptions,
    class_names,
    convert,
    inspect_frames,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.dataset import LazyMasks
from masklet.datasets.files import sample_names
from masklet.datasets.mask_decoding import as_id
from masklet.errors import SourceError

SQUARE = [10, 10, 50, 10, 50, 40, 10, 40]
"""30 rows of 40 pixels in an image of 80 x 120."""
CODE = {"size": [80, 120], "counts": [800, 100, 8700]}
CATS = ({"id": 0, "name": "cat"}, {"id": 1, "name": "dog"})


def coco_file(
    root: Path,
    *segmentations: object,
    images: Sequence[dict[str, object]] = ({"id": 1, "file_name": "a.png"},),
    categories: Sequence[dict[str, object]] = CATS,
    **common: object,
) -> Path:
    """Write images and an annotation for each segmentation, or for each dictionary with further keys."""
    (root / "images").mkdir(parents=True)
    for image in images:
        Image.new("RGB", (120, 80)).save(root / "images" / str(image["file_name"]))
    annotations = []
    for number, shape in enumerate(segmentations, 1):
        more = shape if isinstance(shape, dict) and "counts" not in shape else {"segmentation": shape}
        annotations.append({"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, **common, **more})
    content = {
        "images": [{"width": 120, "height": 80, **image} for image in images],
        "annotations": annotations,
        "categories": list(categories),
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(content))
    return root


def converted(source: Path, out: Path, to: str = "coco", **options: bool) -> tuple[DatasetWriter, list[ConversionStep]]:
    data = open_dataset(source, **options)
    with open_dataset_writer(to, out, names=class_names(data), options=WriteOptions(images="link")) as writer:
        return writer, list(convert(data, list_items(data), writer))


def masks_of(root: Path, **options: bool) -> LazyMasks:
    masks = open_dataset(root, **options).samples[0].read([0])[0].masks
    assert isinstance(masks, LazyMasks)
    return masks


@pytest.mark.parametrize("flag", [1, "1", True, 1.0])
def test_crowds_are_counted_or_read(tmp_path: Path, flag: object) -> None:
    root = coco_file(tmp_path / "in", CODE, CODE, {"segmentation": [SQUARE], "iscrowd": "0"}, iscrowd=flag)
    masks = masks_of(root)
    assert (len(masks), [one.rule for one in masks.left_out]) == (1, ["iscrowd", "iscrowd"])
    assert open_dataset(root).left_out == {"iscrowd": 2}
    assert [int(masks[1].sum()) for masks in [masks_of(root, include_crowds=True)]] == [100]
    writer, steps = converted(root, tmp_path / "out")
    assert (writer.account.source, writer.account.written) == ({"dog": 3}, {"dog": 1})
    assert (writer.account.left_out, writer.account.lost) == ({"iscrowd": {"dog": 2}}, {})
    assert [step.object_issues for step in steps] == [()]  # iscrowd is no fault
    writer, _ = converted(root, tmp_path / "all", include_crowds=True)
    assert writer.account.is_balanced
    assert writer.account.written == {"dog": 3}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([[60.0, 40.0]], "outline of 2 numbers"),
        ([60.0, 40.0], "outline of 2 numbers"),
        ([[[60.0, 40.0], [61.0, 40.0]]], "outline of 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "outline of 7 numbers"),
        ([[1, 2, 3, "x", 5, 6]], "'x' in its outline"),
        ([[1, 2, 3, None, 5, 6]], "None in its outline"),
        ([[1, 2, 3, 1e300, 5, 6]], "in its outline"),
        ([[900, 5, 950, 5, 950, 60]], "lies outside its image"),
        ({"size": [8, 12], "counts": [96]}, "is 12 x 8 and a.png is 120 x 80"),
        ({"size": [80, 120], "counts": [10**18] * 20}, "cannot be decoded"),
        ({"size": [80, 120], "counts": [96, 10**30]}, "cannot be decoded"),
        ([{"size": [80, 120], "counts": "~"}], "cannot be decoded"),
        ([], "no segmentation"),
        ("", "no segmentation"),
        ("text", "should be a list"),
        (7, "should be a list"),
    ],
)
def test_a_bad_object_costs_itself(tmp_path: Path, bad: object, words: str) -> None:
    good: list[object] = [[SQUARE]] * 3
    root = coco_file(tmp_path / "in", *good, bad, *good)
    writer, [step] = converted(root, tmp_path / "out", "labelme")
    [issue] = step.object_issues
    assert "instances_default.json" in issue.reason
    assert words in issue.reason
    assert step.is_new
    account = writer.account
    assert (account.source["dog"], account.written["dog"], account.lost) == (7, 6, {})
    assert sum(account.broken.values()) + sum(map(len, account.left_out.values())) == 1
    [report] = inspect_frames(open_dataset(root))
    assert ([words in one.reason for one in report.issues], len(report.areas)) == ([True], 6)
    assert (report.account.source["dog"], report.account.written["dog"]) == (7, 6)


def test_an_image_of_bad_objects_is_written_without_them(tmp_path: Path) -> None:
    root = coco_file(tmp_path / "in", [[1, 2, 3, "x", 5, 6]], {"size": [1, 1], "counts": [1]})
    writer, [step] = converted(root, tmp_path / "out")
    assert (writer.num_images, [sum(one.objects.values()) for one in step.object_issues]) == (1, [1, 1])
    assert (writer.account.broken, writer.account.is_balanced) == ({"dog": 2}, False)


@pytest.mark.parametrize(
    "shape",
    [
        [SQUARE],
        SQUARE,
        [[[10, 10], [50, 10], [50, 40], [10, 40]]],
        [[10, 10], [50, 10], [50, 40], [10, 40]],
        [[str(number) for number in SQUARE]],
        [["10.0", "10", " 50", "1e1", "50", "40", "10", "40"]],
        [SQUARE, [60.0, 40.0]],
        [[10, 10, 30, 10, 30, 40, 10, 40], [30, 10, 50, 10, 50, 40, 30, 40]],
    ],
)
def test_all_ways_to_write_an_outline(tmp_path: Path, shape: object) -> None:
    right = np.zeros((80, 120), bool)
    right[10:40, 10:50] = True
    masks = masks_of(coco_file(tmp_path, shape))
    assert (list(masks), bool((masks[1] == right).all())) == ([1], True)


def test_codes_in_a_list_are_one_object(tmp_path: Path) -> None:
    other = {"size": [80, 120], "counts": [0, 5, 9595]}
    masks = masks_of(coco_file(tmp_path, [CODE, other], [CODE, SQUARE], {"segmentation": [CODE]}))
    assert [int(masks[number].sum()) for number in masks] == [105, 1200 + 100 - int(masks[1][10:40, 10:50].sum()), 100]


def test_ids_in_other_spellings(tmp_path: Path) -> None:
    shapes = [{"segmentation": [SQUARE], "category_id": one, "image_id": "1"} for one in ("0", "1", 0.0, 1.0, "1.0")]
    root = coco_file(tmp_path / "in", *shapes, images=[{"id": 1.0, "file_name": "a.png"}])
    writer, _ = converted(root, tmp_path / "out")
    assert (writer.account.written, open_dataset(root).issues) == ({"cat": 2, "dog": 3}, ())
    data = open_dataset(tmp_path / "out")
    frame = data.samples[0].read([0])[0]
    names = [data.names[frame.attributes(number).class_id or 0] for number in frame.masks]
    assert names == ["cat", "dog", "cat", "dog", "dog"]
    assert [as_id(one) for one in ("007", "x", -3, "-3", True, None, 1.5, float("inf"), "9" * 30)] == [
        "007", "x", -3, -3, None, None, None, None, "9" * 30,
    ]  # fmt: skip


def test_a_category_that_is_not_there_is_an_issue_once(tmp_path: Path) -> None:
    shapes = [{"segmentation": [SQUARE], "category_id": one} for one in (7, 7, "zebra", 1)]
    root = coco_file(tmp_path / "in", *shapes)
    [issue] = open_dataset(root).issues
    assert "has 3 annotation(s) with a category_id that no category has (7, 'zebra')" in issue.reason
    writer, _ = converted(root, tmp_path / "out")
    assert writer.account.written == {"7": 2, "zebra": 1, "dog": 1}
    assert sorted(open_dataset(tmp_path / "out").names.values()) == ["7", "cat", "dog", "zebra"]


@pytest.mark.parametrize("to", ["coco", "yolo", "labelme", "cvat", "voc", "davis"])
def test_two_images_of_one_stem_are_two(tmp_path: Path, to: str) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(("a.png", "a.jpg", "b.png"), 1)]
    root = coco_file(tmp_path / "in", *({"segmentation": [SQUARE], "image_id": n} for n in (1, 2, 2)), images=images)
    assert [sample.name for sample in open_dataset(root).samples] == ["a.jpg", "a.png", "b"]
    writer, steps = converted(root, tmp_path / "out", to)
    assert (writer.num_images, [step.issue for step in steps]) == (3, [None] * 3)
    assert writer.account.source == {"dog": 3}


def test_an_image_that_is_twice_there_costs_what_it_says(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": "a.png"} for number in (1, 2)]
    root = coco_file(tmp_path / "in", *({"segmentation": [SQUARE], "image_id": n} for n in (1, 2, 2, 9)), images=images)
    twice, unknown = open_dataset(root).issues
    assert ("twice" in twice.reason, twice.objects) == (True, {"dog": 2})
    assert ("image_id 9" in unknown.reason, unknown.objects) == (True, {"dog": 1})


def test_sample_names_keep_a_suffix_only_where_they_must() -> None:
    assert sample_names(["z/a.png", "z/a.jpg", "a.png", "a"]) == ["z/a.png", "z/a.jpg", "a.png", "a"]
    assert sample_names(["a.png", "b.tar.gz", "a.png"]) == ["a", "b.tar", "a"]
    assert len(set(sample_names(["a.png", "a.jpg", "a.png.gif"]))) == 3


def test_class_numbers_out_of_a_file_make_no_long_lists(tmp_path: Path) -> None:
    huge = 99999999999
    shapes = [{"segmentation": [SQUARE], "category_id": one} for one in (huge, 0, 3, huge)]
    root = coco_file(tmp_path / "in", *shapes, categories=())
    for to in ("coco", "yolo", "voc"):
        writer, [step] = converted(root, tmp_path / to, to)
        assert (step.issue, len(writer.names) < 10) == (None, True)
        assert writer.account.source == {str(huge): 2, "0": 1, "3": 1}
    named = tmp_path / "yolo" / "classes.txt"
    assert len(named.read_text().splitlines()) < 10
    assert str(huge) in named.read_text()


def test_annotations_that_are_none_are_named(tmp_path: Path) -> None:
    root = coco_file(tmp_path, [SQUARE])
    file = root / "annotations" / "instances_default.json"
    content = json.loads(file.read_text())
    content["annotations"] += [3, {"id": 5, "segmentation": [SQUARE]}]
    file.write_text(json.dumps(content))
    reasons = [issue.reason for issue in open_dataset(root).issues]
    assert ["without image_id" in reason for reason in reasons] == [True, True]
    content["annotations"] = [{"id": 5, "image_id": 1, "bbox": [1, 1, 2, 2]}]
    file.write_text(json.dumps(content))
    with pytest.raises(SourceError, match="has boxes only"):
        open_dataset(root)
