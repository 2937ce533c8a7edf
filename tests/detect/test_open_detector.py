"""From what people write to a detector."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from helpers.networks import small_network
from helpers.tiny_huggingface import NAMES, make
from helpers.yolo_files import NAMES as YOLO_NAMES
from helpers.yolo_files import network, save
from masklet.detect import Detections, DetectOptions, open_detector
from masklet.detect.adapters import CallableDetector, SegmentEverythingDetector
from masklet.detect.huggingface import HubDetector
from masklet.detect.open_detector import HUB_EXAMPLES
from masklet.detect.yolo import YOLODetector
from masklet.errors import DownloadError, InputError, UnknownModelError
from masklet.image.predictor import ImagePredictor

RGB = np.zeros((48, 64, 3), np.uint8)


class Corner:
    """A detector of somebody's own."""

    names: ClassVar = {3: "corner", 4: "edge"}

    def detect(self, images: Any) -> list[Detections]:
        return [
            Detections(np.array([[0, 0, 9, 9], [5, 0, 9, 9]]), np.array([0.1, 0.6]), np.array([3, 4]), self.names)
            for _ in images
        ]


def test_everything_uses_the_predictor_of_sam() -> None:
    predictor = ImagePredictor(small_network())
    for sam in (predictor, SimpleNamespace(predictor=predictor)):
        opened = open_detector("everything", DetectOptions(max_det=3), sam=sam)
        assert isinstance(opened, SegmentEverythingDetector)
        assert opened.predictor is predictor
        assert opened.options.max_det == 3


def test_everything_without_sam_uses_the_builtin_model() -> None:
    opened = open_detector(" Everything", device="cpu")
    assert isinstance(opened, SegmentEverythingDetector)
    assert opened.predictor.device.type == "cpu"


def test_a_function_is_a_detector() -> None:
    opened = open_detector(lambda rgb: ([[1, 1, 9, 9]], [1.0], [0]), DetectOptions())
    assert isinstance(opened, CallableDetector)
    assert len(opened.detect([RGB])[0]) == 1


def test_a_detector_is_given_back_and_options_hold() -> None:
    own = Corner()
    assert open_detector(own) is own
    assert open_detector(own, DetectOptions()).detect([RGB])[0].classes.tolist() == [4]
    chosen = open_detector(own, DetectOptions(conf=0.0, classes=("corner",)))
    assert chosen.names == own.names
    assert chosen.detect([RGB])[0].classes.tolist() == [3]
    with pytest.raises(InputError, match="It has 3 corner, 4 edge"):
        open_detector(own, DetectOptions(classes=("dog",)))


@pytest.mark.parametrize("spelt", [pytest.param(str, marks=pytest.mark.slow), Path])
def test_a_folder_is_a_detector_of_the_hub(spelt: Any, tmp_path: Path) -> None:
    folder = make("detr", tmp_path / "detr")
    opened = open_detector(spelt(folder), DetectOptions(classes=("dog",)), "cpu")
    assert isinstance(opened, HubDetector)
    assert opened.names == NAMES


@pytest.mark.parametrize("name", HUB_EXAMPLES)
def test_names_with_an_owner_are_downloaded_from_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "/nowhere")
    with pytest.raises(DownloadError, match=r"hf download [\w-]+/"):
        open_detector(name, DetectOptions(text="a dog"))


@pytest.mark.parametrize("name", ["yolov8n.pt", "YOLOv8x-seg", "FastSAM-s.pt"])
def test_registered_names_are_downloaded_from_their_release_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    monkeypatch.setenv("MASKLET_HOME", "/nowhere")
    with pytest.raises(DownloadError, match=r"Download it by other means from https://\S+/(yolov8|FastSAM)"):
        open_detector(name)


@pytest.mark.parametrize("spelt", [str, Path])
def test_a_file_is_a_detector_of_that_family(spelt: Any, tmp_path: Path) -> None:
    save(tmp_path / "mine.pt", network())
    opened = open_detector(spelt(tmp_path / "mine.pt"), DetectOptions(classes=("dog",)), "cpu")
    assert isinstance(opened, YOLODetector)
    assert opened.names == YOLO_NAMES
    with pytest.raises(InputError, match="'cat' is unknown"):
        open_detector(spelt(tmp_path / "mine.pt"), DetectOptions(classes=("cat",)))


@pytest.mark.parametrize("name", ["evrything", "yolov9000.pt", "./nowhere/detector", "rtdetr_r50vd"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(UnknownModelError) as error:
        open_detector(name)
    assert f"{name!r} is neither" in str(error.value)
    for known in ("everything", *HUB_EXAMPLES):
        assert known in str(error.value)


@pytest.mark.parametrize(
    ("name", "near"), [("evrything", "everything"), ("yolo8n", "yolov8n.pt"), ("rtdetr_r50vd", "PekingU/rtdetr_r50vd")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=f"Did you mean {near!r}"):
        open_detector(name)


def test_a_segmentation_model_is_refused_as_a_detector() -> None:
    with pytest.raises(InputError, match=r"sam=SAM\('sam2.1_t.pt'\)"):
        open_detector("sam2.1_t.pt")


def test_what_is_no_detector_is_named() -> None:
    with pytest.raises(InputError, match="5 is no detector"):
        open_detector(5)  # type: ignore[arg-type]
