from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from masklet.errors import InputError, MaskletWarning, MissingExtraError, OutputError
from masklet.masks import drawing, polygons, rle
from masklet.results import Masks, Results

HEIGHT, WIDTH = 60, 80


def three_masks() -> np.ndarray:
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 10:30, 5:45] = True
    masks[1, 35:55, 10:30] = True
    masks[1, 40:50, 15:25] = False
    masks[2, 40:56, 50:78] = True
    return masks


def some_results(**changes: Any) -> Results:
    fields: dict[str, Any] = {
        "ids": np.array([4, 7, 9], np.int32),
        "classes": np.array([0, 1, 0], np.int32),
        "names": {0: "object", 1: "ring"},
        "speed": {"encode": 12.5},
        "logits": np.arange(3, dtype=np.float32)[:, None, None] * np.ones((4, 4), np.float32),
    }
    image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    return Results(image, "folder/cat.jpg", Masks(three_masks()), scores, **{**fields, **changes})


def empty_results() -> Results:
    return Results(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "cat.jpg", None, np.zeros(0, np.float32))


def read_yolo(line: str) -> np.ndarray:
    """Fill the ring as readers of the format do: whole pixels, edge included."""
    ring = np.array(line.split()[1:], float).reshape(-1, 2) * (WIDTH, HEIGHT)
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(canvas, [ring.astype(np.int32)], 1)
    return canvas.astype(bool)


@pytest.mark.parametrize(
    ("index", "ids"),
    [
        (0, [4]), (-1, [9]), (np.int64(1), [7]), (slice(1, None), [7, 9]), ([2, 0], [9, 4]), ([], []),
        (np.array([True, False, True]), [4, 9]), ([False, True, False], [7]), (np.array([1]), [7]),
        (np.zeros(3, bool), []),
    ],
)  # fmt: skip
def test_indexing_selects_rows_of_every_field(index: Any, ids: list[int]) -> None:
    part = some_results()[index]
    assert part.ids.tolist() == ids
    assert len(part) == len(ids)
    rows = [[4, 7, 9].index(i) for i in ids]
    assert part.scores.tolist() == pytest.approx([0.9 - 0.1 * row for row in rows])
    assert part.logits is not None
    assert part.logits[:, 0, 0].tolist() == rows
    assert part.masks is not None
    np.testing.assert_array_equal(part.masks.data, three_masks()[rows])


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_too_far_is_named(index: int) -> None:
    with pytest.raises(IndexError, match=f"object {index} of 3"):
        some_results()[index]


def test_iteration_gives_one_object_at_a_time() -> None:
    assert [(len(one), int(one.ids[0])) for one in some_results()] == [(1, 4), (1, 7), (1, 9)]


def test_filtering_by_score() -> None:
    results = some_results()
    assert results[results.scores > 0.75].ids.tolist() == [4, 7]


def test_boxes() -> None:
    boxes = some_results().boxes
    assert boxes.xyxy.tolist() == [[5, 10, 45, 30], [10, 35, 30, 55], [50, 40, 78, 56]]
    assert boxes.xywh[0].tolist() == [25, 20, 40, 20]
    assert boxes.xyxyn[0].tolist() == pytest.approx([5 / 80, 10 / 60, 45 / 80, 0.5])
    assert boxes.xywhn[0].tolist() == pytest.approx([25 / 80, 20 / 60, 0.5, 20 / 60])
    assert boxes.data.shape == (3, 6)
    assert boxes.data[1, 4:].tolist() == pytest.approx([0.8, 1])
    assert boxes.cls.tolist() == [0, 1, 0]
    assert boxes.conf.tolist() == some_results().scores.tolist()
    assert boxes[1].xyxy.tolist() == [[10, 35, 30, 55]]
    assert {a.dtype for a in (boxes.xyxy, boxes.xywh, boxes.xyxyn, boxes.xywhn, boxes.data)} == {np.dtype("float32")}


