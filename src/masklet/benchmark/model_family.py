"""Compare the models of the family: parameters, file size, speed of prompts and of automatic mask generation.

Speed does not depend on the values of weights, so a model whose file is missing is timed with random ones. The number
of masks above the thresholds does depend on them, so with random weights the thresholds are set such that half of the
masks pass (of a detector's candidates, as many as images usually have objects).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from masklet.benchmark.machine import time_call
from masklet.detect.detector import DetectOptions
from masklet.detect.yolo import LoadedYOLO, YOLODetector, load_yolo
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import MaskGeneratorOptions, generate_masks_for_set_image, preset
from masklet.image.predictor import ImagePredictor
from masklet.load_model import load
from masklet.models import sam1, sam2, yolo
from masklet.nn.meta_init import meta_init
from masklet.registry import ModelCard, get_card, is_downloaded

__all__ = [
    "MODEL_FAMILY",
    "PROTOCOL",
    "STEPS_PER_MODEL",
    "FamilyOptions",
    "FamilyRow",
    "MaskGenerationSpeed",
    "PromptedSpeed",
    "benchmark_model",
    "count_parameters",
    "random_network",
    "row_from_dict",
    "sample_image",
]


@dataclass(frozen=True)
class PromptedSpeed:
    """Milliseconds of encoding and of one click."""

    encode_ms: float
    click_ms: float


@dataclass(frozen=True)
class MaskGenerationSpeed:
    """Seconds of automatic mask generation."""

    seconds: float
    num_points: int
    estimated: bool


@dataclass(frozen=True)
class FamilyRow:
    """One model. A detector has no prompts, a segmenter no single pass: these speeds are None."""

    name: str
    title: str
    num_parameters: int
    published_millions: float | None
    file_megabytes: float
    """Of the published file, else of its tensors in fp32."""
    trained: bool
    """Whether it was timed with trained weights."""
    input_size: int
    """Side of the network's input, pixels."""
    prompted: PromptedSpeed | None = None
    mask_generation: MaskGenerationSpeed | None = None
    inference_ms: float | None = None

    @property
    def matches_published(self) -> bool:
        """Whether the number of parameters is the published one, up to rounding."""
        return self.published_millions is None or abs(self.num_parameters / 1e6 - self.published_millions) < 0.1


def row_from_dict(data: Mapping[str, Any]) -> FamilyRow:
    """Build a row from its `asdict`.

    Example:
        >>> row_from_dict(asdict(row)) == row
        True
    """
    prompted, generation = data["prompted"], data["mask_generation"]
    speeds = {
        "prompted": None if prompted is None else PromptedSpeed(**prompted),
        "mask_generation": None if generation is None else MaskGenerationSpeed(**generation),
    }
    return FamilyRow(**{**data, **speeds})


ImageArray = npt.NDArray[np.uint8]

PROTOCOL = (
    "One image; every figure is the median of several rounds after a warm-up round. encode: from an image to a "
    "predictor that holds it. click: three candidate masks at the image's size for one click. everything: a grid of "
    "points, masks included, once, and encoding; if it would take longer than max_seconds, grids of 8 x 8 and 16 x 16 "
    "are measured, the cost of a point is extrapolated, and the row says so. one pass: a detector from image to boxes "
    "and masks."
)

MODEL_FAMILY = (
    "sam_vit_b",
    "mobile_sam",
    "FastSAM-s",
    "yolov8n-seg",
    "sam2.1_hiera_tiny",
    "sam2.1_hiera_small",
    "sam2.1_hiera_base_plus",
    "sam2.1_hiera_large",
    "masklet-builtin",
)
"""The rows of the table, by canonical name."""
STEPS_PER_MODEL = 3
"""Calls of `on_progress` in `benchmark_model`."""


@dataclass(frozen=True)
class _PublishedSize:
    millions: float
    megabytes: float | None = None
    """Of the file, if the table of models does not have it."""


