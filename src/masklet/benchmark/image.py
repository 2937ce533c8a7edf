"""Measure a model on images: encoding, one prompt, 64 prompts in one call, automatic mask generation."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch

from masklet.benchmark.busy_machine import busy_setting, check_busy_options
from masklet.benchmark.flops import encoding_work, mask_generation_work, prompts_work
from masklet.benchmark.machine import peak_mb, time_call
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE, sample_image
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.cpu_threads import fix_threads
from masklet.image.automatic_mask_generator import generate_masks, preset
from masklet.image.predictor import PRECISIONS, ImagePredictor
from masklet.load_model import load
from masklet.media.image import from_file
from masklet.models.fast_cpu.encoder import EagerEncoder

__all__ = [
    "PROTOCOL",
    "ImageBenchmarkJob",
    "estimate_work",
    "grid_clicks",
    "load_image",
    "load_predictor",
    "measure_image",
]

PROTOCOL = (
    "One synthetic image; each precision in a separate process; one warm-up round per case, then repeats. encode: an "
    "image to a predictor that holds it. 1 prompt: a click, three masks at the image's size. 64 prompts: a click each "
    "in one call, one mask each. encode, plain modules: interleaved with encode once more, memory read before. "
    "everything: a grid of points, encoding and masks included. peak memory: the peak of the process. lower bound: the "
    "longer of the times for the operations at the measured matrix rate and for moving the bytes at the measured copy "
    "rate (each weight that is used read once, image and answer once); limited by says which. IQR: interquartile "
    "range."
)
NUM_PROMPTS = 64
PROMPTS_PER_ROW = 8
MASK_GENERATION_CASE = "everything {0} x {0}"
"""The name of its case, by points per side."""


@dataclass(frozen=True)
class ImageBenchmarkJob:
    """What one process measures."""

    model: str
    precision: str = "fp32"
    device: str = "cpu"
    repeats: int = 5
    points_per_side: int = 32
    threads: int | None = None
    image_size: int | None = None
    sample_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
    """Height and width of the synthetic image."""
    image_path: str | None = None
    """An image file to use instead."""
    compiled: bool = False
    beside: int = 0
    """Other processes that load a core each."""
    cpu_quota: float | None = None
    """Cores that the process may use."""

    def __post_init__(self) -> None:
        check_busy_options(self.beside, self.cpu_quota)

    @property
    def setting(self) -> str:
        """The setting in tables."""
        setting = f"{self.precision}, compiled" if self.compiled else self.precision
        return busy_setting(setting, self.beside, self.cpu_quota)


def measure_image(job: ImageBenchmarkJob) -> BenchmarkAnswer:
    """Measure all cases of one precision; run it in a separate process, or the peak memory is not the model's.

    Example:
        >>> measure_image(ImageBenchmarkJob("builtin", repeats=1)).cases[0].median
        0.039

    Raises:
        UnknownModelError, CheckpointError: if the model cannot be loaded.
        InputError: if the precision is unknown.
    """
    if job.threads:
        fix_threads(job.threads)
    predictor = load_predictor(job.model, job.image_size, job.device, job.precision)
    rgb = load_image(job.image_path, job.sample_size)
    plain_encoder = EagerEncoder(predictor.model, PRECISIONS[predictor.precision])
    if job.compiled:
        try:
            predictor.encode = torch.compile(plain_encoder.__call__)
            predictor.set_image(rgb)
        except Exception as error:  # compilers fail with many kinds of errors
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            return BenchmarkAnswer((BenchmarkCase("encode", job.setting, "s", note=f"not here: {reason}"),))
    cases = []
    for name, function in _case_functions(predictor, rgb, job).items():
        function()
        samples = tuple(time_call(function, job.device) for _ in range(job.repeats))
        cases.append(BenchmarkCase(name, job.setting, "s", samples))
    peaks = {"peak memory": peak_mb()}  # before plain modules and counting of operations, which take memory too
    if job.device.startswith("cuda"):
        peaks["peak memory of the device"] = torch.cuda.max_memory_allocated(job.device) / 1e6
    cases += [BenchmarkCase(name, job.setting, "MB", (peak,)) for name, peak in peaks.items() if peak is not None]
    if job.compiled:
        works = {"encode": encoding_work(predictor, plain_encoder)}
    else:
        cases += _measure_plain_encoder(predictor, rgb, job)
        works = estimate_work(predictor, job.points_per_side)
    return BenchmarkAnswer(tuple(replace(case, work=works.get(case.name.partition(",")[0])) for case in cases))


def _case_functions(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageBenchmarkJob
) -> dict[str, Callable[[], object]]:
    """Return the functions to time by case, in order: prompts need the image that encoding sets."""
    encode: dict[str, Callable[[], object]] = {"encode": lambda: predictor.set_image(rgb)}
    if job.compiled:  # the rest is not compiled, and measured in the eager runs
        return encode
    height, width = rgb.shape[:2]
    clicks = grid_clicks((height, width))
    options = replace(preset(predictor.model), points_per_side=job.points_per_side)
    return encode | {
        "1 prompt": lambda: predictor.predict(point_coords=[width // 2, height // 2], multimask_output=True),
        f"{NUM_PROMPTS} prompts": lambda: predictor.predict(point_coords=clicks, multimask_output=False),
        MASK_GENERATION_CASE.format(job.points_per_side): lambda: generate_masks(predictor, rgb, options),
    }


def _measure_plain_encoder(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageBenchmarkJob
) -> list[BenchmarkCase]:
    """Time the network's plain modules, interleaved with the encoder in use, if that is another one."""
    if isinstance(predictor.encode, EagerEncoder):
        return []
    plain = copy(predictor)
    plain.encode = EagerEncoder(predictor.model, PRECISIONS[predictor.precision])
    for each in (predictor, plain):
        each.set_image(rgb)
    pairs = [
        [time_call(partial(each.set_image, rgb), job.device) for each in (predictor, plain)] for _ in range(job.repeats)
    ]
    ratio = median(fast / slow for fast, slow in pairs)
    note = f"interleaved with encode, which takes {ratio:.2f} of the time"
    return [BenchmarkCase("encode, plain modules", job.setting, "s", tuple(slow for _, slow in pairs), note=note)]