def test_masks_as_polygons() -> None:
    masks = some_results().masks
    assert masks is not None
    assert masks.orig_shape == (HEIGHT, WIDTH)
    assert masks.shape == (3, HEIGHT, WIDTH)
    assert [[len(part.holes) for part in parts] for parts in masks.polygons] == [[0], [1], [0]]
    assert masks.xy[0].tolist() == [[5, 10], [45, 10], [45, 30], [5, 30]]
    assert masks.xyn[0][2].tolist() == pytest.approx([45 / 80, 0.5])
    for ring, mask in zip(masks.xy, masks.data, strict=True):
        np.testing.assert_array_equal(polygons.polygons_to_mask([polygons.Polygon(ring)], (HEIGHT, WIDTH)), mask)


def test_results_may_be_empty(tmp_path: Path) -> None:
    empty = empty_results()
    assert len(empty) == 0
    assert empty.masks is not None
    assert empty.masks.data.shape == (0, *empty.orig_shape)
    assert empty.boxes.xyxy.shape == (0, 4)
    assert list(empty) == []
    assert empty.boxes.data.shape == (0, 6)
    assert empty.to_coco() == []
    assert json.loads(empty.to_json()) == []
    np.testing.assert_array_equal(empty.plot(boxes=True, labels=True), empty.orig_img)
    assert empty.save_txt(tmp_path / "a.txt").read_text() == ""
    assert empty.save_crop(tmp_path) == []


def test_results_that_do_not_fit_together_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="size"):
        Results(np.zeros((9, 9, 3), np.uint8), "", Masks(three_masks()), np.ones(3, np.float32))
    with pytest.raises(AssertionError, match="one score"):
        Results(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "", Masks(three_masks()), np.ones(2, np.float32))
    with pytest.raises(AttributeError):
        some_results().path = "other"  # type: ignore[misc]


def test_plot_draws_masks_on_a_copy_of_the_image() -> None:
    results = some_results()
    before = results.orig_img.copy()
    painted = results.plot(boxes=True, labels=True)
    assert painted.shape == before.shape
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(results.orig_img, before)
    assert (painted[12:28, 8:42] != before[12:28, 8:42]).any(axis=2).mean() > 0.9
    np.testing.assert_array_equal(results.plot(masks=False), before)


def test_an_object_keeps_its_color_when_filtered() -> None:
    results = some_results()
    plain = drawing.Style(line_width=1)
    np.testing.assert_array_equal(results.plot(style=plain)[45:52, 56:70], results[2].plot(style=plain)[45:52, 56:70])


def test_candidates_of_one_prompt_differ_in_color() -> None:
    gray = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    results = Results(gray, "", Masks(three_masks()), np.ones(3, np.float32), ids=np.zeros(3, np.int32))
    painted = results.plot()
    assert painted[20, 20].tolist() != painted[48, 64].tolist()


def test_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert some_results().save() == Path("cat_masks.png")
    np.testing.assert_array_equal(np.asarray(Image.open("cat_masks.png")), some_results().plot())
    assert some_results().save(tmp_path / "deep" / "a.jpg", labels=True).stat().st_size > 0
    with pytest.raises(OutputError, match="no image format"):
        some_results().save("a.txt")


def test_show_opens_the_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title: shown.append((self.size, title)))
    some_results().show()
    assert shown == [((WIDTH, HEIGHT), "folder/cat.jpg")]


def test_cutout_and_crops(tmp_path: Path) -> None:
    results = some_results()
    cut = results.cutout(1)
    assert cut.shape == (20, 20, 4)
    assert cut[10, 10, 3] == 0
    assert cut[1, 1, 3] == 255
    paths = results.save_crop(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "object/cat_0.png",
        "ring/cat_1.png",
        "object/cat_2.png",
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), results.orig_img[35:55, 10:30])