PUBLISHED_SIZES = {
    "sam_vit_b": _PublishedSize(93.7, 375.0),
    "mobile_sam": _PublishedSize(10.1, 40.7),
    "FastSAM-s": _PublishedSize(11.8, 23.7),
    "yolov8n-seg": _PublishedSize(3.4, 6.7),
    "sam2.1_hiera_tiny": _PublishedSize(38.9),
    "sam2.1_hiera_small": _PublishedSize(46.0),
    "sam2.1_hiera_base_plus": _PublishedSize(80.8),
    "sam2.1_hiera_large": _PublishedSize(224.4),
}
DETECTIONS_BY_FAMILY = {"yolo": 30, "fastsam": 100}
"""Detections that pass with random weights."""
SAMPLE_IMAGE_SIZE = (720, 1280)
COARSE_GRID, FINE_GRID = 8, 16
"""Points per side of the grids for an estimate."""


@dataclass(frozen=True)
class FamilyOptions:
    """Options of the comparison.

    `time.process_time` as `clock` counts the CPU time of this process: with one thread it gives on a busy machine about
    the wall time of an idle one.

    Raises:
        InputError: if a value is out of range.
    """

    image: ImageArray
    repeats: int = 3
    points_per_side: int = 32
    max_seconds: float = 60.0
    """Automatic mask generation that takes longer is estimated."""
    imgsz: int = 640
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.points_per_side < 1 or self.max_seconds < 0:
            raise InputError(
                f"repeats {self.repeats}, points {self.points_per_side} and max_seconds {self.max_seconds} must be "
                "1 or more, 1 or more, and 0 or more"
            )


def benchmark_model(name: str, settings: FamilyOptions, on_progress: Callable[[], None] = lambda: None) -> FamilyRow:
    """Measure one model of the family, by any of its names; `on_progress` is called `STEPS_PER_MODEL` times.

    Example:
        >>> row = benchmark_model("masklet-builtin", FamilyOptions(sample_image(), repeats=1, points_per_side=8))
        >>> row.prompted.encode_ms, row.mask_generation.seconds

    Raises:
        UnknownModelError: if the model is unknown.
    """
    card = get_card(name)
    measure = _detector_row if card.family in DETECTIONS_BY_FAMILY else _segmenter_row
    return measure(card, settings, on_progress)


def count_parameters(name: str) -> int:
    """Count the parameters of a network without allocating it.

    Example:
        >>> count_parameters("sam_vit_b")
        93735472
    """
    with meta_init():
        return sum(parameter.numel() for parameter in _build_network(get_card(name)).parameters())


