"""What the models of the family weigh and how fast they are: one table, prompted and everything apart.

Speed does not ask what weights mean, so that a model whose file is not here is timed with random ones; how many answers
get past the thresholds does depend on them, so that with random weights thresholds are set such that half of the
answers pass (of a detector's places, as many as pictures have objects).

Rows of the table of the family.
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

from masklet.benchmark.machine import timed
from masklet.detect.detector import DetectOptions
from masklet.detect.yolo import LoadedYOLO, YOLODetector, load_yolo
from masklet.errors import InputError
from masklet.image.automatic_mask_generator import EverythingOptions, preset, segment_everything_set
from masklet.image.predictor import ImagePredictor
from masklet.load_model import load
from masklet.models import sam1, sam2, yolo
from masklet.models.types import PromptableNetwork
from masklet.nn.meta_init import blank
from masklet.registry import ModelCard, find, is_downloaded

__all__ = [
    "FAMILY",
    "PHASES",
    "PROTOCOL",
    "EverythingSpeed",
    "FamilyRow",
    "How",
    "PromptedSpeed",
    "bench_model",
    "made_picture",
    "parameters_of",
    "row_of",
]


@dataclass(frozen=True)
class PromptedSpeed:
    """Milliseconds of one prompted answer."""

    encode_ms: float
    click_ms: float


@dataclass(frozen=True)
class EverythingSpeed:
    """Seconds of segmenting everything."""

    seconds: float
    points: int
    estimated: bool


@dataclass(frozen=True)
class FamilyRow:
    """One model. Speeds that it does not have are None: a detector answers no prompts, a segmenter makes no pass."""

    name: str
    title: str
    parameters: int
    published_millions: float | None
    file_megabytes: float
    """As published, else of the file that its tensors would make in fp32."""
    trained: bool
    """Whether it was timed with its own weights, not random ones."""
    side: int
    """Of what the network sees, in pixels."""
    prompted: PromptedSpeed | None = None
    everything: EverythingSpeed | None = None
    pass_ms: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the parameters are those that were published, to the digit that was."""
        return self.published_millions is None or abs(self.parameters / 1e6 - self.published_millions) < 0.1


def row_of(told: Mapping[str, Any]) -> FamilyRow:
    """A row as `asdict` tells it.

    Example:
        >>> row_of(asdict(row)) == row
        True
    """
    asked, everything = told["prompted"], told["everything"]
    speeds = {
        "prompted": None if asked is None else PromptedSpeed(**asked),
        "everything": None if everything is None else EverythingSpeed(**everything),
    }
    return FamilyRow(**{**told, **speeds})


Rgb = npt.NDArray[np.uint8]

PROTOCOL = (
    "One picture; every figure is the median of some rounds after one that is not counted. encode: from a picture to a "
    "predictor that holds it. click: three candidate masks at the picture's size for one click. everything: a grid of "
    "points, masks included, once, and encoding; where it would take longer than limit_s, grids of 8 x 8 and 16 x 16 "
    "are measured, what a point costs more is extrapolated, and the row says so. one pass: a detector from picture to "
    "boxes and masks."
)

