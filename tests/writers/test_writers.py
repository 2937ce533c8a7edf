"""Each format represents the results, in complete files with unique names."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from masklet.errors import InputError, MaskletWarning, OutputError, StateError
from masklet.masks import rle
from masklet.masks.label_map import davis_palette
from masklet.results import Masks, Results
from masklet.writers import WRITERS, Writer, open_writer

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def masks(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    data = np.zeros((len(boxes), 20, 30), bool)
    for mask, (x1, y1, x2, y2) in zip(data, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return data


def results(path: str = "shots/cat.jpg", data: np.ndarray | None = None, **options: object) -> Results:
    data = masks((2, 3, 12, 13), (15, 5, 25, 18)) if data is None else data
    return Results(IMAGE, path, Masks(data), np.linspace(0.9, 0.5, len(data)), **options)


def visible_names(folder: Path) -> list[str]:
    """The files that a user sees: not the record of what masklet wrote."""
    return sorted(name for name in os.listdir(folder) if not name.startswith(".masklet"))


NOTHING = masks()
FILES = {
    "overlay": ["cat_overlay.png"],
    "png": ["cat.png"],
    "coco": ["annotations.coco.json"],
    "yolo": ["cat.txt", "classes.txt"],
    "json": ["cat.json"],
    "cutout": ["cat_cutout_0.png", "cat_cutout_1.png"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_all_formats(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "deep"
    with open_writer(name, folder) as writer:
        written = writer.write(results())
        assert written == writer.paths
    assert [path.name for path in writer.paths] == FILES[name]
    assert visible_names(folder) == sorted(FILES[name])
    assert all(path.parent == folder for path in writer.paths)


@pytest.mark.parametrize("name", WRITERS)
def test_image_without_objects(name: str, tmp_path: Path) -> None:
    with open_writer(name, tmp_path) as writer:
        writer.write(results(data=NOTHING))
    assert len(writer.paths) == len(FILES[name]) if name != "cutout" else not writer.paths


def test_overlay_is_the_plot(tmp_path: Path) -> None:
    with open_writer("overlay", tmp_path) as writer:
        [path] = writer.write(results())
    painted = np.array(Image.open(path))
    assert np.array_equal(painted, results().plot())
    assert not np.array_equal(painted, IMAGE)


def test_label_map(tmp_path: Path) -> None:
    sample = results()
    with open_writer("png", tmp_path) as writer:
        [path] = writer.write(sample)
    with Image.open(path) as image:
        assert image.mode == "P"
        labels = np.array(image)
        assert np.array(image.convert("RGB"))[3, 2].tolist() == [128, 0, 0]
    assert set(np.unique(labels)) == {0, 1, 2}
    for index, mask in enumerate(sample.masks.data):
        assert np.array_equal(labels == index + 1, mask)


def test_davis_palette() -> None:
    colors = davis_palette()
    assert colors.shape == (256, 3)
    assert len({tuple(color) for color in colors.tolist()}) == 256
    assert colors[[0, 1, 2, 3, 4, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [64, 0, 0], [192, 128, 128],
        [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip


def test_small_objects_cover_large_ones_and_the_loss_is_reported(tmp_path: Path) -> None:
    sample = results(data=masks((5, 5, 15, 15), (0, 0, 20, 20)))
    with open_writer("png", tmp_path) as writer, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        [path] = writer.write(sample)
    labels = np.array(Image.open(path))
    assert np.array_equal(labels == 1, sample.masks.data[0])
    assert [warning.category for warning in caught] == [MaskletWarning]
    for word in ("object 1", "cat.jpg", "IoU 0.75", "0.95", "per_object=True", "coco"):
        assert word in str(caught[0].message)


def test_one_png_per_object_is_lossless(tmp_path: Path) -> None:
    sample = results(data=masks((5, 5, 15, 15), (0, 0, 20, 20)))
    with open_writer("png", tmp_path, per_object=True) as writer:
        paths = writer.write(sample)
    assert [path.name for path in paths] == ["cat_mask_0.png", "cat_mask_1.png"]
    for path, mask in zip(paths, sample.masks.data, strict=True):
        assert np.array_equal(np.array(Image.open(path)), mask * 255)


def test_many_objects_are_written_with_16_bits(tmp_path: Path) -> None:
    data = np.eye(300, 600, dtype=bool).reshape(300, 20, 30)
    with open_writer("png", tmp_path) as writer:
        [path] = writer.write(results(data=data))
    labels = np.array(Image.open(path))
    assert labels.dtype == np.uint16
    assert labels.ravel()[:301].tolist() == [*range(1, 301), 0]


def test_image_is_never_replaced_by_its_labels(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.jpg"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in WRITERS:
        with open_writer(name, tmp_path) as writer:
            writer.write(results(str(tmp_path / "cat.jpg")))
            writer.write(results(str(tmp_path / "cat.png")))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert (tmp_path / "cat_labels.png").exists()


def test_cutout_is_transparent_outside(tmp_path: Path) -> None:
    data = masks((2, 3, 12, 13), (0, 0, 0, 0))
    data[0, 3, 2] = False
    with open_writer("cutout", tmp_path) as writer:
        [path] = writer.write(results(data=data))
    rgba = np.array(Image.open(path))
    assert rgba.shape == (10, 10, 4)
    assert rgba[0, 0].tolist() == [0, 0, 0, 0]
    assert np.array_equal(rgba[1, 1, :3], IMAGE[4, 3])
    assert rgba[1, 1, 3] == 255


def test_json_equals_to_json(tmp_path: Path) -> None:
    with open_writer("json", tmp_path) as writer:
        [path] = writer.write(results())
    assert json.loads(path.read_text()) == json.loads(results().to_json())
    assert len(json.loads(path.read_text())) == 2


def test_yolo_lines_and_class_names(tmp_path: Path) -> None:
    named = results(classes=np.array([2, 0]), names={0: "dog", 2: "cat"})
    with open_writer("yolo", tmp_path) as writer:
        [label] = writer.write(named)
        [empty] = writer.write(results("shots/empty.jpg", NOTHING, names={0: "dog", 2: "cat"}))
    assert label.read_text().splitlines() == named.yolo_lines()
    assert [line.split()[0] for line in label.read_text().splitlines()] == ["2", "0"]
    assert empty.read_text() == ""
    assert (tmp_path / "classes.txt").read_text().splitlines() == ["dog", "1", "cat"]


def test_image_named_classes_keeps_its_labels(tmp_path: Path) -> None:
    with open_writer("yolo", tmp_path) as writer:
        writer.write(results("classes.jpg"))
    assert [path.name for path in writer.paths] == ["classes_2.txt", "classes.txt"]
    assert (tmp_path / "classes.txt").read_text() == "object\n"


def test_coco_is_one_lossless_file_per_run(tmp_path: Path) -> None:
    ring = masks((2, 3, 12, 13))
    ring[0, 6:9, 6:9] = False
    with open_writer("coco", tmp_path) as writer:
        assert writer.write(results("shots/a/cat.jpg")) == []
        writer.write(results("shots/b/cat.jpg", ring))
        writer.write(results("https://example.org/x/dog.jpg?size=2", NOTHING))
        writer.write(results("image3"))
    data = json.loads((tmp_path / "annotations.coco.json").read_text())
    assert [image["file_name"] for image in data["images"]] == ["a/cat.jpg", "b/cat.jpg", "dog.jpg", "image3"]
    assert [(image["id"], image["width"], image["height"]) for image in data["images"]] == [
        (1, 30, 20), (2, 30, 20), (3, 30, 20), (4, 30, 20),
    ]  # fmt: skip
    assert [annotation["id"] for annotation in data["annotations"]] == [1, 2, 3, 4, 5]
    assert [annotation["image_id"] for annotation in data["annotations"]] == [1, 1, 2, 4, 4]
    assert {annotation["category_id"] for annotation in data["annotations"]} == {
        category["id"] for category in data["categories"] if category["name"] == "object"
    }
    assert np.array_equal(rle.decode(data["annotations"][2]["segmentation"]), ring[0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_is_read_by_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    with open_writer("coco", tmp_path) as writer:
        writer.write(results())
    read = coco.COCO(str(writer.paths[0]))
    assert np.array_equal(read.annToMask(read.anns[2]), results().masks.data[1])


def test_class_has_one_name_per_run(tmp_path: Path) -> None:
    for name in ("coco", "yolo"):
        with open_writer(name, tmp_path) as writer:
            writer.write(results(names={0: "cat"}))
            with pytest.raises(InputError, match=r"class 0 is 'dog' in 'b.jpg' and was 'cat'.*separate folder"):
                writer.write(results("b.jpg", names={0: "dog"}))


@pytest.mark.parametrize("name", ["overlay", "png", "yolo", "json"])
def test_equal_stems_get_numbers(name: str, tmp_path: Path) -> None:
    paths = ["a/cat.jpg", "b/cat.png", "c/CAT.jpg", "d/cat_2.jpg", "a/cat.jpg"]
    with open_writer(name, tmp_path) as writer:
        stems = [writer.write(results(path))[0].stem.removesuffix("_overlay") for path in paths]
    assert stems == ["cat", "cat_2", "CAT_3", "cat_2_2", "cat_4"]


def test_second_run_replaces_the_first(tmp_path: Path) -> None:
    for data in (None, NOTHING):
        with open_writer("yolo", tmp_path) as writer:
            writer.write(results(data=data))
    assert (tmp_path / "cat.txt").read_text() == ""
    assert visible_names(tmp_path) == ["cat.txt", "classes.txt"]


def test_closed_writer_refuses_results(tmp_path: Path) -> None:
    with open_writer("coco", tmp_path) as writer:
        writer.write(results())
    writer.close()
    assert len(writer.paths) == 1
    with pytest.raises(StateError, match=r"CocoWriter.*closed.*open a new writer"):
        writer.write(results())


def test_error_in_the_block_keeps_earlier_images(tmp_path: Path) -> None:
    def fail_after_one_image() -> None:
        with open_writer("coco", tmp_path) as writer:
            writer.write(results())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_after_one_image()
    assert len(json.loads((tmp_path / "annotations.coco.json").read_text())["images"]) == 1


def test_no_results_leave_no_file(tmp_path: Path) -> None:
    for name in WRITERS:
        with open_writer(name, tmp_path):
            pass
    assert os.listdir(tmp_path) == []


BAD_NAMES = {
    "Overlay": ["'Overlay'", "overlay, png, coco", "did you mean 'overlay'"],
    "jsn": ["'jsn'", "did you mean 'json'"],
    "xlsx": ["'xlsx'", "cutout", "choose one of them"],
}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_unknown_formats(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_writer(name, tmp_path)
    for word in BAD_NAMES[name]:
        assert word in str(caught.value)


def test_option_of_another_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'coco' has no option per_object.*'png'.*remove the option"):
        open_writer("coco", tmp_path, per_object=True)


@pytest.mark.parametrize("name", WRITERS)
def test_output_folder_is_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"out' is a file.*choose another folder"):
        open_writer(name, tmp_path / "out")
    with pytest.raises(OutputError, match=r"out.*Not a directory.*choose another folder"):
        open_writer(name, tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "mine"


def raise_permission_error(*args: object, **options: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("where", [(Path, "mkdir"), (tempfile, "NamedTemporaryFile")], ids=["make", "try"])
def test_folder_without_permission_is_reported(
    where: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*where, raise_permission_error)
    with pytest.raises(OutputError, match=r"closed.*Permission denied.*check its permissions"):
        open_writer("json", tmp_path / "closed")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match=r"Permission denied.*check its permissions"):
        open_writer("json", tmp_path)
    tmp_path.chmod(0o700)


def disk_full_after_some_bytes(self: object, target: object, *args: object, **options: object) -> None:
    path = self if isinstance(self, Path) else Path(str(target))
    path.write_bytes(b"half a fi")
    raise OSError(errno.ENOSPC, "No space left on device")


def write_and_close(writer: Writer, sample: Results) -> None:
    writer.write(sample)
    writer.close()


@pytest.mark.parametrize("name", WRITERS)
def test_disk_full(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_writer(name, tmp_path)
    writer.write(results("first.jpg"))
    kept = {path: path.read_bytes() for path in writer.paths}
    monkeypatch.setattr(Image.Image, "save", disk_full_after_some_bytes)
    monkeypatch.setattr(Path, "write_text", disk_full_after_some_bytes)
    with pytest.raises(OutputError, match=r"No space left on device.*room") as caught:
        write_and_close(writer, results("second.jpg"))
    assert str(tmp_path) in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert {path: path.read_bytes() for path in writer.paths} == kept
    assert visible_names(tmp_path) == sorted(path.name for path in kept)
