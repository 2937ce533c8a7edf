"""One image and its prompts in masklet and in other programs, which take turns question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.benchmark.image import estimate_work, grid_clicks, load_image, load_predictor
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE
from masklet.benchmark.peers.interleaved import (
    ComparisonResult,
    Timings,
    max_logits_error,
    min_iou,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from masklet.benchmark.peers.process import MASKLET, PeerProcess
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.benchmark.weights import ModelWeights, resolve_weights

__all__ = ["PROTOCOL", "ImageComparisonJob", "compare_image", "image_job"]

PROTOCOL = (
    "One image; every program a process of its own with the same image, prompts, weights and threads, anew for "
    "every precision. They take turns (A B, then B A), one question at a time while the others wait; of each question "
    "one round that is not counted, then repeats. load: from a file of weights to a program that is ready, once, "
    "imports not counted; the file is in the cache. encode: from pixels to a program that holds the image. "
    "1 prompt: a click, three masks at the image's size. 1 box: a box, one mask. 64 prompts: a click each in one "
    "call, one mask each. memory before: of the process, imports done, before there is a model; peak memory: the most "
    "that it had. ratio: masklet's time by the peer's, the median over rounds. lowest IoU and logits error: over all "
    "masks of a question, between masklet and the peer in the same precision, and on masklet's own rows between a "
    "precision and fp32. floor: the longer of what operations take at the measured matrix rate and what moving "
    "the bytes takes at the measured rate of copying (each weight that is used read once, image and answer once); "
    "bound says which. Spread: from the first to the third quarter."
)
CASE_NAMES = {"encode": "encode", "click": "1 prompt", "box": "1 box", "prompts": "64 prompts"}
"""What programs are asked, in this order, and what tables call it."""
POINT_FRACTIONS = (0.25, 0.54)
BOX_FRACTIONS = (0.417, 0.25, 0.695, 0.625)
"""Where the click and the box are, as shares of width and height."""


@dataclass(frozen=True)
class ImageComparisonJob:
    """What programs are compared on."""

    model: str
    precisions: tuple[str, ...] = ("fp32",)
    repeats: int = 5
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    image_path: Path | None = None
    """A file; None for the made image."""
    sample_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
    """Height and width of the made image."""


@dataclass
class _ResultFiles:
    """Files of what programs found, by program and precision."""

    folder: Path
    files: dict[tuple[str, str], Path] = field(default_factory=dict)

    def save(self, programs: Sequence[PeerProcess], precision: str) -> None:
        for program in programs:
            path = self.folder / f"{program.name}-{precision}.npz"
            self.files[program.name, precision] = program.save_results(path)

    def reference_path(self, name: str, precision: str) -> Path | None:
        """What masklet's answers are compared with on the row of a program."""
        if name != MASKLET:
            return self.files[name, precision]
        return self.files.get((MASKLET, "fp32")) if precision != "fp32" else None


def compare_image(
    job: ImageComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Seconds, memory and agreement of all programs in each precision; `step` gets what is there after each.

    Example:
        >>> found = compare_image(BesideJob("sam2.1_t.pt"), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.ratio) for case in found.cases if case.name == "encode"]
        [('masklet', 1.01, None), ('sam2', 1.02, 0.99)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        SourceError: no such image.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, weights, kept = (
            load_image(job.image_path, job.sample_size),
            resolve_weights(job.model, folder),
            _ResultFiles(folder),
        )
        found, works = ComparisonResult(weights), _measure_work(weights, rgb, job.image_size)
        told = image_job(weights, rgb, folder) | _job_options(job)
        for precision in job.precisions:
            with start_programs(pythons, {**told, "precision": precision}, folder) as programs:
                measured = _measure_cases(programs, precision, job.repeats, kept)
                cases = tuple(replace(case, work=works.get(case.name)) for case in measured)
                found = replace(found, cases=found.cases + cases, versions=peer_versions(programs))
            on_update(found)
    return found


def image_job(weights: ModelWeights, rgb: npt.NDArray[np.uint8], folder: Path) -> dict[str, object]:
    """An image, its prompts and the weights, as adapters are told of them.

    Example:
        >>> image_job(weights_for("sam2.1_t.pt", folder), made_image(), folder)["point"]
        [320, 389]
    """
    np.save(folder / "picture.npy", rgb)
    height, width = rgb.shape[:2]
    sides = (width, height, width, height)
    return {
        "kind": "picture",
        "model": weights.model,
        "weights": str(weights.path),
        "picture": str(folder / "picture.npy"),
        "point": [round(share * side) for share, side in zip(POINT_FRACTIONS, sides, strict=False)],
        "box": [round(share * side) for share, side in zip(BOX_FRACTIONS, sides, strict=True)],
        "points": grid_clicks((height, width)),
    }


def _job_options(job: ImageComparisonJob) -> dict[str, object]:
    return {"device": job.device, "threads": job.threads, "image_size": job.image_size}


def _measure_work(weights: ModelWeights, rgb: npt.NDArray[np.uint8], image_size: int | None) -> dict[str, Work]:
    """Counted here, before there is anything to measure."""
    predictor = load_predictor(str(weights.path), image_size)
    predictor.set_image(rgb)
    return estimate_work(predictor)


def _measure_cases(
    programs: Sequence[PeerProcess], precision: str, repeats: int, files: _ResultFiles
) -> Iterator[BenchmarkCase]:
    turns = {"load": run_interleaved(programs, "load", 1, warmup=0)}
    turns |= {title: run_interleaved(programs, verb, repeats) for verb, title in CASE_NAMES.items()}
    files.save(programs, precision)
    verbs = {title: verb for verb, title in CASE_NAMES.items()}
    for title, found in turns.items():
        for program in programs:
            yield _make_case(title, verbs.get(title), found, program.name, precision, files)
    yield from _memory_cases(programs, turns.values(), precision)


def _make_case(
    title: str, verb: str | None, turns: Timings, name: str, precision: str, files: _ResultFiles
) -> BenchmarkCase:
    seconds = tuple(taken.seconds for taken in turns.get(name, ()))
    case = BenchmarkCase(title, precision, "s", seconds, program=name)
    if name != MASKLET:
        case = replace(case, peer_ratio=time_ratio(turns, name))
    reference = files.reference_path(name, precision)
    return (
        case
        if reference is None or verb is None
        else _with_agreement(case, verb, files.files[MASKLET, precision], reference)
    )


def _with_agreement(case: BenchmarkCase, verb: str, path: Path, reference: Path) -> BenchmarkCase:
    with np.load(path) as ours, np.load(reference) as theirs:
        masks, logits = f"{verb}.masks", f"{verb}.logits"
        iou = min_iou(ours[masks], theirs[masks]) if masks in theirs else None
        error = max_logits_error(ours[logits], theirs[logits]) if logits in theirs else None
    return replace(case, min_iou=iou, max_logits_error=error)


def _memory_cases(programs: Sequence[PeerProcess], turns: Iterable[Timings], precision: str) -> Iterator[BenchmarkCase]:
    """The peak is that of the last question; it only grows."""
    for program in programs:
        peaks = [taken.peak_mb for found in turns for taken in found.get(program.name, ()) if taken.peak_mb]
        figures = {"memory before": program.startup_mb, "peak memory": max(peaks, default=None)}
        for title, value in figures.items():
            if value is not None:
                yield BenchmarkCase(title, precision, "MB", (value,), program=program.name)
