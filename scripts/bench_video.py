"""Seconds a frame and memory of following 1, 2, 4, 8, 16 objects through a film, beside facebookresearch/sam2.

    python scripts/bench_video.py                                            ours alone
    python scripts/bench_video.py --peer-python PEER/bin/python              beside sam2, in an environment of its own
    python scripts/bench_video.py --objects 1 2 --image-size 256             a short run

Every tracker is a process of its own with the same threads, film, weights file and prompts. Frames are timed once all
seven memories are full; the two of a pair take turns, frame by frame, so that a machine that changes its pace changes
it for both. Every timed frame's masks and logits are compared. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from bench_image import BUSY, ROOT, WORKERS, machine, module_at
from PIL import Image

from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.weights import shapes_of

OURS, PEER = "masklet", "sam2"
PRECISIONS = ("fp32", "bf16")
OBJECTS = (1, 2, 4, 8, 16)
FILM_SIZE = (960, 720)
WARM = 7
"""Frames until all memories are full: the prompted one and the six before the next."""
SALT = "c"
"""Of the weights: with these the objects stay in sight."""


@dataclass(frozen=True)
class Plan:
    """What one run does."""

    model: str
    image_size: int
    objects: tuple[int, ...]
    precisions: tuple[str, ...]
    frames: int
    threads: int
    peer_python: str | None


@dataclass
class Row:
    """What was measured of one tracker with so many objects in one precision. Seconds, and MB of 10^6 bytes."""

    objects: int
    implementation: str
    precision: str
    version: str = ""
    torch: str = ""
    load_s: float = 0.0
    prompt_s: float = 0.0
    """All prompts together."""
    warm_s: list[float] = field(default_factory=list)
    samples_s: list[float] = field(default_factory=list)
    loaded_mb: float | None = None
    """Weights and film."""
    peak_mb: float | None = None
    time_ratio: float | None = None
    """Ours over the peer's in the same precision: the median over frames."""
    lowest_iou: float | None = None
    """Of all objects on all timed frames, at the film's size."""
    logits_error: float | None = None
    """Largest difference of a logit from the reference's, in their standard deviations."""


