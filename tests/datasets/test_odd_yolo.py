"""YOLO texts and data.yaml as tools and people write them, and hostile ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import BOX, same_masks, text, write_image, yolo_line
from masklet.datasets import DataError, Dataset, open_dataset
from masklet.datasets.dataset import LazyMasks
from masklet.errors import SourceError

GOOD = yolo_line(BOX)
NUMBERS = GOOD.split()[1:]


def labeled(root: Path, content: str | bytes, yaml: str = "") -> Dataset:
    """One image with this text."""
    write_image(root / "images" / "a.jpg")
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels" / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    if yaml:
        text(root / "data.yaml", yaml)
    return open_dataset(root)


def masks_of(data: Dataset) -> Mapping[int, np.ndarray]:
    return data.samples[0].read([0])[0].masks


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        f"{GOOD}\n",
        f"{GOOD}\r\n\r\n",
        f"\ufeff{GOOD}\n",
        f"  {GOOD}  \n",
        GOOD.replace(" ", "\t"),
        GOOD.replace(" ", "   "),
        f"{GOOD} # checked by hand\n",
        f"# class x y ...\n{GOOD}\n#\n",
        " ".join(["0.0", *NUMBERS]),
        " ".join(["+0", *NUMBERS]),
        " ".join(["00", *NUMBERS]),
        " ".join(["0", *(f"{float(n):e}" for n in NUMBERS)]),
        " ".join(["0", *NUMBERS, *NUMBERS[:2]]),
        f"{GOOD}\n\x0c\n",
    ],
)
def test_every_spelling_of_a_line_is_that_object(tmp_path: Path, content: str) -> None:
    data = labeled(tmp_path, content)
    annotated = data.samples[0].read([0])[0]
    same_masks(annotated, BOX)
    assert annotated.attributes(1).class_id == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .1 .1 .2 .2 .3 .3 .4", "an outline of 7 numbers"),
        ("0 .1 .1 .2", "an outline of 3 numbers"),
        ("0", "an outline of 0 numbers"),
        ("0 .1 .1 .2 .2 .3 x", "no outline"),
        ("0 .1,.1 .2,.2 .3,.1 .4,.4 .5,.5 .6,.6", "no outline"),
        ("0 nan .1 .2 .2 .3 .3", "nan in its outline"),
        ("0 inf .1 .2 .2 .3 .3", "inf in its outline"),
        ("0 1e400 .1 .2 .2 .3 .3", "inf in its outline"),
        ("0 10 10 30 10 30 30", "lies outside"),
        ("0 -.5 .1 .2 .2 .3 .3", "lies outside"),
        ("0 2 2 2.1 2 2.1 2.1", "lies outside"),
        (f"99999999999 {' '.join(NUMBERS)}", "the class '99999999999'"),
        (f"10000 {' '.join(NUMBERS)}", "the class '10000'"),
        (f"-1 {' '.join(NUMBERS)}", "the class '-1'"),
        (f"0.5 {' '.join(NUMBERS)}", "the class '0.5'"),
        (f"nan {' '.join(NUMBERS)}", "the class 'nan'"),
        (f"1e400 {' '.join(NUMBERS)}", "the class '1e400'"),
        (f"cat {' '.join(NUMBERS)}", "the class 'cat'"),
        (f"{'9' * 5000} {' '.join(NUMBERS)}", "the class '999"),
    ],
)
def test_a_bad_line_costs_only_itself(tmp_path: Path, line: str, message: str) -> None:
    masks = masks_of(labeled(tmp_path, f"{GOOD}\n{line}\n{GOOD}\n"))
    assert list(masks) == [1, 2, 3]
    for object_id in (1, 3):
        np.testing.assert_array_equal(masks[object_id], BOX)
    with pytest.raises(DataError, match=rf"a\.txt \(line 2\) .*{message}"):
        masks[2]


@pytest.mark.parametrize("line", ["3 .5 .5 .2 .2", "3 .5 .5 .2 .2 .87", "3.0\t.5 .5 .2 .2 # seen"])
def test_boxes_are_left_out_by_a_rule(tmp_path: Path, line: str) -> None:
    masks = masks_of(labeled(tmp_path, f"{line}\n{GOOD}\n"))
    assert isinstance(masks, LazyMasks)
    assert list(masks) == [1]
    assert [(one.rule, one.attributes.class_id) for one in masks.left_out] == [("box", 3)]


def test_what_is_slightly_outside_is_cut_off(tmp_path: Path) -> None:
    masks = masks_of(labeled(tmp_path, "0 -.05 -.05 1.05 -.05 1.05 1.05 -.05 1.05\n0 0 0 1 0 1 1 0 1\n"))
    assert masks[1].all()
    assert masks[2].all()


@pytest.mark.parametrize("content", [b"\xff\xfe0\x00 \x00", b"0 .1 .1 \xe9\n"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.txt cannot be read"):
        masks_of(labeled(tmp_path, content))


def test_the_size_of_texts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.datasets.formats.yolo.MAX_LABEL_BYTES", 100)
    with pytest.raises(DataError, match="over 100 bytes"):
        masks_of(labeled(tmp_path, f"{GOOD}\n" * 9))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [cat, dog]", {0: "cat", 1: "dog"}),
        ("names: {0: cat, 1: dog}", {0: "cat", 1: "dog"}),
        ("names:\n  1: dog\n  0: cat", {1: "dog", 0: "cat"}),
        ("names:\n  '0': cat\n  7.0: dog", {0: "cat", 7: "dog"}),
        ("names: [cat, cat]", {0: "cat", 1: "cat"}),
        ("names: [yes, no, 1, 2.50, 012, 'null']", dict(enumerate(["yes", "no", "1", "2.50", "012", "null"]))),
        ("names: {99999999999: cat, -1: dog, x: y, 3: ok}", {3: "ok"}),
        ("names: [cat, [a, b], {c: d}]", {0: "cat"}),
        ("names: cat", {}),
        ("names:", {}),
        ("nc: 2", {}),
        ("nc: 99999999999", {}),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nnames: [*c, *c, cat]", {2: "cat"}),
    ],
)
def test_class_names_in_every_spelling(tmp_path: Path, names: str, expected: dict[int, str]) -> None:
    data = labeled(tmp_path, GOOD, f"train: images\nval: images\n{names}\n")
    assert dict(data.names) == expected


@pytest.mark.parametrize(
    "yaml",
    [
        "path: .\ntrain: images\\train\nval: images\\train\nnames: [cat]\n",
        "\ufefftrain: .\\images\\train\r\nval: images/train\r\n",
        "path: C:\\data\\set\ntrain: ..\\images\\train\n",
        "train: [images\\train]\ntest:\nval: ~\n",
        "train: list.txt\n",
        "path: null\ntrain: images/train\nval: null\n",
    ],
)
def test_a_data_yaml_of_windows(tmp_path: Path, yaml: str) -> None:
    write_image(tmp_path / "images" / "train" / "a.png")
    text(tmp_path / "labels" / "train" / "a.txt", GOOD)
    text(tmp_path / "list.txt", ".\\images\\train\\a.png\n")
    (tmp_path / "data.yaml").write_bytes(yaml.encode())
    data = open_dataset(tmp_path)
    assert [sample.source for sample in data.samples] == [(tmp_path / "images" / "train" / "a.png",)]
    same_masks(data.samples[0].read([0])[0], BOX)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: [\n", "cannot be read"),
        (f"train: {'[' * 5000}", "cannot be read"),
        ("train: images\nnames: &n [cat, *n]\n", "cannot be read"),
        ('train: "C:\\data"\n', "cannot be read"),
        ("train: images\n? [a]\n: b\n", "cannot be read"),
        ("train: !!python/object/apply:os.getcwd []\n", "names no images"),
        (f"train: {'x' * 5000}\n", "which is not there"),
        ("train: 'a\\0b'\n", "which is not there"),
        (f"train: images\n# {'x' * (1 << 20)}\n", "over 1048576 bytes"),
    ],
)
def test_a_bad_data_yaml_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        labeled(tmp_path, GOOD, yaml)


def test_two_images_of_one_stem(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "c.jpg", "c.png"):
        write_image(tmp_path / "images" / name)
    for name in ("a", "b"):
        text(tmp_path / "labels" / f"{name}.txt", GOOD)
    data = open_dataset(tmp_path, data_format="yolo")
    assert [sample.name for sample in data.samples] == ["b", "c.jpg", "c.png"]
    [issue] = data.issues
    assert issue.file == tmp_path / "labels" / "a.txt"
    assert "is the label of a.jpg and a.png" in issue.reason
