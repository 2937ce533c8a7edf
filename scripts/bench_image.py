"""Time and memory of a picture and its prompts, beside facebookresearch/sam2.

    python scripts/bench_image.py                                    ours alone
    python scripts/bench_image.py --peer-python PEER/bin/python      beside sam2, in an environment of its own

Every implementation is a process of its own with the same threads, picture, weights file and prompts; the two of
a pair take turns, so that a machine that changes its pace changes it for both. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import torch
from PIL import Image

from masklet.models.sam2 import CONFIGS
from masklet.models.sam2.weights import shapes_of

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ROOT / "scripts" / "bench_workers"
OURS, PEER = "masklet", "sam2"
MODELS = ("sam2.1_hiera_tiny", "sam2.1_hiera_base_plus", "builtin")
PRECISIONS = ("fp32", "bf16")
VERBS = ("set_image", "click", "box")
PICTURE_SIZE = (1800, 1200)
POINT = (0.25, 0.54)
BOX = (0.417, 0.25, 0.695, 0.625)
"""Where the prompts are, as shares of width and height: a disc and a box in the picture made here."""
BUSY = 0.5
"""Load average above which the machine is said to be busy with other things."""


@dataclass(frozen=True)
class Plan:
    """What one run does."""

    models: tuple[str, ...]
    precisions: tuple[str, ...]
    repeats: int
    threads: int
    peer_python: str | None
    picture: str | None
    """A file; None for the picture made from integers."""


@dataclass
class Row:
    """What was measured of one implementation with one model in one precision. Seconds, and MB of 10^6 bytes."""

    model: str
    implementation: str
    precision: str
    version: str = ""
    torch: str = ""
    instructions: str = ""
    import_s: float = 0.0
    load_s: float = 0.0
    first_s: dict[str, float] = field(default_factory=dict)
    samples_s: dict[str, list[float]] = field(default_factory=lambda: {verb: [] for verb in VERBS})
    before_model_mb: float | None = None
    loaded_mb: float | None = None
    peak_mb: float | None = None
    time_ratio: dict[str, float] = field(default_factory=dict)
    """Ours over the peer's in the same precision: the median over rounds."""
    lowest_iou: float | None = None
    logits_error: float | None = None
    """Largest difference of a logit from the reference's, in their standard deviations."""


class Worker:
    """A process that holds one model and answers one verb at a time."""

    def __init__(self, row: Row, command: list[str], env: dict[str, str], log: Path) -> None:
        self.row, self.log = row, log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
            )
        hello = self._answer()
        row.version, row.torch, row.instructions = hello["version"], hello["torch"], hello["instructions"]
        row.import_s, row.before_model_mb = hello["import_s"], hello["rss_mb"]

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
        return answer["seconds"]

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            row, last = self.row, "\n".join(self.log.read_text().splitlines()[-15:])
            sys.exit(f"{row.implementation} with {row.model} in {row.precision} ended early:\n{last}")
        return json.loads(line)


def module_at(path: Path) -> ModuleType:
    """A file outside any package, imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_picture(plan: Plan, folder: Path) -> tuple[Path, tuple[int, int]]:
    """The picture as an array on disk, and its (width, height)."""
    if plan.picture:
        picture = Image.open(plan.picture).convert("RGB")
    else:
        scene = module_at(ROOT / "tests" / "golden" / "portable" / "scene.py")
        picture = Image.fromarray(scene.picture(240, 360)).resize(PICTURE_SIZE, Image.Resampling.BICUBIC)
    path = folder / "picture.npy"
    np.save(path, np.asarray(picture))
    return path, picture.size


def write_weights(model: str, folder: Path) -> Path:
    """A file as the published ones are, with weights that follow from the tensors' names."""
    fill = module_at(ROOT / "tests" / "golden" / "fill.py")
    state = fill.fill_state_dict(shapes_of(CONFIGS[model]))
    path = folder / f"{model}.pt"
    torch.save({"model": {name: t.float() if t.is_floating_point() else t for name, t in state.items()}}, path)
    return path