class Worker:
    """A process that follows objects, a frame at a time."""

    def __init__(self, row: Row, command: list[str], env: dict[str, str], log: Path) -> None:
        self.row, self.log = row, log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
            )
        hello = self._answer()
        row.version, row.torch = hello["version"], hello["torch"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=60)

    def do(self, verb: str) -> float:
        """Seconds that `verb` took."""
        assert self.process.stdin is not None
        self.process.stdin.write(verb + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        if verb == "load":
            self.row.load_s, self.row.loaded_mb = answer["seconds"], answer["rss_mb"]
        if verb != "keep":
            self.row.peak_mb = answer["peak_mb"]
        return float(answer["seconds"])

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            row, last = self.row, "\n".join(self.log.read_text().splitlines()[-15:])
            sys.exit(f"{row.implementation}, {row.objects} object(s), {row.precision}, ended early:\n{last}")
        return json.loads(line)


def write_film(folder: Path, frames: int) -> Path:
    """A folder of numbered JPEG files, the one form of film that sam2 opens without another decoder."""
    scene = module_at(ROOT / "tests" / "golden" / "portable" / "scene.py")
    film = folder / "film"
    film.mkdir()
    for number in range(frames):
        picture = Image.fromarray(scene.picture(t=number)).resize(FILM_SIZE, Image.Resampling.BICUBIC)
        picture.save(film / f"{number:05d}.jpg", quality=95)
    return film


def write_weights(model: str, folder: Path) -> Path:
    """A file as the published ones are, with weights that follow from the tensors' names."""
    fill = module_at(ROOT / "tests" / "golden" / "fill.py")
    state = fill.fill_state_dict(shapes_of(CONFIGS[model]), SALT)
    path = folder / f"{model}.pt"
    torch.save({"model": {name: t.float() if t.is_floating_point() else t for name, t in state.items()}}, path)
    return path


def prompts(count: int) -> list[dict[str, object]]:
    """Points and boxes in turn, all over the film's first frame."""
    width, height = FILM_SIZE
    columns = 4
    chosen: list[dict[str, object]] = []
    for i in range(count):
        x = round(width * (0.28 + 0.15 * (i % columns)))
        y = round(height * (0.54 - 0.1 * (i // columns)))
        box = [x - 0.1 * width, y - 0.12 * height, x + 0.1 * width, y + 0.12 * height]
        chosen.append({"id": i + 1, "point": None if i % 2 else [x, y], "box": box if i % 2 else None})
    return chosen


class Bench:
    """A plan and the folder its files are in."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.film = write_film(folder, WARM + plan.frames)
        self.weights = write_weights(plan.model, folder)

    def rows(self) -> Iterator[Row]:
        """For every number of objects, the pair of every precision."""
        for count in self.plan.objects:
            rows = [row for precision in self.plan.precisions for row in self._pair(count, precision)]
            self._compare(rows)
            yield from rows

    def _pair(self, count: int, precision: str) -> list[Row]:
        peer = self.plan.peer_python is not None
        rows = [Row(count, name, precision) for name in ((OURS, PEER) if peer else (OURS,))]
        with ExitStack() as stack:
            workers = [stack.enter_context(self._start(row)) for row in rows]
            for worker in workers:
                worker.do("load")
                worker.row.prompt_s = worker.do("prompt")
            for frame in range(WARM + self.plan.frames):
                for worker in workers if frame % 2 == 0 else workers[::-1]:
                    seconds = worker.do("step")
                    (worker.row.warm_s if frame < WARM else worker.row.samples_s).append(seconds)
            for worker in workers:
                worker.do("keep")
        if peer:
            ours, theirs = (row.samples_s for row in rows)
            rows[0].time_ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        return rows

    def _start(self, row: Row) -> Worker:
        ours, threads = row.implementation == OURS, str(self.plan.threads)
        command = [sys.executable if ours else str(self.plan.peer_python)]
        command += [str(WORKERS / f"{row.implementation}_video.py"), "--model", self.plan.model]
        command += ["--weights", str(self.weights), "--film", str(self.film), "--precision", row.precision]
        command += ["--threads", threads, "--image-size", str(self.plan.image_size)]
        command += ["--prompts", json.dumps(prompts(row.objects)), "--kept-from", str(WARM)]
        command += ["--keep", str(self._answers(row))]
        env = {name: value for name, value in os.environ.items() if ours or name != "PYTHONPATH"}
        env |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return Worker(row, command, env, self.folder / f"{row.implementation}.log")

    def _answers(self, row: Row) -> Path:
        return self.folder / f"{row.objects}-{row.implementation}-{row.precision}.npz"

    def _compare(self, rows: Sequence[Row]) -> None:
        """Every row with the reference: the peer in fp32, or ours where there is no peer."""
        exact = [row for row in rows if row.precision == "fp32"]
        if not exact:
            return
        with np.load(self._answers(exact[-1])) as reference:
            for row in rows:
                with np.load(self._answers(row)) as found:
                    row.lowest_iou = min(_lowest_iou(found[n], reference[n]) for n in found if n.endswith(".masks"))
                    row.logits_error = max(_error(found[n], reference[n]) for n in found if n.endswith(".logits"))
        for row in rows:
            self._answers(row).unlink()


def _lowest_iou(found: np.ndarray, reference: np.ndarray) -> float:
    """Of the objects of one frame, masks as packed bits."""
    a, b = (np.unpackbits(side, axis=1) > 0 for side in (found, reference))
    union = (a | b).sum(1)
    return float(np.where(union > 0, (a & b).sum(1) / np.maximum(union, 1), 1.0).min())


def _error(found: np.ndarray, reference: np.ndarray) -> float:
    """Of the objects of one frame; one that is out of sight for both is told by its constant logit."""
    deviation = np.maximum(reference.std((1, 2)), 1.0)
    return float((np.abs(found - reference).max((1, 2)) / deviation).max())


HEADER = (
    "| objects | implementation | precision | load s | a prompt s | s a frame (lowest) | frames/s "
    "| loaded MB | peak MB | time against sam2 | lowest IoU, logits error |"
)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    return "\n".join([HEADER, "|" + " --- |" * (HEADER.count("|") - 1), *map(_line, rows)])


def _line(row: Row) -> str:
    seconds = median(row.samples_s)
    cells = [
        str(row.objects),
        f"{row.implementation} {row.version}",
        row.precision,
        f"{row.load_s:.1f}",
        f"{row.prompt_s / row.objects:.2f}",
        f"{seconds:.3f} ({min(row.samples_s):.3f})",
        f"{1 / seconds:.2f}",
        *("not known" if value is None else f"{value:.0f}" for value in (row.loaded_mb, row.peak_mb)),
        "" if row.time_ratio is None else f"{row.time_ratio:.2f}",
        "" if row.lowest_iou is None else f"{row.lowest_iou:.4f}, {row.logits_error:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def read_plan() -> tuple[Plan, str | None]:
    """The command line, and where the JSON goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="the Python of an environment with sam2; left out: ours alone")
    parser.add_argument("--model", default="sam2.1_hiera_tiny", choices=tuple(CONFIGS), metavar="MODEL")
    parser.add_argument("--image-size", type=int, help="side of the network's input; left out: the model's own")
    parser.add_argument("--objects", type=int, nargs="+", default=OBJECTS, metavar="N")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--frames", type=int, default=3, help=f"timed frames, after {WARM} that fill the memories")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", help="write every sample there")
    a = parser.parse_args()
    for name, value, least in (("frames", a.frames, 1), ("threads", a.threads, 1), ("objects", min(a.objects), 1)):
        if value < least:
            parser.error(f"--{name} {value}: {least} or more")
    size = a.image_size or CONFIGS[a.model].image_size
    if size < 32 or size % 32:
        parser.error(f"--image-size {size}: a multiple of 32, such as {CONFIGS[a.model].image_size}")
    if a.peer_python and not shutil.which(a.peer_python):
        parser.error(f"--peer-python {a.peer_python}: no program there; docs/benchmarks.md says how to make it")
    if a.peer_python and a.model == "builtin":
        parser.error("--model builtin: sam2 has no such model; leave --peer-python out")
    objects, precisions = tuple(sorted(set(a.objects))), tuple(dict.fromkeys(a.precisions))
    return Plan(a.model, size, objects, precisions, a.frames, a.threads, a.peer_python), a.json


def remarks(plan: Plan, where: dict[str, str | int | float]) -> Iterator[str]:
    """What a reader of the table must know."""
    yield (
        f"{plan.model} at {plan.image_size}; {where['cpu']}, {where['cores']} cores, {where['threads']} threads, "
        f"{where['instructions']}, torch {where['torch']}, Python {where['python']}, {where['date']}, commit "
        f"{where['commit']}; median (lowest) of {plan.frames} frames after {WARM} untimed."
    )
    if plan.peer_python is None:
        yield "sam2 was not run: give --peer-python to compare."
    if float(where["load_before"]) > BUSY:
        load = f"load average {where['load_before']:.1f} at the start"
        yield f"Measured beside other load ({load}): compare, do not quote."


def write_json(path: Path, plan: Plan, where: dict[str, str | int | float], rows: Sequence[Row]) -> None:
    """Every sample, whole or not at all."""
    kept = {"machine": where, "plan": asdict(plan), "rows": [asdict(row) for row in rows]}
    del kept["plan"]["peer_python"]  # a path of this machine
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(kept, indent=1) + "\n")
    part.replace(path)


def main() -> None:
    plan, out = read_plan()
    where = machine(plan.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in Bench(plan, Path(folder)).rows():
            rows.append(row)
            print(_line(row), file=sys.stderr)
            if out:
                write_json(Path(out), plan, where, rows)
    print(table(rows), *remarks(plan, where), sep="\n\n")


if __name__ == "__main__":
    main()
