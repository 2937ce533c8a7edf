"""Other tools read the datasets that masklet writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.dataset_files import HEIGHT, WIDTH
from helpers.labeled_images import BOX, DISC, NAMES, PARTS, RING, labeled, plain
from masklet.datasets import LabeledObject, WriteOptions, open_dataset_writer
from masklet.masks import iou

MASKS = (RING, PARTS, DISC, BOX)


def write(root: Path, data_format: str, **options: object) -> Path:
    objects = [LabeledObject.from_mask(mask, n % 3, 0.5) for n, mask in enumerate(MASKS)]
    chosen = WriteOptions(images="copy", **options)
    with open_dataset_writer(data_format, root / data_format, names=NAMES, options=chosen) as writer:
        writer.write(labeled(root / "in", "a", *objects))
        writer.write(labeled(root / "in", "b"))
    return root / data_format


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("segmentation", ["rle", "polygon", "both"])
def test_the_coco_tools_read_coco(tmp_path: Path, segmentation: str) -> None:
    tools = pytest.importorskip("pycocotools.coco")
    root = write(tmp_path, "coco", segmentation=segmentation, min_iou=0.95)
    read = tools.COCO(str(root / "annotations" / "instances_default.json"))
    assert [read.cats[read.anns[n]["category_id"]]["name"] for n in (1, 2, 3, 4)] == [*NAMES.values(), NAMES[0]]
    ious = [iou(read.annToMask(read.anns[n]).astype(bool), mask) for n, mask in enumerate(MASKS, 1)]
    assert min(ious) >= (1.0 if segmentation == "rle" else 0.95)
    assert [read.anns[n]["area"] for n in (1, 2, 3, 4)] == [int(mask.sum()) for mask in MASKS]
    from pycocotools.cocoeval import COCOeval

    detections = read.loadRes([dict(read.anns[n]) for n in (1, 2, 3, 4)])  # perfect detections
    evaluation = COCOeval(read, detections, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.parametrize(("segmentation", "least"), [("rle", 1.0), ("polygon", 0.7)])
def test_supervision_reads_coco(tmp_path: Path, segmentation: str, least: float) -> None:
    """supervision rounds outlines to pixels and fills their edge, so small objects grow."""
    sv = pytest.importorskip("supervision")
    root = write(tmp_path, "coco", segmentation=segmentation)
    file = root / "annotations" / "instances_default.json"
    data = sv.DetectionDataset.from_coco(str(root / "images"), str(file), force_masks=True)
    by_name = {Path(path).name: detections for path, _, detections in data}
    assert data.classes == list(NAMES.values())
    assert by_name["a.jpg"].class_id.tolist() == [0, 1, 2, 0]
    assert min(iou(mask, one) for mask, one in zip(MASKS, by_name["a.jpg"].mask, strict=True)) >= least
    assert len(by_name["b.jpg"]) == 0


def test_supervision_reads_yolo(tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    root = write(tmp_path, "yolo")
    data = sv.DetectionDataset.from_yolo(
        str(root / "images"), str(root / "labels"), str(root / "data.yaml"), force_masks=True
    )
    by_name = {Path(path).name: detections for path, _, detections in data}
    assert data.classes == list(NAMES.values())
    assert by_name["a.jpg"].class_id.tolist() == [0, 1, 2, 0]
    assert iou(by_name["a.jpg"].mask[3], BOX) > 0.8  # it rounds where others cut off


def test_supervision_reads_the_boxes_of_voc(tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    root = write(tmp_path, "voc")
    data = sv.DetectionDataset.from_pascal_voc(str(root / "JPEGImages"), str(root / "Annotations"))
    by_name = {Path(path).name: detections for path, _, detections in data}
    assert by_name["a.jpg"].xyxy[3].tolist() == pytest.approx([10, 5, 29, 19], abs=1)
    assert [data.classes[n] for n in by_name["a.jpg"].class_id] == [*NAMES.values(), NAMES[0]]


def test_supervision_reads_labelme(tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    root = write(tmp_path, "labelme", segmentation="polygon")
    data = sv.DetectionDataset.from_labelme(str(root), str(root), force_masks=True)
    by_name = {Path(path).name: detections for path, _, detections in data}
    assert [data.classes[n] for n in by_name["a.jpg"].class_id] == [*NAMES.values(), NAMES[0]]
    assert iou(by_name["a.jpg"].mask[3], BOX) > 0.85


def test_labelme_masks_are_the_box_of_their_first_and_last_pixel(tmp_path: Path) -> None:
    import base64
    import io

    root = write(tmp_path, "labelme")
    content = json.loads((root / "a.json").read_text())
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a.jpg", HEIGHT, WIDTH)
    for shape, mask in zip(content["shapes"], MASKS, strict=True):
        (left, top), (right, bottom) = np.array(shape["points"]).astype(int)
        canvas = np.zeros_like(mask)
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as image:
            canvas[top : bottom + 1, left : right + 1] = np.asarray(image)
        np.testing.assert_array_equal(canvas, mask)
        assert (shape["shape_type"], shape["group_id"], shape["score"]) == ("mask", None, 0.5)
    assert (root / "labels.txt").read_text().splitlines()[2:] == list(NAMES.values())


def test_cvat_is_what_cvat_imports(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    root = ElementTree.parse(write(tmp_path, "cvat") / "annotations.xml").getroot()
    assert [label.findtext("name") for label in root.iter("label")] == list(NAMES.values())
    images = list(root.iter("image"))
    assert [(image.get("id"), image.get("name")) for image in images] == [("0", "a.jpg"), ("1", "b.jpg")]
    for shape, mask in zip(images[0], MASKS, strict=True):
        left, top, width, height = (int(shape.get(k) or "") for k in ("left", "top", "width", "height"))
        runs = [int(n) for n in (shape.get("rle") or "").split(",")]
        pixels = [bool(n % 2) for n, run in enumerate(runs) for _ in range(run)]
        np.testing.assert_array_equal(
            np.reshape(pixels, (height, width)), mask[top : top + height, left : left + width]
        )
        assert mask.sum() == sum(pixels)


def test_maps_have_the_palette_of_voc(tmp_path: Path) -> None:
    root = write(tmp_path, "voc")
    with Image.open(root / "SegmentationClass" / "a.png") as image:
        assert (image.mode, image.getpalette()[3:6]) == ("P", [128, 0, 0])
        kinds = np.asarray(image)
    with Image.open(root / "SegmentationObject" / "a.png") as image:
        objects = np.asarray(image)
    assert kinds[6, 11] == objects[6, 11] - 3 == 1  # the fourth object is of the first class
    assert (root / "labelmap.txt").read_text().splitlines()[1:3] == ["background:0,0,0::", "dog:128,0,0::"]
    assert (root / "ImageSets" / "Segmentation" / "train.txt").read_text() == "a\nb\n"


def test_a_davis_tree_is_one(tmp_path: Path) -> None:
    from masklet.masks.label_map import davis_palette

    with open_dataset_writer("davis", tmp_path / "out", names=NAMES, options=WriteOptions(images="copy")) as writer:
        for one in plain(tmp_path / "in"):
            writer.write(one)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*g"))
    assert files[:3] == [f"Annotations/480p/{name}/00000.png" for name in ("b10", "empty", "zoo__b2")]
    assert files[3:] == [name.replace("Annotations", "JPEGImages").replace("png", "jpg") for name in files[:3]]
    assert (tmp_path / "out" / "ImageSets" / "2017" / "train.txt").read_text() == "b10\nempty\nzoo__b2\n"
    with Image.open(tmp_path / "out" / files[0]) as image:
        assert image.getpalette()[: 3 * 256] == davis_palette().ravel().tolist()
