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

from masklet.benchmark.flops import frame_work_by_objects
from masklet.benchmark.machine import peak_mb, resident_mb, time_call
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase
from masklet.benchmark.sample_video import SAMPLE_VIDEO_SIZE, object_centers, sample_video
from masklet.errors import InputError
from masklet.models.sam2 import SAM2
from masklet.results import Results
from masklet.sam import SAM

__all__ = ["APIS", "MEMORY_RISE_CASE", "PROTOCOL", "WARMUP_FRAMES", "VideoBenchmarkJob", "measure_video"]

PROTOCOL = (
    "A made video without end, a disc for each object, a click on each on the first frame, frame by frame through a "
    "live view, or a session that reads the video; every number of objects in a process of its own. Seven frames are "
    "not counted, so that all memories are full. A sample is one frame, from its pixels to masks at its size; making "
    "it is not counted, but a session has it made on a thread beside. Parts are of the same frames; rest is what they "
    "leave. floor: the longer of what the operations of a frame take at the measured matrix rate and what moving its "
    "bytes takes at the measured rate of copying; bound says which. By length: resident memory of the process, and the "
    "last hundred frames before. Memory is flat where no reading from settle on lies further above the first of them "
    "than bound. Spread: from the first to the third quarter."
)
WARMUP_FRAMES = 7
"""Frames until all memories are full."""
RECENT_FRAMES = 100
"""Frames before a reading of memory whose times are kept."""
SPEED_PARTS = {"encode": "encode", "track": "track", "remember": "remember", "postprocess": "masks at full size"}
"""What `Results.speed` calls the parts of a frame, and tables do."""
MEMORY_RISE_CASE = "memory above the first reading"


class TimedFrame(NamedTuple):
    """One frame."""

    seconds: float
    results: Results


TimedFrames: TypeAlias = Generator[TimedFrame, None, None]


@dataclass(frozen=True)
class VideoBenchmarkJob:
    """What one process measures: seconds a frame, or with `lengths` memory and seconds at these frames."""

    model: str
    objects: int = 1
    frames: int = 20
    memory_at: tuple[int, ...] = ()
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    image_size: int | None = None
    frame_size: tuple[int, int] = SAMPLE_VIDEO_SIZE
    """Height and width of the frames."""
    breakdown: bool = False
    api: str = "live"
    memory_from_frame: int = 100
    """The frame from which on memory must be flat."""
    memory_tolerance_mb: float = 24.0
    """MB that memory may rise and still is flat. Over 10,000 frames 24 MB are 2.4 kB a frame: one object pointer of
    each of five objects would be seen, and a frame's five memories (200 kB) within 120 frames."""

    def __post_init__(self) -> None:
        if not 1 <= self.objects <= 64 or self.frames < 1:
            raise InputError(f"objects {self.objects} and frames {self.frames} must be 1 to 64, and 1 or more")
        if self.api not in APIS:
            raise InputError(f"through {self.api!r} is no way in: choose from {', '.join(APIS)}")

    @property
    def setting(self) -> str:
        """As tables name it."""
        counted = f"{self.objects} object{'s' if self.objects > 1 else ''}, {self.precision}"
        return counted if self.api == "live" else f"{counted}, {self.api}"


def measure_video(job: VideoBenchmarkJob, on_case: Callable[[BenchmarkCase], None] = lambda _: None) -> BenchmarkAnswer:
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
    cases: list[BenchmarkCase] = []
    with closing(APIS[job.api](model, job)) as followed:
        for case in _memory_over_time(followed, job) if job.memory_at else _frame_cases(model, followed, job):
            cases.append(case)
            on_case(case)
    return BenchmarkAnswer(tuple(cases))


