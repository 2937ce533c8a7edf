"""Compare encoding and prompts of one image with other programs, interleaved request by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from benchmarks.interleaved import (
    ComparisonResult,
    max_logits_error,
    min_iou,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from benchmarks.process import MASKLET, PeerProcess
from benchmarks.weights import ModelWeights, resolve_weights
from masklet.benchmark.image import estimate_work, grid_clicks, load_image, load_predictor
from masklet.benchmark.model_family import SAMPLE_IMAGE_SIZE
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work

__all__ = ["PROTOCOL", "ImageComparisonJob", "compare_image", "image_job"]

PROTOCOL = (
    "One image; each program in its own process with the same image, prompts, weights and threads, started again for "
    "each precision. Programs are interleaved (A B, then B A), one request at a time while the others wait; one "
    "warm-up round per request, then repeats. load: from a file of weights to a ready program, once, without imports; "
    "the file is in the disk cache. encode: from pixels to a program that holds the image. 1 prompt: a click, three "
    "masks at the image's size. 1 box: a box, one mask. 64 prompts: a click each in one call, one mask each. memory "
    "before: of the process after imports, before the model; peak memory: its peak. ratio: masklet's time divided by "
    "the peer's, the median over rounds. min IoU and logits error: over all masks of a request, between masklet and "
    "the peer in the same precision, and on masklet's rows between a precision and fp32. lower bound: the longer of "
    "the times for the operations at the measured matrix rate and for moving the bytes at the measured copy rate (each "
    "weight that is used read once, image and answer once); limited by says which. IQR: interquartile range."
)
CASE_NAMES = {"encode": "encode", "click": "1 prompt", "box": "1 box", "prompts": "64 prompts"}
"""Requests in their order, and their names in tables."""
POINT_FRACTIONS = (0.25, 0.54)
BOX_FRACTIONS = (0.417, 0.25, 0.695, 0.625)
"""The click and the box, as fractions of width and height."""


@dataclass(frozen=True)
class ImageComparisonJob:
    """The settings of a comparison."""

    model: str
    precisions: tuple[str, ...] = ("fp32",)
    repeats: int = 5
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    image_path: Path | None = None
    """A file; None: the synthetic image."""
    sample_size: tuple[int, int] = SAMPLE_IMAGE_SIZE
    """Height and width of the synthetic image."""


@dataclass
class _ResultFiles:
    """Files with results, by program and precision."""

    folder: Path
    files: dict[tuple[str, str], Path] = field(default_factory=dict)

    def save(self, programs: Sequence[PeerProcess], precision: str) -> None:
        for program in programs:
            path = self.folder / f"{program.name}-{precision}.npz"
            self.files[program.name, precision] = program.save_results(path)

    def reference_path(self, name: str, precision: str) -> Path | None:
        """Return the results that masklet's are compared with on the row of a program."""
        if name != MASKLET:
            return self.files[name, precision]
        return self.files.get((MASKLET, "fp32")) if precision != "fp32" else None


def compare_image(
    job: ImageComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Measure seconds, memory and agreement of all programs; `on_update` gets the results after each precision.

    Example:
        >>> job = ImageComparisonJob("sam2.1_t.pt")
        >>> result = compare_image(job, resolve_interpreters(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.peer_ratio) for case in result.cases if case.name == "encode"]
        [('masklet', 1.01, None), ('sam2', 1.02, 0.99)]

    Raises:
        UnknownModelError, InputError: if the programs do not have the model.
        SourceError: if the image is missing.
        StateError: if a program ends early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, weights = load_image(job.image_path, job.sample_size), resolve_weights(job.model, folder)
        files, result = _ResultFiles(folder), ComparisonResult(weights)
        works = _measure_work(weights, rgb, job.image_size)
        program_job = image_job(weights, rgb, folder)
        program_job |= {"device": job.device, "threads": job.threads, "image_size": job.image_size}
        for precision in job.precisions:
            with start_programs(pythons, {**program_job, "precision": precision}, folder) as programs:
                measured = _measure_cases(programs, precision, job.repeats, files)
                cases = tuple(replace(case, work=works.get(case.name)) for case in measured)
                result = replace(result, cases=result.cases + cases, versions=peer_versions(programs))
            on_update(result)
    return result


def image_job(weights: ModelWeights, rgb: npt.NDArray[np.uint8], folder: Path) -> dict[str, object]:
    """Return the job of an image, its prompts and the weights, as adapters read it.

    Example:
        >>> image_job(resolve_weights("sam2.1_t.pt", folder), sample_image(), folder)["point"]
        [320, 389]
    """
    np.save(folder / "image.npy", rgb)
    height, width = rgb.shape[:2]
    sides = (width, height, width, height)
    return {
        "kind": "image",
        "model": weights.model,
        "weights": str(weights.path),
        "image_path": str(folder / "image.npy"),
        "point": [round(fraction * side) for fraction, side in zip(POINT_FRACTIONS, sides, strict=False)],
        "box": [round(fraction * side) for fraction, side in zip(BOX_FRACTIONS, sides, strict=True)],
        "points": grid_clicks((height, width)),
    }


def _measure_work(weights: ModelWeights, rgb: npt.NDArray[np.uint8], image_size: int | None) -> dict[str, Work]:
    """Count the work of each request, before measuring."""
    predictor = load_predictor(str(weights.path), image_size)
    predictor.set_image(rgb)
    return estimate_work(predictor)


def _measure_cases(
    programs: Sequence[PeerProcess], precision: str, repeats: int, files: _ResultFiles
) -> Iterator[BenchmarkCase]:
    timings = {"load": run_interleaved(programs, "load", 1, warmup=0)}
    timings |= {verb: run_interleaved(programs, verb, repeats) for verb in CASE_NAMES}
    files.save(programs, precision)
    for verb, by_program in timings.items():
        for program in programs:
            seconds = tuple(timing.seconds for timing in by_program.get(program.name, ()))
            case = BenchmarkCase(CASE_NAMES.get(verb, verb), precision, "s", seconds, program=program.name)
            if program.name != MASKLET:
                case = replace(case, peer_ratio=time_ratio(by_program, program.name))
            reference = files.reference_path(program.name, precision)
            if verb in CASE_NAMES and reference is not None:
                case = _with_agreement(case, verb, files.files[MASKLET, precision], reference)
            yield case
    for program in programs:
        peaks = [timing.peak_mb for found in timings.values() for timing in found.get(program.name, ())]
        figures = {"memory before": program.startup_mb, "peak memory": max(filter(None, peaks), default=None)}
        for title, value in figures.items():
            if value is not None:
                yield BenchmarkCase(title, precision, "MB", (value,), program=program.name)


def _with_agreement(case: BenchmarkCase, verb: str, path: Path, reference_path: Path) -> BenchmarkCase:
    with np.load(path) as ours, np.load(reference_path) as reference:
        masks, logits = f"{verb}.masks", f"{verb}.logits"
        iou = min_iou(ours[masks], reference[masks]) if masks in reference else None
        error = max_logits_error(ours[logits], reference[logits]) if logits in reference else None
    return replace(case, min_iou=iou, max_logits_error=error)
