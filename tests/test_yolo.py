"""`YOLO` and `FastSAM`."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.yolo_files import NAMES, TINY, network, save
from helpers.yolo_stub import loaded
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError, MissingExtraError, PromptError, SourceError
from masklet.models.yolo import CONFIGS
from masklet.yolo import YOLO, FastSAM

RED, GREEN = (30, 30, 90, 70), (100, 20, 190, 90)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("yolo") / "mine.pt", network())


@pytest.fixture
def model(file: Path) -> YOLO:
    """With a network that is known to be right."""
    yolo = YOLO(file)
    yolo.detector = YOLODetector(loaded(), rle_masks=False)
    return yolo


@pytest.fixture
def fast(file: Path) -> FastSAM:
    fastsam = FastSAM(file)
    fastsam._yolo.detector = YOLODetector(loaded(), rle_masks=False)
    return fastsam


def image() -> np.ndarray:
    rgb = np.full((100, 200, 3), 20, np.uint8)
    for (x1, y1, x2, y2), color in ((RED, (255, 0, 0)), (GREEN, (0, 255, 0))):
        rgb[y1:y2, x1:x2] = color
    return rgb


def test_an_image_has_boxes_masks_and_names(model: YOLO) -> None:
    (found,) = model(image())
    assert len(found) == 2
    assert [found.class_name(i) for i in range(2)] == ["red", "green"]
    assert np.abs(found.boxes.xyxy - np.array([RED, GREEN])).max() <= 1
    assert found.boxes.conf.tolist() == pytest.approx([0.9, 0.8])
    assert found.masks is not None
    assert found.masks.data.shape == (2, 100, 200)
    x1, y1, x2, y2 = RED
    assert found.masks.data[0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].all()
    assert abs(int(found.masks.data[0].sum()) - (x2 - x1) * (y2 - y1)) < 150
    assert set(found.speed) == {"preprocess", "inference", "postprocess"}
    assert all(took >= 0 for took in found.speed.values())


def test_results_go_wherever_results_go(model: YOLO, tmp_path: Path) -> None:
    (found,) = model(image())
    assert len(found.save_txt(tmp_path / "labels.txt").read_text().splitlines()) == 2
    assert found.to_coco()[1]["category_id"] == 2
    assert found.summary()[0]["name"] == "red"
    assert found.plot(boxes=True, labels=True).shape == (100, 200, 3)


def test_options_are_of_one_call(model: YOLO) -> None:
    assert len(model(image(), classes="green")[0]) == 1
    assert len(model(image(), classes=[0, 1], conf=0.85)[0]) == 1
    assert len(model(image(), max_det=1)[0]) == 1
    assert len(model(image())[0]) == 2


def test_streams_side_by_side_keep_their_options(model: YOLO) -> None:
    few, all_ = model.stream([image()] * 2, max_det=1), model.stream([image()] * 2)
    assert [len(next(few)), len(next(all_)), len(next(few)), len(next(all_))] == [1, 2, 1, 2]


def test_folders_in_batches_and_one_at_a_time(model: YOLO, tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(image()[:, : 200 - 10 * (number % 2)]).save(tmp_path / f"{number}.png")
    alone, batched = model(tmp_path), model.predict(tmp_path, batch=3)
    assert [Path(r.path).name for r in batched] == [f"{n}.png" for n in range(5)]
    for one, other in zip(alone, batched, strict=True):
        assert np.array_equal(one.boxes.xyxy, other.boxes.xyxy)
        assert one.masks is not None
        assert other.masks is not None
        assert np.array_equal(one.masks.data, other.masks.data)


def test_a_stream_takes_one_batch_at_a_time(model: YOLO) -> None:
    taken = []

    def images():  # type: ignore[no-untyped-def]
        for number in range(10):
            taken.append(number)
            yield image()

    stream = model.stream(images(), batch=2)
    assert taken == []
    next(stream)
    assert len(taken) <= 3


def test_nothing_is_a_result(model: YOLO) -> None:
    (found,) = model(np.zeros((40, 50, 3), np.uint8))
    assert len(found) == 0
    assert found.masks is not None
    assert found.masks.data.shape == (0, 40, 50)
    assert found.boxes.xyxy.shape == (0, 4)


def test_detectors_have_boxes_and_no_masks(tmp_path: Path) -> None:
    model = YOLO(save(tmp_path / "boxes.pt", network(TINY)))
    (found,) = model(image(), conf=0.1, imgsz=64, max_det=3)
    assert len(found) == 3
    assert found.masks is None
    assert found.boxes.xyxy.shape == (3, 4)


def test_the_file_says_what_it_is(file: Path) -> None:
    model = YOLO(str(file), device="cpu")
    assert model.names == NAMES
    shown = str(model.info())
    assert str(file) in shown
    assert "masks of 3 classes, on cpu" in shown
    assert "license: code Apache-2.0, weights AGPL-3.0" in shown
    assert model.info().parameters == sum(p.numel() for p in network().parameters())


def test_mistakes_are_raised_at_once(model: YOLO) -> None:
    with pytest.raises(InputError, match="conf 2 must be"):
        model.stream(image(), conf=2)
    with pytest.raises(InputError, match="batch=0 must be"):
        model.stream(image(), batch=0)
    with pytest.raises(InputError, match="'lilac' is unknown"):
        model.stream(image(), classes=["lilac"])
    with pytest.raises(SourceError):
        model.stream("nowhere.jpg")


# -- FastSAM


def test_everything_in_one_pass(fast: FastSAM) -> None:
    (found,) = fast(image())
    assert len(found) == 2
    assert found.masks is not None
    assert found.masks.data.shape == (2, 100, 200)


def test_boxes_and_points_choose(fast: FastSAM) -> None:
    (found,) = fast(image(), bboxes=[[100, 20, 190, 90], [30, 30, 90, 70]])
    assert [found.class_name(i) for i in range(2)] == ["green", "red"]
    assert found.ids.tolist() == [0, 1]
    (found,) = fast(image(), points=[[5, 5], [50, 50]])
    assert [found.class_name(i) for i in range(len(found))] == ["red"]
    assert found.ids.tolist() == [1]
    (found,) = fast(image(), points=[[[50, 50], [150, 50]]], labels=[[1, 0]])
    assert len(found) == 1
    assert "prompts" in found.speed
    (found,) = fast(image(), points=[5, 5])
    assert len(found) == 0
    assert found.boxes.xyxy.shape == (0, 4)


def test_multimask_returns_all_matches(fast: FastSAM) -> None:
    (found,) = fast(image(), points=[50, 50], iou=1.0, multimask=True)
    assert len(found) == 2
    assert found.ids.tolist() == [0, 0]
    assert found.scores[0] > found.scores[1]


def test_texts_choose_and_name(file: Path) -> None:
    def like(images, texts):  # type: ignore[no-untyped-def]
        channels = {"something red": 0, "a green thing": 1}
        middles = np.array([p[len(p) // 2, p.shape[1] // 2] for p in images], np.float32)
        return np.stack([middles[:, channels[text]] for text in texts], 1)

    fast = FastSAM(file, clip=like)
    fast._yolo.detector = YOLODetector(loaded(), rle_masks=False)
    (found,) = fast(image(), texts=["a green thing", "something red"])
    assert [found.class_name(i) for i in range(2)] == ["a green thing", "something red"]
    assert np.abs(found.boxes.xyxy - np.array([GREEN, RED])).max() <= 1
    (found,) = fast(image(), texts="something red")
    assert found.names == {0: "something red"}
    (found,) = fast(np.zeros((40, 50, 3), np.uint8), texts="something red")
    assert len(found) == 0


def test_invalid_prompts_are_refused(fast: FastSAM, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PromptError, match="texts were given with points or bboxes"):
        fast(image(), texts="a dog", bboxes=[0, 0, 9, 9])
    with pytest.raises(PromptError, match="texts"):
        fast(image(), texts=["a dog", " "])
    with pytest.raises(PromptError, match="outside"):
        fast(image(), points=[500, 5])
    with pytest.raises(PromptError):
        fast(image(), labels=[1])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        fast(image(), texts="a dog")


def test_models_without_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="draws no masks"):
        FastSAM(save(tmp_path / "boxes.pt", network(TINY)))


@pytest.mark.slow
def test_the_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in files of the published names."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)).save("dog.jpg")
    small = replace(CONFIGS["yolov8n-seg"], classes=1, class_channels=64)
    save(Path("yolov8n-seg.pt"), network(CONFIGS["yolov8n-seg"]), ["cat", "dog", *map(str, range(78))])
    save(Path("FastSAM-s.pt"), network(small), ["object"])
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text().partition("## YOLOv8 and FastSAM")[2]
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    assert namespace["model"].info().name == "yolov8n-seg"
    assert namespace["model"].info().license_weights == "AGPL-3.0"
    assert namespace["everything"][0].masks is not None
