"""Measure tracking: seconds per frame, the parts of a frame, and memory over time."""

from __future__ import annotations

import gc
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

import torch

from masklet.benchmark.busy_machine import busy_setting, check_busy_options
from masklet.benchmark.flops import frame_work_by_objects
from masklet.benchmark.machine import peak_mb, resident_mb, synchronize
from masklet.benchmark.model_family import random_network
from masklet.benchmark.record import BenchmarkAnswer, BenchmarkCase
from masklet.benchmark.sample_video import SAMPLE_VIDEO_SIZE, object_centers, sample_video
from masklet.cpu_threads import fix_threads
from masklet.errors import InputError, UnknownModelError
from masklet.exported import ExportedNetwork, is_exported_folder
from masklet.models.sam2 import SAM2
from masklet.registry import get_card, is_downloaded
from masklet.results import Results
from masklet.sam import SAM
from masklet.video import RecentFrames

__all__ = ["APIS", "MEMORY_RISE_CASE", "PROTOCOL", "WARMUP_FRAMES", "VideoBenchmarkJob", "measure_video"]

PROTOCOL = (
    "An endless synthetic video, a disc per object, a click on each on the first frame, frame by frame through a live "
    "view, or a session that reads the video; each number of objects in a separate process. The first seven frames "
    "are not counted, so that all memories are full. A sample is one frame, from its pixels to masks at its size; "
    "generating it is not counted, but a session generates it in another thread. Parts are of the same frames; rest "
    "is the remainder. lower bound: the longer of the times for the operations of a frame at the measured matrix rate "
    "and for moving its bytes at the measured copy rate; limited by says which. Over time: resident memory of the "
    "process, and the last hundred frames before. Memory is flat if no reading from memory_from_frame on lies further "
    "above the first of them than memory_tolerance_mb. IQR: interquartile range."
)
WARMUP_FRAMES = 7
"""Frames until all memories are full."""
RECENT_FRAMES = 100
"""Frames before a reading of memory whose times are reported."""
SPEED_PARTS = {"encode": "encode", "track": "track", "remember": "remember", "postprocess": "masks at full size"}
"""Parts of a frame in `Results.speed`, and their names in tables."""
MEMORY_RISE_CASE = "memory above the first reading"
APIS = ("live", "session")
"""Ways to track a video."""


class TimedFrame(NamedTuple):
    """One frame and its time."""

    seconds: float
    results: Results


@dataclass(frozen=True)
class VideoBenchmarkJob:
    """What one process measures: seconds per frame, or with `memory_at` memory and seconds at these frames."""

    model: str
    objects: int = 1
    frames: int = 20
    memory_at: tuple[int, ...] = ()
    precision: str = "auto"
    device: str = "cpu"
    threads: int | None = None
    memories: int = 6
    """Frames before, besides prompted ones, that a frame attends to."""
    pointers: int = 16
    """Object pointers that it attends to."""
    memory_pooling: int = 1
    """2: memories are averaged two by two."""
    providers: tuple[str, ...] = ()
    """Where an exported folder runs."""
    graph_cache: str | None = None
    image_size: int | None = None
    frame_size: tuple[int, int] = SAMPLE_VIDEO_SIZE
    """Height and width of the frames."""
    breakdown: bool = False
    api: str = "live"
    memory_from_frame: int = 100
    """The frame from which on memory must be flat."""
    memory_tolerance_mb: float = 24.0
    """MB that memory may rise. Over 10,000 frames 24 MB are 2.4 kB per frame: a leak of one object pointer for each of
    five objects would show, and one of a frame's five memories (200 kB) within 120 frames."""
    beside: int = 0
    """Other processes that load a core each."""
    cpu_quota: float | None = None
    """Cores that the process may use."""
    names_model: bool = False
    """Whether the setting begins with the name of the model."""

    def __post_init__(self) -> None:
        if not 1 <= self.objects <= 64 or self.frames < 1:
            raise InputError(f"objects {self.objects} and frames {self.frames} must be 1 to 64, and 1 or more")
        if self.api not in APIS:
            raise InputError(f"api {self.api!r} is unknown; choose from {', '.join(APIS)}")
        check_busy_options(self.beside, self.cpu_quota)

    @property
    def memory_selector(self) -> RecentFrames:
        """Which earlier frames a frame attends to."""
        return RecentFrames(self.memories, self.pointers)

    @property
    def setting(self) -> str:
        """The setting in tables."""
        setting = f"{self.objects} object{'s' if self.objects > 1 else ''}, {self.precision}"
        setting = setting if self.api == "live" else f"{setting}, {self.api}"
        default = RecentFrames()
        changed = {
            f"{self.memories} memories": self.memories != default.memories,
            f"{self.pointers} pointers": self.pointers != default.pointers,
            "pooled memories": self.memory_pooling > 1,
        }
        setting = ", ".join([setting, *(word for word, differs in changed.items() if differs)])
        setting = f"{Path(self.model).name.removesuffix('.pt')}, {setting}" if self.names_model else setting
        return busy_setting(setting, self.beside, self.cpu_quota)


