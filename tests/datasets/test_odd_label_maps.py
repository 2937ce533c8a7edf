"""Label maps in odd modes, sizes and colors: PNG masks, Pascal VOC, DAVIS and SA-V."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import (
    BOX,
    HEIGHT,
    RING,
    WIDTH,
    label_map,
    labeled_video,
    png,
    pngs,
    same_masks,
    sav,
    sav_val,
    text,
    write_image,
)
from helpers.labeling_tool_files import labelme, voc
from masklet.datasets import (
    AnnotatedFrame,
    DataError,
    Dataset,
    check_dataset,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.dataset import ImageSample, LazyMasks
from masklet.datasets.label_maps import read_label_map, read_label_map_any_depth, unique_ids
from masklet.evaluate import score_predictions
from masklet.evaluate.image_click_datasets import click_images
from masklet.masks.label_map import davis_palette

WHITE = BOX.astype(np.uint8) * 255
DISC = np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([20, 30])[:, None, None])) < 12


def first(data: Dataset) -> AnnotatedFrame:
    return data.samples[0].read([0])[0]


def read(root: Path, image: Image.Image) -> AnnotatedFrame:
    """An image with this mask."""
    write_image(root / "images" / "a.jpg", size=(image.height, image.width))
    (root / "masks").mkdir()
    image.save(root / "masks" / "a.png")
    return first(open_dataset(root))


def scaled(mask: np.ndarray, factor: float, how: int) -> np.ndarray:
    """A mask that was scaled and scaled back."""
    small = cv2.resize(mask.astype(np.uint8) * 255, None, fx=factor, fy=factor, interpolation=how)
    return cv2.resize(small, mask.shape[::-1], interpolation=how)


SOFT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half and back": lambda m: scaled(m, 0.5, cv2.INTER_LINEAR),
    "a third and back": lambda m: scaled(m, 0.34, cv2.INTER_LINEAR),
    "area": lambda m: scaled(m, 0.5, cv2.INTER_AREA),
    "cubic": lambda m: scaled(m, 0.7, cv2.INTER_CUBIC),
    "twice and back": lambda m: scaled(m, 1.9, cv2.INTER_LINEAR),
    "blurred": lambda m: cv2.GaussianBlur(m.astype(np.uint8) * 255, (0, 0), 1.0),
    "shifted by a half": lambda m: ((m.astype(int) + np.roll(m, 1, 1)) * 127.5).astype(np.uint8),
    "shifted by a quarter": lambda m: (m * 191.0 + np.roll(m, 1, 1) * 64.0).astype(np.uint8),
    "one gray beside": lambda m: np.where(m, 255, np.where(np.roll(m, 1, 0), 100, 0)).astype(np.uint8),
}


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("mask", [BOX, DISC, BOX | RING, ~DISC], ids=["box", "disc", "two", "hole"])
@pytest.mark.parametrize("soften", SOFT)
def test_a_mask_with_soft_edges_is_one_object(tmp_path: Path, soften: str, mask: np.ndarray, mode: str) -> None:
    soft = SOFT[soften](mask)
    assert len(unique_ids(soft)) > 1
    sixteen = mode == "I;16"
    image = Image.fromarray(soft.astype(np.uint16) * 257) if sixteen else Image.fromarray(soft).convert(mode)
    masks = read(tmp_path, image).masks
    assert list(masks) == [1]
    np.testing.assert_array_equal(masks[1], soft > 127)
    assert np.count_nonzero(masks[1] ^ mask) <= 0.3 * np.count_nonzero(mask)


@pytest.mark.parametrize(
    "labels",
    [
        label_map(ids=(1, 255)),
        label_map(ids=(100, 200)),
        label_map(ids=(1, 254)),
        np.where(cv2.dilate(label_map(), np.ones((5, 5))) > label_map(), 255, label_map()).astype(np.uint8),
        np.where(cv2.dilate(label_map(ids=(9, 3)), np.ones((3, 3))) > 0, label_map(ids=(9, 3)), 255).astype(np.uint8),
        np.where(BOX, 255, np.where(RING, 128, np.where(~DISC, 64, 0))).astype(np.uint8),
        np.kron(np.arange(1, 61).reshape(6, 10), np.ones((4, 4), int)).astype(np.uint8),
        np.pad(np.kron(np.arange(100, 160).reshape(6, 10), np.ones((4, 4), int)), ((0, 16), (0, 20))).astype(np.uint8),
        (np.kron(np.arange(1, 25).reshape(4, 6) * 10, np.pad(np.ones((2, 2), int), 1))).astype(np.uint8),
    ],
)
@pytest.mark.parametrize("palette", [True, False])
def test_a_label_map_is_not_taken_for_a_soft_mask(tmp_path: Path, labels: np.ndarray, palette: bool) -> None:
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(davis_palette().tobytes())
    masks = read(tmp_path, image).masks
    ids = [label for label in unique_ids(labels) if label != 255]
    same_masks(AnnotatedFrame(np.zeros((*labels.shape, 3), np.uint8), masks), *(labels == label for label in ids))


@pytest.mark.parametrize(
    "gray",
    [
        np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1)),
        cv2.GaussianBlur(WHITE, (0, 0), 8.0),
        cv2.GaussianBlur(np.where(BOX, 200, 0).astype(np.uint8), (0, 0), 2.0),
        np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
    ],
)
def test_a_smooth_image_that_is_no_mask_is_refused(tmp_path: Path, gray: np.ndarray) -> None:
    pngs(tmp_path)
    png(tmp_path / "masks" / "a.png", gray, palette=False)
    [issue] = check_dataset(open_dataset(tmp_path))
    assert issue.file == tmp_path / "masks" / "a.png"
    assert "which are not labels: a black and white mask with soft edges" in issue.reason


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_black_and_white_in_every_mode_is_object_1(tmp_path: Path, mode: str) -> None:
    same_masks(read(tmp_path, Image.fromarray(WHITE).convert(mode)), BOX)


def test_one_bit_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    Image.fromarray(BOX).save(tmp_path / "a.png")
    two = Image.fromarray(BOX.astype(np.uint8))
    two.putpalette([0, 0, 0, 255, 255, 255])
    two.save(tmp_path / "b.png", bits=1)
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_label_map(tmp_path / name), BOX)
        np.testing.assert_array_equal(
            read_label_map_any_depth(tmp_path / name), np.asarray(Image.open(tmp_path / name))
        )


def test_one_bit_predictions_score_as_object_1(tmp_path: Path) -> None:
    labeled_video(tmp_path / "truth", "s", dict.fromkeys(range(4), label_map([BOX])), 4)
    for number in range(4):
        (tmp_path / "found" / "s").mkdir(parents=True, exist_ok=True)
        Image.fromarray(BOX).save(tmp_path / "found" / "s" / f"{number:05d}.png")
    scores = score_predictions("davis17", tmp_path / "found", tmp_path / "truth")
    assert scores.metrics["J&F"] == 1.0


def one_bit(path: Path, width: int, height: int) -> Path:
    """A black PNG of one bit a pixel, made without its pixels."""

    def part(tag: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + tag + content + struct.pack(">I", zlib.crc32(tag + content))

    pixels = zlib.compressobj(9)
    rows = pixels.compress(bytes((1 + width // 8) * min(height, 99))) + pixels.flush()
    header = part(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows) + part(b"IEND", b""))
    return path


@pytest.mark.parametrize("size", [(16000, 12000), (12000, 9000), (60000, 60000), (1 << 30, 2)])
@pytest.mark.parametrize("place", ["masks/a.png", "masks/a/1.png"])
def test_a_map_much_larger_than_its_image_costs_only_itself(tmp_path: Path, size: tuple[int, int], place: str) -> None:
    pngs(tmp_path)
    (tmp_path / "masks" / "a.png").unlink()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    one_bit(tmp_path / place, *size)
    [issue] = check_dataset(open_dataset(tmp_path))
    assert issue.file == tmp_path / place
    same_masks(open_dataset(tmp_path).samples[1].read([0])[0], BOX, RING)


def test_a_large_map_is_read_for_an_image_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.datasets.label_maps.LARGE_MAP_PIXELS", 100)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 2 * HEIGHT * WIDTH // 4 + 1)  # Pillow refuses twice as many
    file = png(tmp_path / "a.png", label_map())
    for size in (None, (HEIGHT, WIDTH)):
        assert unique_ids(read_label_map(file, size)) == [1, 2]
    for size in ((WIDTH, HEIGHT), (9, 9)):
        with pytest.raises(DataError, match=r"a\.png is an image of 60 x 40, which is too large"):
            read_label_map(file, size)
    monkeypatch.setenv("MASKLET_MAX_IMAGE_PIXELS", "100")
    with pytest.raises(DataError, match="at most 100 are read"):
        read_label_map(file, (HEIGHT, WIDTH))


def test_sizes_and_masks_are_read_without_the_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_dataset(labelme(tmp_path / "in", ["a"]))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 + 1)  # above, Pillow warns: an error here
    with open_dataset_writer("coco", tmp_path / "out") as writer:
        assert [step.issue for step in convert(data, list_items(data), writer)] == [None]
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", RING.any(0).sum() * RING.any(1).sum() // 2 + 1)
    [sample] = data.samples
    assert isinstance(sample, ImageSample)
    np.testing.assert_array_equal(sample.masks((HEIGHT, WIDTH))[2], RING)
    [step] = convert(data, list_items(data), open_dataset_writer("coco", tmp_path / "small"))
    assert step.issue is not None
    assert "raise the limit with --max-image-pixels" in step.issue.reason


@pytest.mark.parametrize(("width", "height"), [(16000, 12000), (60000, 60000)])
def test_a_huge_mask_of_images_to_click_on_is_refused(tmp_path: Path, width: int, height: int) -> None:
    write_image(tmp_path / "img" / "a.jpg")
    (tmp_path / "gt").mkdir()
    one_bit(tmp_path / "gt" / "a.png", width, height)
    [image] = click_images(tmp_path)
    with pytest.raises(
        DataError, match=r"a\.png'? (is an image of 16000 x 12000, which is too large|has 60000 x 60000)"
    ):
        image.read()


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM" + bytes(60), b"II*\0" + bytes(20), b"x"]
)
def test_a_damaged_mask_file_costs_one_object(tmp_path: Path, content: bytes) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    for name in ("1", "2", "3"):
        png(tmp_path / "masks" / "a" / f"{name}.png", WHITE, palette=False)
    (tmp_path / "masks" / "a" / "2.png").write_bytes(content)
    png(tmp_path / "masks" / "a" / "3.png", WHITE[:9], palette=False)
    masks = first(open_dataset(tmp_path)).masks
    assert list(masks) == [1, 2, 3]
    np.testing.assert_array_equal(masks[1], BOX)
    with pytest.raises(DataError, match=r"2\.png cannot be read as an image"):
        masks[2]
    with pytest.raises(DataError, match=r"3\.png is 60 x 9"):
        masks[3]


def test_a_mask_for_two_images_of_one_stem_is_nobodys(tmp_path: Path) -> None:
    pngs(tmp_path)
    write_image(tmp_path / "images" / "a.png")
    data = open_dataset(tmp_path, data_format="png")
    assert [sample.name for sample in data.samples] == ["b"]
    [issue] = data.issues
    assert "a.png" in issue.reason
    assert "a.jpg" in issue.reason


# VOC -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("", {}),
        ("\n\n# nothing\n", {}),
        ("background\ncat\n", {0: "cat"}),
        ("cat\n", {0: "cat"}),
        ("cat\nbackground\n", {0: "cat"}),
        ("\ufeffbackground\r\ncat\r\n", {0: "cat"}),
        ("background:0,0,0::\ncat:::\n", {0: "cat"}),
        ("background:0,0,0::\ncat:128,0,0::\n", {0: "cat"}),
        ("cat:128,0,0::\nbackground:0,0,0::\n", {0: "cat"}),
        ("background\ncat: 128, 0, 0 ::head,tail:run\n", {0: "cat"}),
        ("background\ncat\ncat\n", {0: "cat", 1: "cat"}),
        ("background:0,0,0::\n" + "".join(f"c{n}::\n" for n in range(400)), None),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_class_maps_with_odd_tables(tmp_path: Path, lines: str, names: dict[int, str] | None, mode: str) -> None:
    voc(tmp_path, ["a"])
    kinds = label_map([BOX], [1])
    image = Image.fromarray(kinds) if mode == "L" else Image.fromarray(davis_palette()[kinds])
    if mode == "P":
        image = Image.fromarray(kinds)
        image.putpalette(davis_palette().tobytes())
    image.save(tmp_path / "SegmentationClass" / "a.png")
    text(tmp_path / "labelmap.txt", lines)
    data = open_dataset(tmp_path)
    assert names is None or dict(data.names) == names
    annotated = first(data)
    same_masks(annotated, BOX, RING)
    is_known = "cat" in lines or "c0" in lines or mode != "RGB"
    assert annotated.attributes(1).class_id == (0 if is_known else None)
    assert annotated.attributes(2).class_id is None
    assert list(check_dataset(data)) == []


@pytest.mark.parametrize("color", ["0,0,x", "1,2", "1,2,3,4", "1,2,256", "-1,0,0", "1;2;3", f"{'9' * 5000},0,0"])
def test_a_color_that_is_none_is_named(tmp_path: Path, color: str) -> None:
    text(voc(tmp_path) / "labelmap.txt", f"background:0,0,0::\ncat:{color}::\n")
    with pytest.raises(DataError, match=r"labelmap\.txt has a color that is none"):
        first(open_dataset(tmp_path))


@pytest.mark.parametrize(
    ("box", "rule"),
    [
        ("<xmin>1</xmin><ymin>1</ymin><xmax>60</xmax><ymax>1</ymax>", "void"),
        ("<xmin>1.5</xmin><ymin>1.0</ymin><xmax>9e9</xmax><ymax>1e300</ymax>", "void"),
        ("<xmin>1</xmin><ymin>30</ymin><xmax>9</xmax><ymax>40</ymax>", "box"),
        ("<xmin>x</xmin><ymin>1</ymin><xmax>60</xmax><ymax>1</ymax>", "box"),
        ("<xmin>nan</xmin><ymin>1</ymin><xmax>60</xmax><ymax>1</ymax>", "box"),
        ("<xmin>inf</xmin><ymin>1</ymin><xmax>60</xmax><ymax>1</ymax>", "box"),
        ("<xmin>60</xmin><ymin>40</ymin><xmax>1</xmax><ymax>1</ymax>", "box"),
        ("<xmin>-9</xmin><ymin>-9</ymin><xmax>-1</xmax><ymax>-1</ymax>", "box"),
        ("<xmin/><ymin/>", "box"),
    ],
)
def test_objects_without_pixels_are_left_out(tmp_path: Path, box: str, rule: str) -> None:
    voc(tmp_path, ["a"])
    names = "".join(f"<object><name>{name}</name></object>" for name in ("cat", "person"))
    third = f"<object><name> dog </name><bndbox>{box}</bndbox></object>"
    text(tmp_path / "Annotations" / "a.xml", f"<annotation><segmented>x</segmented>{names}{third}</annotation>")
    masks = first(open_dataset(tmp_path)).masks
    assert isinstance(masks, LazyMasks)
    assert list(masks) == [1, 2]
    assert [(one.rule, one.attributes.label) for one in masks.left_out] == [(rule, "dog")]


@pytest.mark.parametrize(
    "content",
    [
        "<annotation><object>",
        '<?xml version="1.0" encoding="nothing"?><annotation/>',
        '<?xml version="1.0" encoding="shift_jis"?><annotation/>',
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
        "<a>" * 5000,
        "",
        "\0",
    ],
)
def test_a_damaged_xml_is_an_error_only_where_it_is_needed(tmp_path: Path, content: str) -> None:
    text(voc(tmp_path, ["a"]) / "Annotations" / "a.xml", content)
    same_masks(first(open_dataset(tmp_path)), BOX, RING)
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.xml (is no XML|declares|has elements)"):
        first(open_dataset(tmp_path))


def test_the_size_of_an_xml_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masklet.datasets.xml_reader.MAX_XML_BYTES", 10)
    (voc(tmp_path, ["a"]) / "SegmentationClass" / "a.png").unlink()
    with pytest.raises(DataError, match="kilobytes: is it the right file"):
        first(open_dataset(tmp_path))


def test_a_map_of_voc_for_two_images_of_one_stem(tmp_path: Path) -> None:
    voc(tmp_path, ["a", "b"])
    write_image(tmp_path / "JPEGImages" / "a.png")
    data = open_dataset(tmp_path, data_format="voc")
    assert [sample.name for sample in data.samples] == ["b"]
    assert ["is of a.jpg or a.png" in issue.reason for issue in data.issues] == [True]


# videos --------------------------------------------------------------------------------------------------------------


def test_a_damaged_map_costs_its_own_frame(tmp_path: Path) -> None:
    labeled_video(tmp_path, "s", dict.fromkeys(range(4), WHITE), 4, palette=False)
    (tmp_path / "Annotations" / "s" / "00000.png").write_bytes(b"x")
    data = open_dataset(tmp_path)
    assert [issue.file.name for issue in check_dataset(data)] == ["00000.png"]
    for annotated in data.samples[0].read([1, 3]):
        same_masks(annotated, BOX)


def test_a_video_with_soft_edges_has_one_object(tmp_path: Path) -> None:
    soft = scaled(BOX, 0.5, cv2.INTER_LINEAR)
    labeled_video(tmp_path, "s", dict.fromkeys(range(3), soft), 3, palette=False)
    [annotated] = open_dataset(tmp_path).samples[0].read([2])
    same_masks(annotated, soft > 127)


def test_a_damaged_mask_of_sav_costs_one_object(tmp_path: Path) -> None:
    sav_val(tmp_path)
    (tmp_path / "Annotations_6fps" / "sav_7" / "000" / "00004.png").write_bytes(b"x")
    [annotated] = open_dataset(tmp_path).samples[0].read([4])
    assert list(annotated.masks) == [1, 2]
    np.testing.assert_array_equal(annotated.masks[2], BOX | RING)
    with pytest.raises(DataError, match="cannot be read as an image"):
        annotated.masks[1]


@pytest.mark.parametrize(
    "code", [None, 3, [], {}, {"size": [40, 60]}, {"size": [40, 61], "counts": "0"}, {"size": "x", "counts": ""}]
)
def test_a_bad_code_of_sav_costs_one_object(tmp_path: Path, code: object) -> None:
    file = sav(tmp_path) / "sav_000001_manual.json"
    content = json.loads(file.read_text())
    content["masklet"][1][0] = code
    content["masklet"][2] = "x"
    text(file, content)
    sample = open_dataset(tmp_path, split="manual").samples[0]
    [annotated] = sample.read([4])
    assert list(annotated.masks) == [1, 2]
    np.testing.assert_array_equal(annotated.masks[2], RING)
    with pytest.raises(DataError, match="frame 4, masklet 0"):
        annotated.masks[1]
    with pytest.raises(DataError, match="frame 2 of 'masklet' should be a list"):
        sample.read([8])
    assert list(sample.read([12])[0].masks) == [1, 2]
