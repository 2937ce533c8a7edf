"""Broken data: each fault is reported with its file, and the rest can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import (
    HEIGHT,
    WIDTH,
    coco,
    native,
    png,
    pngs,
    sa1b,
    sav,
    sav_val,
    text,
    videos,
    write_image,
    yolo,
)
from helpers.video_files import cut
from masklet.datasets import check_dataset, open_dataset
from masklet.errors import MaskletError, SourceError


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path, edit: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def coco_with(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda root: edited(root / "annotations" / "instances_val2017.json", edit)


def first_annotation(**values: object) -> Callable[[Path], None]:
    return coco_with(lambda content: content["annotations"][0].update(values))


def mask_json(content: object) -> Callable[[Path], None]:
    return lambda root: (text(root / "masks" / "b.json", content), None)[1]


def line(content: str) -> Callable[[Path], None]:
    return lambda root: (text(root / "labels" / "train" / "2.txt", content), None)[1]


def smooth(root: Path) -> None:
    ramp = np.tile(np.arange(WIDTH, dtype=np.uint8) * 4, (HEIGHT, 1))  # no core that a rim could belong to
    png(root / "masks" / "a.png", ramp, palette=False)


def unmasked(root: Path) -> None:
    (root / "Annotations" / "bee" / "00000.png").rename(root / "Annotations" / "bee" / "00099.png")


SHORT = {"size": [HEIGHT, WIDTH], "counts": "0"}
OTHER = {"size": [WIDTH, HEIGHT], "counts": "P`]<"}
BAD = {"size": [HEIGHT, WIDTH], "counts": "~~"}

# the dataset, how it is damaged, the file to blame, the message
CASES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None], str, str]] = {
    "an image is missing": (
        coco,
        lambda root: (root / "val2017" / "000002.jpg").unlink(),
        "000002.jpg",
        "No such file",
    ),
    "a JPEG is cut short": (native, lambda root: halved(root / "images" / "b.jpg"), "b.jpg", "cut short"),
    "an image is empty": (
        native,
        lambda root: (root / "images" / "b.jpg").write_bytes(b"") and None,
        "b.jpg",
        "empty",
    ),
    "an image is something else": (
        native,
        lambda root: (text(root / "images" / "b.jpg", "<html>404"), None)[1],
        "b.jpg",
        "web page",
    ),
    "image and code differ in size": (native, mask_json([OTHER]), "b.json", "40 x 60 and b.jpg is 60 x 40"),
    "a code covers too little": (native, mask_json([SHORT]), "b.json", r"\(mask 1\).* cover 0 pixels"),
    "a code is no code": (native, mask_json([BAD]), "b.json", "not a compressed run-length code"),
    "a code has no counts": (native, mask_json([{"size": [HEIGHT, WIDTH]}]), "b.json", "no counts"),
    "a code has a size in words": (native, mask_json([{"size": "small", "counts": ""}]), "b.json", "has size 'small'"),
    "a JSON is empty": (native, mask_json(""), "b.json", r"is empty \(0 bytes\)"),
    "a JSON is cut short": (native, lambda root: halved(root / "masks" / "b.json"), "b.json", "is no JSON"),
    "a JSON is another thing": (native, mask_json({"a": 1}), "b.json", r"an object .* should be a list"),
    "a list holds other objects": (native, mask_json([3]), "b.json", "holds 3 where mask 1 should be an object"),
    "masks without an image": (native, lambda root: (root / "images" / "b.jpg").unlink(), "b.json", "no image"),
    "an image without masks": (native, lambda root: (root / "masks" / "b.json").unlink(), "b.jpg", "no masks/b.json"),
    "two images of one name": (
        native,
        lambda root: (write_image(root / "images" / "b.png"), None)[1],
        "b.png",
        "has the name of b.jpg",
    ),
    "COCO: an unknown image": (first_annotation, lambda root: None, "", ""),
    "COCO: an outline outside": (
        coco,
        first_annotation(segmentation=[[900, 5, 950, 5, 950, 60]]),
        "instances_val2017.json",
        r"annotation 1\) lies outside its image: x 900.0 to 950.0",
    ),
    "COCO: NaN": (
        coco,
        first_annotation(segmentation=[[1, 2, 3, float("nan"), 5, 6]]),
        "instances_val2017.json",
        "annotation 1.* nan in its outline",
    ),
    "COCO: words": (
        coco,
        first_annotation(segmentation=[[1, 2, 3, "four", 5, 6]]),
        "instances_val2017.json",
        "annotation 1.* 'four' in its outline",
    ),
    "COCO: two points": (
        coco,
        first_annotation(segmentation=[[1, 2, 3, 4]]),
        "instances_val2017.json",
        "annotation 1.* an outline of 4 numbers",
    ),
    "COCO: a text": (
        coco,
        first_annotation(segmentation="1 2 3 4 5 6"),
        "instances_val2017.json",
        "'segmentation' of annotation 1 should be a list",
    ),
    "COCO: no segmentation": (
        coco,
        first_annotation(segmentation=[]),
        "instances_val2017.json",
        "annotation 1.* no segmentation",
    ),
    "COCO: another size": (
        coco,
        coco_with(lambda content: content["images"][1].update(width=999)),
        "instances_val2017.json",
        r"width and height of 000002.jpg\) is 999 x 40",
    ),
    "COCO: an id twice": (
        coco,
        coco_with(lambda content: content["images"][1].update(id=7)),
        "instances_val2017.json",
        "id 7 to 000010.jpg and to 000002.jpg",
    ),
    "COCO: an image twice": (
        coco,
        coco_with(lambda content: content["images"][1].update(file_name="000010.jpg")),
        "instances_val2017.json",
        "has 000010.jpg twice",
    ),
    "COCO: an image without a name": (
        coco,
        coco_with(lambda content: content["images"][2].pop("file_name")),
        "instances_val2017.json",
        "an image without id or file_name",
    ),
    "COCO: an annotation is a number": (
        coco,
        coco_with(lambda content: content["annotations"].append(3)),
        "instances_val2017.json",
        r"without image_id \(3\)",
    ),
    "a PNG is cut short": (
        videos,
        lambda root: halved(root / "Annotations" / "bee" / "00002.png"),
        "00002.png",
        "cannot be read as an image",
    ),
    "a label map of another size": (
        videos,
        lambda root: (png(root / "Annotations" / "bee" / "00002.png", np.ones((8, 9), np.uint8)), None)[1],
        "00002.png",
        "is 9 x 8 and 00002.jpg is 60 x 40",
    ),
    "a label map in colors": (
        videos,
        lambda root: Image.new("RGB", (WIDTH, HEIGHT), (128, 0, 0)).save(root / "Annotations" / "bee" / "00002.png"),
        "00002.png",
        "an image of mode RGB, not of labels",
    ),
    "a label map without an image": (videos, unmasked, "00099.png", "has no image in"),
    "a video without label maps": (
        videos,
        lambda root: [path.unlink() for path in (root / "Annotations" / "bee").iterdir()] and None,
        "bee",
        "no label map",
    ),
    "a video without images": (
        videos,
        lambda root: (root / "JPEGImages" / "bee").rename(root / "bee") and None,
        "bee",
        "is missing",
    ),
    "a mask with soft edges": (pngs, smooth, "a.png", "soft edges"),
    "a mask of another size": (
        pngs,
        lambda root: (png(root / "masks" / "a.png", np.ones((8, 9), np.uint8)), None)[1],
        "a.png",
        "is 9 x 8 and a.jpg is 60 x 40",
    ),
    "an image without a mask": (
        pngs,
        lambda root: (root / "masks" / "a.png").unlink(),
        "a.jpg",
        "no mask of its name",
    ),
    "a mask without an image": (pngs, lambda root: (root / "images" / "a.jpg").unlink(), "a.png", "no image of its"),
    "YOLO: no class": (yolo, line("x .1 .1 .2 .2 .3 .1"), "2.txt", r"\(line 1\) has the class 'x'"),
    "YOLO: an odd count": (yolo, line("0 .1 .1 .2 .2 .3 .3 .4"), "2.txt", "an outline of 7 numbers"),
    "YOLO: pixels": (yolo, line("0 10 10 300 10 300 300"), "2.txt", "lies outside its image.* fractions from 0 to 1"),
    "YOLO: NaN": (yolo, line("0 nan .1 .2 .2 .3 .3"), "2.txt", "nan in its outline"),
    "YOLO: words": (yolo, line("0 a .1 .2 .2 .3 .3"), "2.txt", r"\(line 1\) is no outline"),
    "YOLO: no image": (
        yolo,
        lambda root: (root / "images" / "train" / "2.jpg").unlink(),
        "2.txt",
        "no image of its",
    ),
    "SA-1B: no annotations": (
        lambda root: sa1b(root, ["sa_1", "sa_2"]),
        lambda root: edited(root / "sa_1.json", lambda content: content.pop("annotations")),
        "sa_1.json",
        "holds null where 'annotations' should be a list",
    ),
    "SA-1B: no JSON": (sa1b, lambda root: (root / "sa_2.json").unlink(), "sa_2.jpg", "has no sa_2.json"),
    "SA-V: no video": (
        lambda root: sav(sav(root), "sav_2"),
        lambda root: (root / "sav_2.mp4").unlink(),
        "sav_2_manual.json",
        "has no video sav_2.mp4",
    ),
    "SA-V: no masklets": (
        lambda root: sav(sav(root), "sav_2"),
        lambda root: [path.unlink() for path in root.glob("sav_2_*")] and None,
        "sav_2.mp4",
        "has no sav_2_manual.json or sav_2_auto.json",
    ),
    "SA-V: more masklets than video": (
        lambda root: sav(sav(root, rows=5), "sav_2"),
        lambda root: None,
        "sav_000001.mp4",
        "has no frame 16; frames are 0 to 12",
    ),
    "SA-V: fewer masklets than declared": (
        lambda root: sav(sav(root, rows=3), "sav_2"),
        lambda root: edited(
            root / "sav_000001_manual.json", lambda content: content.update(masklet_frame_count=[4.0, 4])
        ),
        "sav_000001_manual.json",
        "no masklets for frame 12",
    ),
    "SA-V: images without masks": (
        sav_val,
        lambda root: (write_image(root / "JPEGImages_24fps" / "sav_8" / "00000.jpg"), None)[1],
        "sav_8",
        "has no masks in .*sav_8",
    ),
    "SA-V: a mask of another size": (
        lambda root: sav_val(sav_val(root), "sav_9"),
        lambda root: (png(root / "Annotations_6fps" / "sav_7" / "000" / "00004.png", np.ones((8, 9), np.uint8)), None)[
            1
        ],
        "00004.png",
        "is 9 x 8 and 00004.jpg is 60 x 40",
    ),
    "SA-V: the video is cut short": (
        lambda root: sav(sav(root), "sav_2"),
        lambda root: cut(root / "sav_2.mp4", 0.5) and None,
        "sav_2.mp4",
        "sav_2.mp4",
    ),
}
CASES["COCO: an unknown image"] = (
    coco,
    first_annotation(image_id=99),
    "instances_val2017.json",
    r"1 annotation\(s\) of image_id 99",
)


@pytest.mark.parametrize("case", CASES)
def test_broken_files_are_named_and_the_rest_is_read(tmp_path: Path, case: str) -> None:
    make, harm, file, words = CASES[case]
    make(tmp_path)
    sound = {sample.name for sample in open_dataset(tmp_path).samples}
    harm(tmp_path)
    data = open_dataset(tmp_path)
    issues = list(check_dataset(data))
    assert len({issue.file for issue in issues}) == 1
    assert issues[0].file.name == file
    with pytest.raises(SourceError, match=words):
        raise SourceError(issues[0].reason)
    assert str(issues[0].file) in issues[0].reason
    assert sound - {issue.sample for issue in issues}
    for sample in data.samples:
        if sample.name not in {issue.sample for issue in issues}:
            for frame in sample.read(sample.frame_indices):
                assert all(mask.shape == frame.size for mask in frame.masks.values())


def test_one_file_has_at_most_three_issues(tmp_path: Path) -> None:
    issues = list(check_dataset(open_dataset(sav(tmp_path, rows=12))))
    assert len(issues) == 3
    assert "has no frame 16" in issues[0].reason


def test_split_lists_that_are_not_text_are_named(tmp_path: Path) -> None:
    videos(tmp_path)
    text(tmp_path / "ImageSets" / "val.txt", "").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"val\.txt cannot be read"):
        open_dataset(tmp_path, split="val")


# the dataset as a whole ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("[]", r"holds a list \[...\] where the whole file should be an object"),
        ('{"images": {}, "annotations": []}', r"holds an object \{...\} where 'images' should be a list"),
        ('{"images": [], "annotations": []}', "names no images"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id"', "is no JSON"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}', "is no JSON"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []} trailing', "is no JSON"),
        ('{"images": [{"id": 1, "file_name": "no.jpg"}], "annotations": []}', "'no.jpg', and none of them is in"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1, "bbox": []}]}',
            "boxes",
        ),
    ],
)
def test_invalid_coco_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    write_image(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match=rf"file\.json.*{words}"):
        open_dataset(text(tmp_path / "file.json", content), data_format="coco")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n- b\n", r"holds \['a', 'b'\]"),
        ("train: [\n", "cannot be read"),
        ("names: [a]\n", "names no images"),
        ("train: elsewhere\n", "elsewhere, which is not there"),
        ("train: images/none\nval: images\n", "has 1 images and no label, such as .*labels/a.txt"),
    ],
)
def test_invalid_data_yaml_files_are_refused(tmp_path: Path, content: str, words: str) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    with pytest.raises(SourceError, match=words):
        open_dataset(text(tmp_path / "data.yaml", content))


@pytest.mark.parametrize("data_format", ["native", "davis", "sav", "sa1b", "coco", "yolo", "png"])
def test_a_folder_of_another_format_is_refused(tmp_path: Path, data_format: str) -> None:
    with pytest.raises(SourceError, match="allowed") as problem:
        open_dataset(tmp_path, data_format=data_format)
    assert str(tmp_path) in str(problem.value)


def test_without_samples_the_error_has_the_first_issue(tmp_path: Path) -> None:
    text(pngs(tmp_path) / "masks" / "a.png", "").rename(tmp_path / "masks" / "c.png")
    for path in (tmp_path / "masks" / "b.png", tmp_path / "images" / "b.jpg"):
        path.unlink()
    with pytest.raises(SourceError, match=r"holds no images with PNG masks: .*a\.jpg has no mask of its name.*allowed"):
        open_dataset(tmp_path)


def test_frames_without_masks_cannot_be_read(tmp_path: Path) -> None:
    sample = open_dataset(videos(tmp_path)).samples[0]
    with pytest.raises(
        MaskletError, match=r"'ant' has no masks for frame 1; its annotated frames are 0, 2, 4 \(3 in all\)"
    ):
        sample.read([0, 1])
    assert sample.read([]) == []
