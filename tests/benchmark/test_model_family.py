"""The table of the model family: published parameters and speeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.networks import small_network
from helpers.yolo_files import TINY_SEG
from masklet.benchmark import model_family
from masklet.benchmark.model_family import (
    MODEL_FAMILY,
    PUBLISHED_SIZES,
    STEPS_PER_MODEL,
    FamilyOptions,
    FamilyRow,
    benchmark_model,
    count_parameters,
    sample_image,
)
from masklet.detect.detector import DetectOptions
from masklet.detect.yolo import YOLODetector
from masklet.errors import InputError, UnknownModelError
from masklet.image.predictor import ImagePredictor
from masklet.models.yolo import YOLOv8
from masklet.registry import MODELS, get_card

SMALL = FamilyOptions(sample_image((60, 90)), repeats=1, points_per_side=3, imgsz=64)


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_parameters_are_the_published_ones(name: str) -> None:
    row = FamilyRow(name, "", count_parameters(name), PUBLISHED_SIZES[name].millions, 0.0, False, 0)
    assert row.matches_published
    assert not replace(row, num_parameters=row.num_parameters + 200_000).matches_published


def test_the_table_has_a_row_for_every_model_that_is_compared() -> None:
    assert {*MODEL_FAMILY} == {*PUBLISHED_SIZES, "masklet-builtin"}
    assert {*MODEL_FAMILY} <= {*MODELS}
    not_trained = 128 + 64 * 256  # two buffers: the encoding of points, and the projection of keys
    assert count_parameters("builtin") == get_card("builtin").parameters - not_trained


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of milliseconds for every kind of model; no file is here."""

    def network(card: Any) -> Any:
        return YOLOv8(TINY_SEG) if card.family in ("yolo", "fastsam") else small_network()

    monkeypatch.setattr(model_family, "_build_network", network)
    monkeypatch.setattr(model_family, "is_downloaded", lambda card: False)


@pytest.mark.usefixtures("tiny")
def test_a_segmenter_is_timed_prompted_and_everything() -> None:
    steps: list[int] = []
    row = benchmark_model("sam2.1_t.pt", SMALL, lambda: steps.append(1))
    assert len(steps) == STEPS_PER_MODEL
    assert (row.name, row.trained, row.input_size, row.inference_ms) == ("sam2.1_hiera_tiny", False, 64, None)
    assert row.file_megabytes == pytest.approx(156.008466)
    assert row.prompted is not None
    assert row.mask_generation is not None
    assert row.prompted.encode_ms > 0
    assert row.prompted.click_ms > 0
    assert (row.mask_generation.num_points, row.mask_generation.estimated) == (9, False)
    assert row.mask_generation.seconds > encode_s(row)


def encode_s(row: FamilyRow) -> float:
    assert row.prompted is not None
    return row.prompted.encode_ms / 1e3


@pytest.mark.usefixtures("tiny")
def test_mask_generation_that_takes_too_long_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[int] = []

    def time_grid(predictor: object, options: object, settings: object, side: int) -> float:
        grids.append(side)
        return 2.0 + 0.01 * side**2

    monkeypatch.setattr(model_family, "_time_grid", time_grid)
    row = benchmark_model("sam2.1_l.pt", replace(SMALL, points_per_side=32, max_seconds=5.0))
    assert row.mask_generation == model_family.MaskGenerationSpeed(pytest.approx(12.24 + encode_s(row)), 1024, True)
    assert max(grids) == 16
    row = benchmark_model("sam2.1_l.pt", replace(SMALL, points_per_side=32, max_seconds=20.0))
    assert row.mask_generation == model_family.MaskGenerationSpeed(pytest.approx(12.24 + encode_s(row)), 1024, False)
    assert max(grids) == 32


@pytest.mark.usefixtures("tiny")
def test_figures_are_medians_by_the_clock_that_is_given() -> None:
    readings = iter([0, 9, 10, 11, 20, 22])  # three rounds of 9, 1 and 2 seconds
    row = benchmark_model("yolov8n-seg", replace(SMALL, repeats=3, clock=lambda: next(readings)))
    assert row.inference_ms == 2000


@pytest.mark.usefixtures("tiny")
def test_a_detector_makes_one_pass() -> None:
    row = benchmark_model("yolov8n-seg.pt", SMALL)
    assert row.inference_ms is not None
    assert row.inference_ms > 0
    assert row.prompted is row.mask_generation is None


@pytest.mark.usefixtures("tiny")
def test_with_random_weights_about_half_of_the_masks_pass() -> None:
    predictor = ImagePredictor(small_network())
    predictor.set_image(SMALL.image)
    options = model_family._mask_generator_options(predictor, SMALL, trained=False)
    assert options.stability_score_thresh == 0
    assert model_family._mask_generator_options(predictor, SMALL, trained=True).stability_score_thresh > 0
    points = [[10, 10], [40, 30], [80, 50], [20, 45]]
    scores = predictor.predict(point_coords=points, multimask_output=True).scores
    assert 0.1 < np.mean(scores > options.pred_iou_thresh) < 0.9
    detector = YOLODetector(model_family._random_yolo(get_card("yolov8n-seg")), DetectOptions(imgsz=64, iou=1.0), "cpu")
    detector.options = replace(detector.options, conf=model_family._score_threshold(detector, SMALL, 10))
    candidates = 8 * 6 + 4 * 3 + 2 * 2  # of an input of 64 x 64; some scores tie
    assert 5 <= len(detector.detect([SMALL.image])[0]) <= candidates / 2


def test_the_built_in_model_is_timed_with_its_own_weights() -> None:
    row = benchmark_model("builtin", replace(SMALL, points_per_side=2))
    assert row.trained
    assert row.matches_published
    assert row.input_size == 512


@pytest.mark.slow
def test_images_are_the_same_in_every_run() -> None:
    assert sample_image().shape == (720, 1280, 3)
    assert (sample_image((60, 90)) == sample_image((60, 90))).all()
    assert len(np.unique(sample_image().reshape(-1, 3), axis=0)) > 1000


def test_invalid_options_are_refused() -> None:
    with pytest.raises(InputError, match="repeats 0"):
        FamilyOptions(SMALL.image, repeats=0)
    with pytest.raises(UnknownModelError):
        benchmark_model("sam7", SMALL)
