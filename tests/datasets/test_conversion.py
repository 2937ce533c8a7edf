"""Round trips between all formats; the reported loss is compared with the masks that are read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import label_map, labeled_video, native, pngs, sa1b, sav, text, videos, write_image, yolo
from helpers.labeled_images import (
    BOX,
    DISC,
    FLAT,
    HEIGHT,
    NAMES,
    NOTHING,
    OVER,
    PARTS,
    RING,
    WIDTH,
    blobs,
    labeled,
    plain,
)
from helpers.labeling_tool_files import cvat, labelme, voc
from masklet.datasets import (
    DATASET_WRITERS,
    ConversionStep,
    Dataset,
    DatasetWriter,
    LabeledImage,
    LabeledObject,
    WriteOptions,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.masks import iou

LOSSLESS = ("coco", "labelme", "cvat")
HARD = (RING, PARTS, DISC, OVER, blobs(1, (HEIGHT, WIDTH)))
Known = dict[str, list[tuple[str, float | None, int | None, bytes]]]


def written(out: Path, data_format: str, images: Iterable[LabeledImage], **options: object) -> DatasetWriter:
    with open_dataset_writer(data_format, out, names=NAMES, options=WriteOptions(images="link", **options)) as writer:
        for one in images:
            writer.write(one)
    return writer


def converted(
    source: Path, out: Path, data_format: str, **options: object
) -> tuple[DatasetWriter, list[ConversionStep]]:
    data = open_dataset(source)
    chosen = WriteOptions(images="link", **options)
    with open_dataset_writer(data_format, out, names=class_names(data), options=chosen) as writer:
        steps = list(convert(data, list_items(data, unique_per_split=writer.unique_per_split), writer))
    return writer, steps


def known(data: Dataset, *, more: bool = True) -> Known:
    """Class, score, track and mask of all objects, in any order, by the name of their image."""
    known_objects: Known = {}
    for sample in data.samples:
        for frame, annotated in zip(sample.frame_indices, sample.read(sample.frame_indices), strict=True):
            name = sample.name.removeprefix(f"{data.splits.get(sample.name)}/")
            objects = []
            for number in annotated.masks:
                tag = annotated.attributes(number)
                label = (
                    tag.label
                    if tag.label is not None
                    else data.names.get(-1 if tag.class_id is None else tag.class_id, "")
                )
                objects.append((label, tag.score, tag.track_id, annotated.masks[number].tobytes()))
            key = name if len(sample.frame_indices) == 1 else f"{name}/{frame}"
            known_objects[key] = objects if more else [("", None, None, mask) for *_, mask in objects]
    return known_objects


def hard(root: Path) -> list[LabeledImage]:
    """Objects that overlap, have holes and parts, scores and ids; one image has none, one is turned by its EXIF."""
    objects = [
        LabeledObject.from_mask(mask, n % 3, n / 8 if n else None, track_id=9 - n if n else None)
        for n, mask in enumerate(HARD)
    ]
    turned = labeled(root, "zoo/cage/turned", LabeledObject.from_mask(blobs(2, (WIDTH, HEIGHT)), 1))
    with Image.open(turned.path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(turned.path, exif=exif)
    return [
        labeled(root, "b10", *objects),
        labeled(root, "zoo/empty"),
        dataclasses.replace(turned, size=(WIDTH, HEIGHT)),
    ]


@pytest.mark.parametrize("first", LOSSLESS)
@pytest.mark.parametrize("then", LOSSLESS)
def test_lossless_formats_round_trip(tmp_path: Path, first: str, then: str) -> None:
    writer = written(tmp_path / "0", "coco", hard(tmp_path / "in"))
    before = known(open_dataset(tmp_path / "0"))
    assert writer.loss.is_lossless
    assert sum(map(len, before.values())) == len(HARD) + 1
    for number, data_format in enumerate((first, then, "coco"), 1):
        writer, steps = converted(tmp_path / str(number - 1), tmp_path / str(number), data_format)
        assert (writer.loss.summary_lines(), [step.issue for step in steps]) == (
            ["nothing was lost of 6 objects"],
            [None] * 3,
        )
        data = open_dataset(tmp_path / str(number))
        assert (data.data_format, known(data), data.issues) == (data_format, before, ())
    assert open_dataset(tmp_path / "3").names == open_dataset(tmp_path / "0").names


@pytest.mark.parametrize("data_format", LOSSLESS)
def test_segmentation_both_is_lossless(tmp_path: Path, data_format: str) -> None:
    written(tmp_path / "0", "coco", hard(tmp_path / "in"))
    writer, _ = converted(tmp_path / "0", tmp_path / "1", data_format, segmentation="both", min_iou=0.8)
    assert writer.loss.is_lossless
    assert known(open_dataset(tmp_path / "1")) == known(open_dataset(tmp_path / "0"))


@pytest.mark.parametrize("data_format", ["voc", "davis"])
@pytest.mark.parametrize("back", LOSSLESS)
def test_label_maps_store_objects_without_overlap(tmp_path: Path, data_format: str, back: str) -> None:
    objects = [LabeledObject.from_mask(mask, n) for n, mask in enumerate((*FLAT, PARTS & ~BOX & ~RING))]
    written(
        tmp_path / "0",
        back,
        [labeled(tmp_path / "in", "images/a", *objects), labeled(tmp_path / "in", "images/b")],
    )
    writer, _ = converted(tmp_path / "0", tmp_path / "1", data_format)
    assert writer.loss.mean == 1.0
    assert writer.loss.is_lossless == (data_format == "voc")
    assert writer.loss.notes == ({} if data_format == "voc" else {"a class left out": 2})
    converted(tmp_path / "1", tmp_path / "2", back)
    complete, again = open_dataset(tmp_path / "0"), open_dataset(tmp_path / "2")
    if data_format == "voc":  # where a colon stands between a name and its color
        spaced = {
            name: [(one[0].replace(":", ""), *one[1:]) for one in objects] for name, objects in known(complete).items()
        }
        assert known(again) == spaced
    else:  # videos of one frame
        one_frame = known(again, more=False)
        names = {name.replace("__", "/").removesuffix("/00000"): objects for name, objects in one_frame.items()}
        assert names == known(complete, more=False)


@pytest.mark.parametrize(("data_format", "segmentation"), [
    *((data_format, "rle") for data_format in DATASET_WRITERS),
    *((data_format, "polygon") for data_format in LOSSLESS),
])  # fmt: skip
def test_the_reported_loss_is_the_measured_loss(tmp_path: Path, data_format: str, segmentation: str) -> None:
    masks = {"a": HARD, "b": FLAT, "c": (blobs(3), blobs(4, fraction=0.7))}
    objects = {name: [LabeledObject.from_mask(mask) for mask in some] for name, some in masks.items()}
    images = [labeled(tmp_path / "in", f"video/{name}", *some) for name, some in objects.items()]
    images[2] = dataclasses.replace(images[2], path=write_image(tmp_path / "c.jpg", size=(60, 80)), size=(60, 80))
    writer = written(tmp_path / "out", data_format, images, segmentation=segmentation)
    data = open_dataset(tmp_path / "out")
    frames = {
        Path(sample.name).name if len(sample.frame_indices) == 1 else "abc"[frame]: annotated
        for sample in data.samples
        for frame, annotated in zip(sample.frame_indices, sample.read(sample.frame_indices), strict=True)
    }
    ious = [iou(mask, frames[name].masks[n]) for name, some in masks.items() for n, mask in enumerate(some, 1)]
    assert writer.loss.objects == len(ious)
    assert writer.loss.mean == pytest.approx(np.mean(ious), abs=1e-9 if segmentation == "rle" else 2e-3)
    assert writer.loss.worst == pytest.approx(min(ious), abs=1e-9 if segmentation == "rle" else 2e-3)
    assert (writer.loss.mean < 1) == (segmentation == "polygon" or data_format in ("yolo", "davis", "voc"))
    if segmentation == "polygon":
        assert min(ious) >= 0.98


@pytest.mark.parametrize("make", [native, pngs, sa1b, yolo, voc, labelme, cvat, videos, sav])
@pytest.mark.parametrize("data_format", DATASET_WRITERS)
def test_every_format_converts_to_every_other(tmp_path: Path, make, data_format: str) -> None:
    source = make(tmp_path / "in")
    data = open_dataset(source)
    writer, steps = converted(source, tmp_path / "out", data_format)
    assert [step.issue for step in steps] == [None] * len(steps)
    assert {step.is_new for step in steps} == {True}
    again = open_dataset(tmp_path / "out")
    assert (again.data_format, again.issues) == (data_format, ())
    assert sum(len(sample.frame_indices) for sample in again.samples) == sum(
        len(sample.frame_indices) for sample in data.samples
    )
    assert writer.loss.worst > 0.8
    if data_format in LOSSLESS:
        assert writer.loss.mean == 1.0
        before, after = known(data, more=False), known(again, more=False)
        assert sorted(sorted(o[3] for o in objects if any(o[3])) for objects in after.values()) == sorted(
            sorted(o[3] for o in objects if any(o[3])) for objects in before.values()
        )


def test_splits_and_names_are_kept(tmp_path: Path) -> None:
    images = [dataclasses.replace(one, split=split) for split in ("train", "val") for one in plain(tmp_path / "in")]
    written(tmp_path / "0", "coco", images)
    for number, data_format in enumerate(("yolo", "cvat", "labelme", "coco"), 1):
        converted(tmp_path / str(number - 1), tmp_path / str(number), data_format)
        data = open_dataset(tmp_path / str(number))
        names = [f"{split}/{name}" for split in ("train", "val") for name in ("b10", "empty", "zoo/b2")]
        assert sorted(sample.name for sample in data.samples) == names
        assert dict(data.splits) == {name: name.split("/")[0] for name in names}
    writer, _ = converted(tmp_path / "1", tmp_path / "voc", "voc")  # one folder for all: the part stays in the name
    assert dict(open_dataset(tmp_path / "voc").splits) == dict(open_dataset(tmp_path / "1").splits)
    assert list(writer.names.values()) == list(NAMES.values())


def test_images_without_a_split_are_other(tmp_path: Path) -> None:
    parts = {item.name: item.split for item in list_items(open_dataset(voc(tmp_path)))}
    assert parts == {"2007_000002": "val", "2007_000010": "other"}


def test_the_split_is_removed_from_unambiguous_names(tmp_path: Path) -> None:
    written(tmp_path / "0", "yolo", plain(tmp_path / "in", ("train", "val")))
    converted(tmp_path / "0", tmp_path / "1", "voc")
    assert dict(open_dataset(tmp_path / "1").splits) == {"b10": "train", "zoo/b2": "val", "empty": "train"}


def test_val_fraction_selects_the_same_images_each_time(tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / "images" / f"{number}.jpg")
        text(tmp_path / "masks" / f"{number}.json", [])
    data = open_dataset(tmp_path)
    first, again = list_items(data, val_fraction=0.25), list_items(data, val_fraction=0.25)
    assert first == again
    assert 4 <= [item.split for item in first].count("val") <= 16
    assert {item.split for item in list_items(data)} == {None}
    assert {item.split for item in list_items(data, split="test", val_fraction=0.5)} == {"test"}
    sample = open_dataset(videos(tmp_path / "videos"))
    assert all(
        len({item.split for item in list_items(sample, val_fraction=0.5) if item.sample is one}) == 1
        for one in sample.samples
    )


def test_videos_keep_their_objects(tmp_path: Path) -> None:
    labeled_video(tmp_path / "in", "dog", {0: label_map(ids=(7, 3)), 2: label_map(ids=(3, 7))}, 4)
    converted(tmp_path / "in", tmp_path / "davis", "davis")
    converted(tmp_path / "in", tmp_path / "coco", "coco")
    [video] = open_dataset(tmp_path / "davis").samples
    assert [list(annotated.masks) for annotated in video.read(video.frame_indices)] == [[3, 7], [3, 7]]
    assert [path.name for path in video.source] == ["00000.jpg", "00002.jpg"]
    for annotated, box in zip(video.read(video.frame_indices), (7, 3), strict=True):
        np.testing.assert_array_equal(annotated.masks[box], BOX)
    data = open_dataset(tmp_path / "coco")
    assert [sample.name for sample in data.samples] == ["dog/00000", "dog/00002"]
    annotated = data.samples[1].read([0])[0]
    assert {annotated.attributes(n).track_id: annotated.masks[n].tobytes() for n in annotated.masks}[3] == BOX.tobytes()
    assert dict(data.video_names) == {"dog/00000": "dog", "dog/00002": "dog"}
    assert len({item.split for item in list_items(data, val_fraction=0.5)}) == 1
    converted(tmp_path / "coco", tmp_path / "again", "davis")
    for one, two in zip(
        video.read(video.frame_indices), open_dataset(tmp_path / "again").samples[0].read([0, 1]), strict=True
    ):
        assert {n: mask.tobytes() for n, mask in one.masks.items()} == {n: m.tobytes() for n, m in two.masks.items()}


def test_more_objects_than_a_map_has_labels(tmp_path: Path) -> None:
    pixels = [NOTHING.copy() for _ in range(300)]
    for number, mask in enumerate(pixels):
        mask.flat[number] = True
    ids = [LabeledObject.from_mask(mask, track_id=n * 10) for n, mask in enumerate(pixels)]
    for data_format, objects in (("voc", [LabeledObject.from_mask(mask) for mask in pixels]), ("davis", ids)):
        writer = written(tmp_path / data_format, data_format, [labeled(tmp_path / "in", "video/a", *objects)])
        assert (writer.loss.dropped, writer.loss.exact) == (46, 254)
        assert writer.loss.notes["an object left out, because a map has 254 labels"] == 46
        [sample] = open_dataset(tmp_path / data_format).samples
        assert len(sample.read([0])[0].masks) == 254


def test_labels_of_a_video_are_stable_after_resuming(tmp_path: Path) -> None:
    frames = [
        labeled(
            tmp_path / "in",
            f"video/{n}",
            LabeledObject.from_mask(BOX, track_id=1000 + n),
            LabeledObject.from_mask(RING, track_id=1),
        )
        for n in (1, 0)
    ]
    for frame in frames:
        written(tmp_path / "out", "davis", [frame])
    written(
        tmp_path / "out", "davis", [labeled(tmp_path / "in", "video/2", LabeledObject.from_mask(DISC, track_id=1001))]
    )
    [video] = open_dataset(tmp_path / "out").samples
    last = video.read([2])[0]
    first = video.read([1])[0]
    [number] = last.masks
    np.testing.assert_array_equal(first.masks[number], BOX)
    np.testing.assert_array_equal(first.masks[1], RING)


def test_broken_images_are_reported_and_the_rest_is_converted(tmp_path: Path) -> None:
    labelme(tmp_path / "in", ["a", "b", "c", "d"])
    (tmp_path / "in" / "b.json").write_text('{"shapes": [{"label": "dog", "imagePath": "b')
    (tmp_path / "in" / "c.jpg").write_bytes(b"no image")
    _, steps = converted(tmp_path / "in", tmp_path / "out", "coco")
    assert [(step.item.name, step.is_new) for step in steps] == [("a", True), ("b", False), ("c", False), ("d", True)]
    reasons = [step.issue for step in steps if step.issue is not None]
    assert [issue.file.name for issue in reasons] == ["b.json", "c"]
    assert "is no JSON" in reasons[0].reason
    assert "cannot be read as an image" in reasons[1].reason
    labelme(tmp_path / "in", ["b", "c"])
    _, steps = converted(tmp_path / "in", tmp_path / "out", "coco")  # mended: only these are done
    assert [step.is_new for step in steps] == [False, True, True, False]
    assert len(open_dataset(tmp_path / "out").samples) == 4


def test_a_video_file_that_is_broken_is_named_frame_by_frame(tmp_path: Path) -> None:
    sav(tmp_path / "in")
    data = open_dataset(tmp_path / "in")
    next((tmp_path / "in").glob("*.mp4")).write_bytes(b"no video")
    with open_dataset_writer("coco", tmp_path / "out") as writer:
        steps = list(convert(data, list_items(data), writer))
    assert all(step.issue is not None for step in steps)
    assert writer.num_images == 0


def test_names_that_would_lead_out_of_the_folder_stay_in_it(tmp_path: Path) -> None:
    write_image(tmp_path / "evil.jpg")
    write_image(tmp_path / "in" / "evil.jpg")
    images = [
        {"id": n, "file_name": f"{where}evil.jpg", "width": WIDTH, "height": HEIGHT}
        for n, where in enumerate(("../", ""))
    ]
    text(tmp_path / "in" / "instances_default.json", {"images": images, "annotations": [], "categories": []})
    _, steps = converted(tmp_path / "in", tmp_path / "out" / "deep", "yolo")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "out").rglob("evil.*")) == [
        "out/deep/images/evil.jpg", "out/deep/labels/evil.txt",
    ]  # fmt: skip
    [twice] = [step.issue for step in steps if step.issue is not None]
    assert "would be called 'evil', as another one is: rename one" in twice.reason


def test_classes_without_names(tmp_path: Path) -> None:
    root = yolo(tmp_path / "in", yaml=False)
    file = next(iter(sorted((root / "labels").rglob("*.txt"))))
    file.write_text("5" + file.read_text()[1:])
    writer, _ = converted(root, tmp_path / "0", "coco")
    assert {writer.names[5], writer.names[0]} == {"5", "0"}
    text(tmp_path / "0" / "x.txt", "")
    writer, _ = converted(native(tmp_path / "native"), tmp_path / "1", "coco")
    assert (dict(writer.names), dict(writer.counts)) == ({0: "object"}, {0: 6})
    labelme(tmp_path / "me")
    text(tmp_path / "me" / "labels.txt", "zebra\ncat\n")  # and no dog
    for _ in range(2):
        writer, _ = converted(tmp_path / "me", tmp_path / "2", "voc")
        assert dict(writer.names) == {0: "zebra", 1: "cat", 2: "dog"}
    assert list(open_dataset(tmp_path / "2").names.values()) == ["zebra", "cat", "dog"]
