"""The half of the benchmark that runs beside a model: answers one question a line until its input ends.

Needs nothing but NumPy and PyTorch, so that it runs in the environment of any implementation. A worker file
hands `serve` one class with `load`, `set_image`, `click` and `box`; times, memory and masks are taken here, in
the same way for all.

Questions are words on stdin (`load`, `set_image`, `click`, `box`, `keep`); answers are JSON objects on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

STARTED = time.perf_counter()


class Answer(NamedTuple):
    """What a prompt gave: K masks at the picture's size, K scores, K maps of low-resolution logits."""

    masks: object
    scores: object
    logits: object


@dataclass(frozen=True)
class Job:
    """What one worker is to do. Point and box are in pixels of the picture, xy and xyxy."""

    model: str
    weights: Path
    picture: Path
    precision: str
    threads: int
    point: list[float]
    box: list[float]
    keep: Path


class Implementation(Protocol):
    """What a worker file supplies."""

    version: str

    def load(self, job: Job) -> None:
        """Open `job.weights` and be ready for a picture."""

    def set_image(self, rgb: object) -> None:
        """Take RGB (H, W, 3) uint8."""

    def click(self, point: list[float]) -> Answer:
        """Three candidates for one positive click."""

    def box(self, box: list[float]) -> Answer:
        """One mask for one box."""


def read_job() -> Job:
    parser = argparse.ArgumentParser()
    for name in ("model", "weights", "picture", "precision", "keep"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--point", type=float, nargs=2, required=True)
    parser.add_argument("--box", type=float, nargs=4, required=True)
    a = parser.parse_args()
    return Job(a.model, Path(a.weights), Path(a.picture), a.precision, a.threads, a.point, a.box, Path(a.keep))


def autocast(precision: str) -> AbstractContextManager[object]:
    """The precision asked for, for an implementation that leaves it to its caller."""
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def memory_mb() -> dict[str, float | None]:
    """Resident memory of this process now and at its highest, in MB of 10^6 bytes; None where not known.

    On Linux both come from /proc: the peak that `getrusage` gives there is handed down from the process that
    started this one, so that a large parent would be measured instead.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status.read_text(), re.MULTILINE))
        return {"rss_mb": int(found["VmRSS"]) * 1.024e-3, "peak_mb": int(found["VmHWM"]) * 1.024e-3}
    if os.name == "nt":
        return {"rss_mb": None, "peak_mb": None}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rss_mb": None, "peak_mb": peak / 1e6 if sys.platform == "darwin" else peak * 1.024e-3}


class Worker:
    """A job, an implementation, and the answers its prompts gave last."""

    def __init__(self, job: Job, implementation: Implementation) -> None:
        import numpy as np

        self.job, self.implementation = job, implementation
        self.rgb = np.load(job.picture)
        self.answers: dict[str, Answer] = {}

    def do(self, verb: str) -> None:
        if verb == "load":
            self.implementation.load(self.job)
        elif verb == "set_image":
            self.implementation.set_image(self.rgb)
        elif verb == "click":
            self.answers[verb] = self.implementation.click(self.job.point)
        elif verb == "box":
            self.answers[verb] = self.implementation.box(self.job.box)
        else:
            assert verb == "keep", f"unknown verb {verb!r}"
            self.keep()

    def keep(self) -> None:
        """Write the last answers where the benchmark compares them."""
        import numpy as np

        arrays = {}
        for verb, answer in self.answers.items():
            masks = np.asarray(answer.masks) > 0
            arrays[f"{verb}.masks"] = np.packbits(masks.reshape(len(masks), -1), axis=1)
            arrays[f"{verb}.scores"] = np.asarray(answer.scores, np.float32)
            arrays[f"{verb}.logits"] = np.asarray(answer.logits, np.float32)
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