def sample_image(size: tuple[int, int] = SAMPLE_IMAGE_SIZE) -> ImageArray:
    """Draw an image of (height, width) with discs and boxes of many sizes, the same in every run.

    Example:
        >>> sample_image().shape
        (720, 1280, 3)
    """
    height, width = size
    rng = np.random.default_rng(0)
    rgb = rng.integers(90, 120, (height, width, 3), dtype=np.uint8)
    for i in range(24):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        radius = int(rng.integers(height // 30, height // 6))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        if i % 2:
            cv2.circle(rgb, (x, y), radius, color, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(rgb, (x - radius, y - radius // 2), (x + radius, y + radius // 2), color, -1)
    return rgb


def _segmenter_row(card: ModelCard, settings: FamilyOptions, on_progress: Callable[[], None]) -> FamilyRow:
    trained = is_downloaded(card)
    network = load(card.name).network if trained else random_network(card)
    assert isinstance(network, (sam1.SAM1, sam2.SAM2))
    predictor = ImagePredictor(network)
    on_progress()
    height, width = settings.image.shape[:2]
    center = [width // 2, height // 2]
    encode_s = _median_seconds(lambda: predictor.set_image(settings.image), settings)
    click_s = _median_seconds(lambda: predictor.predict(point_coords=center, multimask_output=True), settings)
    on_progress()
    options = _mask_generator_options(predictor, settings, trained=trained)
    side, points = settings.points_per_side, settings.points_per_side**2
    expected_s = 0.0  # of a grid that may take too long and then is estimated from two small ones
    if side > FINE_GRID:
        _time_grid(predictor, options, settings, COARSE_GRID)  # warm-up
        coarse_s, fine_s = (_time_grid(predictor, options, settings, grid) for grid in (COARSE_GRID, FINE_GRID))
        seconds_per_point = max(fine_s - coarse_s, 0.0) / (FINE_GRID**2 - COARSE_GRID**2)
        expected_s = fine_s + (points - FINE_GRID**2) * seconds_per_point
    estimated = expected_s > settings.max_seconds
    generation_s = expected_s if estimated else _time_grid(predictor, options, settings, side)
    on_progress()
    row = _base_row(card, network, trained=trained, side=network.still_image_size)
    return replace(
        row,
        prompted=PromptedSpeed(encode_s * 1e3, click_s * 1e3),
        mask_generation=MaskGenerationSpeed(generation_s + encode_s, points, estimated),
    )


def _detector_row(card: ModelCard, settings: FamilyOptions, on_progress: Callable[[], None]) -> FamilyRow:
    trained = is_downloaded(card)
    loaded = load_yolo(card.file) if trained else _random_yolo(card)
    options = DetectOptions(imgsz=settings.imgsz)
    detector = YOLODetector(loaded, options)
    on_progress()
    if not trained:
        detector.options = replace(
            options, conf=_score_threshold(detector, settings, DETECTIONS_BY_FAMILY[card.family])
        )
    on_progress()
    seconds = _median_seconds(lambda: detector.detect([settings.image]), settings)
    on_progress()
    row = _base_row(card, loaded.network, trained=trained, side=settings.imgsz)
    return replace(row, num_parameters=count_parameters(card.name), inference_ms=seconds * 1e3)


def _base_row(card: ModelCard, network: nn.Module, *, trained: bool, side: int) -> FamilyRow:
    published = PUBLISHED_SIZES.get(card.name)
    size = card.size / 1e6 if card.size else published.megabytes if published else None
    tensors = network.state_dict().values()
    return FamilyRow(
        name=card.name,
        title=card.title,
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        published_millions=published.millions if published else None,
        file_megabytes=size or sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6,
        trained=trained,
        input_size=side,
    )


def _mask_generator_options(
    predictor: ImagePredictor, settings: FamilyOptions, *, trained: bool
) -> MaskGeneratorOptions:
    options = replace(preset(predictor.model), points_per_side=settings.points_per_side)
    if trained:
        return options
    height, width = settings.image.shape[:2]
    points = [[x * width // 4, y * height // 4] for y in (1, 2, 3) for x in (1, 2, 3)]
    scores = predictor.predict(point_coords=points, multimask_output=True).scores
    return replace(options, pred_iou_thresh=float(np.median(scores).clip(0, 1)), stability_score_thresh=0.0)


def _time_grid(
    predictor: ImagePredictor, options: MaskGeneratorOptions, settings: FamilyOptions, points_per_side: int
) -> float:
    options = replace(options, points_per_side=points_per_side)
    return time_call(lambda: generate_masks_for_set_image(predictor, settings.image, options), clock=settings.clock)


def _score_threshold(detector: YOLODetector, settings: FamilyOptions, count: int) -> float:
    """Return the score that `count` candidates reach."""
    from masklet.detect.letterbox import Letterbox

    letterbox = Letterbox.from_size((settings.image.shape[0], settings.image.shape[1]), settings.imgsz)
    best_A = detector.run(torch.from_numpy(letterbox.apply(settings.image))[None]).scores_BAK[0].amax(1)
    return float(best_A.sort(descending=True).values[: count + 1][-1].clamp(0, 1))


def _build_network(card: ModelCard) -> nn.Module:
    if card.family == "sam1":
        return sam1.SAM1(sam1.CONFIGS[card.name])
    if card.family in DETECTIONS_BY_FAMILY:
        return yolo.YOLOv8(yolo.CONFIGS[card.name])
    return sam2.SAM2(sam2.CONFIGS["builtin" if card.is_builtin else card.name])


def _random_yolo(card: ModelCard) -> LoadedYOLO:
    network = random_network(card)
    assert isinstance(network, yolo.YOLOv8)
    names = {number: f"class{number}" for number in range(network.config.classes)}
    return LoadedYOLO(
        network.fold(), card.name, Path(card.file), card, names, count_parameters(card.name), card.license_weights, None
    )


def random_network(card: ModelCard) -> nn.Module:
    """Build the network of a model with random weights, the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build_network(card).eval().requires_grad_(False)


def _median_seconds(function: Callable[[], object], settings: FamilyOptions) -> float:
    function()
    return median(time_call(function, clock=settings.clock) for _ in range(settings.repeats))
