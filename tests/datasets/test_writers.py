"""All writers: complete files, resumed runs, and clear refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers.dataset_files import HEIGHT, WIDTH
from helpers.labeled_images import BOX, NAMES, NOTHING, RING, labeled, plain
from masklet.datasets import (
    DATASET_WRITERS,
    ConversionLoss,
    DatasetWriter,
    LabeledImage,
    LabeledObject,
    WriteOptions,
    open_dataset,
    open_dataset_writer,
)
from masklet.errors import InputError, OutputError, StateError
from masklet.resume_store import ResumeStore


def tree(folder: Path) -> dict[str, bytes]:
    """Every file except the log."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".masklet" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


def write(out: Path, data_format: str, samples: Iterable[LabeledImage], **options) -> DatasetWriter:
    with open_dataset_writer(data_format, out, names=NAMES, options=WriteOptions(**options)) as writer:
        for image in samples:
            writer.write(image)
    return writer


def interrupted(image: LabeledImage) -> Iterator[LabeledImage]:
    yield image
    raise ZeroDivisionError


def downgrade_log(out: Path, data_format: str) -> Path:
    """Replace the log by that of an earlier version: JSON lines of the header, the class names and the images."""
    path = out / ".masklet" / f"{data_format}.sqlite"
    with ResumeStore(path, busy="") as store:
        header = store.settings
        names = {"names": header.pop("class_names")}
        lines = [header, names, *(document for _, document in store.items())]
    path.unlink()
    earlier = path.with_suffix(".jsonl")
    earlier.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return earlier


@pytest.mark.parametrize("earlier_version", [False, True])
@pytest.mark.parametrize("data_format", DATASET_WRITERS)
def test_an_interrupted_run_is_resumed(tmp_path: Path, data_format: str, earlier_version: bool) -> None:
    images = plain(tmp_path / "in", ("train", "val"))
    complete = write(tmp_path / "complete", data_format, images, images="copy")
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "out", data_format, interrupted(images[1]), images="copy")
    if earlier_version:
        log = downgrade_log(tmp_path / "out", data_format)
        log.write_bytes(log.read_bytes() + b'{"name": "b10", "fi')  # the power went
    with open_dataset_writer(data_format, tmp_path / "out", names=NAMES, options=WriteOptions(images="copy")) as writer:
        assert [writer.has(image.name) for image in images] == [False, True, False]
        for image in images:
            if not writer.has(image.name):
                writer.write(image)
    assert tree(tmp_path / "out") == tree(tmp_path / "complete")
    assert (writer.loss, writer.counts, writer.num_images) == (complete.loss, {0: 2, 1: 2}, 3)
    assert not list((tmp_path / "out").rglob("*.jsonl"))


