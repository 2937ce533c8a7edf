"""Code of the pages on SAM 2, SAM and FastSAM in the documentation of ultralytics, with only the import changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.cli_videos import played, write_video
from helpers.known_models import known_models, photograph

INFO = """
from ultralytics import SAM

# Load a model
model = SAM("sam2.1_b.pt")

# Display model information (optional)
info = model.info()
"""
BOXES = """
from ultralytics import SAM

model = SAM("sam2.1_b.pt")
model.info()

# Run inference with bboxes prompt
results = model("path/to/image.jpg", bboxes=[100, 60, 220, 180])
"""
POINTS = """
from ultralytics import SAM

model = SAM("sam2.1_b.pt")
results = model("path/to/image.jpg", points=[150, 150], labels=[1])
two = model("path/to/image.jpg", points=[[150, 150], [275, 45]], labels=[1, 1])
one = model("path/to/image.jpg", points=[[[150, 150], [160, 100]]], labels=[[1, 1]])
negative = model("path/to/image.jpg", points=[[[150, 150], [20, 20]]], labels=[[1, 0]])
"""
EVERYTHING = """
from ultralytics import SAM

model = SAM("sam2.1_b.pt")
results = model("path/to/image.jpg")
"""
EVERYTHING_VIDEO = """
from ultralytics import SAM

model = SAM("sam2.1_b.pt")
results = model("path/to/video.mp4")
"""
VIDEO = """
from ultralytics.models.sam import SAM2VideoPredictor

# Create SAM2VideoPredictor
overrides = dict(conf=0.25, task="segment", mode="predict", imgsz=256, model="sam2_b.pt")
predictor = SAM2VideoPredictor(overrides=overrides)

results = predictor(source="path/to/video.mp4", points=[20, 25], labels=[1])
two = predictor(source="path/to/video.mp4", points=[[20, 25], [80, 55]], labels=[1, 1])
one = predictor(source="path/to/video.mp4", points=[[[20, 25], [22, 30]]], labels=[[1, 1]])
negative = predictor(source="path/to/video.mp4", points=[[[20, 25], [80, 55]]], labels=[[1, 0]])
"""
DYNAMIC = """
from ultralytics.models.sam import SAM2DynamicInteractivePredictor

overrides = dict(conf=0.01, task="segment", mode="predict", imgsz=256, model="sam2_t.pt", save=False)
predictor = SAM2DynamicInteractivePredictor(overrides=overrides, max_obj_num=10)

first = predictor(source="image1.jpg", bboxes=[[100, 60, 220, 180]], obj_ids=[1], update_memory=True)
second = predictor(source="image2.jpg")
third = predictor(source="image3.jpg", points=[[275, 45]], labels=[1], obj_ids=[2], update_memory=True)
fourth = predictor(source="image4.jpg")
"""
COMPARISON = """
from ultralytics import ASSETS, SAM, YOLO, FastSAM

seen = {}
# Profile SAM2-t, SAM2-b, SAM-b, MobileSAM
for file in ["sam_b.pt", "sam2_b.pt", "sam2_t.pt", "mobile_sam.pt"]:
    model = SAM(file)
    model.info()
    seen[file] = model(ASSETS)

# Profile FastSAM-s
model = FastSAM("FastSAM-s.pt")
model.info()
seen["FastSAM-s.pt"] = model(ASSETS)

# Profile YOLO models
for file_name in ["yolov8n-seg.pt"]:
    model = YOLO(file_name)
    model.info()
    seen[file_name] = model(ASSETS)
"""
ANNOTATE = """
from ultralytics.data.annotator import auto_annotate

auto_annotate(data="path/to", det_model="yolov8x.pt", sam_model="sam2_b.pt")
"""
SET_IMAGE = """
import cv2

from ultralytics.models.sam import Predictor as SAMPredictor

overrides = dict(conf=0.25, task="segment", mode="predict", imgsz=512, model="mobile_sam.pt")
predictor = SAMPredictor(overrides=overrides)

# Set image
predictor.set_image("path/to/image.jpg")  # set with image file
named = predictor(bboxes=[100, 60, 220, 180])
predictor.set_image(cv2.imread("path/to/image.jpg"))  # set with np.ndarray
results = predictor(bboxes=[100, 60, 220, 180])
clicked = predictor(points=[[150, 150]], labels=[1])

# Reset image
predictor.reset_image()
"""
EVERYTHING_OPTIONS = """
from ultralytics.models.sam import Predictor as SAMPredictor

overrides = dict(conf=0.25, task="segment", mode="predict", imgsz=512, model="mobile_sam.pt")
predictor = SAMPredictor(overrides=overrides)
results = predictor(source="path/to/image.jpg", points_stride=8, stability_score_thresh=0.05, conf_thres=0.25)
"""
FAST = """
from ultralytics import FastSAM

