"""LabelMe files as its descendants, other tools and people write them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import BOX, HEIGHT, RING, WIDTH, same_masks, text, write_image
from helpers.labeling_tool_files import packed, points
from masklet.datasets import (
    AnnotatedFrame,
    DataError,
    ObjectAttributes,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.dataset import LazyMasks, LeftOutObject
from masklet.datasets.labeled_image import WriteOptions

OUTLINE = points(BOX)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5


def read(root: Path, *shapes: object, **other: object) -> AnnotatedFrame:
    """The only image of a folder, with these shapes."""
    write_image(root / "a.jpg")
    content = {"version": "5.4.1", "shapes": list(shapes), "imagePath": "a.jpg", "imageHeight": HEIGHT, **other}
    text(root / "a.json", content)
    [sample] = open_dataset(root).samples
    return sample.read([0])[0]


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "polygon", "points": OUTLINE},
        {"shape_type": None, "points": OUTLINE},
        {"points": [*OUTLINE, OUTLINE[0]]},
        {"points": [[str(x), f" {y} "] for x, y in OUTLINE]},
        {"shape_type": "rectangle", "points": [OUTLINE[0], OUTLINE[2]]},
        {"shape_type": "rectangle", "points": [OUTLINE[2], OUTLINE[0]]},
        {"shape_type": "rectangle", "points": [OUTLINE[1], OUTLINE[3]]},
        {"shape_type": "rectangle", "points": OUTLINE},
        {"shape_type": "rectangle", "points": OUTLINE[::-1]},
        {"shape_type": "rotation", "points": OUTLINE, "direction": 0.0},
        {"shape_type": "quadrilateral", "points": OUTLINE},
        {"shape_type": "polygon", "points": OUTLINE, "group_id": 0, "score": None, "flags": None},
        {"shape_type": "mask", "points": packed(BOX)[1], "mask": packed(BOX)[0]},
        {"shape_type": "mask", "points": [[str(n) for n in p] for p in packed(BOX)[1]], "mask": packed(BOX)[0]},
    ],
)
def test_every_spelling_of_a_box_is_that_box(tmp_path: Path, shape: dict[str, object]) -> None:
    annotated = read(tmp_path, {"label": "cat", **shape})
    same_masks(annotated, BOX)
    assert annotated.attributes(1).label == "cat"


@pytest.mark.parametrize(
    ("shape_type", "corners", "expected"),
    [
        ("circle", [[5, 5], [30, 5]], np.hypot(COLUMNS - 5, ROWS - 5) < 25),
        ("circle", [[-5, 20], [10, 20]], np.hypot(COLUMNS + 5, ROWS - 20) < 15),
        ("circle", [[30, 20], [930, 20]], np.ones((HEIGHT, WIDTH), bool)),
        ("ellipse", [[10, 10], [50, 30]], np.hypot((COLUMNS - 30) / 20, (ROWS - 20) / 10) < 1),
        ("ellipse", [[50, 30], [10, 10]], np.hypot((COLUMNS - 30) / 20, (ROWS - 20) / 10) < 1),
        ("ellipse", [[10, 10], [50, 10], [50, 30], [10, 30]], np.hypot((COLUMNS - 30) / 20, (ROWS - 20) / 10) < 1),
        ("ellipse", [[-20, 10], [20, 30]], np.hypot(COLUMNS / 20, (ROWS - 20) / 10) < 1),
        ("rectangle", [[-500, -500], [20, 10]], (COLUMNS < 20) & (ROWS < 10)),
        ("rectangle", [[30, 20], [1e6, 1e6]], (COLUMNS > 30) & (ROWS > 20)),
        ("polygon", [[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6]], np.ones((HEIGHT, WIDTH), bool)),
        ("polygon", [[0, 20], [1200, 20], [1200, 900], [0, 900]], ROWS > 20),
        ("rotation", [[30, 0.4], [49.6, 20], [30, 39.6], [10.4, 20]], np.abs(COLUMNS - 30) + np.abs(ROWS - 20) < 19.6),
    ],
)
def test_shapes_are_cut_off_at_the_border(
    tmp_path: Path, shape_type: str, corners: object, expected: np.ndarray
) -> None:
    mask = read(tmp_path, {"label": "a", "points": corners, "shape_type": shape_type}).masks[1]
    assert np.count_nonzero(mask ^ expected) <= 0.03 * np.count_nonzero(expected)


def test_shapes_without_an_area_are_left_out_by_a_rule(tmp_path: Path) -> None:
    kinds = ("point", "points", "line", "linestrip", "linestring")
    shapes = [{"label": kind, "points": [[1, 1]], "shape_type": kind, "group_id": 1} for kind in kinds]
    masks = read(tmp_path, *shapes, {"label": "point", "points": OUTLINE, "group_id": 1}).masks
    assert isinstance(masks, LazyMasks)
    np.testing.assert_array_equal(masks[1], BOX)
    assert len(masks) == 1
    rules = ("point", "point", "line", "line", "line")
    assert masks.left_out == tuple(
        LeftOutObject(rule, ObjectAttributes(label=kind)) for rule, kind in zip(rules, kinds, strict=True)
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"label": 3, "score": "0.5", "track_id": "7"}, ObjectAttributes(label="3", score=0.5, track_id=7)),
        ({"label": "Ümläut 猫, a", "score": 7}, ObjectAttributes(label="Ümläut 猫, a")),
        ({"label": None, "score": float("nan"), "track_id": 1.0}, ObjectAttributes(track_id=1)),
        ({"track_id": 10**300, "score": True}, ObjectAttributes(score=1.0)),
        ({"track_id": 1.5, "score": [1]}, ObjectAttributes()),
    ],
)
def test_attributes_in_every_spelling(tmp_path: Path, fields: dict[str, object], expected: ObjectAttributes) -> None:
    assert read(tmp_path, {"points": OUTLINE, **fields}).attributes(1) == expected


@pytest.mark.parametrize("size", [{}, {"imageHeight": str(HEIGHT), "imageWidth": float(WIDTH)}, {"imageHeight": None}])
@pytest.mark.parametrize("convert_text", [lambda s: "\ufeff" + s, lambda s: s.replace("\n", "\r\n"), str])
def test_files_of_windows(tmp_path: Path, size: dict[str, object], convert_text) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    content = {"shapes": [{"label": "a", "points": OUTLINE}], "imagePath": "..\\images\\a.jpg", **size}
    text(tmp_path / "labels" / "a.json", convert_text(json.dumps(content, indent=1)))
    [sample] = open_dataset(tmp_path).samples
    same_masks(sample.read([0])[0], BOX)
    content["imagePath"] = "C:\\data\\photos\\b.jpg"
    write_image(tmp_path / "labels" / "b.jpg")
    text(tmp_path / "labels" / "c.json", content)
    assert open_dataset(tmp_path).samples[1].source == (tmp_path / "labels" / "b.jpg",)


@pytest.mark.parametrize("height", [HEIGHT + 1, str(HEIGHT + 1), 1e300])
def test_another_size_is_refused(tmp_path: Path, height: object) -> None:
    with pytest.raises(DataError, match="an image and its masks have the same size"):
        read(tmp_path, {"points": OUTLINE}, imageHeight=height, imageWidth=WIDTH)


def embedded(root: Path, **other: object) -> dict[str, object]:
    """A JSON with its image inside, and no file beside it."""
    stream = io.BytesIO()
    Image.open(write_image(root / "away" / "x.png", 5)).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    shapes = [{"label": "cat", "points": OUTLINE, "shape_type": "polygon"}]
    content = {"shapes": shapes, "imagePath": "a.png", "imageData": data, "imageHeight": HEIGHT, **other}
    text(root / "lm" / "a.json", content)
    return content


@pytest.mark.parametrize("spell", [str, lambda d: f"data:image/png;base64,{d}", lambda d: f"{d[:76]}\n{d[76:]}"])
def test_an_image_inside_its_json_is_read(tmp_path: Path, spell) -> None:
    content = embedded(tmp_path)
    text(tmp_path / "lm" / "a.json", {**content, "imageData": spell(content["imageData"])})
    [sample] = open_dataset(tmp_path / "lm").samples
    [annotated] = sample.read([0])
    np.testing.assert_array_equal(annotated.rgb, np.asarray(Image.open(tmp_path / "away" / "x.png")))
    same_masks(annotated, BOX)
    assert sample.read([]) == []
    assert [path.name for path in (tmp_path / "lm").iterdir()] == ["a.json"]


def test_an_image_inside_its_json_is_converted(tmp_path: Path) -> None:
    embedded(tmp_path)
    data = open_dataset(tmp_path / "lm")
    options = WriteOptions(images="copy")
    with open_dataset_writer("coco", tmp_path / "out", names=class_names(data), options=options) as writer:
        assert [step.issue for step in convert(data, list_items(data), writer)] == [None]
    [sample] = open_dataset(tmp_path / "out").samples
    [annotated] = sample.read([0])
    same_masks(annotated, BOX)
    assert np.abs(annotated.rgb.astype(int) - np.asarray(Image.open(tmp_path / "away" / "x.png"))).mean() < 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("A", "no base64"),
        ("AAAA", "imageData.*cannot be read as an image"),
        ({"a": 1}, "cannot be read as an image|no base64"),
        (True, "cannot be read as an image|no base64"),
    ],
)
def test_a_damaged_image_inside_is_named(tmp_path: Path, data: object, message: str) -> None:
    embedded(tmp_path, imageData=data)
    [sample] = open_dataset(tmp_path / "lm").samples
    with pytest.raises(DataError, match=rf"a\.json.*({message})") as error:
        sample.read([0])
    assert error.value.file == tmp_path / "lm" / "a.json"


@pytest.mark.parametrize("image_path", ["", None, "nowhere.jpg", "..", "/", "a\0b.jpg", "x" * 5000, ["a"]])
def test_an_image_that_is_nowhere_is_named(tmp_path: Path, image_path: object) -> None:
    write_image(tmp_path / "b.jpg")
    for name, path in (("a", image_path), ("b", "b.jpg")):
        text(tmp_path / f"{name}.json", {"shapes": [], "imagePath": path})
    data = open_dataset(tmp_path)
    assert [sample.name for sample in data.samples] == ["b"]
    assert [issue.file.name for issue in data.issues] == ["a.json"]


def test_of_two_images_of_one_stem_the_path_decides(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        write_image(tmp_path / name)
    shapes = [{"label": "cat", "points": points(RING)}]
    file = text(tmp_path / "a.json", {"shapes": shapes, "imagePath": "..\\x\\A.PNG"})
    [sample] = open_dataset(tmp_path, data_format="labelme").samples
    assert sample.source == (tmp_path / "a.png",)
    text(file, {"shapes": shapes, "imagePath": "c.png"})
    write_image(tmp_path / "b.jpg")
    text(tmp_path / "b.json", {"shapes": shapes, "imagePath": "b.jpg"})
    [issue] = open_dataset(tmp_path, data_format="labelme").issues
    assert "is of a.jpg or a.png, and imagePath ('c.png') names none of them" in issue.reason