def test_crops_of_somebody_else_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "object" / "cat_0.png"
    path.parent.mkdir()
    path.write_bytes(b"by hand")
    with pytest.raises(OutputError, match=r"cat_0\.png was not written by masklet"):
        some_results().save_crop(tmp_path)
    assert path.read_bytes() == b"by hand"
    assert some_results().save_crop(tmp_path, overwrite=True) == some_results().save_crop(tmp_path)


def test_a_class_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    paths = some_results(names={0: "../up", 1: "a/b"}).save_crop(tmp_path)
    assert [path.parent.parent for path in paths] == [tmp_path] * 3
    assert ".." not in str(paths)


def test_yolo_text_comes_back(tmp_path: Path) -> None:
    results = some_results()
    lines = results.save_txt(tmp_path / "cat.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "0"]
    for line, mask in zip(lines, three_masks(), strict=True):
        assert np.mean(read_yolo(line) == mask) > 0.995
    np.testing.assert_array_equal(read_yolo(lines[0]), three_masks()[0])
    assert results.yolo_lines(save_conf=True)[0].endswith(" 0.900000")


def test_yolo_text_warns_with_the_measured_loss(tmp_path: Path) -> None:
    dots = np.zeros((1, HEIGHT, WIDTH), bool)
    dots[0, ::12, ::12] = True
    results = Results(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "", Masks(dots), np.ones(1, np.float32))
    with pytest.warns(MaskletWarning, match=r"object 0: .* IoU 0\.\d\d .*to_coco"):
        results.save_txt(tmp_path / "a.txt")


def test_an_empty_mask_has_no_text_line() -> None:
    masks = three_masks()
    masks[1] = False
    results = Results(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "", Masks(masks), np.ones(3, np.float32))
    assert len(results.yolo_lines()) == 2


def test_json_and_table() -> None:
    rows = json.loads(some_results().to_json())
    assert [(row["prompt"], row["name"], row["class"], row["area"]) for row in rows] == [
        (4, "object", 0, 800), (7, "ring", 1, 300), (9, "object", 0, 448)
    ]  # fmt: skip
    assert [row["low_confidence"] for row in rows] == [False] * 3
    assert rows[0]["box"] == {"x1": 5, "y1": 10, "x2": 45, "y2": 30}
    assert rows[0]["segments"] == {"x": [5, 45, 45, 5], "y": [10, 10, 30, 30]}
    pytest.importorskip("pandas")
    table = some_results().to_df()
    assert list(table.columns) == ["prompt", "name", "class", "confidence", "area", "x1", "y1", "x2", "y2"]
    assert table["area"].tolist() == [800, 300, 448]
    assert list(empty_results().to_df().columns) == list(table.columns)


def test_coco_keeps_every_pixel() -> None:
    annotations = some_results().to_coco(image_id=5, first_id=11)
    assert [(a["id"], a["image_id"], a["category_id"], a["area"]) for a in annotations] == [
        (11, 5, 1, 800), (12, 5, 2, 300), (13, 5, 1, 448)
    ]  # fmt: skip
    assert annotations[0]["bbox"] == [5, 10, 40, 20]
    assert json.loads(json.dumps(annotations)) == annotations
    for annotation, mask in zip(annotations, three_masks(), strict=True):
        np.testing.assert_array_equal(rle.decode(annotation["segmentation"]), mask)


@pytest.mark.slow  # for memory: the import alone takes fifty megabytes a process
def test_supervision() -> None:
    pytest.importorskip("supervision")
    detections = some_results().to_supervision()
    np.testing.assert_array_equal(detections.mask, three_masks())
    assert detections.data["class_name"].tolist() == ["object", "ring", "object"]
    assert detections.data["prompt_id"].tolist() == [4, 7, 9]
    assert detections.tracker_id is None
    assert len(empty_results().to_supervision()) == 0


@pytest.mark.slow
def test_supervision_and_back_in_the_same_order() -> None:
    supervision = pytest.importorskip("supervision")
    frame = some_results(frame_idx=7, xyxy=np.array([[4, 9, 46, 31], [9, 34, 31, 56], [39, 39, 79, 57]], np.float32))
    detections = frame.to_supervision()
    assert detections.tracker_id.tolist() == [4, 7, 9]
    shuffled = detections[np.array([2, 0, 1])]
    back = Results.from_supervision(shuffled, frame.orig_img, path=frame.path, frame_idx=7)
    assert back.ids.tolist() == [9, 4, 7]
    assert [back.class_name(i) for i in range(3)] == [frame.class_name(i) for i in (2, 0, 1)]
    np.testing.assert_array_equal(back.masks.data, frame.masks.data[[2, 0, 1]])
    np.testing.assert_array_equal(back.boxes.xyxy, frame.boxes.xyxy[[2, 0, 1]])
    np.testing.assert_array_equal(back.scores, frame.scores[[2, 0, 1]])
    again = back.to_supervision()
    for name in ("xyxy", "mask", "confidence", "class_id", "tracker_id"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shuffled, name))
    image = Results.from_supervision(detections, frame.orig_img).to_supervision()
    assert image.tracker_id is None
    assert image.data["prompt_id"].tolist() == [4, 7, 9]
    plain = Results.from_supervision(supervision.Detections(xyxy=np.array([[1.0, 2, 3, 4]])), frame.orig_img)
    assert (plain.masks, plain.scores.tolist(), plain.ids.tolist(), plain.class_name(0)) == (None, [1], [0], "0")
    assert len(Results.from_supervision(supervision.Detections.empty(), frame.orig_img)) == 0
    compact = getattr(supervision, "CompactMask", None)
    if compact is not None:
        detections.mask = compact.from_dense(detections.mask, detections.xyxy, image_shape=frame.orig_shape)
        assert Results.from_supervision(detections, frame.orig_img).masks.data.shape == three_masks().shape
    with pytest.raises(InputError, match="masks of"):
        Results.from_supervision(shuffled, frame.orig_img[:10])