class Bench:
    """A plan and the folder its files are in."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.picture, (self.width, self.height) = write_picture(plan, folder)

    def rows(self) -> Iterator[Row]:
        """Models one after another; of each, every precision's pair."""
        for model in self.plan.models:
            weights = write_weights(model, self.folder)
            rows = [row for precision in self.plan.precisions for row in self._pair(model, precision, weights)]
            self._compare(rows)
            weights.unlink()
            yield from rows

    def _pair(self, model: str, precision: str, weights: Path) -> list[Row]:
        peer = self.plan.peer_python is not None and model != "builtin"
        rows = [Row(model, name, precision) for name in ((OURS, PEER) if peer else (OURS,))]
        with ExitStack() as stack:
            workers = [stack.enter_context(self._start(row, weights)) for row in rows]
            for worker in workers:
                worker.do("load")
            for verb in VERBS:
                for worker in workers:
                    worker.row.first_s[verb] = worker.do(verb)
            for i in range(self.plan.repeats):
                self._round(workers if i % 2 == 0 else workers[::-1])
            for worker in workers:
                worker.do("keep")
        if peer:
            rows[0].time_ratio = _ratios(*rows)
        return rows

    @staticmethod
    def _round(workers: Sequence[Worker]) -> None:
        for verb in VERBS:
            for worker in workers:
                worker.row.samples_s[verb].append(worker.do(verb))

    def _start(self, row: Row, weights: Path) -> Worker:
        ours, threads = row.implementation == OURS, str(self.plan.threads)
        x, y = round(POINT[0] * self.width), round(POINT[1] * self.height)
        box = [round(share * (self.width, self.height)[i % 2]) for i, share in enumerate(BOX)]
        command = [sys.executable if ours else str(self.plan.peer_python)]
        command += [str(WORKERS / f"{row.implementation}_image.py"), "--model", row.model]
        command += ["--weights", str(weights), "--picture", str(self.picture), "--precision", row.precision]
        command += ["--threads", threads, "--point", str(x), str(y), "--box", *map(str, box)]
        command += ["--keep", str(self._answers(row))]
        env = {name: value for name, value in os.environ.items() if ours or name != "PYTHONPATH"}
        env |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return Worker(row, command, env, self.folder / "worker.log")

    def _answers(self, row: Row) -> Path:
        return self.folder / f"{row.model}-{row.implementation}-{row.precision}.npz"

    def _compare(self, rows: Sequence[Row]) -> None:
        """Every row with the reference: the peer in fp32, or ours where there is no peer."""
        exact = [row for row in rows if row.precision == "fp32"]
        if not exact:
            return
        with np.load(self._answers(exact[-1])) as reference:
            for row in rows:
                with np.load(self._answers(row)) as found:
                    row.lowest_iou = min(_lowest_iou(found, reference, verb) for verb in ("click", "box"))
                    row.logits_error = max(_logits_error(found, reference, verb) for verb in ("click", "box"))


def _ratios(ours: Row, peer: Row) -> dict[str, float]:
    return {
        verb: median(a / b for a, b in zip(ours.samples_s[verb], peer.samples_s[verb], strict=True)) for verb in VERBS
    }


def _lowest_iou(found: np.lib.npyio.NpzFile, reference: np.lib.npyio.NpzFile, verb: str) -> float:
    """Of the candidates of one prompt."""
    a, b = (np.unpackbits(side[f"{verb}.masks"], axis=1) > 0 for side in (found, reference))
    union = (a | b).sum(1)
    return float(np.where(union > 0, (a & b).sum(1) / np.maximum(union, 1), 1.0).min())


def _logits_error(found: np.lib.npyio.NpzFile, reference: np.lib.npyio.NpzFile, verb: str) -> float:
    a, b = found[f"{verb}.logits"], reference[f"{verb}.logits"]
    return float(np.abs(a - b).max() / b.std())


def machine(threads: int) -> dict[str, str | int | float]:
    """Where and when this runs, without the machine's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "date": date.today().isoformat(),
        "commit": commit(),
    }


def commit() -> str:
    """Of this checkout, with a mark where the package differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if git("status", "-s", "src") else "")


HEADER = (
    "| model | implementation | precision | load s | set_image s (lowest) | click ms | box ms "
    "| before model MB | peak MB | time of set_image, click, box against sam2 | lowest IoU, logits error |"
)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    return "\n".join([HEADER, "|" + " --- |" * (HEADER.count("|") - 1), *map(_line, rows)])


def _line(row: Row) -> str:
    s = row.samples_s
    cells = [
        row.model,
        f"{row.implementation} {row.version}",
        row.precision,
        f"{row.load_s:.2f}",
        f"{median(s['set_image']):.3f} ({min(s['set_image']):.3f})",
        f"{median(s['click']) * 1e3:.0f}",
        f"{median(s['box']) * 1e3:.0f}",
        _megabytes(row.before_model_mb),
        _megabytes(row.peak_mb),
        ", ".join(f"{row.time_ratio[verb]:.2f}" for verb in VERBS) if row.time_ratio else "",
        "" if row.lowest_iou is None else f"{row.lowest_iou:.4f}, {row.logits_error:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def _megabytes(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0f}"


def read_plan() -> tuple[Plan, str | None]:
    """The command line, and where the JSON goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="the Python of an environment with sam2; left out: ours alone")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=tuple(CONFIGS), metavar="MODEL")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds after the first, untimed one")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--picture", help="a file; left out: a picture made from integers, 1800 by 1200")
    parser.add_argument("--json", help="write every sample there")
    a = parser.parse_args()
    if a.repeats < 1:
        parser.error(f"--repeats {a.repeats}: one round or more")
    if a.threads < 1:
        parser.error(f"--threads {a.threads}: one or more")
    if a.peer_python and not shutil.which(a.peer_python):
        parser.error(f"--peer-python {a.peer_python}: no program there; docs/benchmarks.md says how to make it")
    plan = Plan(tuple(a.models), tuple(a.precisions), a.repeats, a.threads, a.peer_python, a.picture)
    return plan, a.json


def remarks(plan: Plan, where: dict[str, str | int | float]) -> Iterator[str]:
    """What a reader of the table must know."""
    yield (
        f"{where['cpu']}, {where['cores']} cores, {where['threads']} threads, {where['instructions']}, "
        f"torch {where['torch']}, Python {where['python']}, {where['date']}, commit {where['commit']}; "
        f"median (lowest) of {plan.repeats} rounds after one untimed."
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
