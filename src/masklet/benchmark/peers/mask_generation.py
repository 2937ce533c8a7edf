"""Everything in an image, in masklet and in other programs, which take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.benchmark.flops import mask_generation_work
from masklet.benchmark.image import load_image, load_predictor
from masklet.benchmark.peers.image import image_job
from masklet.benchmark.peers.interleaved import (
    ComparisonResult,
    MaskAgreement,
    Timings,
    mask_agreement,
    peer_versions,
    run_interleaved,
    start_programs,
    time_ratio,
)
from masklet.benchmark.peers.process import MASKLET, PeerProcess, Timing
from masklet.benchmark.record import BenchmarkCase
from masklet.benchmark.roofline import Work
from masklet.benchmark.weights import ModelWeights, resolve_weights

__all__ = ["DEFAULT_CASES", "OPTION_SETS", "PROTOCOL", "MaskGenerationComparisonJob", "compare_mask_generation"]

PROTOCOL = (
    "One image; every program a process of its own with the same image, weights, threads and options. They take "
    "turns, and every round is counted: from pixels to coded masks, encoding included. Each case is told by the clock "
    "and in processor time, which says the same on a machine that is busy. Scores of weights that follow from names "
    "are lower than those of trained ones, so that the cases have thresholds of their own. Masks are matched by their "
    "best IoU; alike is the share of masklet's with a partner above 0.95, and of the peer's; lowest IoU: of the peer's "
    "masks with the most similar one of masklet's. ratio: masklet's time by the peer's, the median over rounds. floor: "
    "the longer of what masklet's operations for encoding and for every point take at the measured matrix rate and "
    "what moving the bytes takes at the measured rate of copying; making masks, crops and second passes come on top."
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
"""Options beside the grid. `thresholds` lets about as many masks through as a trained network does, of which nearly all
overlap; `small` takes the peaks of the maps, so that many masks stay; `all` drops none that overlap; `crops` looks at
parts of the image too, and `second pass` asks again with what was found."""
DEFAULT_CASES = ("thresholds", "small", "all")


@dataclass(frozen=True)
class MaskGenerationComparisonJob:
    """What programs are compared on."""

    model: str
    cases: tuple[str, ...] = DEFAULT_CASES
    """Names in `CASES`."""
    points_per_side: int = 16
    """A side of the grid."""
    repeats: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = 512
    image_path: Path | None = None
    """A file; None for the made image."""
    sample_size: tuple[int, int] = (480, 640)
    """Height and width of the made image."""

    @property
    def setting(self) -> str:
        """As tables name it."""
        return f"{self.points_per_side} x {self.points_per_side}, {self.precision}"


def compare_mask_generation(
    job: MaskGenerationComparisonJob, pythons: Mapping[str, Path], on_update: Callable[[ComparisonResult], None]
) -> ComparisonResult:
    """Seconds and agreement of all programs in each case; `step` gets what is there after each.

    Example:
        >>> found = compare_everything(EverythingJob("sam2.1_t.pt"), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.name, case.program, case.median, case.ratio) for case in found.cases][:2]
        [('thresholds', 'masklet', 5.6, None), ('thresholds', 'sam2', 49.4, 0.11)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        SourceError: no such image.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, found = load_image(job.image_path, job.sample_size), ComparisonResult(resolve_weights(job.model, folder))
        told = image_job(found.weights, rgb, folder)
        work = _measure_work(found.weights, rgb, job)
        told |= {"precision": job.precision, "device": job.device, "threads": job.threads, "image_size": job.image_size}
        with start_programs(pythons, told, folder) as programs:
            run_interleaved(programs, "load", 1, warmup=0)
            for title in job.cases:
                measured = _measure_cases(programs, title, job, folder)
                cases = tuple(replace(case, work=work) if case.name == title else case for case in measured)
                found = replace(found, cases=found.cases + cases, versions=peer_versions(programs))
                on_update(found)
    return found


def _measure_work(weights: ModelWeights, rgb: npt.NDArray[np.uint8], job: MaskGenerationComparisonJob) -> Work:
    """Counted here, before there is anything to measure; crops and second passes come on top."""
    predictor = load_predictor(str(weights.path), job.image_size)
    predictor.set_image(rgb)
    return mask_generation_work(predictor, job.points_per_side)


def _measure_cases(
    programs: Sequence[PeerProcess], title: str, job: MaskGenerationComparisonJob, folder: Path
) -> Iterator[BenchmarkCase]:
    options = {"points_per_side": job.points_per_side, **OPTION_SETS[title]}
    turns = run_interleaved(programs, "everything", job.repeats, warmup=0, options=options)
    kept = {
        program.name: program.save_results(folder / f"{program.name}.npz")
        for program in programs
        if program.name in turns
    }
    for program in programs:
        yield from _case_rows(turns, title, program.name, job, kept)


def _case_rows(
    turns: Timings, title: str, name: str, job: MaskGenerationComparisonJob, files: Mapping[str, Path]
) -> Iterator[BenchmarkCase]:
    taken = turns.get(name, ())
    case = BenchmarkCase(title, job.setting, "s", tuple(each.seconds for each in taken), program=name)
    processor = replace(case, name=f"{title}, processor", samples=tuple(each.cpu_seconds for each in taken))
    if not taken or name == MASKLET:
        yield replace(case, note=_mask_count_note(taken[-1]) if taken else None)
        yield processor
        return
    found = _compare_masks(files[MASKLET], files[name])
    yield replace(
        case,
        peer_ratio=time_ratio(turns, name),
        min_iou=found.min_iou if found else None,
        note=_mask_count_note(taken[-1]) + (f", {_agreement_note(found)}" if found else ""),
    )
    yield replace(processor, peer_ratio=time_ratio(turns, name, cpu_time=True))


def _compare_masks(ours: Path, theirs: Path) -> MaskAgreement | None:
    with np.load(ours) as found, np.load(theirs) as reference:
        return mask_agreement(found["everything.masks"], reference["everything.masks"])


def _mask_count_note(taken: Timing) -> str:
    return f"{taken.masks} mask{'' if taken.masks == 1 else 's'}"


def _agreement_note(agreement: MaskAgreement) -> str:
    return f"alike {agreement.matched_ours:.1%} of masklet's and {agreement.matched_theirs:.1%} of its own, mean IoU {agreement.mean_iou:.4f}"  # noqa: E501