source = "path/to/image.jpg"
model = FastSAM("FastSAM-s.pt")
everything_results = model(source, device="cpu", retina_masks=True, imgsz=320, conf=0.4, iou=0.9)
results = model(source, bboxes=[100, 60, 220, 180])
results = model(source, points=[[150, 150]], labels=[1])
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return known_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_video: np.ndarray) -> Any:
    """Run a block beside models, images and a video of the names that it has; returns its variables."""
    import masklet.compat.ultralytics as compat

    for file in models.iterdir():
        (tmp_path / file.name).symlink_to(file)
    photograph(tmp_path / "path" / "to" / "image.jpg")
    for number in range(1, 5):
        photograph(tmp_path / f"image{number}.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compat, "ASSETS", photograph(tmp_path / "assets" / "bus.jpg").parent, raising=False)

    def block(code: str, *, frames: int = 0) -> dict[str, Any]:
        if frames:
            write_video(tmp_path / "path" / "to" / "video.mp4", small_video[:frames])
        variables: dict[str, Any] = {}
        exec(code.replace("from ultralytics", "from masklet.compat.ultralytics"), variables)
        return variables

    return block


def iou_with_rectangle(mask: Any) -> float:
    truth = np.zeros((240, 320), bool)
    truth[60:180, 100:220] = True
    found = mask.cpu().numpy().astype(bool)
    return float((found & truth).sum() / (found | truth).sum())


def test_info_is_printed_and_has_the_parameters(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    modules, parameters, trainable, _ = run(INFO)["info"]
    assert modules > 10
    assert parameters == 6_867_666
    assert trainable <= parameters
    assert "6.9 M parameters" in capsys.readouterr().out


def test_a_box_finds_the_object(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (results,) = run(BOXES)["results"]
    assert results.masks.data.shape == (1, 240, 320)
    assert iou_with_rectangle(results.masks.data[0]) > 0.9
    assert "240x320 1 0, " in capsys.readouterr().out


def test_points_are_nested_as_there(run: Any) -> None:
    found = run(POINTS)
    assert [len(found[name][0]) for name in ("results", "two", "one", "negative")] == [1, 2, 1, 1]
    assert iou_with_rectangle(found["negative"][0].masks.data[0]) > 0.6
    assert found["two"][0].boxes.cls.tolist() == [0, 1]


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything from a grid of 8 x 8 points, which takes a tenth of the time."""
    from masklet.compat.ultralytics import model

    usual = model.preset
    monkeypatch.setattr(model, "preset", lambda *given: replace(usual(*given), points_per_side=8))


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_everything_is_found_in_an_image_and_in_each_frame_of_a_video(run: Any) -> None:
    (results,) = run(EVERYTHING)["results"]
    assert max(iou_with_rectangle(mask) for mask in results.masks.data) > 0.9
    frames = run(EVERYTHING_VIDEO, frames=2)["results"]
    assert len(frames) == 2
    assert all(frame.orig_shape == (64, 96) for frame in frames)


@pytest.mark.slow
def test_objects_are_tracked_through_a_video(run: Any) -> None:
    found = run(VIDEO, frames=4)
    assert [len(found[name]) for name in ("results", "two", "one", "negative")] == [4] * 4
    assert [frame.boxes.cls.tolist() for frame in found["results"]] == [[0.0]] * 4
    left = [float(frame.boxes.xyxy[0, 0]) for frame in found["results"]]
    assert left[-1] - left[0] == pytest.approx(9, abs=3)  # the square moves by 3 pixels a frame
    assert set(found["two"][0].boxes.cls.tolist()) == {0.0, 1.0}


def test_images_are_segmented_by_those_in_memory(run: Any) -> None:
    found = run(DYNAMIC)
    for name in ("first", "second", "third", "fourth"):
        (results,) = found[name]
        rows = results.boxes.cls.tolist()
        assert iou_with_rectangle(results.masks.data[rows.index(1)]) > 0.9
    assert found["second"][0].boxes.cls.tolist() == [1.0]
    assert found["third"][0].boxes.cls.tolist() == [1.0, 2.0]
    assert found["second"][0].path == "image2.jpg"


@pytest.mark.slow
@pytest.mark.usefixtures("coarse")
def test_models_are_compared(run: Any) -> None:
    seen = run(COMPARISON)["seen"]
    assert len(seen) == 6
    assert all(len(results) == 1 for results in seen.values())
    assert all(len(seen[name][0]) for name in ("sam_b.pt", "sam2_b.pt", "sam2_t.pt", "mobile_sam.pt"))


@pytest.mark.slow
def test_a_folder_is_labeled(run: Any, tmp_path: Path) -> None:
    run(ANNOTATE)
    assert (tmp_path / "path" / "to_auto_annotate_labels").is_dir()


def test_an_image_is_set_once_for_many_prompts(run: Any) -> None:
    found = run(SET_IMAGE)
    assert iou_with_rectangle(found["named"][0].masks.data[0]) > 0.9
    assert bool((found["named"][0].masks.data == found["results"][0].masks.data).all())
    assert iou_with_rectangle(found["clicked"][0].masks.data[0]) > 0.6
    with pytest.raises(Exception, match="there is no image"):
        found["predictor"](bboxes=[100, 60, 220, 180])


@pytest.mark.slow
def test_options_of_everything_have_their_names(run: Any) -> None:
    assert len(run(EVERYTHING_OPTIONS)["results"][0])


def test_fastsam_takes_prompts(run: Any) -> None:
    found = run(FAST)
    assert len(found["everything_results"]) == len(found["results"]) == 1


def test_a_saved_video_plays(run: Any, tmp_path: Path) -> None:
    run(VIDEO.split("results =")[0] + 'r = predictor(source="path/to/video.mp4", points=[20, 25], save=True)', frames=3)
    assert played(tmp_path / "runs" / "segment" / "predict" / "video.mp4") == 3
