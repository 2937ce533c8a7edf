"""LabelMe, Pascal VOC and CVAT, as annotation tools write them, and hostile files."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import BOX, HEIGHT, OBJECTS, RING, WIDTH, label_map, png, same_masks, text, write_image
from helpers.labeling_tool_files import cvat, labelme, packed, points, rows_of, voc
from masklet.datasets import AnnotatedFrame, DataError, Dataset, ObjectAttributes, check_dataset, open_dataset
from masklet.datasets.xml_reader import iter_elements, parse_xml, read_xml
from masklet.errors import SourceError
from masklet.masks.label_map import davis_palette

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotations><image name='&b;'/></annotations>"
)


def first(data: Dataset) -> AnnotatedFrame:
    return data.samples[0].read([0])[0]


def shaped(root: Path, *shapes: dict[str, object], **other: object) -> Dataset:
    """An image with these shapes of LabelMe."""
    write_image(root / "a.jpg")
    text(root / "a.json", {"shapes": list(shapes), "imagePath": "a.jpg", "imageHeight": HEIGHT, **other})
    return open_dataset(root)


def check_both(data: Dataset) -> None:
    """Two images, one of them in a folder, with the same objects of two classes."""
    assert [sample.name for sample in data.samples] == ["a2", "zoo/a10"]
    for sample in data.samples:
        [annotated] = sample.read([0])
        same_masks(annotated, *OBJECTS)
        assert [annotated.attributes(n) for n in (1, 2)] == [
            ObjectAttributes(label="dog"),
            ObjectAttributes(label="cat"),
        ]
    assert dict(data.names) == {0: "cat", 1: "dog"}


def test_labelme_reads_outlines_and_masks(tmp_path: Path) -> None:
    data = open_dataset(labelme(tmp_path))
    check_both(data)
    assert dict(pickle.loads(pickle.dumps(data)).names) == {0: "cat", 1: "dog"}
    assert [sample.name for sample in open_dataset(tmp_path, split="zoo").samples] == ["zoo/a10"]
    assert dict(open_dataset(tmp_path, split="zoo").splits) == {"zoo/a10": "zoo"}
    text(tmp_path / "labels.txt", "__ignore__\n_background_\nzebra\ndog\ncat\n")
    assert dict(open_dataset(tmp_path).names) == {0: "zebra", 1: "dog", 2: "cat"}
    same_masks(first(open_dataset(tmp_path / "a2.json", data_format="labelme")), *OBJECTS)


def test_shapes_of_one_label_and_group_are_one_object(tmp_path: Path) -> None:
    left, right = BOX.copy(), BOX.copy()
    left[:, 20:], right[:, :20] = False, False
    part = {"label": "dog", "shape_type": "polygon", "group_id": 3}
    code, corners = packed(RING)
    shapes = (
        {**part, "points": points(left), "score": 0.5, "track_id": 4},
        {**part, "points": points(RING), "label": "cat"},
        {**part, "points": points(right)},
        {**part, "points": corners, "shape_type": "mask", "mask": code, "group_id": None},
    )
    annotated = first(shaped(tmp_path, *shapes))
    complete = np.zeros_like(RING)
    complete[22:36, 32:52] = True
    same_masks(annotated, BOX, complete, RING)
    assert annotated.attributes(1) == ObjectAttributes(label="dog", score=0.5, track_id=4)


def test_rectangles_and_circles_have_an_area_and_lines_have_none(tmp_path: Path) -> None:
    shapes = (
        {"label": "a", "points": [[30, 20], [10, 5]], "shape_type": "rectangle"},
        {"label": "a", "points": [[1, 1], [5, 5]], "shape_type": "line"},
        {"label": "a", "points": [[30.5, 20.5], [30.5, 12.5]], "shape_type": "circle"},
        {"label": "a", "points": [[1, 1]], "shape_type": "point"},
    )
    annotated = first(shaped(tmp_path, *shapes))
    assert list(annotated.masks) == [1, 2]
    np.testing.assert_array_equal(annotated.masks[1], BOX)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = np.hypot(rows - 20, columns - 30) < 8
    assert np.count_nonzero(annotated.masks[2] ^ disc) < 0.03 * disc.sum()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"points": [[0, 0], [5, 5]], "shape_type": "cuboid"}, "type 'cuboid'; polygon, rectangle"),
        ({"points": [[0, 0]], "shape_type": "circle"}, "a circle of 1 points; it has two"),
        ({"points": [[0, 0], [5, 0], [5, 5]], "shape_type": "rectangle"}, "of 3 points; it has two or four"),
        ({"points": [[0, 0], [5, 0]], "shape_type": "rotation"}, "an outline of 4 numbers"),
        ({"points": [[70, 0], [75, 0], [75, 9]]}, "lies outside its image: x 70.0 to 75.0"),
        ({"points": [[0, -9], [5, -9], [5, 0]]}, "lies outside its image"),
        ({"points": [[0, 0], [10**400, 1], [2, 2]]}, "the point"),
        ({"points": [[0, 0], ["1e12", 1], [2, 2]]}, "the point"),
        ({"points": [[0, 0], [float("inf"), 1], [2, 2]]}, "the point"),
        ({"points": {"x": 1}}, "'points' of shape 1 should be a list"),
        ({"label": "cat"}, "'points' of shape 1 should be a list"),
        ({"points": [[0, 0], [5]], "shape_type": "polygon"}, r"the point \[5\]"),
        ({"points": [[0, 0], ["x", 1], [2, 2]]}, r"the point \['x', 1\]"),
        ({"points": [[0, 0], [5, 5]]}, "an outline of 4 numbers"),
        ({"points": [[0, 0], [5, 5]], "shape_type": "mask"}, "a mask without an image"),
        ({"points": [[0, 0], [5, 500]], "shape_type": "mask", "mask": "AAAA"}, "not in an image of 60 x 40"),
        ({"points": [[float("nan"), 0], [5, 5]], "shape_type": "mask", "mask": "AAAA"}, "the point"),
        ("dog", "shape 1 should be an object"),
        (None, "shape 1 should be an object"),
    ],
)
def test_a_bad_shape_of_labelme_costs_only_itself(tmp_path: Path, shape: object, message: str) -> None:
    good = {"label": "dog", "points": points(BOX)}
    annotated = first(shaped(tmp_path, shape, good))  # type: ignore[arg-type]
    assert list(annotated.masks) == [1, 2]
    np.testing.assert_array_equal(annotated.masks[2], BOX)
    assert annotated.attributes(2).label == "dog"
    with pytest.raises(DataError, match=rf"a\.json .*{message}"):
        annotated.masks[1]


@pytest.mark.parametrize(
    ("code", "message"), [("AAAA", "no PNG"), ("*", "no PNG"), (packed(RING)[0], "20 x 14 in a box of 6 x")]
)
def test_an_invalid_mask_is_named_when_it_is_accessed(tmp_path: Path, code: str, message: str) -> None:
    masks = first(shaped(tmp_path, {"points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": code})).masks
    with pytest.raises(DataError, match=rf"a\.json \(shape 1\) .*{message}"):
        masks[1]


def test_labelme_of_another_size_or_without_its_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"imageHeight and imageWidth\) is 99 x 40"):
        first(shaped(tmp_path, imageWidth=99))
    text(tmp_path / "b.json", {"shapes": [], "imagePath": "..\\there\\c.jpg"})
    [problem] = open_dataset(tmp_path).issues
    assert "c.jpg', which is not there" in problem.reason
    write_image(tmp_path.parent / "there" / "c.jpg")
    assert [sample.name for sample in open_dataset(tmp_path).samples] == ["a", "b"]
    with pytest.raises(SourceError, match="holds no LabelMe data"):
        open_dataset(text(tmp_path / "alone" / "x.json", {"shapes": [], "imagePath": "x.jpg"}), data_format="labelme")


def test_voc_reads_objects_and_their_classes(tmp_path: Path) -> None:
    data = open_dataset(voc(tmp_path / "VOC2012").parent, data_format="voc")
    tmp_path = tmp_path / "VOC2012"
    assert [sample.name for sample in data.samples] == ["2007_000002", "2007_000010"]
    annotated = first(data)
    same_masks(annotated, *OBJECTS)
    assert [data.names[annotated.attributes(n).class_id or 0] for n in (1, 2)] == ["cat", "person"]
    assert dict(data.splits) == {"2007_000002": "val"}
    assert [sample.name for sample in open_dataset(tmp_path, split="val").samples] == ["2007_000002"]
    assert open_dataset(tmp_path, split="trainval").samples == data.samples
    (tmp_path / "SegmentationClass" / "2007_000002.png").unlink()
    assert first(data).attributes(2) == ObjectAttributes(label="person")
    (tmp_path / "Annotations" / "2007_000002.xml").unlink()
    assert first(data).attributes(2) == ObjectAttributes()


def test_voc_painted_in_colors(tmp_path: Path) -> None:
    voc(tmp_path, ["a"])
    colors = np.array([[0, 0, 0], [250, 50, 83], [1, 2, 3]], np.uint8)
    kinds = label_map(ids=(2, 1))
    Image.fromarray(davis_palette()[label_map(ids=(1, 3))]).save(tmp_path / "SegmentationObject" / "a.png")
    Image.fromarray(colors[kinds]).save(tmp_path / "SegmentationClass" / "a.png")
    text(
        tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nfly:250,50,83::\nant:1,2,3::\n"
    )
    data = open_dataset(tmp_path)
    same_masks(first(data), *OBJECTS)
    assert [data.names[first(data).attributes(n).class_id or 0] for n in (1, 2)] == ["ant", "fly"]
    text(tmp_path / "labelmap.txt", "background:0,0,x::\n")
    with pytest.raises(DataError, match=r"labelmap\.txt has a color that is none"):
        first(data)


def test_errors_in_voc_are_named(tmp_path: Path) -> None:
    voc(tmp_path)
    text(tmp_path / "ImageSets" / "Segmentation" / "val.txt", "2007_000002\nnowhere\n")
    (tmp_path / "JPEGImages" / "2007_000010.jpg").unlink()
    assert ["has no image" in p.reason for p in open_dataset(tmp_path).issues] == [True]
    assert ["is listed and not there" in p.reason for p in open_dataset(tmp_path, split="val").issues] == [True]
    png(tmp_path / "SegmentationClass" / "2007_000002.png", label_map()[:9])
    with pytest.raises(DataError, match=r"2007_000002\.png is 60 x 9"):
        first(open_dataset(tmp_path))
    for file in (tmp_path / "SegmentationObject").iterdir():
        file.unlink()
    with pytest.raises(SourceError, match="has boxes only, no masks"):
        open_dataset(tmp_path)


def test_cvat_reads_outlines_and_masks(tmp_path: Path) -> None:
    data = open_dataset(cvat(tmp_path))
    check_both(data)
    assert open_dataset(tmp_path / "annotations.xml").samples == data.samples


def xml(root: Path, shapes: str, image: str = "", before: str = "") -> Dataset:
    """An image with these shapes of CVAT."""
    write_image(root / "images" / "a.jpg")
    image = image or f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}"'
    text(root / "annotations.xml", f"<annotations>{before}{image}>{shapes}</image></annotations>")
    return open_dataset(root, data_format="cvat")


def test_cvat_groups_and_their_attributes(tmp_path: Path) -> None:
    attributes = '<attribute name="score">0.25</attribute><attribute name="track_id">7</attribute>'
    tied = (
        f'<mask label="a" group_id="1" {rows_of(RING)}>{attributes}</mask><mask label="a" group_id="1" {rows_of(BOX)}/>'
    )
    annotated = first(xml(tmp_path, tied + "<box label='a'/>"))
    same_masks(annotated, BOX | RING)
    assert annotated.attributes(1) == ObjectAttributes(label="a", score=0.25, track_id=7)


def test_cvat_subsets_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "a.jpg")
    images = [f'<image name="a.jpg" subset="{s}" width="{WIDTH}" height="{HEIGHT}"/>' for s in ("train", "val")]
    text(tmp_path / "annotations.xml", f"<annotations>{''.join(images)}</annotations>")
    data = open_dataset(tmp_path)
    assert dict(data.splits) == {"train/a": "train", "val/a": "val"}
    assert data.samples[1].source == (tmp_path / "images" / "val" / "a.jpg",)
    assert [sample.name for sample in open_dataset(tmp_path, split="val").samples] == ["val/a"]
    with pytest.raises(SourceError, match="no split 'test'; it has train, val"):
        open_dataset(tmp_path, split="test")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<mask rle="1, 2" left="0" top="0" width="2" height="2"/>', "do not cover its box of 2 x 2"),
        ('<mask rle="-1, 5" left="0" top="0" width="2" height="2"/>', "do not cover its box"),
        ('<mask rle="4" left="59" top="0" width="2" height="2"/>', "not in an image of 60 x 40"),
        ('<mask rle="0" left="0" top="0" width="0" height="2"/>', "not in an image"),
        ('<mask rle="a" left="0" top="0" width="2" height="2"/>', "no numbers"),
        ('<mask rle="4" left="0" top="0" width="1e999" height="2"/>', "no numbers"),
        (f'<mask rle="{9**40}" left="0" top="0" width="2" height="2"/>', "no numbers"),
        ('<mask left="0" top="0" width="2" height="2"/>', "no numbers"),
        ('<polygon points="1,2;3"/>', "an outline of 3 numbers"),
        ('<polygon points="1,2;3,x;4,5"/>', "no numbers"),
        ('<polygon points="1,2;3,4;500,600"/>', "outside its image"),
    ],
)
def test_errors_in_cvat_are_named(tmp_path: Path, shape: str, message: str) -> None:
    good = f'<mask label="a" {rows_of(BOX)}/>'
    annotated = first(xml(tmp_path, shape + good))
    with pytest.raises(DataError, match=rf"annotations\.xml \((mask|polygon) 1 of a\.jpg\) .*{message}"):
        annotated.masks[1]
    assert (list(annotated.masks), int(annotated.masks[2].sum())) == ([1, 2], int(BOX.sum()))


def test_unusable_images_of_cvat_are_named(tmp_path: Path) -> None:
    sized = f'width="{WIDTH}" height="{HEIGHT}"'
    more = f'<image name="a.jpg" {sized}/><image name="b.jpg" {sized}/><image name="c.jpg"/><image {sized}/>'
    reasons = [problem.reason for problem in xml(tmp_path, "", before=more).issues]
    assert [word in reason for word, reason in zip(("'b.jpg'", "no width", "''", "twice"), reasons, strict=True)] == [
        True
    ] * 4
    with pytest.raises(DataError, match="is 9 x 40"):
        first(xml(tmp_path, "", image=f'<image name="a.jpg" width="9" height="{HEIGHT}"'))
    with pytest.raises(DataError, match="has tracks of a video"):
        xml(tmp_path, "", before="<track id='0'/>")
    with pytest.raises(DataError, match="names no images"):
        open_dataset(text(tmp_path / "b.xml", "<annotations/>"))
    with pytest.raises(SourceError, match="holds no images with masks"):
        xml(tmp_path, "", image=f'<image name="nowhere.jpg" {sized}')


def test_damaged_or_hostile_xml_is_refused(tmp_path: Path) -> None:
    for content, message in (
        (BOMB, "document type"),
        ("<annotations><image", "no XML"),
        ("<annotations>" * 50, "50 deep|41 deep"),
    ):
        file = text(tmp_path / "annotations.xml", content)
        with pytest.raises(DataError, match=message):
            open_dataset(tmp_path)
        with pytest.raises(DataError, match=message):
            read_xml(file)
    file.write_bytes('<?xml version="1.0" encoding="utf-16"?><annotations/>'.encode("utf-16"))
    with pytest.raises(DataError, match="utf-16; UTF-8 is read"):
        list(iter_elements(file))
    with pytest.raises(DataError, match="cannot be read"):
        read_xml(tmp_path / "nowhere.xml")
    with pytest.raises(DataError, match="cannot be read"):
        list(iter_elements(tmp_path / "nowhere.xml"))


def test_element_spans_are_exact_in_any_alphabet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.datasets.xml_reader.CHUNK_BYTES", 7)
    content = "<a>\n<!-- ñ --> <b n='猫'><c/>ü</b><b n='2'/> <d>x</d></a>"
    file = text(tmp_path / "a.xml", content)
    raw = file.read_bytes()
    pieces = list(iter_elements(file))
    assert [(piece.tag, piece.attributes) for piece in pieces] == [("b", {"n": "猫"}), ("b", {"n": "2"}), ("d", {})]
    roots = [parse_xml(raw[piece.start : piece.end], file) for piece in pieces]
    assert [(root.tag, root.get("n"), len(root)) for root in roots] == [("b", "猫", 1), ("b", "2", 0), ("d", None, 0)]


def test_voc_is_not_taken_for_davis(tmp_path: Path) -> None:
    voc(tmp_path)
    assert json.dumps(open_dataset(tmp_path).data_format) == '"voc"'
    with pytest.raises(SourceError):
        open_dataset(tmp_path, data_format="davis")


@pytest.mark.parametrize("make", [labelme, voc, cvat])
@pytest.mark.parametrize("seed", range(5))
def test_randomly_damaged_files_are_refused_or_read(tmp_path: Path, make: Callable[[Path], Path], seed: int) -> None:
    """A file that is cut or has changed bytes raises `SourceError` or reports issues, and nothing else."""
    random = np.random.default_rng(seed)
    make(tmp_path)
    kind = make.__name__
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".jpg")
    file = files[random.integers(len(files))]
    complete = file.read_bytes()
    for _ in range(6):
        content = bytearray(complete[: random.integers(len(complete))] if random.random() < 0.3 else complete)
        for place in random.integers(max(1, len(content)), size=3 if content else 0):
            content[place] = random.integers(256)
        file.write_bytes(content)
        with contextlib.suppress(SourceError):
            data = open_dataset(tmp_path, data_format=kind)
            list(data.names.items())
            assert all(isinstance(issue.reason, str) for issue in check_dataset(data))
