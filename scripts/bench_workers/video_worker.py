"""The half of the video benchmark that runs beside a tracker; see `worker.py`, whose habits it shares.

Questions are words on stdin (`load`, `prompt`, `step`, `keep`); answers are JSON objects on stdout. `step` is one
frame of the film, all objects, to masks at its size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from worker import memory_mb

STARTED = time.perf_counter()


class Seen(NamedTuple):
    """All objects on one frame, in the order of the prompts."""

    masks: object
    """(N, H, W) at the film's size; above 0 is inside."""
    logits: object
    """(N, h, w) at a quarter of the network's input."""


@dataclass(frozen=True)
class Prompt:
    """What one object is on the first frame: a point xy or a box xyxy, in pixels of the film."""

    id: int
    point: list[float] | None
    box: list[float] | None


@dataclass(frozen=True)
class Job:
    """What one worker is to do."""

    model: str
    weights: Path
    film: Path
    """A folder of JPEG files, numbered."""
    precision: str
    threads: int
    image_size: int
    prompts: list[Prompt]
    keep: Path
    kept_from: int
    """The first frame whose answers are kept for comparison."""


class Implementation(Protocol):
    """What a worker file supplies."""

    version: str

    def load(self, job: Job) -> None:
        """Open the weights, then the film."""

    def prompt(self, prompt: Prompt) -> None:
        """Say what one object is on frame 0."""

    def step(self) -> Seen:
        """The next frame; the first is frame 0, which was prompted."""


def read_job() -> Job:
    parser = argparse.ArgumentParser()
    for name in ("model", "weights", "film", "precision", "keep", "prompts"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("threads", "image-size", "kept-from"):
        parser.add_argument(f"--{name}", type=int, required=True)
    a = parser.parse_args()
    prompts = [Prompt(**one) for one in json.loads(a.prompts)]
    return Job(
        a.model, Path(a.weights), Path(a.film), a.precision, a.threads, a.image_size, prompts, Path(a.keep), a.kept_from
    )


class Worker:
    """A job, an implementation, and what it saw on the frames that are kept."""

    def __init__(self, job: Job, implementation: Implementation) -> None:
        self.job, self.implementation = job, implementation
        self.frame = 0
        self.seen: dict[int, Seen] = {}

    def do(self, verb: str) -> None:
        if verb == "load":
            self.implementation.load(self.job)
        elif verb == "prompt":
            for prompt in self.job.prompts:
                self.implementation.prompt(prompt)
        elif verb == "step":
            seen = self.implementation.step()
            if self.frame >= self.job.kept_from:
                self.seen[self.frame] = seen
            self.frame += 1
        else:
            assert verb == "keep", f"unknown verb {verb!r}"
            self.keep()

    def keep(self) -> None:
        """Write what was seen where the benchmark compares it."""
        import numpy as np

        arrays = {}
        for frame, seen in self.seen.items():
            masks = np.asarray(seen.masks) > 0
            arrays[f"{frame}.masks"] = np.packbits(masks.reshape(len(masks), -1), axis=1)
            arrays[f"{frame}.logits"] = np.asarray(seen.logits, np.float32)
        np.savez(self.job.keep, **arrays)


def serve(make: type[Implementation]) -> None:
    """Answer until stdin ends. What the implementation itself prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = read_job()
    import torch

    torch.set_num_threads(job.threads)
    implementation = make()
    worker = Worker(job, implementation)
    hello = {
        "import_s": time.perf_counter() - STARTED,
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "version": implementation.version,
    }
    print(json.dumps(hello | memory_mb()), file=answers)
    for line in sys.stdin:
        began = time.perf_counter()
        worker.do(line.strip())
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds} | memory_mb()), file=answers)