@pytest.mark.parametrize(("package", "verb"), [("pandas", "to_df"), ("supervision", "to_supervision")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str, verb: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"{package} is not installed.*pip install"):
        getattr(some_results(), verb)()


def test_repr_stem_and_class_name() -> None:
    assert repr(some_results()) == "Results('folder/cat.jpg', 80x60 pixels, 3 objects, scores [0.90, 0.80, 0.70])"
    assert some_results().stem == "cat"
    assert some_results(names={}).class_name(1) == "1"


def boxes_alone() -> Results:
    boxes = np.array([[10, 20, 30, 50], [0, 0, 80, 60]], np.float32)
    scores = np.array([0.9, 0.5], np.float32)
    return Results(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8), "cat.jpg", None, scores, classes=np.array([3, 5], np.int32), xyxy=boxes
    )


def test_a_detector_has_boxes_and_no_masks():
    results = boxes_alone()
    assert len(results) == 2
    assert results[1].boxes.xyxy.tolist() == [[0, 0, 80, 60]]
    assert results.plot(boxes=True, labels=True).any()
    assert results.yolo_lines() == ["3 0.250000 0.583333 0.250000 0.500000", "5 0.500000 0.500000 1.000000 1.000000"]
    first = results.to_coco()[0]
    assert (first["bbox"], first["area"], first["segmentation"]) == ([10, 20, 20, 30], 600, [])
    assert results.summary()[0]["segments"] == {"x": [], "y": []}
    assert results.to_supervision().mask is None
    assert len(results.to_supervision()) == 2


def test_a_box_has_nothing_to_cut_out():
    with pytest.raises(InputError, match="object 1 has a box and no mask"):
        boxes_alone().cutout(1)


def test_a_detectors_boxes_replace_those_of_the_masks():
    boxes = np.array([[4, 9, 46, 31], [9, 34, 31, 56], [39, 39, 79, 57]], np.float32)
    results = some_results(xyxy=boxes)
    assert results.boxes.xyxy.tolist() == boxes.tolist()
    assert results[2].boxes.xyxy.tolist() == [[39, 39, 79, 57]]