KILLED = """
import os, signal, sys
from pathlib import Path
from helpers.labeled_images import NAMES, plain
from masklet.datasets import WriteOptions, open_dataset_writer

root = Path(sys.argv[1])
with open_dataset_writer("coco", root / "out", names=NAMES, options=WriteOptions(images="copy")) as writer:
    writer.register_class(7, "late")
    for image in plain(root / "in")[:2]:
        writer.write(image)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_loses_no_image(tmp_path: Path) -> None:
    search_path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search_path}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    images = plain(tmp_path / "in")
    with open_dataset_writer("coco", tmp_path / "out", names=NAMES, options=WriteOptions(images="copy")) as writer:
        assert [writer.has(image.name) for image in images] == [True, True, False]
        assert dict(writer.names) == {**NAMES, 7: "late"}
        writer.write(images[2])
    with open_dataset_writer("coco", tmp_path / "complete", names={**NAMES, 7: "late"}) as writer:
        for image in images:
            writer.write(image)
    annotations = Path("annotations") / "instances_default.json"
    assert (tmp_path / "out" / annotations).read_bytes() == (tmp_path / "complete" / annotations).read_bytes()


@pytest.mark.parametrize("data_format", DATASET_WRITERS)
def test_resuming_a_complete_run_changes_nothing(tmp_path: Path, data_format: str) -> None:
    write(tmp_path / "out", data_format, plain(tmp_path / "in"), images="link")
    before = tree(tmp_path / "out")
    write(tmp_path / "out", data_format, [], images="link")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("data_format", DATASET_WRITERS)
def test_a_missing_file_is_written_again(tmp_path: Path, data_format: str) -> None:
    images = plain(tmp_path / "in")
    write(tmp_path / "out", data_format, images, images="copy")
    before = tree(tmp_path / "out")
    [lost] = [name for name in before if "b2" in name and name.endswith(".jpg")]
    (tmp_path / "out" / lost).unlink()
    with open_dataset_writer(data_format, tmp_path / "out", names=NAMES, options=WriteOptions(images="copy")) as writer:
        assert [writer.has(image.name) for image in images] == [True, False, True]
        writer.write(images[1])
    assert tree(tmp_path / "out") == before
    assert writer.num_images == 3


def test_resuming_with_other_options_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "coco", [])
    with pytest.raises(
        InputError, match=r"segmentation 'rle', now 'polygon'; min_iou None, now 0\.9\).*use the same options"
    ):
        open_dataset_writer("coco", tmp_path, names=NAMES, options=WriteOptions(segmentation="polygon", min_iou=0.9))
    with pytest.raises(InputError, match=r"class 1 is 'cat' and was 'a leash'.*another folder"):
        open_dataset_writer("coco", tmp_path, names={1: "cat"})
    with open_dataset_writer("coco", tmp_path, names={7: "new"}) as writer:  # the refusals unlocked the folder
        assert dict(writer.names) == {**NAMES, 7: "new"}


@pytest.mark.parametrize("data_format", ["coco", "yolo", "davis"])
def test_a_log_with_earlier_keys_is_resumed(tmp_path: Path, data_format: str) -> None:
    """`old_log_headers.json` has the headers that versions before 0.1.0 wrote."""
    images = plain(tmp_path / "in")
    options = WriteOptions(images="copy", resume_options=(("source", "photos"), ("val", "0")))
    with open_dataset_writer(data_format, tmp_path / "complete", names=NAMES, options=options) as complete:
        for image in images:
            complete.write(image)
    with open_dataset_writer(data_format, tmp_path / "out", names=NAMES, options=options) as writer:
        writer.write(images[0])
    log = downgrade_log(tmp_path / "out", data_format)
    header, *lines = log.read_text().splitlines(keepends=True)
    earlier = json.loads((Path(__file__).parent / "old_log_headers.json").read_text(encoding="utf-8"))[data_format]
    assert json.loads(header) != earlier
    log.write_text(json.dumps(earlier) + "\n" + "".join(lines))
    with open_dataset_writer(data_format, tmp_path / "out", names=NAMES, options=options) as writer:
        assert [writer.has(image.name) for image in images] == [True, False, False]
        for image in images[1:]:
            writer.write(image)
    assert tree(tmp_path / "out") == tree(tmp_path / "complete")
    assert writer.loss == complete.loss


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_dataset_writer("coco", tmp_path), pytest.raises(OutputError, match=f"another process writes {tmp_path}"):
        open_dataset_writer("coco", tmp_path)
    with open_dataset_writer("coco", tmp_path), open_dataset_writer("yolo", tmp_path):
        pass


@pytest.mark.parametrize("name", ["", "/etc/cat", "../cat", "a/../../cat", "a\\b", "c:/cat", "a//b", "./a", "a\0"])
def test_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    image = dataclasses.replace(labeled(tmp_path / "in", "a"), name=name)
    with (
        open_dataset_writer("yolo", tmp_path / "out") as writer,
        pytest.raises(InputError, match="no name of an image"),
    ):
        writer.write(image)
    with (
        open_dataset_writer("yolo", tmp_path / "out") as writer,
        pytest.raises(InputError, match="no name of an image"),
    ):
        writer.write(dataclasses.replace(image, name="a", split="../up"))


def test_invalid_images_and_options_are_refused(tmp_path: Path) -> None:
    image = labeled(tmp_path / "in", "a")
    small, negative = LabeledObject.from_mask(BOX[:5]), LabeledObject.from_mask(BOX, -1)
    with open_dataset_writer("yolo", tmp_path / "out") as writer:
        for obj in (small, negative):
            with pytest.raises(InputError, match=r"an object of 'a' has a mask of size .* classes count from 0"):
                writer.write(dataclasses.replace(image, objects=(obj,)))
        writer.write(image)
        with pytest.raises(InputError, match=r"there is an image 'a' in .*rename one"):
            writer.write(dataclasses.replace(image, path=tmp_path / "a.png"))
    with pytest.raises(StateError, match="closed"):
        writer.write(image)
    with pytest.raises(InputError, match=r"no format 'cocoo'.*did you mean coco"):
        open_dataset_writer("cocoo", tmp_path)
    for wrong in ({"segmentation": "box"}, {"images": "move"}, {"min_iou": 1.2}, {"min_iou": float("nan")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            WriteOptions(**wrong)


@pytest.mark.parametrize("how", ["copy", "link", "none"])
def test_images_are_copied_linked_or_left_in_place(tmp_path: Path, how: str) -> None:
    image = labeled(tmp_path / "in", "zoo/a", LabeledObject.from_mask(BOX))
    write(tmp_path / "out", "yolo", [image], images=how)
    there = tmp_path / "out" / "images" / "zoo" / "a.jpg"
    assert there.exists() == (how != "none")
    if how != "none":
        assert there.read_bytes() == image.path.read_bytes()
        assert os.path.samefile(there, image.path) == (how == "link")


def test_symbolic_links_replace_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.chdir(tmp_path)
    image = labeled(Path("in"), "a")
    write(tmp_path / "out", "coco", [image], images="link")
    assert (tmp_path / "out" / "images" / "a.jpg").is_symlink()
    assert (tmp_path / "out" / "images" / "a.jpg").read_bytes() == image.path.read_bytes()
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(OutputError, match=r"cannot be linked.*choose images 'copy'"):
        write(tmp_path / "other", "coco", [image], images="link")


def test_pixels_become_an_image_file(tmp_path: Path) -> None:
    from PIL import Image

    photo = labeled(tmp_path / "in", "video")
    rgb = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    frame = dataclasses.replace(photo, path=tmp_path / "video.mp4", name="video/00003", rgb=rgb)
    write(tmp_path / "out", "yolo", [frame], images="link")
    with Image.open(tmp_path / "out" / "images" / "video" / "00003.jpg") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_losses_add_up_and_have_a_summary() -> None:
    loss = (
        ConversionLoss.from_ious("a", [1.0, 0.5])
        + ConversionLoss.from_ious("b", [0.0], {"a score left out": 2})
        + ConversionLoss.from_ious("c", [])
    )
    assert (loss.objects, loss.exact, loss.dropped, loss.mean, loss.worst, loss.worst_in) == (3, 1, 1, 0.5, 0.0, "b")
    assert loss.summary_lines() == [
        "2 of 3 objects lost something of their masks: mean IoU 0.5000, worst 0.0000 (in b)",
        "1 of 3 objects are not there at all",
        "2 x a score left out",
    ]
    assert ConversionLoss.from_ious("a", [1.0]).summary_lines() == ["nothing was lost of 1 object"]
    assert ConversionLoss().mean == 1.0


def test_yolo_is_written_as_trainers_expect_it(tmp_path: Path) -> None:
    import yaml

    writer = write(tmp_path / "out", "yolo", plain(tmp_path / "in", ("train", "val")), images="copy")
    assert list(tree(tmp_path / "out")) == [
        "classes.txt", "data.yaml", "images/train/b10.jpg", "images/train/empty.jpg", "images/val/zoo/b2.jpg",
        "labels/train/b10.txt", "labels/train/empty.txt", "labels/val/zoo/b2.txt",
    ]  # fmt: skip
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "train": "images/train", "val": "images/val", "names": NAMES,
    }  # fmt: skip
    first = (tmp_path / "out" / "labels" / "train" / "b10.txt").read_text().splitlines()
    assert [line.split()[0] for line in first] == ["1", "0"]
    assert np.array([first[0].split()[1:3]], float) * (WIDTH, HEIGHT) == pytest.approx(
        np.array([[10.5, 5.5]]), abs=1e-4
    )
    assert (tmp_path / "out" / "labels" / "train" / "empty.txt").read_text() == ""
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines() == list(NAMES.values())
    assert writer.loss.mean > 0.99


@pytest.mark.parametrize(
    ("splits", "train", "val"),
    [
        ((None,), "images", "images"),
        (("train2017", "val2017", "zoo"), ["images/train2017", "images/zoo"], "images/val2017"),
    ],
)
def test_data_yaml_names_a_train_and_a_val(tmp_path: Path, splits, train, val) -> None:
    import yaml

    write(tmp_path / "out", "yolo", plain(tmp_path / "in", splits))
    read = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert (read["train"], read["val"]) == (train, val)


def test_yolo_without_a_label_folder(tmp_path: Path) -> None:
    write(tmp_path / "labels", "yolo", plain(tmp_path / "in"), label_folder="")
    assert list(tree(tmp_path / "labels")) == ["b10.txt", "classes.txt", "empty.txt", "zoo/b2.txt"]


def test_coco_has_all_attributes(tmp_path: Path) -> None:
    objects = (LabeledObject.from_mask(RING, 2, 0.75, track_id=9), LabeledObject.from_mask(NOTHING))
    images = [labeled(tmp_path / "in", "zoo/a", *objects, split="val"), labeled(tmp_path / "in", "b", split="val")]
    write(tmp_path / "out", "coco", images)
    read = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    assert [(image["id"], image["file_name"], image["height"], image["width"]) for image in read["images"]] == [
        (1, "b.jpg", HEIGHT, WIDTH), (2, "zoo/a.jpg", HEIGHT, WIDTH),
    ]  # fmt: skip
    assert [(category["id"], category["name"]) for category in read["categories"]] == [
        (n + 1, name) for n, name in NAMES.items()
    ]
    ring, nothing = read["annotations"]
    assert (ring["id"], ring["image_id"], ring["category_id"], ring["score"], ring["track_id"]) == (1, 2, 3, 0.75, 9)
    assert (ring["bbox"], ring["area"], ring["iscrowd"]) == ([32, 22, 20, 14], int(RING.sum()), 0)
    assert (nothing["bbox"], nothing["area"]) == ([0, 0, 0, 0], 0)


def test_without_a_good_outline_the_code_is_written_and_counted(tmp_path: Path) -> None:
    objects = (LabeledObject.from_mask(RING), LabeledObject.from_mask(NOTHING))
    writer = write(tmp_path / "out", "coco", [labeled(tmp_path / "in", "a", *objects)], segmentation="polygon")
    read = json.loads((tmp_path / "out" / "annotations" / "instances_default.json").read_text())
    assert [type(mark["segmentation"]) for mark in read["annotations"]] == [list, dict]
    assert list(writer.loss.notes.values()) == [1]
    assert "rle" not in read["annotations"][0]


def test_a_full_disk_is_reported_and_resumed_from(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    images = [labeled(tmp_path / "in", name, LabeledObject.from_mask(RING)) for name in ("a", "b", "c", "d", "e")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, before[1]))  # no file can be larger than this
        with pytest.raises(OutputError, match=r"coco\.sqlite could not be written .*has room"):
            write(tmp_path / "out", "coco", images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with open_dataset_writer("coco", tmp_path / "out", names=NAMES) as writer:
        assert 0 < writer.num_images < 5
        for image in images:
            if not writer.has(image.name):
                writer.write(image)
    write(tmp_path / "complete", "coco", images)
    assert tree(tmp_path / "out") == tree(tmp_path / "complete")


def test_a_damaged_log_is_used_up_to_the_damage(tmp_path: Path) -> None:
    images = plain(tmp_path / "in")
    write(tmp_path / "out", "coco", images)
    log = downgrade_log(tmp_path / "out", "coco")
    lines = log.read_text().splitlines()
    for wrong in ('{"name": "b10"}', "[]", "null", '{"name": 3, "loss": 4, "size": 5, "classes": 6}'):
        log.write_text("\n".join([*lines[:3], wrong, *lines[3:]]) + "\n")
        with open_dataset_writer("coco", tmp_path / "out", names=NAMES) as writer:
            assert writer.num_images == 1
        log.with_suffix(".sqlite").unlink()
    log.write_text("nothing of ours\n")
    with open_dataset_writer("coco", tmp_path / "out", names=NAMES) as writer:
        assert writer.num_images == 0


def test_class_names_are_adapted_to_the_format(tmp_path: Path) -> None:
    names = {0: "traffic\nlight", 1: "a\0b"}
    for data_format in DATASET_WRITERS:
        with open_dataset_writer(
            data_format, tmp_path / data_format, names=names, options=WriteOptions(images="copy")
        ) as writer:
            writer.write(labeled(tmp_path / "in", "a", LabeledObject.from_mask(BOX, 1), LabeledObject.from_mask(RING)))
        data = open_dataset(tmp_path / data_format)
        assert len(data.samples[0].read(data.samples[0].frame_indices)[0].masks) == 2
    assert (tmp_path / "yolo" / "classes.txt").read_text() == "traffic light\na\0b\n"
    assert "<name>ab</name>" in (tmp_path / "voc" / "Annotations" / "a.xml").read_text()
