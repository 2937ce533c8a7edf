"""Compare automatic mask generation with other programs, interleaved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from benchmarks.image import image_job
from benchmarks.interleaved import (
    ComparisonResult,
    mask_agreement,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from benchmarks.process import MASKLET, PeerProcess
from benchmarks.weights import ModelWeights, resolve_weights
from masklet.benchmark.flops import mask_generation_work
from masklet.benchmark.image import load_image, load_predictor
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work

__all__ = ["DEFAULT_CASES", "OPTION_SETS", "PROTOCOL", "MaskGenerationComparisonJob", "compare_mask_generation"]

PROTOCOL = (
    "One image; each program in its own process with the same image, weights, threads and options. Programs are "
    "interleaved, and every round is counted: from pixels to run-length encoded masks, encoding included. Each case is "
    "measured in wall time and in CPU time, which is the same on a busy machine. Scores of synthetic weights are lower "
    "than those of trained ones, so the cases have other thresholds. Masks are matched by their best IoU; alike is the "
    "fraction of masklet's with a partner above 0.95, and of the peer's; min IoU: of the peer's masks with the most "
    "similar one of masklet's. ratio: masklet's time divided by the peer's, the median over rounds. lower bound: the "
    "longer of the times for masklet's operations for encoding and every point at the measured matrix rate and for "
    "moving the bytes at the measured copy rate; making masks, crops and second passes come on top."
)
OPTION_SETS: Mapping[str, Mapping[str, float | bool]] = {
    "thresholds": {"pred_iou_thresh": 0.45, "stability_score_thresh": 0.85},
    "small": {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "mask_threshold": 25.0},
    "all": {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.88, "box_nms_thresh": 1.0},
    "crops": {
        "pred_iou_thresh": 0.3,
        "stability_score_thresh": 0.2,
        "mask_threshold": 20.0,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
    },
    "second pass": {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.7, "use_m2m": True, "box_nms_thresh": 1.0},
}
"""Options in addition to the grid. `thresholds` accepts about as many masks as a trained network gives, of which nearly
all overlap; `small` takes the peaks of the maps, so that many masks stay; `all` removes no overlaps; `crops` segments
parts of the image too, and `second pass` refines every mask."""
DEFAULT_CASES = ("thresholds", "small", "all")


@dataclass(frozen=True)
class MaskGenerationComparisonJob:
    """The settings of a comparison."""

    model: str
    cases: tuple[str, ...] = DEFAULT_CASES
    """Names in `OPTION_SETS`."""
    points_per_side: int = 16
    repeats: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = 512
    image_path: Path | None = None
    """A file; None: the synthetic image."""
    sample_size: tuple[int, int] = (480, 640)
    """Height and width of the synthetic image."""

    @property
    def setting(self) -> str:
        """The setting in tables."""
        return f"{self.points_per_side} x {self.points_per_side}, {self.precision}"


def compare_mask_generation(
    job: MaskGenerationComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Measure seconds and agreement of all programs; `on_update` gets the results after each case.

    Example:
        >>> job = MaskGenerationComparisonJob("sam2.1_t.pt")
        >>> result = compare_mask_generation(job, resolve_interpreters(["sam2"]), lambda _: None)
        >>> [(case.name, case.program, case.median, case.peer_ratio) for case in result.cases][:2]
        [('thresholds', 'masklet', 5.6, None), ('thresholds', 'sam2', 49.4, 0.11)]

    Raises:
        UnknownModelError, InputError: if the programs do not have the model.
        SourceError: if the image is missing.
        StateError: if a program ends early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, result = load_image(job.image_path, job.sample_size), ComparisonResult(resolve_weights(job.model, folder))
        work = _measure_work(result.weights, rgb, job)
        program_job = image_job(result.weights, rgb, folder)
        program_job |= {"precision": job.precision, "device": job.device}
        program_job |= {"threads": job.threads, "image_size": job.image_size}
        with start_programs(pythons, program_job, folder) as programs:
            run_interleaved(programs, "load", 1, warmup=0)
            for title in job.cases:
                measured = _measure_cases(programs, title, job, folder)
                cases = tuple(replace(case, work=work) if case.name == title else case for case in measured)
                result = replace(result, cases=result.cases + cases, versions=peer_versions(programs))
                on_update(result)
    return result


def _measure_work(weights: ModelWeights, rgb: npt.NDArray[np.uint8], job: MaskGenerationComparisonJob) -> Work:
    """Count the work before measuring; crops and second passes come on top."""
    predictor = load_predictor(str(weights.path), job.image_size)
    predictor.set_image(rgb)
    return mask_generation_work(predictor, job.points_per_side)


def _measure_cases(
    programs: Sequence[PeerProcess], title: str, job: MaskGenerationComparisonJob, folder: Path
) -> Iterator[BenchmarkCase]:
    options = {"points_per_side": job.points_per_side, **OPTION_SETS[title]}
    timings = run_interleaved(programs, "everything", job.repeats, warmup=0, options=options)
    files = {
        program.name: program.save_results(folder / f"{program.name}.npz")
        for program in programs
        if program.name in timings
    }
    for name in (program.name for program in programs):
        taken = timings.get(name, ())
        case = BenchmarkCase(title, job.setting, "s", tuple(timing.seconds for timing in taken), program=name)
        cpu_case = replace(case, name=f"{title}, processor", samples=tuple(timing.cpu_seconds for timing in taken))
        note = f"{taken[-1].masks} mask{'' if taken[-1].masks == 1 else 's'}" if taken else None
        if not taken or name == MASKLET:
            yield replace(case, note=note)
            yield cpu_case
            continue
        with np.load(files[MASKLET]) as ours, np.load(files[name]) as theirs:
            agreement = mask_agreement(ours["everything.masks"], theirs["everything.masks"])
        if agreement is not None:
            note = (
                f"{note}, alike {agreement.matched_ours:.1%} of masklet's and {agreement.matched_theirs:.1%} of the "
                f"peer's, mean IoU {agreement.mean_iou:.4f}"
            )
        iou = None if agreement is None else agreement.min_iou
        yield replace(case, peer_ratio=time_ratio(timings, name), min_iou=iou, note=note)
        yield replace(cpu_case, peer_ratio=time_ratio(timings, name, cpu_time=True))