FAMILY = (
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
PHASES = 3
"""How often `bench_model` says that it is a step further."""


@dataclass(frozen=True)
class _Published:
    millions: float
    megabytes: float | None = None
    """Of the file, where the table of models does not know it."""


PUBLISHED = {
    "sam_vit_b": _Published(93.7, 375.0),
    "mobile_sam": _Published(10.1, 40.7),
    "FastSAM-s": _Published(11.8, 23.7),
    "yolov8n-seg": _Published(3.4, 6.7),
    "sam2.1_hiera_tiny": _Published(38.9),
    "sam2.1_hiera_small": _Published(46.0),
    "sam2.1_hiera_base_plus": _Published(80.8),
    "sam2.1_hiera_large": _Published(224.4),
}
OBJECTS = {"yolo": 30, "fastsam": 100}
"""Detections that pass with random weights."""
PICTURE_SIZE = (720, 1280)
COARSE, FINER = 8, 16
"""Points a side of the grids an estimate is made from."""


@dataclass(frozen=True)
class How:
    """What is measured: the picture, rounds, the side of the grid, how long everything may take, and by which clock.

    `time.process_time` counts what the processor did for this process: with one thread it says on a busy machine about
    what the clock says on an idle one.

    Raises:
        InputError: a value outside what is allowed.
    """

    rgb: Rgb
    repeats: int = 3
    points_per_side: int = 32
    limit_s: float = 60.0
    imgsz: int = 640
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.points_per_side < 1 or self.limit_s < 0:
            raise InputError(
                f"repeats {self.repeats}, points {self.points_per_side} and limit {self.limit_s} must be 1 or more, "
                "1 or more, and 0 or more seconds"
            )


def bench_model(name: str, how: How, step: Callable[[], None] = lambda: None) -> FamilyRow:
    """Measure one model of the family, by any of its names; `step` is called `PHASES` times.

    Example:
        >>> row = bench_model("masklet-builtin", How(made_picture(), repeats=1, points_per_side=8))
        >>> row.prompted.encode_ms, row.everything.seconds

    Raises:
        UnknownModelError: no such model.
    """
    card = find(name)
    measure = _detector_row if card.family in OBJECTS else _segmenter_row
    return measure(card, how, step)


def parameters_of(name: str) -> int:
    """Values that are learnt, counted from the network without making it.

    Example:
        >>> parameters_of("sam_vit_b")
        93735472
    """
    with blank():
        return sum(parameter.numel() for parameter in _network(find(name)).parameters())


def made_picture(size: tuple[int, int] = PICTURE_SIZE) -> Rgb:
    """A picture of (height, width) with discs and boxes of many sizes, the same in every run.

    Example:
        >>> made_picture().shape
        (720, 1280, 3)
    """
    height, width = size
    numbers = np.random.default_rng(0)
    rgb = numbers.integers(90, 120, (height, width, 3), dtype=np.uint8)
    for i in range(24):
        x, y = int(numbers.integers(0, width)), int(numbers.integers(0, height))
        reach = int(numbers.integers(height // 30, height // 6))
        color = tuple(int(value) for value in numbers.integers(0, 256, 3))
        if i % 2:
            cv2.circle(rgb, (x, y), reach, color, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(rgb, (x - reach, y - reach // 2), (x + reach, y + reach // 2), color, -1)
    return rgb


def _segmenter_row(card: ModelCard, how: How, step: Callable[[], None]) -> FamilyRow:
    trained = is_downloaded(card)
    network: PromptableNetwork = load(card.name).network if trained else _random(card)
    assert isinstance(network, nn.Module)
    predictor = ImagePredictor(network)
    step()
    prompted = _prompted(predictor, how)
    step()
    everything = _everything(predictor, _options(predictor, how, trained=trained), how)
    everything = replace(everything, seconds=everything.seconds + prompted.encode_ms / 1e3)
    step()
    row = _weighed(card, network, trained=trained, side=network.picture_size)
    return replace(row, prompted=prompted, everything=everything)


def _detector_row(card: ModelCard, how: How, step: Callable[[], None]) -> FamilyRow:
    trained = is_downloaded(card)
    loaded = load_yolo(card.file) if trained else _random_yolo(card)
    options = DetectOptions(imgsz=how.imgsz)
    detector = YOLODetector(loaded, options)
    step()
    if not trained:
        detector.options = replace(options, conf=_score_of(detector, how, OBJECTS[card.family]))
    step()
    seconds = _median(lambda: detector.detect([how.rgb]), how)
    step()
    row = _weighed(card, loaded.network, trained=trained, side=how.imgsz)
    return replace(row, parameters=parameters_of(card.name), pass_ms=seconds * 1e3)


def _weighed(card: ModelCard, network: nn.Module, *, trained: bool, side: int) -> FamilyRow:
    published = PUBLISHED.get(card.name)
    size = card.size / 1e6 if card.size else published.megabytes if published else None
    tensors = network.state_dict().values()
    return FamilyRow(
        name=card.name,
        title=card.title,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        published_millions=published.millions if published else None,
        file_megabytes=size or sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6,
        trained=trained,
        side=side,
    )


def _prompted(predictor: ImagePredictor, how: How) -> PromptedSpeed:
    height, width = how.rgb.shape[:2]
    encode = _median(lambda: predictor.set_image(how.rgb), how)
    click = _median(lambda: predictor.predict(points=[width // 2, height // 2], multimask=True), how)
    return PromptedSpeed(encode * 1e3, click * 1e3)


def _options(predictor: ImagePredictor, how: How, *, trained: bool) -> EverythingOptions:
    options = replace(preset(predictor.model), points_per_side=how.points_per_side)
    if trained:
        return options
    height, width = how.rgb.shape[:2]
    points = [[x * width // 4, y * height // 4] for y in (1, 2, 3) for x in (1, 2, 3)]
    scores = predictor.predict(points=points, multimask=True).scores
    middle = float(np.median(scores).clip(0, 1))
    return replace(options, pred_iou_thresh=middle, stability_score_thresh=0.0)


def _everything(predictor: ImagePredictor, options: EverythingOptions, how: How) -> EverythingSpeed:
    """The full grid on the picture that is set, where it is expected within the limit; else an estimate from others."""
    side, points = how.points_per_side, how.points_per_side**2
    if side > FINER:
        _grid_s(predictor, options, how, COARSE)  # the first one is slower
        coarse, finer = (_grid_s(predictor, options, how, some) for some in (COARSE, FINER))
        a_point = max(finer - coarse, 0.0) / (FINER**2 - COARSE**2)
        expected = finer + (points - FINER**2) * a_point
        if expected > how.limit_s:
            return EverythingSpeed(expected, points, estimated=True)
    return EverythingSpeed(_grid_s(predictor, options, how, side), points, estimated=False)


def _grid_s(predictor: ImagePredictor, options: EverythingOptions, how: How, side: int) -> float:
    wanted = replace(options, points_per_side=side)
    return timed(lambda: segment_everything_set(predictor, how.rgb, wanted), clock=how.clock)


def _score_of(detector: YOLODetector, how: How, count: int) -> float:
    """The score that `count` places reach."""
    from masklet.detect.letterbox import Letterbox

    box = Letterbox.of((how.rgb.shape[0], how.rgb.shape[1]), how.imgsz)
    best_A = detector.look(torch.from_numpy(box.draw(how.rgb))[None]).scores_BAK[0].amax(1)
    return float(best_A.sort(descending=True).values[: count + 1][-1].clamp(0, 1))


def _network(card: ModelCard) -> nn.Module:
    if card.family == "sam1":
        return sam1.SAM1(sam1.CONFIGS[card.name])
    if card.family in OBJECTS:
        return yolo.YOLOv8(yolo.CONFIGS[card.name])
    return sam2.SAM2(sam2.CONFIGS["builtin" if card.is_builtin else card.name])


def _random(card: ModelCard) -> PromptableNetwork:
    network = _made(card)
    assert isinstance(network, (sam1.SAM1, sam2.SAM2))
    return network


def _random_yolo(card: ModelCard) -> LoadedYOLO:
    network = _made(card)
    assert isinstance(network, yolo.YOLOv8)
    names = {number: f"class{number}" for number in range(network.config.classes)}
    return LoadedYOLO(
        network.fold(), card.name, Path(card.file), card, names, parameters_of(card.name), card.licence_weights, None
    )


def _made(card: ModelCard) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _network(card).eval().requires_grad_(False)


def _median(work: Callable[[], object], how: How) -> float:
    work()
    return median(timed(work, clock=how.clock) for _ in range(how.repeats))
