"""Resident memory while five objects are followed through ten thousand frames: it must not grow.

    python scripts/bench_memory.py                              10,000 frames, the built-in model, a live view
    python scripts/bench_memory.py --frames 500 --every 50      a short run
    python scripts/bench_memory.py --through session            an endless generator handed to a session

Frames are made as they are asked for, never the same twice, and let go of as soon as they were shown; so are the
results. Prints resident memory at every thousandth frame, and ends with 1 when it is not flat: when, after the first
`--settle` frames, any reading lies more than `--bound` MB above the first one.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from bench_video import write_weights
from bench_workers.worker import memory_mb

from masklet import SAM
from masklet.results import Results

Rgb = npt.NDArray[np.uint8]
OBJECTS = 5
SIZE = (360, 480)
"""Height and width of a frame."""
RADIUS = 26


@dataclass(frozen=True)
class Plan:
    """What one run does."""

    frames: int
    every: int
    settle: int
    bound_mb: float
    """How far memory may rise above the first reading after settling. Over 10,000 frames 24 MB are 2.4 kB a frame: one
    object pointer of each object would be seen, and five memories of a frame (200 kB) within 120 frames."""
    through: str
    filled: bool
    threads: int


def places(frame: int) -> npt.NDArray[np.float64]:
    """Where the objects' centres are on a frame, xy (5, 2): each on an ellipse of its own, slowly."""
    height, width = SIZE
    phase = np.arange(OBJECTS) * 2 * np.pi / OBJECTS + frame * 0.013 * (1 + 0.1 * np.arange(OBJECTS))
    x = width / 2 + width * 0.36 * np.cos(phase)
    y = height / 2 + height * 0.34 * np.sin(phase)
    return np.stack([x, y], axis=1)


def picture(frame: int, ground: Rgb) -> Rgb:
    """Discs of five colours on a ground that drifts."""
    rgb = np.roll(ground, (frame // 3, frame // 2), axis=(0, 1))
    for number, (x, y) in enumerate(places(frame)):
        colour = (60 + 45 * number, 230 - 40 * number, (90 * number) % 256)
        cv2.circle(rgb, (round(x), round(y)), RADIUS, colour, cv2.FILLED)
    return rgb


def film() -> Iterator[Rgb]:
    """Frames without end."""
    ground = np.random.default_rng(0).integers(60, 120, (*SIZE, 3)).astype(np.uint8)
    for frame in count():
        yield picture(frame, ground)


def live(model: SAM) -> Iterator[Results]:
    """Frame by frame, handed in by the caller."""
    view = model.live()
    for number, (x, y) in enumerate(places(0)):
        view.add(number + 1, points=[x, y])
    for rgb in film():
        yield view.step(rgb)


def session(model: SAM) -> Iterator[Results]:
    """A generator without end, read by the session."""
    with model.session(film()) as following:
        for number, (x, y) in enumerate(places(0)):
            following.add(number + 1, frame=0, points=[x, y])
        yield from following.propagate()


THROUGH: dict[str, Callable[[SAM], Iterator[Results]]] = {"live": live, "session": session}


def readings(plan: Plan, model: SAM) -> Iterator[tuple[int, float, float]]:
    """(frames so far, resident MB, frames a second since the last reading)."""
    began, last = time.perf_counter(), 0
    for number, shown in enumerate(islice(THROUGH[plan.through](model), plan.frames), start=1):
        assert len(shown) == OBJECTS, f"{len(shown)} objects on frame {number - 1}"
        if number % plan.every == 0 or number == plan.settle:
            gc.collect()
            resident = memory_mb()["rss_mb"]
            assert resident is not None, "resident memory is read from /proc, which is not here: run this on Linux"
            yield number, resident, (number - last) / (time.perf_counter() - began)
            began, last = time.perf_counter(), number


def model_of(plan: Plan, folder: Path) -> SAM:
    return SAM(write_weights("builtin", folder) if plan.filled else None, device="cpu")


def run(plan: Plan) -> bool:
    """Whether memory stayed flat; prints as it goes."""
    torch.set_num_threads(plan.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(plan, Path(folder))
    print(f"{'frames':>8} {'resident MB':>12} {'above first':>12} {'frames/s':>9}")
    first, most = None, 0.0
    for number, resident, rate in readings(plan, model):
        if number >= plan.settle:
            first = resident if first is None else first
            most = max(most, resident - first)
        above = "settling" if first is None else f"{resident - first:+.1f}"
        print(f"{number:>8} {resident:>12.1f} {above:>12} {rate:>9.1f}", flush=True)
    flat = most <= plan.bound_mb
    print(f"{'flat' if flat else 'NOT FLAT'}: at most {most:.1f} MB above the first reading, {plan.bound_mb:g} allowed")
    return flat


def read_plan() -> Plan:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000, help="frames between two readings")
    parser.add_argument("--settle", type=int, default=100, help="frames until memory should have settled")
    parser.add_argument("--bound", type=float, default=24.0, help="MB above the first reading that still are flat")
    parser.add_argument("--through", default="live", choices=tuple(THROUGH))
    parser.add_argument("--filled", action="store_true", help="weights that follow from the tensors' names, untrained")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    a = parser.parse_args()
    for name in ("frames", "every", "settle", "threads"):
        if getattr(a, name) < 1:
            parser.error(f"--{name} {getattr(a, name)}: one or more")
    if a.frames < a.settle + a.every:
        parser.error(f"--frames {a.frames}: more than --settle and --every together, or there is nothing to compare")
    return Plan(a.frames, a.every, a.settle, a.bound, a.through, a.filled, a.threads)


if __name__ == "__main__":
    sys.exit(0 if run(read_plan()) else 1)
