"""How long a model takes for images: encoding, one prompt, 64 prompts in one call, everything."""

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

from masklet.benchmark.flops import encoding_work, mask_generation_work, prompts_work
from masklet.benchmark.machine import peak_mb, time_call
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE, sample_image
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase
from masklet.benchmark.roofline import Work
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
    "One made image; every precision in a process of its own; of each case one round that is not counted, then "
    "repeats. encode: an image to a predictor that holds it. 1 prompt: a click, three masks at the image's size. "
    "64 prompts: a click each in one call, one mask each. encode, plain modules: by turns with encode "
    "once more, memory read before. everything: a grid of points, encoding and masks included. "
    "peak memory: the most that the process had. floor: the longer of what the operations take at the measured matrix "
    "rate and what moving the bytes takes at the measured rate of copying (each weight that is used read once, image "
    "and answer once); bound says which. Spread: from the first to the third quarter."
)
NUM_PROMPTS = 64
PROMPTS_PER_ROW = 8


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
    """Height and width of the made image."""
    image_path: str | None = None
    """An image to take in its place."""
    compiled: bool = False

    @property
    def setting(self) -> str:
        """As tables name it."""
        return f"{self.precision}, compiled" if self.compiled else self.precision


def measure_image(job: ImageBenchmarkJob) -> BenchmarkAnswer:
    """All cases of one precision; in a process of its own, else the peak is not the model's.

    Example:
        >>> measure_image(ImageJob("builtin", repeats=1)).cases[0].median
        0.039

    Raises:
        UnknownModelError, CheckpointError: the model cannot be had.
        InputError: an unknown precision.
    """
    if job.threads:
        torch.set_num_threads(job.threads)
    predictor = load_predictor(job.model, job.image_size, job.device, job.precision)
    rgb = load_image(job.image_path, job.sample_size)
    if job.compiled and (reason := _compile_encoder(predictor, rgb)):
        return BenchmarkAnswer((BenchmarkCase("encode", job.setting, "s", note=f"not here: {reason}"),))
    cases = [
        BenchmarkCase(name, job.setting, "s", _time_samples(work, job))
        for name, work in _case_functions(predictor, rgb, job).items()
    ]
    cases += _memory_cases(job)  # before what takes memory of its own: plain modules, and counting operations
    cases += [] if job.compiled else _measure_plain_encoder(predictor, rgb, job)
    works = (
        {"encode": encoding_work(predictor, _plain_encoder(predictor))}
        if job.compiled
        else estimate_work(predictor, job.points_per_side)
    )
    return BenchmarkAnswer(tuple(replace(case, work=works.get(case.name.partition(",")[0])) for case in cases))


def estimate_work(predictor: ImagePredictor, points_per_side: int | None = None) -> dict[str, Work]:
    """What the cases take at the very least, by name; the predictor holds an image, `points` are those of a grid.

    Example:
        >>> works_of(predictor)["64 prompts"].operations / 1e9
        17.0
    """
    works = {
        "encode": encoding_work(predictor),
        "1 prompt": prompts_work(predictor, multimask=True),
        "1 box": prompts_work(predictor),
        f"{NUM_PROMPTS} prompts": prompts_work(predictor, NUM_PROMPTS),
    }
    return (
        works
        if points_per_side is None
        else works | {_mask_generation_case_name(points_per_side): mask_generation_work(predictor, points_per_side)}
    )


def load_image(path: str | Path | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The image of a file; without one, a made image of (height, width).

    Example:
        >>> rgb_of(None, (720, 1280)).shape
        (720, 1280, 3)

    Raises:
        SourceError: the file is no image.
    """
    return sample_image(size) if path is None else from_file(str(path)).rgb


def grid_clicks(size: tuple[int, int]) -> list[list[float]]:
    """64 points xy, evenly on an image of (height, width).

    Example:
        >>> clicks_on((720, 1280))[0]
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
    """A model by its name or file, that brings images to a side of `image_size`.

    Example:
        >>> predictor_of("builtin").model.image_size
        512

    Raises:
        UnknownModelError, CheckpointError: the model cannot be had.
        InputError: an unknown precision.
    """
    network = load(model).network
    if image_size is not None:
        network.set_image_size(image_size)
    return ImagePredictor(network, device, precision)


def _case_functions(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageBenchmarkJob
) -> dict[str, Callable[[], object]]:
    """By name, in the order in which they are done: prompts need the image that encoding sets."""
    encode: dict[str, Callable[[], object]] = {"encode": lambda: predictor.set_image(rgb)}
    if job.compiled:  # the rest is not compiled, and measured in the eager runs
        return encode
    height, width = rgb.shape[:2]
    center = [width // 2, height // 2]
    clicks = grid_clicks((height, width))
    options = replace(preset(predictor.model), points_per_side=job.points_per_side)
    return encode | {
        "1 prompt": lambda: predictor.predict(point_coords=center, multimask_output=True),
        f"{NUM_PROMPTS} prompts": lambda: predictor.predict(point_coords=clicks, multimask_output=False),
        _mask_generation_case_name(job.points_per_side): lambda: generate_masks(predictor, rgb, options),
    }


def _compile_encoder(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8]) -> str | None:
    """Put a compiled encoder in; why that cannot be done, or None."""
    try:
        predictor.encode = torch.compile(_plain_encoder(predictor).__call__)
        predictor.set_image(rgb)
    except Exception as error:  # compilers fail in as many ways as there are of them
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return None


def _plain_encoder(predictor: ImagePredictor) -> EagerEncoder:
    return EagerEncoder(predictor.model, PRECISIONS[predictor.precision])


def _mask_generation_case_name(points_per_side: int) -> str:
    return f"everything {points_per_side} x {points_per_side}"


def _measure_plain_encoder(
    predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageBenchmarkJob
) -> list[BenchmarkCase]:
    """The network's plain modules by turns with the encoder that is used, where that is another one."""
    if isinstance(predictor.encode, EagerEncoder):
        return []
    plain = copy(predictor)
    plain.encode = _plain_encoder(predictor)
    for one in (predictor, plain):
        one.set_image(rgb)
    pairs = [
        [time_call(partial(one.set_image, rgb), job.device) for one in (predictor, plain)] for _ in range(job.repeats)
    ]
    share = median(used / slow for used, slow in pairs)
    note = f"by turns with encode, which takes {share:.2f} of it"
    return [BenchmarkCase("encode, plain modules", job.setting, "s", tuple(slow for _, slow in pairs), note=note)]


def _memory_cases(job: ImageBenchmarkJob) -> list[BenchmarkCase]:
    found = [("peak memory", peak_mb())]
    if job.device.startswith("cuda"):
        found.append(("peak memory of the device", torch.cuda.max_memory_allocated(job.device) / 1e6))
    return [BenchmarkCase(name, job.setting, "MB", (value,)) for name, value in found if value is not None]


def _time_samples(function: Callable[[], object], job: ImageBenchmarkJob) -> tuple[float, ...]:
    function()
    return tuple(time_call(function, job.device) for _ in range(job.repeats))