def measure_video(job: VideoBenchmarkJob, on_case: Callable[[BenchmarkCase], None] = lambda _: None) -> BenchmarkAnswer:
    """Time every frame after the first seven, or memory and seconds over time; `on_case` gets each case at once.

    Speed does not depend on the values of weights, so a published model whose file is not on this machine gets random
    ones.

    Example:
        >>> measure_video(VideoBenchmarkJob("builtin", objects=2, frames=5)).cases[0].median
        0.061

    Raises:
        UnknownModelError, CheckpointError, ModelError: if the model cannot be loaded, or does not support video.
    """
    if job.threads:
        fix_threads(job.threads)
    model = _open_model(job)
    precision = model.video_precision
    if isinstance(model.predictor.model, ExportedNetwork):
        stored = model.predictor.model.manifest.precision  # of the encoder, if it is less than fp32
        precision = f"{precision if stored == 'fp32' else stored}, exported"
    job = replace(job, precision=precision)
    cases: list[BenchmarkCase] = []
    with closing(_timed_frames(model, job)) as frames:
        for case in _memory_cases(frames, job) if job.memory_at else _frame_cases(model, frames, job):
            cases.append(case)
            on_case(case)
    return BenchmarkAnswer(tuple(cases))


def _open_model(job: VideoBenchmarkJob) -> SAM:
    """Open the model of a job, with random weights if it is a published one that is not on this machine."""
    if is_exported_folder(job.model):
        return SAM(
            job.model,
            precision=job.precision,
            threads=job.threads,
            providers=job.providers,
            cache_dir=job.graph_cache,
        )
    open_file = partial(
        SAM, device=job.device, precision=job.precision, image_size=job.image_size, memory_pooling=job.memory_pooling
    )
    card = None
    if not Path(job.model).exists():
        with suppress(UnknownModelError):  # which SAM raises too
            card = get_card(job.model)
    if card is None or card.family != "sam2" or is_downloaded(card):
        return open_file(job.model)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / card.file
        torch.save({"model": random_network(card).state_dict()}, file)
        return open_file(file)


def _frame_cases(model: SAM, frames: Iterator[TimedFrame], job: VideoBenchmarkJob) -> Iterator[BenchmarkCase]:
    """Measure seconds per frame and, with `breakdown`, those of its parts."""
    timings = [
        (frame.seconds, frame.results.speed) for frame in islice(frames, WARMUP_FRAMES, WARMUP_FRAMES + job.frames)
    ]
    peak = peak_mb()  # before operations are counted, which takes memory too
    network = model.predictor.model
    work = None  # of an exported folder it is not counted
    if isinstance(network, SAM2):
        (work,) = frame_work_by_objects(network, job.frame_size, [job.objects], job.memory_selector)
    yield BenchmarkCase("a frame", job.setting, "s", tuple(seconds for seconds, _ in timings), work=work)
    if job.breakdown:
        for key, name in SPEED_PARTS.items():
            yield BenchmarkCase(name, job.setting, "s", tuple(speed[key] / 1e3 for _, speed in timings))
        rest = tuple(seconds - sum(speed[key] for key in SPEED_PARTS) / 1e3 for seconds, speed in timings)
        yield BenchmarkCase("rest of a frame", job.setting, "s", rest)
    if peak is not None:
        yield BenchmarkCase("peak memory", job.setting, "MB", (peak,))


def _memory_cases(frames: Iterator[TimedFrame], job: VideoBenchmarkJob) -> Iterator[BenchmarkCase]:
    """Read memory at the frames of `memory_at`, and judge whether it is flat."""
    recent: deque[float] = deque(maxlen=RECENT_FRAMES)
    readings: list[float] = []
    for number, frame in enumerate(islice(frames, max(job.memory_at)), start=1):
        if number > WARMUP_FRAMES:
            recent.append(frame.seconds)
        if number not in job.memory_at:
            continue
        gc.collect()
        resident = resident_mb()
        name = f"resident memory at frame {number}"
        if resident is None:
            yield BenchmarkCase(name, job.setting, "MB", note="not here: resident memory is read from /proc")
        else:
            yield BenchmarkCase(name, job.setting, "MB", (resident,))
            if number >= job.memory_from_frame:
                readings.append(resident)
        if recent:
            yield BenchmarkCase(f"a frame up to frame {number}", job.setting, "s", tuple(recent))
    if len(readings) < 2:
        note = f"unknown: that takes two readings from frame {job.memory_from_frame} on"
        yield BenchmarkCase(MEMORY_RISE_CASE, job.setting, "MB", note=note)
        return
    rise = max(readings) - readings[0]
    verdict = "flat" if rise <= job.memory_tolerance_mb else "NOT FLAT"
    note = (
        f"{verdict}: at most {rise:.1f} MB from frame {job.memory_from_frame} on, {job.memory_tolerance_mb:g} allowed"
    )
    yield BenchmarkCase(MEMORY_RISE_CASE, job.setting, "MB", (rise,), note=note)


def _timed_frames(model: SAM, job: VideoBenchmarkJob) -> Generator[TimedFrame, None, None]:
    """Track the objects through the sample video, and yield each frame with its time."""
    video = sample_video(job.frame_size, job.objects)
    centers = enumerate(object_centers(job.frame_size, job.objects, 0), start=1)
    steps: Iterator[Callable[[], Results]]
    with ExitStack() as stack:
        if job.api == "live":
            view = model.live(memory_selector=job.memory_selector)
            for number, (x, y) in centers:
                view.add_prompt(number, points=[x, y])
            steps = (partial(view.step, rgb) for rgb in video)
        else:
            session = stack.enter_context(model.session(video, memory_selector=job.memory_selector))
            for number, (x, y) in centers:
                session.add_prompt(number, frame_idx=0, points=[x, y])
            steps = repeat(partial(next, session.propagate()))
        for step in steps:
            synchronize(job.device)
            began = time.perf_counter()
            results = step()
            synchronize(job.device)
            yield TimedFrame(time.perf_counter() - began, results)
