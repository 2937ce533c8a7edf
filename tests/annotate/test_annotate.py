"""Labels for a folder: where they go, their content, and the summary."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers.annotate_data import NAMES, Blobs, make_image, make_photos
from masklet import auto_annotate
from masklet.annotate import AnnotateOptions, Progress, Summary, annotate
from masklet.datasets import open_dataset
from masklet.errors import InputError, OutputError, SourceError, UnknownModelError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def label(photos: Path, **more: Any) -> Summary:
    return auto_annotate(photos, more.pop("det_model", Blobs()), detector_masks=True, **more)


def test_labels_go_next_to_the_data_one_text_per_image(photos: Path) -> None:
    summary = label(photos)
    out = photos.parent / "photos_auto_annotate_labels"
    assert summary.out == out
    texts = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.txt"))
    assert texts == [
        *("classes.txt", "deep/er/p2.txt", "deep/er/p5.txt"),
        *("nothing.txt", "p0.txt", "p1.txt", "p3.txt", "p4.txt"),
    ]
    assert (out / "classes.txt").read_text() == "red\ngreen\n"
    assert (out / "nothing.txt").read_text() == ""
    [red, green] = [line.split() for line in (out / "p1.txt").read_text().splitlines()]
    assert (red[0], green[0]) == ("0", "1")
    ring = np.array(red[1:], float).reshape(-1, 2) * (64, 48)
    assert np.allclose([ring.min(0), ring.max(0)], [(9.5, 10.5), (28.5, 29.5)], atol=1e-3)


def test_summary_counts_objects_and_lists_failures(photos: Path) -> None:
    summary = label(photos)
    assert (summary.images, summary.empty, summary.objects) == (7, 1, 9)
    assert dict(summary.by_class) == {"red": 6, "green": 3}
    [failure] = summary.failures
    assert Path(failure.path).name == "broken.jpg"
    assert "cut short" in failure.reason
    text = str(summary)
    assert "7 image(s), 9 object(s), 1 image(s) without any" in text
    assert "yolo: 9 of 9 object(s) written" in text
    assert "broken.jpg" in text
    assert json.loads((summary.out / "summary.json").read_text())["by_class"] == {"red": 6, "green": 3}


def test_progress_is_yielded_once_per_input(photos: Path) -> None:
    all_progress = list(annotate(photos, AnnotateOptions(Blobs(), detector_masks=True, batch=2)))
    *each, last = all_progress
    assert sorted(progress.name for progress in each) == sorted(
        ["broken", "nothing", "p0", "p1", "p3", "p4", "deep/er/p2", "deep/er/p5"]
    )
    assert [progress.done for progress in each] == list(range(1, 9))
    assert {progress.total for progress in all_progress} == {8}
    assert [progress.name for progress in each if progress.failure] == ["broken"]
    assert last.summary is not None
    assert isinstance(last, Progress)


@pytest.mark.slow  # for memory: supervision alone takes fifty megabytes a process
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_other_tools_open_the_formats(photos: Path, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    coco_tools = pytest.importorskip("pycocotools.coco")
    out = tmp_path / "out"
    summary = label(photos, output_dir=out, formats=("yolo", "coco", "labelme", "davis", "voc", "cvat"))
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        *("yolo", "coco", "labelme", "davis", "voc", "cvat", ".masklet")
    }
    yolo = supervision.DetectionDataset.from_yolo(
        str(out / "yolo" / "images"), str(out / "yolo" / "labels"), str(out / "yolo" / "data.yaml"), force_masks=True
    )
    assert yolo.classes == ["red", "green"]
    [detections] = [one for name, _, one in yolo if Path(name).name == "p1.png"]
    assert sorted(detections.class_id.tolist()) == [0, 1]
    assert abs(int(detections.mask[detections.class_id.tolist().index(0)].sum()) - 400) <= 40
    annotations = out / "coco" / "annotations" / "instances_default.json"
    tools = coco_tools.COCO(str(annotations))
    assert len(tools.getImgIds()) == summary.images
    assert {one["name"] for one in tools.loadCats(tools.getCatIds())} == {"red", "green"}
    reds = [one for one in tools.loadAnns(tools.getAnnIds()) if one["category_id"] == 1]
    assert [int(tools.annToMask(one).sum()) for one in reds] == [400] * 6
    coco = supervision.DetectionDataset.from_coco(str(out / "coco" / "images"), str(annotations), force_masks=True)
    assert sum(len(one) for _, _, one in coco) == summary.objects
    for kind in ("yolo", "coco", "labelme", "davis", "voc", "cvat"):
        dataset = open_dataset(out / kind)
        assert len(dataset.samples) >= 1, kind


def test_split_is_reproducible_and_listed_in_data_yaml(photos: Path, tmp_path: Path) -> None:
    first = label(photos, output_dir=tmp_path / "one", val_fraction=0.4)
    (photos / "p3.png").unlink()
    label(photos, output_dir=tmp_path / "two", val_fraction=0.4)
    splits = [
        {path.stem: path.parent.name for path in (tmp_path / out / "yolo/labels").rglob("p[014].txt")}
        for out in ("one", "two")
    ]
    assert splits[0] == splits[1]
    assert sum(first.splits.values()) == 7
    assert set(first.splits) == {"train", "val"}
    data_yaml = yaml.safe_load((tmp_path / "one/yolo/data.yaml").read_text())
    assert data_yaml["names"] == NAMES
    for split in ("train", "val"):
        images = sorted((tmp_path / "one/yolo" / data_yaml[split]).rglob("*.png"))
        assert len(images) == first.splits[split]
        for image in images:
            assert Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt").exists()
        assert len(open_dataset(tmp_path / "one/yolo", split=split).samples) == first.splits[split]


def test_only_requested_classes_are_labeled(photos: Path) -> None:
    assert dict(label(photos, classes=["green"]).by_class) == {"green": 3}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": ["blue"]}, "class 'blue' is unknown to this detector"),
        ({"conf": 2}, "conf 2 must be a number from 0 to 1"),
        ({"val_fraction": 1.5}, "val_fraction 1.5 must be between 0 and 1"),
        ({"workers": 0}, "workers 0 must be from 1"),
        ({"formats": ["yolo", "coca"]}, "no format 'coca' for labels.*did you mean coco"),
        ({"batch": 1000}, "batch 1000 is too many"),
        ({"everything": "quick"}, "everything 'quick' is unknown"),
        ({"images": "move"}, "images='move' is unknown"),
    ],
)
def test_invalid_arguments_are_reported_at_once(photos: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label(photos, **wrong)


def test_masks_of_another_size_fail_their_image(photos: Path) -> None:
    class Small(Blobs):
        def detect(self, images: Any) -> Any:
            detections = super().detect(images)
            return [replace(one, masks=one.masks[:, :40] if self.num_images == 2 else one.masks) for one in detections]

    summary = label(photos, det_model=Small(), batch=1)
    assert (summary.images, len(summary.failures)) == (6, 2)
    assert "drew a mask of [40, 64] for an image of [48, 64]" in summary.failures[1].reason


def test_model_that_cannot_be_loaded_is_an_error_and_no_failure(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        label(photos, det_model="nothing.pt", output_dir=tmp_path / "out")
    with pytest.raises(UnknownModelError):
        auto_annotate(photos, lambda rgb: ([[1, 1, 9, 9]], [1], [0]), "nothing.pt", output_dir=tmp_path / "out")
    (photos / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(UnknownModelError):
        label(photos / "clip.mp4", det_model="nothing.pt", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_empty_and_missing_folders_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(SourceError, match="has no image and no video"):
        label(tmp_path / "empty")
    with pytest.raises(SourceError, match="did you mean 'empty'"):
        label(tmp_path / "emtpy")
    assert not (tmp_path / "empty_auto_annotate_labels").exists()


def test_unwritable_folder_is_reported_before_any_detection(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    detector = Blobs()
    with pytest.raises(OutputError, match=r"cannot be written.*choose an output folder"):
        label(photos, det_model=detector, output_dir=tmp_path / "file" / "labels")
    assert detector.num_images == 0


def test_concurrent_run_into_the_same_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    first_run = annotate(photos, AnnotateOptions(Blobs(), detector_masks=True, batch=1), tmp_path / "out")
    next(first_run)
    with pytest.raises(OutputError, match="another run is annotating into"):
        label(photos, output_dir=tmp_path / "out")
    first_run.close()
    assert label(photos, output_dir=tmp_path / "out", batch=1).images == 7


def test_function_is_a_detector_and_the_model_segments(tmp_path: Path, builtin_file: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(make_image(1)).save(tmp_path / "photos" / "a.png")
    Image.fromarray(make_image(2)).save(tmp_path / "photos" / "b.png")

    def corners(rgb: np.ndarray) -> tuple[list[list[float]], list[float], list[int]]:
        height, width = rgb.shape[:2]
        return [[0, 0, 20, 20], [width - 0.3, height - 0.2, width + 9, height + 9]], [0.9, 0.5], [3, 0]

    summary = auto_annotate(tmp_path / "photos", corners, builtin_file, formats="coco", output_dir=tmp_path / "out")
    assert summary.objects + summary.without_mask == 4
    [path] = (tmp_path / "out/coco/annotations").iterdir()
    assert all(0 < one["score"] <= 0.9 for one in json.loads(path.read_text())["annotations"])


def test_image_is_encoded_once_for_all_its_boxes(
    tmp_path: Path, builtin_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from masklet.annotate import labeler
    from masklet.image import ImagePredictor

    monkeypatch.setattr(labeler, "MAX_BOXES_PER_BATCH", 2)
    encoded: list[object] = []
    set_image = ImagePredictor.set_image
    monkeypatch.setattr(ImagePredictor, "set_image", lambda self, rgb: (encoded.append(rgb), set_image(self, rgb))[1])
    Image.fromarray(make_image(1)).save(tmp_path / "a.png")
    boxes = [[x, 4, x + 12, 30] for x in (0, 10, 20, 30, 40)]
    summary = auto_annotate(tmp_path / "a.png", lambda rgb: (boxes, [0.9] * 5, range(5)), builtin_file)
    assert len(encoded) == 1
    assert summary.objects + summary.without_mask == 5
    assert summary.out == tmp_path / "a_auto_annotate_labels"


@pytest.mark.slow
def test_everything_runs_offline_with_the_builtin_model(tmp_path: Path) -> None:
    from PIL import Image

    rgb = np.full((96, 128, 3), (70, 120, 60), np.uint8)
    rgb[20:70, 30:80] = (230, 40, 30)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    summary = auto_annotate(
        tmp_path / "a.png", "everything", everything="fast", formats="coco", output_dir=tmp_path / "o"
    )
    [path] = (tmp_path / "o/coco/annotations").iterdir()
    content = json.loads(path.read_text())
    assert [one["name"] for one in content["categories"]] == ["object"]
    assert summary.objects >= 1
    assert any(abs(one["area"] - 2500) < 500 for one in content["annotations"])


def test_images_are_in_memory_one_batch_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    from PIL import Image

    from masklet.annotate import labeler

    in_memory = most = 0
    read = labeler.from_file

    def released() -> None:
        nonlocal in_memory
        in_memory -= 1

    def counted(path: str) -> Any:
        nonlocal in_memory, most
        image = read(path)
        in_memory += 1
        most = max(most, in_memory)
        weakref.finalize(image.rgb, released)
        return image

    monkeypatch.setattr(labeler, "from_file", counted)
    (tmp_path / "many").mkdir()
    for number in range(120):
        Image.fromarray(make_image(number, (44, 60))).save(tmp_path / "many" / f"{number}.bmp")
    summary = label(tmp_path / "many", batch=3, formats=("coco",), output_dir=tmp_path / "out")
    assert summary.images == 120
    assert most == 3


def test_names_that_a_disk_may_hold_to_be_equal_keep_their_labels(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["a", "a.", "b"] if (tmp_path / "PHOTOS").exists() else ["a", "A", "a.", "b"]
    for number, name in enumerate(names):
        Image.fromarray(make_image(number)).save(folder / f"{name}.png")
    summary = label(folder, formats=["yolo", "labelme"], output_dir=tmp_path / "out")
    assert (summary.images, dict(summary.written)) == (
        len(names),
        {"yolo": summary.objects, "labelme": summary.objects},
    )
    labels = sorted(path.stem for path in (tmp_path / "out/yolo/labels").iterdir())
    assert labels == sorted(names)
    assert len({path.read_text() for path in (tmp_path / "out/yolo/labels").iterdir()}) == len(names)
