"""How long a model takes for pictures: encoding, one prompt, 64 prompts in one call, everything."""

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

from masklet.benchmark.flops import encoding_work, everything_work, prompts_work
from masklet.benchmark.machine import peak_mb, timed
from masklet.benchmark.model_family import PICTURE_SIZE, made_picture
from masklet.benchmark.record import Answer, Case
from masklet.benchmark.roofline import Work
from masklet.image.automatic_mask_generator import preset, segment_everything
from masklet.image.predictor import PRECISIONS, ImagePredictor, PlainEncoder
from masklet.load_model import load
from masklet.media.image import from_file

__all__ = ["PROTOCOL", "ImageJob", "clicks_on", "measure_image", "predictor_of", "rgb_of", "works_of"]

PROTOCOL = (
    "One made picture; every precision in a process of its own; of each case one round that is not counted, then "
    "repeats. encode: a picture to a predictor that holds it. 1 prompt: a click, three masks at the picture's size. "
    "64 prompts: a click each in one call, one mask each. encode, plain modules: by turns with encode "
    "once more, memory read before. everything: a grid of points, encoding and masks included. "
    "peak memory: the most that the process had. floor: the longer of what the operations take at the measured matrix "
    "rate and what moving the bytes takes at the measured rate of copying (each weight that is used read once, picture "
    "and answer once); bound says which. Spread: from the first to the third quarter."
)
PROMPTS = 64
ACROSS = 8


@dataclass(frozen=True)
class ImageJob:
    """What one process measures."""

    model: str
    precision: str = "fp32"
    device: str = "cpu"
    repeats: int = 5
    points: int = 32
    threads: int | None = None
    image_size: int | None = None
    picture: tuple[int, int] = PICTURE_SIZE
    """Height and width of the made picture."""
    file: str | None = None
    """A picture to take in its place."""
    compiled: bool = False

    @property
    def setting(self) -> str:
        """As tables name it."""
        return f"{self.precision}, compiled" if self.compiled else self.precision


def measure_image(job: ImageJob) -> Answer:
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
    predictor = predictor_of(job.model, job.image_size, job.device, job.precision)
    rgb = rgb_of(job.file, job.picture)
    if job.compiled and (reason := _compile(predictor, rgb)):
        return Answer((Case("encode", job.setting, "s", note=f"not here: {reason}"),))
    cases = [Case(name, job.setting, "s", _samples(work, job)) for name, work in _works(predictor, rgb, job).items()]
    cases += _memory(job)  # before what takes memory of its own: plain modules, and counting operations
    cases += [] if job.compiled else _plain_modules(predictor, rgb, job)
    works = {"encode": encoding_work(predictor, _plain(predictor))} if job.compiled else works_of(predictor, job.points)
    return Answer(tuple(replace(case, work=works.get(case.name.partition(",")[0])) for case in cases))


def works_of(predictor: ImagePredictor, points: int | None = None) -> dict[str, Work]:
    """What the cases take at the very least, by name; the predictor holds a picture, `points` are those of a grid.

    Example:
        >>> works_of(predictor)["64 prompts"].operations / 1e9
        17.0
    """
    works = {
        "encode": encoding_work(predictor),
        "1 prompt": prompts_work(predictor, multimask=True),
        "1 box": prompts_work(predictor),
        f"{PROMPTS} prompts": prompts_work(predictor, PROMPTS),
    }
    return works if points is None else works | {_everything(points): everything_work(predictor, points)}


def rgb_of(file: str | Path | None, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The picture of a file; without one, a made picture of (height, width).

    Example:
        >>> rgb_of(None, (720, 1280)).shape
        (720, 1280, 3)

    Raises:
        SourceError: the file is no picture.
    """
    return made_picture(size) if file is None else from_file(str(file)).rgb


def clicks_on(size: tuple[int, int]) -> list[list[float]]:
    """64 points xy, evenly on a picture of (height, width).

    Example:
        >>> clicks_on((720, 1280))[0]
        [80.0, 45.0]
    """
    height, width = size
    return [[(i % ACROSS + 0.5) * width / ACROSS, (i // ACROSS + 0.5) * height / ACROSS] for i in range(PROMPTS)]


def predictor_of(
    model: str, image_size: int | None = None, device: str = "cpu", precision: str = "fp32"
) -> ImagePredictor:
    """A model by its name or file, that brings pictures to a side of `image_size`.

    Example:
        >>> predictor_of("builtin").model.picture_size
        512

    Raises:
        UnknownModelError, CheckpointError: the model cannot be had.
        InputError: an unknown precision.
    """
    network = load(model).network
    if image_size is not None:
        network.look_at(image_size)
    return ImagePredictor(network, device, precision)


def _works(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageJob) -> dict[str, Callable[[], object]]:
    """By name, in the order in which they are done: prompts need the picture that encoding sets."""
    encode: dict[str, Callable[[], object]] = {"encode": lambda: predictor.set_image(rgb)}
    if job.compiled:  # the rest is not compiled, and measured in the eager runs
        return encode
    height, width = rgb.shape[:2]
    centre = [width // 2, height // 2]
    clicks = clicks_on((height, width))
    options = replace(preset(predictor.model), points_per_side=job.points)
    return encode | {
        "1 prompt": lambda: predictor.predict(points=centre, multimask=True),
        f"{PROMPTS} prompts": lambda: predictor.predict(points=clicks, multimask=False),
        _everything(job.points): lambda: segment_everything(predictor, rgb, options),
    }


def _compile(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8]) -> str | None:
    """Put a compiled encoder in; why that cannot be done, or None."""
    try:
        predictor.encode = torch.compile(_plain(predictor).__call__)
        predictor.set_image(rgb)
    except Exception as error:  # compilers fail in as many ways as there are of them
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return None


def _plain(predictor: ImagePredictor) -> PlainEncoder:
    return PlainEncoder(predictor.model, PRECISIONS[predictor.precision])


def _everything(points: int) -> str:
    return f"everything {points} x {points}"


def _plain_modules(predictor: ImagePredictor, rgb: npt.NDArray[np.uint8], job: ImageJob) -> list[Case]:
    """The network's plain modules by turns with the encoder that is used, where that is another one."""
    if isinstance(predictor.encode, PlainEncoder):
        return []
    plain = copy(predictor)
    plain.encode = _plain(predictor)
    for one in (predictor, plain):
        one.set_image(rgb)
    pairs = [[timed(partial(one.set_image, rgb), job.device) for one in (predictor, plain)] for _ in range(job.repeats)]
    share = median(used / slow for used, slow in pairs)
    note = f"by turns with encode, which takes {share:.2f} of it"
    return [Case("encode, plain modules", job.setting, "s", tuple(slow for _, slow in pairs), note=note)]


def _memory(job: ImageJob) -> list[Case]:
    found = [("peak memory", peak_mb())]
    if job.device.startswith("cuda"):
        found.append(("peak memory of the device", torch.cuda.max_memory_allocated(job.device) / 1e6))
    return [Case(name, job.setting, "MB", (value,)) for name, value in found if value is not None]


def _samples(work: Callable[[], object], job: ImageJob) -> tuple[float, ...]:
    work()
    return tuple(timed(work, job.device) for _ in range(job.repeats))
