"""Each format, read from a small dataset that is made here, mask by mask."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import (
    BOX,
    HEIGHT,
    RING,
    WIDTH,
    coco,
    codes,
    label_map,
    labeled_video,
    native,
    png,
    sa1b,
    same_masks,
    sav,
    sav_val,
    text,
    write_image,
    yolo,
)
from masklet.datasets import AnnotatedFrame, Dataset, open_dataset
from masklet.errors import MissingExtraError, SourceError
from masklet.media import open_video
from masklet.media.image import from_file
from masklet.results import Masks, Results
from masklet.writers import CocoWriter, MaskWriter, PngWriter, YoloWriter

FULL_RING = RING.copy()
FULL_RING[26:30, 38:44] = True


def first(data: Dataset, name: str | None = None) -> AnnotatedFrame:
    sample = next(sample for sample in data.samples if name in (None, sample.name))
    return sample.read([sample.frame_indices[0]])[0]


def names(data: Dataset) -> list[str]:
    return [sample.name for sample in data.samples]


# native ------------------------------------------------------------------------------------------------------------


def test_native_is_a_source_or_a_folder_of_sources(tmp_path: Path) -> None:
    native(tmp_path / "Cats")
    native(tmp_path / "ants", ["c"])
    data = open_dataset(tmp_path)
    assert (data.data_format, names(data)) == ("native", ["ants/c", "Cats/a2", "Cats/a10", "Cats/b"])
    assert names(open_dataset(tmp_path, split="ants")) == ["ants/c"]
    data = open_dataset(tmp_path / "Cats")
    assert names(data) == ["a2", "a10", "b"]
    annotated = first(data, "a10")
    path = tmp_path / "Cats" / "images" / "a10.jpg"
    np.testing.assert_array_equal(annotated.rgb, from_file(str(path)).rgb)
    same_masks(annotated, BOX, RING)
    assert data.samples[1].source == (path,)
    assert data.samples[1].frame_indices == (0,)
    with pytest.raises(SourceError, match="no source 'dogs'; it has ants, Cats"):
        open_dataset(tmp_path, split="dogs")


def test_an_image_without_objects_is_empty(tmp_path: Path) -> None:
    native(tmp_path)
    text(tmp_path / "masks" / "b.json", [])
    assert dict(first(open_dataset(tmp_path), "b").masks) == {}


# coco --------------------------------------------------------------------------------------------------------------


def test_coco_outlines_runs_and_codes(tmp_path: Path) -> None:
    file = coco(tmp_path)
    data = open_dataset(file)
    assert (data.data_format, names(data), data.issues) == ("coco", ["000002", "000003", "000010"], ())
    same_masks(first(data, "000010"), BOX, RING)
    same_masks(first(data, "000002"), BOX)
    same_masks(first(data, "000003"))
    same_masks(first(open_dataset(file, include_crowds=True), "000002"), BOX, RING)


def test_a_coco_root_has_splits_and_its_images_in_the_usual_places(tmp_path: Path) -> None:
    coco(tmp_path)
    coco(tmp_path, split="train2017")
    assert names(open_dataset(tmp_path, split="val2017")) == ["000002", "000003", "000010"]
    assert len(names(open_dataset(tmp_path))) == 6
    assert names(open_dataset(tmp_path))[0] == "train2017/000002"
    with pytest.raises(SourceError, match="no split 'test'; it has train2017, val2017"):
        open_dataset(tmp_path, split="test")
    for place in ("here", "here/images", "here/val2017", "images/val2017", "images"):
        root = tmp_path / place.replace("/", "_")
        file = coco(root / "made")
        moved = root / ("here" if place.startswith("here") else "annotations") / file.name
        moved.parent.mkdir(parents=True)
        file.rename(moved)
        target = root / place
        target.mkdir(parents=True, exist_ok=True)
        for path in (root / "made" / "val2017").iterdir():
            path.rename(target / path.name)
        same_masks(first(open_dataset(moved), "000010"), BOX, RING)


def test_names_of_coco_images_in_any_alphabet(tmp_path: Path) -> None:
    file = coco(tmp_path)
    (tmp_path / "val2017" / "000010.jpg").rename(tmp_path / "val2017" / "büro 猫.jpg")
    plain = file.read_text().replace("000010.jpg", "büro 猫.jpg")
    file.write_bytes(b"\xef\xbb\xbf" + plain.encode())
    same_masks(first(open_dataset(file), "büro 猫"), BOX, RING)


# videos -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "480p"])
def test_davis_palettes_hold_ids_and_255_is_ignored(tmp_path: Path, below: str) -> None:
    labels = label_map(ids=(3, 7))
    labels[0, :5] = 255
    later = label_map(ids=(3, 0))
    labeled_video(tmp_path / "made", "dogs", {0: labels, 1: later, 2: np.full_like(labels, 0)}, 3)
    for top in ("JPEGImages", "Annotations"):
        (tmp_path / top / below).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / top).rename(tmp_path / top / below if below else tmp_path / top)
    data = open_dataset(tmp_path)
    assert (data.data_format, names(data)) == ("davis", ["dogs"])
    sample = data.samples[0]
    frames = sample.read([1, 0, 2])
    assert [list(frame.masks) for frame in frames] == [[3], [3, 7], []]
    np.testing.assert_array_equal(frames[1].masks[7], RING)
    assert sample.frame_indices == (0, 1, 2)
    assert [path.name for path in sample.source] == ["00000.jpg", "00001.jpg", "00002.jpg"]


def test_davis_2016_is_one_object_also_where_it_is_out_of_sight(tmp_path: Path) -> None:
    white = BOX.astype(np.uint8) * 255
    labeled_video(tmp_path, "bear", {0: white * 0, 1: white, 2: white * 0}, 3, palette=False)
    frames = open_dataset(tmp_path).samples[0].read([0, 1, 2])
    assert [list(frame.masks) for frame in frames] == [[], [1], []]
    np.testing.assert_array_equal(frames[1].masks[1], BOX)


def test_a_frame_of_255_alone_is_ignored_if_the_video_has_ids(tmp_path: Path) -> None:
    void = BOX.astype(np.uint8) * 255
    labeled_video(tmp_path, "dogs", {0: label_map(), 1: void}, 2)
    assert [list(frame.masks) for frame in open_dataset(tmp_path).samples[0].read([0, 1])] == [[1, 2], []]


def test_youtube_vos_has_every_fifth_frame_objects_that_come_late_and_folders_for_splits(tmp_path: Path) -> None:
    late = {0: label_map(ids=(1, 0)), 5: label_map(), 10: label_map(ids=(0, 2))}
    labeled_video(tmp_path / "train", "0043f083b5", late, 12)
    labeled_video(tmp_path / "train", "00a23ccf53", {0: label_map()}, 1)
    labeled_video(tmp_path / "valid", "003234408d", {0: label_map()}, 6)
    data = open_dataset(tmp_path, split="train")
    assert names(data) == ["00a23ccf53", "0043f083b5"]  # 0 before 43, as numbers go
    sample = data.samples[1]
    assert sample.frame_indices == (0, 5, 10)
    assert len(sample.source) == 12
    assert [list(frame.masks) for frame in sample.read([0, 5, 10])] == [[1], [1, 2], [2]]
    np.testing.assert_array_equal(sample.read([5])[0].rgb, from_file(str(sample.source[5])).rgb)
    assert names(open_dataset(tmp_path)) == ["train/00a23ccf53", "train/0043f083b5", "valid/003234408d"]
    assert names(open_dataset(tmp_path / "valid")) == ["003234408d"]


def test_lists_of_image_sets_are_splits(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cat"):
        labeled_video(tmp_path, name, {0: label_map()}, 1)
    text(tmp_path / "ImageSets" / "2017" / "val.txt", "cat\nant\n")
    text(tmp_path / "ImageSets" / "2016" / "val.txt", "/JPEGImages/480p/bee/0.jpg /Annotations/480p/bee/0.png\n")
    text(tmp_path / "ImageSets" / "train.txt", "bee\n")
    assert names(open_dataset(tmp_path, split="2017/val")) == ["ant", "cat"]
    assert names(open_dataset(tmp_path, split="2016/val")) == ["bee"]
    assert names(open_dataset(tmp_path, split="train")) == ["bee"]
    with pytest.raises(SourceError, match=r"2 lists 'val' \(2016/val, 2017/val\)"):
        open_dataset(tmp_path, split="val")
    with pytest.raises(SourceError, match="no split 'test'; it has 2016/val, 2017/val, train"):
        open_dataset(tmp_path, split="test")


# SA-1B, SA-V -------------------------------------------------------------------------------------------------------


def test_sa1b_is_a_json_next_to_each_image_in_folders_or_not(tmp_path: Path) -> None:
    sa1b(tmp_path / "one")
    data = open_dataset(tmp_path / "one")
    assert (data.data_format, names(data)) == ("sa1b", ["sa_2", "sa_10"])
    same_masks(first(data), BOX, RING)
    sa1b(tmp_path / "two", ["sa_11"])
    assert names(open_dataset(tmp_path)) == ["one/sa_2", "one/sa_10", "two/sa_11"]
    assert names(open_dataset(tmp_path, split="two")) == ["two/sa_11"]


def test_sav_is_annotated_every_fourth_frame(tmp_path: Path) -> None:
    data = open_dataset(sav(tmp_path))
    assert (data.data_format, names(data), data.issues) == ("sav", ["sav_000001"], ())
    sample = data.samples[0]
    assert sample.frame_indices == (0, 4, 8, 12)
    assert sample.source == tmp_path / "sav_000001.mp4"
    frames = sample.read([8, 0, 8])
    with open_video(tmp_path / "sav_000001.mp4") as video:
        np.testing.assert_array_equal(frames[0].rgb, video[8].rgb)
        np.testing.assert_array_equal(frames[1].rgb, video[0].rgb)
    same_masks(frames[0], np.roll(BOX, 4, axis=1), RING, ~BOX)
    same_masks(frames[1], BOX, np.zeros_like(RING), ~BOX)
    same_masks(open_dataset(tmp_path, split="auto").samples[0].read([4])[0], ~BOX)


def test_sav_in_folders_and_a_json_with_its_keys_in_another_order(tmp_path: Path) -> None:
    sav(tmp_path / "sav_000")
    text(tmp_path / "sav_000" / "sav_000001_manual.json", {"masklet_id": [0], "masklet": [codes([BOX])] * 3})
    data = open_dataset(tmp_path, split="manual")
    assert names(data) == ["sav_000/sav_000001"]
    assert data.samples[0].frame_indices == (0, 4, 8)


def test_val_of_sav_has_a_folder_for_each_object(tmp_path: Path) -> None:
    data = open_dataset(sav_val(tmp_path))
    assert (data.data_format, names(data), data.issues) == ("sav", ["sav_7"], ())
    sample = data.samples[0]
    assert (sample.frame_indices, len(sample.source)) == ((0, 4, 8), 9)
    frames = sample.read([4, 0])
    same_masks(frames[0], BOX, BOX | RING)
    same_masks(frames[1], BOX)


# yolo --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("yaml", [True, False])
def test_yolo_outlines_are_fractions_and_an_image_without_a_text_is_empty(tmp_path: Path, yaml: bool) -> None:
    yolo(tmp_path, yaml=yaml)
    data = open_dataset(tmp_path)
    assert (data.data_format, names(data), data.issues) == ("yolo", ["train/2", "train/10", "val/1"], ())
    same_masks(first(data, "train/2"), BOX, FULL_RING)
    same_masks(first(data, "train/10"))
    assert names(open_dataset(tmp_path, split="val")) == ["val/1"]
    if yaml:
        assert names(open_dataset(tmp_path / "data.yaml", split="val")) == ["val/1"]


@pytest.mark.parametrize(
    "content",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",
        "path: nowhere\ntrain: [train/images]\nval: valid/images\n",
        "train: train.txt\nval: valid/images\n",
    ],
)
def test_yolo_as_tools_export_it(tmp_path: Path, content: str) -> None:
    yolo(tmp_path / "made")
    for split, name in (("train", "2"), ("valid", "1")):
        old = "val" if split == "valid" else split
        for top, suffix in (("images", "jpg"), ("labels", "txt")):
            target = tmp_path / "set" / split / top
            target.mkdir(parents=True)
            (tmp_path / "made" / top / old / f"{name}.{suffix}").rename(target / f"{name}.{suffix}")
    text(tmp_path / "set" / "train.txt", "./train/images/2.jpg\n\n")
    assert names(open_dataset(tmp_path / "set")) == ["train/2", "valid/1"]
    text(tmp_path / "set" / "data.yaml", content)
    data = open_dataset(tmp_path / "set")
    assert names(data) == ["train/2", "val/1"]
    same_masks(first(data, "val/1"), BOX, FULL_RING)


def test_yolo_with_a_yaml_needs_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "yaml":
            raise ImportError(name)
        return usual(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "yaml", raising=False)
    with pytest.raises(MissingExtraError, match=r"pyyaml.*'train'"):
        open_dataset(yolo(tmp_path))


# png ---------------------------------------------------------------------------------------------------------------


def test_png_maps_palettes_black_and_white_and_16_bits(tmp_path: Path) -> None:
    for seed, name in enumerate(("grey", "palette", "white", "one", "deep", "void")):
        write_image(tmp_path / "images" / f"{name}.jpg", seed)
    masks = tmp_path / "masks"
    png(masks / "grey.png", label_map(ids=(5, 9)), palette=False)
    png(masks / "palette_mask.png", label_map())
    png(masks / "white.png", (BOX | RING).astype(np.uint8) * 255, palette=False)
    png(masks / "deep.png", label_map().astype(np.uint16) * 300, palette=False)
    Image.fromarray(BOX).save(masks / "one.png")
    void = label_map()
    void[0] = 255
    png(masks / "void.png", void)
    data = open_dataset(tmp_path)
    assert (data.data_format, names(data)) == ("png", ["deep", "grey", "one", "palette", "void", "white"])
    for name in ("grey", "palette", "deep", "void"):
        same_masks(first(data, name), BOX, RING)
    same_masks(first(data, "white"), BOX | RING)
    same_masks(first(data, "one"), BOX)


def test_png_one_file_for_each_object_in_a_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "cat.jpg")
    both = BOX | RING
    for name, mask in (("2", RING), ("10", both), ("1", BOX)):
        png(tmp_path / "masks" / "cat" / f"{name}.png", mask.astype(np.uint8) * 255, palette=False)
    same_masks(first(open_dataset(tmp_path)), BOX, RING, both)


def test_png_masks_next_to_their_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", 1)
    png(tmp_path / "a.png", label_map())
    write_image(tmp_path / "b.png", 2)
    png(tmp_path / "b_mask.png", BOX.astype(np.uint8) * 255, palette=False)
    write_image(tmp_path / "c.png", 3)
    for number, mask in enumerate((BOX, RING)):
        png(tmp_path / f"c_mask_{number}.png", mask.astype(np.uint8) * 255, palette=False)
    data = open_dataset(tmp_path)
    assert (names(data), data.issues) == (["a", "b", "c"], ())
    same_masks(first(data, "a"), BOX, RING)
    same_masks(first(data, "b"), BOX)
    same_masks(first(data, "c"), BOX, RING)


# what masklet itself writes ----------------------------------------------------------------------------------------


def results(path: Path) -> Results:
    scores = np.ones(2, np.float32)
    return Results(
        from_file(str(path)).rgb,
        str(path),
        Masks(np.stack([BOX, RING])),
        scores,
        ids=np.arange(2, dtype=np.int32),
        classes=np.zeros(2, np.int32),
        names={0: "thing"},
        speed={},
    )


def test_what_masklet_writes_is_read_again(tmp_path: Path) -> None:
    path = write_image(tmp_path / "images" / "cat.jpg")
    with CocoWriter(tmp_path / "images") as writer:
        writer.write(results(path))
    same_masks(first(open_dataset(tmp_path / "images")), BOX, RING)
    with PngWriter(tmp_path / "masks") as png_writer:
        png_writer.write(results(path))
    same_masks(first(open_dataset(tmp_path, data_format="png")), BOX, RING)
    with YoloWriter(tmp_path / "labels") as yolo_writer:
        yolo_writer.write(results(path))
    masks = first(open_dataset(tmp_path, data_format="yolo")).masks
    np.testing.assert_array_equal(masks[1], BOX)
    assert (masks[2] ^ RING).sum() <= 4  # the bridge to the hole
    write_image(tmp_path / "apart" / "cat.jpg")
    with MaskWriter(tmp_path / "apart") as mask_writer:
        mask_writer.write(results(path))
    same_masks(first(open_dataset(tmp_path / "apart")), BOX, RING)


def test_images_are_upright_before_their_size_is_compared(tmp_path: Path) -> None:
    """Masks are those of the upright image, with its EXIF orientation applied."""
    native(tmp_path, ["a"])
    lying = Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "images" / "a.jpg", exif=exif)
    annotated = first(open_dataset(tmp_path))
    assert annotated.size == (HEIGHT, WIDTH)
    same_masks(annotated, BOX, RING)