def estimate_work(predictor: ImagePredictor, points_per_side: int | None = None) -> dict[str, Work]:
    """Estimate the work of the cases by name; the predictor holds an image.

    Example:
        >>> estimate_work(predictor)["64 prompts"].flops / 1e9
        17.0
    """
    works = {
        "encode": encoding_work(predictor),
        "1 prompt": prompts_work(predictor, multimask=True),
        "1 box": prompts_work(predictor),
        f"{NUM_PROMPTS} prompts": prompts_work(predictor, NUM_PROMPTS),
    }
    if points_per_side is not None:
        works[MASK_GENERATION_CASE.format(points_per_side)] = mask_generation_work(predictor, points_per_side)
    return works


def load_image(path: str | Path | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Load an image file; without one, return a synthetic image of (height, width).

    Example:
        >>> load_image(None, (720, 1280)).shape
        (720, 1280, 3)

    Raises:
        SourceError: if the file is no image.
    """
    return sample_image(size) if path is None else from_file(str(path)).rgb


def grid_clicks(size: tuple[int, int]) -> list[list[float]]:
    """Return 64 points xy, evenly spread over an image of (height, width).

    Example:
        >>> grid_clicks((720, 1280))[0]
        [80.0, 45.0]
    """
    height, width = size
    return [
        [(i % PROMPTS_PER_ROW + 0.5) * width / PROMPTS_PER_ROW, (i // PROMPTS_PER_ROW + 0.5) * height / PROMPTS_PER_ROW]
        for i in range(NUM_PROMPTS)
    ]


def load_predictor(
    model: str, image_size: int | None = None, device: str = "cpu", precision: str = "fp32"
) -> ImagePredictor:
    """Load a model by its name or file, for images scaled to a side of `image_size`.

    Example:
        >>> load_predictor("builtin").model.image_size
        512

    Raises:
        UnknownModelError, CheckpointError: if the model cannot be loaded.
        InputError: if the precision is unknown.
    """
    network = load(model).network
    if image_size is not None:
        network.set_image_size(image_size)
    return ImagePredictor(network, device, precision)