def _frame_cases(model: SAM, frames: Iterator[TimedFrame], job: VideoBenchmarkJob) -> Iterator[BenchmarkCase]:
    figures = [(seen.seconds, seen.results.speed) for seen in islice(frames, WARMUP_FRAMES, WARMUP_FRAMES + job.frames)]
    peak = peak_mb()  # before operations are counted, which takes memory too
    network = model.predictor.model
    assert isinstance(network, SAM2)
    (work,) = frame_work_by_objects(network, job.frame_size, [job.objects])
    yield BenchmarkCase("a frame", job.setting, "s", tuple(seconds for seconds, _ in figures), work=work)
    if job.breakdown:
        yield from _breakdown_cases(figures, job)
    if peak is not None:
        yield BenchmarkCase("peak memory", job.setting, "MB", (peak,))


def _breakdown_cases(timings: list[tuple[float, dict[str, float]]], job: VideoBenchmarkJob) -> Iterator[BenchmarkCase]:
    for key, name in SPEED_PARTS.items():
        yield BenchmarkCase(name, job.setting, "s", tuple(speed[key] / 1e3 for _, speed in timings))
    rest = tuple(seconds - sum(speed[key] for key in SPEED_PARTS) / 1e3 for seconds, speed in timings)
    yield BenchmarkCase("rest of a frame", job.setting, "s", rest)


def _memory_over_time(frames: Iterator[TimedFrame], job: VideoBenchmarkJob) -> Iterator[BenchmarkCase]:
    recent: deque[float] = deque(maxlen=RECENT_FRAMES)
    settled: list[float] = []
    for number, seen in enumerate(islice(frames, max(job.memory_at)), start=1):
        if number > WARMUP_FRAMES:
            recent.append(seen.seconds)
        if number in job.memory_at:
            gc.collect()
            resident = resident_mb()
            if resident is not None and number >= job.memory_from_frame:
                settled.append(resident)
            yield _memory_case(resident, number, job)
            yield from (
                [BenchmarkCase(f"a frame up to frame {number}", job.setting, "s", tuple(recent))] if recent else []
            )
    yield _memory_rise_case(settled, job)


def _memory_case(resident: float | None, number: int, job: VideoBenchmarkJob) -> BenchmarkCase:
    note = "not here: resident memory is read from /proc" if resident is None else None
    samples = () if resident is None else (resident,)
    return BenchmarkCase(f"resident memory at frame {number}", job.setting, "MB", samples, note=note)


def _memory_rise_case(readings: list[float], job: VideoBenchmarkJob) -> BenchmarkCase:
    if len(readings) < 2:
        return BenchmarkCase(
            MEMORY_RISE_CASE,
            job.setting,
            "MB",
            note=f"not told: that takes two readings from frame {job.memory_from_frame} on",
        )
    most = max(readings) - readings[0]
    word = "flat" if most <= job.memory_tolerance_mb else "NOT FLAT"
    note = f"{word}: at most {most:.1f} MB from frame {job.memory_from_frame} on, {job.memory_tolerance_mb:g} allowed"
    return BenchmarkCase(MEMORY_RISE_CASE, job.setting, "MB", (most,), note=note)


def _track_live(model: SAM, job: VideoBenchmarkJob) -> TimedFrames:
    view = model.live()
    for number, (x, y) in enumerate(object_centers(job.frame_size, job.objects, 0), start=1):
        view.add_prompt(number, points=[x, y])
    for rgb in sample_video(job.frame_size, job.objects):
        yield _time_frame(partial(view.step, rgb), job)


def _track_session(model: SAM, job: VideoBenchmarkJob) -> TimedFrames:
    with model.session(sample_video(job.frame_size, job.objects)) as session:
        for number, (x, y) in enumerate(object_centers(job.frame_size, job.objects, 0), start=1):
            session.add_prompt(number, frame_idx=0, points=[x, y])
        shown = session.propagate()
        while True:
            yield _time_frame(partial(next, shown), job)


def _time_frame(function: Callable[[], Results], job: VideoBenchmarkJob) -> TimedFrame:
    found: list[Results] = []
    seconds = time_call(lambda: found.append(function()), job.device)
    return TimedFrame(seconds, found[0])


APIS: dict[str, Callable[[SAM, VideoBenchmarkJob], TimedFrames]] = {"live": _track_live, "session": _track_session}
"""The ways in."""
