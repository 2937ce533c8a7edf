"""`YOLO` and `FastSAM` of `masklet.compat.ultralytics`, with a network that is known to be right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.yolo_files import network, save
from helpers.yolo_stub import loaded
from masklet.compat.ultralytics import YOLO, FastSAM
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError

RED, GREEN = (30, 30, 90, 70), (100, 20, 190, 90)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("yolo") / "mine.pt", network())


@pytest.fixture
def yolo(file: Path) -> YOLO:
    model = YOLO(file)
    model.native.detector = YOLODetector(loaded(), rle_masks=False)
    return model


@pytest.fixture
def bgr() -> np.ndarray:
    image = np.full((100, 200, 3), 20, np.uint8)
    for (x1, y1, x2, y2), color in ((RED, (0, 0, 255)), (GREEN, (0, 255, 0))):
        image[y1:y2, x1:x2] = color
    return image


def test_boxes_have_classes_and_names(yolo: YOLO, bgr: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    (r,) = yolo(bgr)
    assert [r.names[int(number)] for number in r.boxes.cls] == ["red", "green"]
    assert abs(r.boxes.xyxy.numpy() - [RED, GREEN]).max() <= 1
    assert r.masks.data.shape == (2, 100, 200)
    assert "100x200 1 red, 1 green, " in capsys.readouterr().out
    assert [one["name"] for one in r.summary()] == ["red", "green"]
    assert r.path == "image0.jpg"


def test_arguments_choose_objects(yolo: YOLO, bgr: np.ndarray) -> None:
    (green,) = yolo(bgr, classes=[1], verbose=False)
    assert green.boxes.cls.tolist() == [1]
    (one,) = yolo(bgr, max_det=1, verbose=False)
    assert len(one) == 1
    (none,) = yolo(bgr, conf=0.95, verbose=False)
    assert none.masks is None
    assert len(none.boxes) == 0
    with pytest.raises(InputError, match="fp32"):
        yolo(bgr, half=True)


def test_fastsam_selects_by_prompts(file: Path, bgr: np.ndarray) -> None:
    model = FastSAM(file)
    model.native._yolo.detector = YOLODetector(loaded(), rle_masks=False)
    (everything,) = model(bgr, verbose=False)
    (selected,) = model(bgr, bboxes=[GREEN], verbose=False)
    assert (len(everything), len(selected)) == (2, 1)
    assert abs(selected.boxes.xyxy.numpy() - [GREEN]).max() <= 1


def moving(count: int) -> list[np.ndarray]:
    """Frames in which red moves to the right, and green appears in the third."""
    frames = []
    for number in range(count):
        image = np.full((100, 200, 3), 20, np.uint8)
        image[30:70, 10 + 4 * number : 70 + 4 * number] = (0, 0, 255)
        if number >= 2:
            image[20:90, 130:190] = (0, 255, 0)
        frames.append(image)
    return frames


def test_objects_keep_their_ids_from_call_to_call(yolo: YOLO) -> None:
    """The loop over frames that the documentation of tracking shows."""
    for number, frame in enumerate(moving(4)):
        (result,) = yolo.track(frame, persist=True, verbose=False)
        assert result.boxes.is_track
        ids = result.boxes.id.int().cpu().tolist()
        assert ids == ([1] if number < 2 else [1, 2])
        assert [result.names[int(one)] for one in result.boxes.cls] == ["red", "green"][: len(ids)]
        assert result.boxes.xyxy[0, 0] == pytest.approx(10 + 4 * number, abs=8)
        assert result.plot().shape == (100, 200, 3)
    (first,) = yolo.track(moving(1)[0], verbose=False)
    assert first.boxes.id.tolist() == [1]


def test_frames_of_a_list_are_a_video(yolo: YOLO, tmp_path: Path) -> None:
    results = yolo.track(moving(3), tracker="bytetrack.yaml", conf=0.3, iou=0.5, verbose=False)
    assert [one.boxes.id.tolist() for one in results] == [[1], [1], [1, 2]]
    assert results[2].summary()[1]["track_id"] == 2
    stream = yolo.track(moving(2), stream=True, classes=[1], verbose=False)
    assert [len(one) for one in stream] == [0, 0]
    (empty,) = yolo.track(np.full((100, 200, 3), 20, np.uint8), verbose=False)
    assert empty.boxes.id is None
    assert empty.masks is None


def test_a_tracker_is_a_name_or_a_model(yolo: YOLO, bgr: np.ndarray) -> None:
    with pytest.raises(InputError, match="AutoTrackOptions"):
        yolo.track(bgr, tracker="mine.yaml")
    with pytest.raises(InputError, match="no source"):
        yolo.track(persist=True)
    (result,) = yolo.track(bgr, tracker="builtin", verbose=False)
    assert result.boxes.id.tolist() == [1, 2]


def test_fastsam_tracks_too(file: Path, bgr: np.ndarray) -> None:
    model = FastSAM(file)
    model.native._yolo.detector = YOLODetector(loaded(), rle_masks=False)
    (result,) = model.track(source=[bgr], verbose=False)
    assert result.boxes.id.tolist() == [1, 2]


def test_a_model_of_another_task_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="can segment"):
        YOLO(file, task="detect")
