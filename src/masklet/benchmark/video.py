"""How long a frame takes when objects are followed, where that time goes, and whether memory stays flat."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeAlias

import torch

from masklet.benchmark.flops import frame_works
from masklet.benchmark.machine import peak_mb, resident_mb, timed
from masklet.benchmark.record import Answer, Case
from masklet.benchmark.sample_video import FILM_SIZE, made_film, places
from masklet.errors import InputError
from masklet.models.sam2 import SAM2
from masklet.results import Results
from masklet.sam import SAM

__all__ = ["PROTOCOL", "RISE", "THROUGH", "WARM", "VideoJob", "measure_video"]

PROTOCOL = (
    "A made film without end, a disc for each object, a click on each on the first frame, frame by frame through a "
    "live view, or a session that reads the film; every number of objects in a process of its own. Seven frames are "
    "not counted, so that all memories are full. A sample is one frame, from its pixels to masks at its size; making "
    "it is not counted, but a session has it made on a thread beside. Parts are of the same frames; rest is what they "
    "leave. floor: the longer of what the operations of a frame take at the measured matrix rate and what moving its "
    "bytes takes at the measured rate of copying; bound says which. By length: resident memory of the process, and the "
    "last hundred frames before. Memory is flat where no reading from settle on lies further above the first of them "
    "than bound. Spread: from the first to the third quarter."
)
WARM = 7
"""Frames until all memories are full."""
RECENT = 100
"""Frames before a reading of memory whose times are kept."""
PARTS = {"encode": "encode", "track": "track", "remember": "remember", "postprocess": "masks at full size"}
"""What `Results.speed` calls the parts of a frame, and tables do."""
RISE = "memory above the first reading"


class Seen(NamedTuple):
    """One frame."""

    seconds: float
    results: Results


Seeing: TypeAlias = Generator[Seen, None, None]


@dataclass(frozen=True)
class VideoJob:
    """What one process measures: seconds a frame, or with `lengths` memory and seconds at these frames."""

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
    parts: bool = False
    through: str = "live"
    settle: int = 100
    """The frame from which on memory must be flat."""
    bound: float = 24.0
    """MB that memory may rise and still is flat. Over 10,000 frames 24 MB are 2.4 kB a frame: one object pointer of
    each of five objects would be seen, and a frame's five memories (200 kB) within 120 frames."""

    def __post_init__(self) -> None:
        if not 1 <= self.objects <= 64 or self.frames < 1:
            raise InputError(f"objects {self.objects} and frames {self.frames} must be 1 to 64, and 1 or more")
        if self.through not in THROUGH:
            raise InputError(f"through {self.through!r} is no way in: choose from {', '.join(THROUGH)}")

    @property
    def setting(self) -> str:
        """As tables name it."""
        counted = f"{self.objects} object{'s' if self.objects > 1 else ''}, {self.precision}"
        return counted if self.through == "live" else f"{counted}, {self.through}"


def measure_video(job: VideoJob, step: Callable[[Case], None] = lambda _: None) -> Answer:
    """Seconds of every frame behind the first seven, or memory and seconds by length; `step` gets each case at once.

    Example:
        >>> measure_video(VideoJob("builtin", objects=2, frames=5)).cases[0].median
        0.061

    Raises:
        UnknownModelError, CheckpointError, ModelError: the model cannot be had, or follows nothing.
    """
    if job.threads:
        torch.set_num_threads(job.threads)
    model = SAM(job.model, device=job.device, precision=job.precision, image_size=job.image_size)
    cases: list[Case] = []
    with closing(THROUGH[job.through](model, job)) as followed:
        for case in _lengths(followed, job) if job.lengths else _frames(model, followed, job):
            cases.append(case)
            step(case)
    return Answer(tuple(cases))


def _frames(model: SAM, followed: Iterator[Seen], job: VideoJob) -> Iterator[Case]:
    figures = [(seen.seconds, seen.results.speed) for seen in islice(followed, WARM, WARM + job.frames)]
    peak = peak_mb()  # before operations are counted, which takes memory too
    network = model.predictor.model
    assert isinstance(network, SAM2)
    (work,) = frame_works(network, job.picture, [job.objects])
    yield Case("a frame", job.setting, "s", tuple(seconds for seconds, _ in figures), work=work)
    if job.parts:
        yield from _parts(figures, job)
    if peak is not None:
        yield Case("peak memory", job.setting, "MB", (peak,))


def _parts(figures: list[tuple[float, dict[str, float]]], job: VideoJob) -> Iterator[Case]:
    for key, name in PARTS.items():
        yield Case(name, job.setting, "s", tuple(speed[key] / 1e3 for _, speed in figures))
    rest = tuple(seconds - sum(speed[key] for key in PARTS) / 1e3 for seconds, speed in figures)
    yield Case("rest of a frame", job.setting, "s", rest)


def _lengths(followed: Iterator[Seen], job: VideoJob) -> Iterator[Case]:
    recent: deque[float] = deque(maxlen=RECENT)
    settled: list[float] = []
    for number, seen in enumerate(islice(followed, max(job.lengths)), start=1):
        if number > WARM:
            recent.append(seen.seconds)
        if number in job.lengths:
            gc.collect()
            resident = resident_mb()
            if resident is not None and number >= job.settle:
                settled.append(resident)
            yield _memory(resident, number, job)
            yield from [Case(f"a frame up to frame {number}", job.setting, "s", tuple(recent))] if recent else []
    yield _rise(settled, job)


def _memory(resident: float | None, number: int, job: VideoJob) -> Case:
    note = "not here: resident memory is read from /proc" if resident is None else None
    samples = () if resident is None else (resident,)
    return Case(f"resident memory at frame {number}", job.setting, "MB", samples, note=note)


def _rise(settled: list[float], job: VideoJob) -> Case:
    if len(settled) < 2:
        return Case(RISE, job.setting, "MB", note=f"not told: that takes two readings from frame {job.settle} on")
    most = max(settled) - settled[0]
    word = "flat" if most <= job.bound else "NOT FLAT"
    note = f"{word}: at most {most:.1f} MB from frame {job.settle} on, {job.bound:g} allowed"
    return Case(RISE, job.setting, "MB", (most,), note=note)


def _live(model: SAM, job: VideoJob) -> Seeing:
    view = model.live()
    for number, (x, y) in enumerate(places(job.picture, job.objects, 0), start=1):
        view.add(number, points=[x, y])
    for rgb in made_film(job.picture, job.objects):
        yield _timed(partial(view.step, rgb), job)


def _session(model: SAM, job: VideoJob) -> Seeing:
    with model.session(made_film(job.picture, job.objects)) as session:
        for number, (x, y) in enumerate(places(job.picture, job.objects, 0), start=1):
            session.add(number, frame=0, points=[x, y])
        shown = session.propagate()
        while True:
            yield _timed(partial(next, shown), job)


def _timed(work: Callable[[], Results], job: VideoJob) -> Seen:
    found: list[Results] = []
    seconds = timed(lambda: found.append(work()), job.device)
    return Seen(seconds, found[0])


THROUGH: dict[str, Callable[[SAM, VideoJob], Seeing]] = {"live": _live, "session": _session}
"""The ways in."""
