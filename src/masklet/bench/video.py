"""How long a frame takes when objects are followed, and whether memory stays flat over a long film."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import numpy.typing as npt
import torch

from masklet.bench.machine import peak_mb, resident_mb, settle
from masklet.bench.record import Case
from masklet.errors import InputError
from masklet.results import Results
from masklet.sam import SAM

__all__ = ["PROTOCOL", "VideoAnswer", "VideoJob", "made_film", "measure_video", "places"]

Rgb = npt.NDArray[np.uint8]

PROTOCOL = (
    "A made film without end, a disc for each object, a click on each on the first frame, frame by frame through a "
    "live view; every number of objects in a process of its own. Seven frames are not counted, so that all memories "
    "are full. A sample is one frame, from its pixels to masks at its size; making it is not counted. resident memory: "
    "of the process, after as many frames as are said. Spread: from the first to the third quarter."
)
WARM = 7
"""Frames until all memories are full."""
FILM_SIZE = (480, 854)


@dataclass(frozen=True)
class VideoJob:
    """What one process measures: seconds a frame, or with `lengths` resident memory at these frames."""

    model: str
    objects: int = 1
    frames: int = 20
    lengths: tuple[int, ...] = ()
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    image_size: int | None = None
    picture: tuple[int, int] = FILM_SIZE
    """Height and width of the frames."""

    def __post_init__(self) -> None:
        if not 1 <= self.objects <= 64 or self.frames < 1:
            raise InputError(f"objects {self.objects} and frames {self.frames} must be 1 to 64, and 1 or more")

    @property
    def setting(self) -> str:
        """As tables name it."""
        return f"{self.objects} object{'s' if self.objects > 1 else ''}, {self.precision}"


@dataclass(frozen=True)
class VideoAnswer:
    """What was found."""

    cases: tuple[Case, ...]


def measure_video(job: VideoJob) -> VideoAnswer:
    """Seconds of every frame behind the first seven, or resident memory by length.

    Example:
        >>> measure_video(VideoJob("builtin", objects=2, frames=5)).cases[0].median
        0.061

    Raises:
        UnknownModelError, CheckpointError, ModelError: the model cannot be had, or follows nothing.
    """
    if job.threads:
        torch.set_num_threads(job.threads)
    model = SAM(job.model, device=job.device, precision=job.precision, image_size=job.image_size)
    if job.lengths:
        return VideoAnswer(tuple(_lengths(model, job)))
    seconds = tuple(islice((taken for taken, _ in _followed(model, job)), WARM, WARM + job.frames))
    cases, peak = [Case("a frame", job.setting, "s", seconds)], peak_mb()
    if peak is not None:
        cases.append(Case("peak memory", job.setting, "MB", (peak,)))
    return VideoAnswer(tuple(cases))


def made_film(size: tuple[int, int], objects: int) -> Iterator[Rgb]:
    """Frames (height, width, 3) without end: discs that circle, on a ground that drifts; the same in every run.

    Example:
        >>> next(made_film((480, 854), 4)).shape
        (480, 854, 3)
    """
    ground = np.random.default_rng(0).integers(60, 120, (*size, 3)).astype(np.uint8)
    frame, across = 0, _across(objects)
    reach = max(min(size) // (4 * across), 1)
    while True:
        rgb = np.roll(ground, (frame // 3, frame // 2), axis=(0, 1))
        for number, (x, y) in enumerate(places(size, objects, frame)):
            colour = (60 + 45 * number % 196, 230 - 40 * number % 200, 90 * number % 256)
            cv2.circle(rgb, (round(x), round(y)), reach, colour, cv2.FILLED)
        yield rgb
        frame += 1


def places(size: tuple[int, int], objects: int, frame: int) -> list[tuple[float, float]]:
    """Where the centres of the objects are on a frame, xy: each circles in a cell of its own.

    Example:
        >>> places((480, 854), 1, 0)
        [(512.4, 240.0)]
    """
    across = _across(objects)
    height, width = size[0] / across, size[1] / across
    angles = [0.05 * frame + number for number in range(objects)]
    return [
        ((i % across + 0.5 + 0.1 * math.cos(angle)) * width, (i // across + 0.5 + 0.1 * math.sin(angle)) * height)
        for i, angle in enumerate(angles)
    ]


def _across(objects: int) -> int:
    return math.ceil(math.sqrt(objects))


def _followed(model: SAM, job: VideoJob) -> Iterator[tuple[float, Results]]:
    """Seconds of each frame, and what was found on it."""
    view = model.live()
    for number, (x, y) in enumerate(places(job.picture, job.objects, 0), start=1):
        view.add(number, points=[x, y])
    for rgb in made_film(job.picture, job.objects):
        settle(job.device)
        began = time.perf_counter()
        found = view.step(rgb)
        settle(job.device)
        yield time.perf_counter() - began, found


def _lengths(model: SAM, job: VideoJob) -> Iterator[Case]:
    for number, _ in enumerate(islice(_followed(model, job), max(job.lengths)), start=1):
        if number in job.lengths:
            gc.collect()
            resident = resident_mb()
            note = "not here: resident memory is read from /proc" if resident is None else None
            samples = () if resident is None else (resident,)
            yield Case(f"resident memory at frame {number}", job.setting, "MB", samples, note=note)
