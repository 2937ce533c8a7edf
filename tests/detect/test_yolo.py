"""From images to detections: a network that is known to be right, and networks that come from files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.yolo_files import NAMES, TINY, TINY_SEG, network, save
from helpers.yolo_stub import COLORS, loaded
from masklet.detect import Detections, DetectOptions, Detector
from masklet.detect import yolo as loading
from masklet.detect.letterbox import Letterbox
from masklet.detect.yolo import YOLODetector, filter_candidates, load_yolo, select_boxes
from masklet.errors import CheckpointError, DownloadError, InputError, UnknownModelError
from masklet.models.yolo import RawDetections

SIZES = [(480, 640), (640, 480), (333, 500), (501, 331), (1080, 1920), (97, 41), (64, 64)]
PAINT = {0: (255, 0, 0), 1: (0, 255, 0), 2: (0, 0, 255)}


def painted(size: tuple[int, int], boxes: dict[int, tuple[float, float, float, float]]) -> tuple[np.ndarray, dict]:
    """A dark image with rectangles given in fractions, and where they are in pixels."""
    rgb = np.full((*size, 3), 20, np.uint8)
    where = {}
    for color, (x1, y1, x2, y2) in boxes.items():
        left, right, top, bottom = int(x1 * size[1]), int(x2 * size[1]), int(y1 * size[0]), int(y2 * size[0])
        rgb[top:bottom, left:right] = PAINT[color]
        where[color] = (left, top, right, bottom)
    return rgb, where


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("codes", [True, False])
def test_what_is_painted_is_found_where_it_is(size: tuple[int, int], codes: bool) -> None:
    rgb, where = painted(size, {0: (0.1, 0.1, 0.4, 0.5), 1: (0.5, 0.3, 1.0, 0.9), 2: (0.0, 0.6, 0.3, 1.0)})
    (found,) = YOLODetector(loaded(), rle_masks=codes).detect([rgb])
    assert [found.class_name(i) for i in range(len(found))] == ["red", "green", "blue"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    # a pixel of the input is this many of the image; an edge is known to one of either
    pixel = max(1.0, max(size) / 640)
    assert np.abs(found.xyxy - np.array(list(where.values()))).max() <= pixel
    masks = found.masks
    assert masks is not None
    assert masks.shape == (3, *size)
    for color, mask in enumerate(masks):
        left, top, right, bottom = where[color]
        truth = np.zeros(size, bool)
        truth[top:bottom, left:right] = True
        off = 2.0 * pixel * (right - left + bottom - top) / truth.sum()
        assert iou(mask, truth) > 1 - off


def test_images_of_all_sizes_at_once_are_as_one_by_one() -> None:
    images = [painted(size, {i % 3: (0.2, 0.2, 0.8, 0.7)})[0] for i, size in enumerate(SIZES * 2)]
    detector = YOLODetector(loaded())
    together = detector.detect(images)
    shapes = {shape[2:] for shape in detector.network.passes}
    assert len(detector.network.passes) == len(shapes) < len(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        assert np.array_equal(found.xyxy, alone.xyxy)
        assert found.rles == alone.rles


def test_many_images_take_several_passes() -> None:
    detector = YOLODetector(loaded(masks=False), DetectOptions(imgsz=32))
    assert len(detector.detect([np.zeros((9, 9, 3), np.uint8)] * 40)) == 40
    assert [shape[0] for shape in detector.network.passes] == [16, 16, 8]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (DetectOptions(), ["red", "green", "blue"]),
        (DetectOptions(conf=0.75), ["red", "green"]),
        (DetectOptions(classes=("blue", 0)), ["red", "blue"]),
        (DetectOptions(max_det=1), ["red"]),
        (DetectOptions(iou=1.0, max_det=4), ["red", "green", "blue", "red"]),
        (DetectOptions(conf=0.95), []),
    ],
    ids=lambda value: "",
)
def test_options_hold(options: DetectOptions, names: list[str]) -> None:
    rgb, _ = painted((64, 96), {0: (0.1, 0.1, 0.3, 0.9), 1: (0.4, 0.1, 0.6, 0.9), 2: (0.7, 0.1, 0.9, 0.9)})
    (found,) = YOLODetector(loaded(), options).detect([rgb])
    assert [found.class_name(i) for i in range(len(found))] == names
    assert found.masks is not None
    assert found.masks.shape[0] == len(names)


def test_agnostic_boxes_of_other_classes_are_the_same_object() -> None:
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9]], np.float32)
    scores, classes = np.array([0.8, 0.9, 0.7], np.float32), np.array([0, 1, 0])
    assert select_boxes(xyxy, scores, classes, DetectOptions(iou=0.7)).tolist() == [1, 0, 2]
    assert select_boxes(xyxy, scores, classes, DetectOptions(iou=0.7, agnostic_nms=True)).tolist() == [1, 2]


def test_candidates_are_of_wanted_best_classes() -> None:
    scores = torch.tensor([[0.2, 0.1], [0.3, 0.9], [0.6, 0.5], [0.25, 0.25]])
    best, classes, places = filter_candidates(scores, 0.25, None)
    assert (best.tolist(), classes.tolist(), places.tolist()) == (
        pytest.approx([0.9, 0.6, 0.25]),
        [1, 0, 0],
        [1, 2, 3],
    )
    assert filter_candidates(scores, 0.25, frozenset({1}))[2].tolist() == [1]  # a second best class is not meant
    assert filter_candidates(scores, 0.25, frozenset({7}))[2].tolist() == []


def test_masks_may_be_left_out() -> None:
    rgb, _ = painted((64, 96), {0: (0.1, 0.1, 0.3, 0.9)})
    for detector in (YOLODetector(loaded(), with_masks=False), YOLODetector(loaded(masks=False))):
        (found,) = detector.detect([rgb])
        assert len(found) == 1
        assert found.masks is None


def test_boxes_that_are_no_numbers_or_lie_outside_are_left_out() -> None:
    boxes = torch.tensor([[[0, 0, 9, 9], [float("nan"), 0, 9, 9], [0, 0, float("inf"), 9], [-30, 0, -20, 9]]])
    scores = torch.full((1, 4, 3), 0.0)
    scores[:, :, 1] = 0.9
    detector = YOLODetector(loaded(masks=False), DetectOptions(iou=1.0))
    found = detector.postprocess(RawDetections(boxes, scores), 0, Letterbox.from_size((32, 32), 32))
    assert found.xyxy.tolist() == [[0, 0, 9, 9]]


def test_wishes_it_cannot_follow() -> None:
    with pytest.raises(InputError, match="class 'lilac' is unknown to this detector"):
        YOLODetector(loaded(), DetectOptions(classes=("lilac",)))
    with pytest.raises(InputError, match="takes no text='a dog'"):
        YOLODetector(loaded(), DetectOptions(text="a dog"))
    with pytest.raises(InputError, match="device 'nowhere'"):
        YOLODetector(loaded(), device="nowhere")


def test_it_is_a_detector() -> None:
    detector = YOLODetector(loaded())
    assert isinstance(detector, Detector)
    assert detector.names == COLORS
    assert detector.detect([]) == []


# -- files


@pytest.mark.parametrize("config", [TINY, TINY_SEG], ids=["detect", "segment"])
def test_a_file_finds_what_its_network_finds(tmp_path: Path, config: object) -> None:
    """The chain from a whole half-precision network to detections, against the network itself."""
    made = network(config)  # type: ignore[arg-type]
    file = save(tmp_path / "mine.pt", made)
    detector = YOLODetector(file, DetectOptions(conf=0.0, iou=1.0, imgsz=64, max_det=100_000))
    assert detector.names == NAMES
    rgb = np.random.default_rng(0).integers(0, 255, (100, 150, 3), np.uint8)
    (found,) = detector.detect([rgb])
    box = Letterbox.from_size((100, 150), 64)
    pixels = torch.from_numpy(box.apply(rgb)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        raw = network(config).half().float()(pixels)  # type: ignore[arg-type]
    scores = raw.scores_BAK[0].max(1).values
    order = scores.argsort(descending=True)
    wanted = box.boxes_to_original(raw.xyxy_BA4[0][order].numpy())
    seen = (wanted[:, 2:] > wanted[:, :2]).all(1)  # what lies outside of the image is left out
    np.testing.assert_allclose(found.scores, scores[order].numpy()[seen], atol=1e-5)
    np.testing.assert_allclose(np.sort(found.xyxy, 0), np.sort(wanted[seen], 0), atol=0.02)
    assert (found.masks is None) == (config is TINY)


def test_the_license_is_logged_once_for_each_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = save(tmp_path / "one.pt", network()), save(tmp_path / "two.pt", network())
    with caplog.at_level(logging.WARNING, "masklet"):
        for file in (one, one, two):
            load_yolo(file)
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 2
    assert "one.pt" in logged[0]
    assert all("AGPL-3.0" in words for words in logged)


def test_a_fine_tuned_file_has_the_terms_it_says(tmp_path: Path) -> None:
    found = load_yolo(save(tmp_path / "mine.pt", network(), license="MIT"))
    assert found.card is None
    assert found.license_weights == "MIT"
    assert found.image_size == 320
    assert found.name == "yolov8 of width 4-seg with 3 classes"
    save_file(network().state_dict(), tmp_path / "bare.safetensors")
    bare = load_yolo(tmp_path / "bare.safetensors")
    assert bare.license_weights == "unknown"
    assert bare.names == {0: "class0", 1: "class1", 2: "class2"}


def test_other_models_are_sent_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path))
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"masklet\.SAM\('sam2_hiera_tiny\.pt'\)"):
        load_yolo("sam2_t.pt")
    with pytest.raises(UnknownModelError, match=r"'yolov8q\.pt' is neither .* yolov8n-seg\.pt"):
        load_yolo("yolov8q.pt")
    with pytest.raises(DownloadError, match=r"yolov8n\.pt \(6\.5 MB\).*releases/download/v8\.3\.0/yolov8n\.pt"):
        load_yolo("yolov8n.pt")
    torch.save({"model.0.conv.weight": torch.ones(16, 3, 3, 3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="a YOLO network, not a version 8 one"):
        load_yolo(tmp_path / "other.pt")


def test_the_path_of_a_file_may_be_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_license_logged", set())
    file = save(tmp_path / "mine.pt", network(TINY))
    assert load_yolo(str(file)).path == file


def test_nothing_is_an_answer() -> None:
    (found,) = YOLODetector(loaded()).detect([np.zeros((40, 50, 3), np.uint8)])
    assert isinstance(found, Detections)
    assert len(found) == 0
