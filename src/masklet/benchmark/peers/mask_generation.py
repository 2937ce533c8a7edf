"""Everything in a picture, in masklet and in other programs, which take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.benchmark.flops import everything_work
from masklet.benchmark.image import predictor_of, rgb_of
from masklet.benchmark.peers.image import picture_job
from masklet.benchmark.peers.interleaved import (
    Alike,
    Compared,
    Turns,
    alike,
    ratio_of,
    running,
    take_turns,
    versions_of,
)
from masklet.benchmark.peers.process import OURS, Program, Taken
from masklet.benchmark.record import Case
from masklet.benchmark.roofline import Work
from masklet.benchmark.weights import Weights, weights_for

__all__ = ["CASES", "PROTOCOL", "USUAL", "EverythingJob", "compare_everything"]

PROTOCOL = (
    "One picture; every program a process of its own with the same picture, weights, threads and options. They take "
    "turns, and every round is counted: from pixels to coded masks, encoding included. Each case is told by the clock "
    "and in processor time, which says the same on a machine that is busy. Scores of weights that follow from names "
    "are lower than those of trained ones, so that the cases have thresholds of their own. Masks are matched by their "
    "best IoU; alike is the share of masklet's with a partner above 0.95, and of the peer's; lowest IoU: of the peer's "
    "masks with the most similar one of masklet's. ratio: masklet's time by the peer's, the median over rounds. floor: "
    "the longer of what masklet's operations for encoding and for every point take at the measured matrix rate and "
    "what moving the bytes takes at the measured rate of copying; making masks, crops and second passes come on top."
)
CASES: Mapping[str, Mapping[str, float | bool]] = {
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
parts of the picture too, and `second pass` asks again with what was found."""
USUAL = ("thresholds", "small", "all")


@dataclass(frozen=True)
class EverythingJob:
    """What programs are compared on."""

    model: str
    cases: tuple[str, ...] = USUAL
    """Names in `CASES`."""
    points: int = 16
    """A side of the grid."""
    repeats: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = 512
    picture: Path | None = None
    """A file; None for the made picture."""
    size: tuple[int, int] = (480, 640)
    """Height and width of the made picture."""

    @property
    def setting(self) -> str:
        """As tables name it."""
        return f"{self.points} x {self.points}, {self.precision}"


def compare_everything(job: EverythingJob, pythons: Mapping[str, Path], step: Callable[[Compared], None]) -> Compared:
    """Seconds and agreement of all programs in each case; `step` gets what is there after each.

    Example:
        >>> found = compare_everything(EverythingJob("sam2.1_t.pt"), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.name, case.program, case.median, case.ratio) for case in found.cases][:2]
        [('thresholds', 'masklet', 5.6, None), ('thresholds', 'sam2', 49.4, 0.11)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        SourceError: no such picture.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, found = rgb_of(job.picture, job.size), Compared(weights_for(job.model, folder))
        told = picture_job(found.weights, rgb, folder)
        work = _work(found.weights, rgb, job)
        told |= {"precision": job.precision, "device": job.device, "threads": job.threads, "image_size": job.image_size}
        with running(pythons, told, folder) as programs:
            take_turns(programs, "load", 1, uncounted=0)
            for title in job.cases:
                measured = _cases(programs, title, job, folder)
                cases = tuple(replace(case, work=work) if case.name == title else case for case in measured)
                found = replace(found, cases=found.cases + cases, versions=versions_of(programs))
                step(found)
    return found


def _work(weights: Weights, rgb: npt.NDArray[np.uint8], job: EverythingJob) -> Work:
    """Counted here, before there is anything to measure; crops and second passes come on top."""
    predictor = predictor_of(str(weights.path), job.image_size)
    predictor.set_image(rgb)
    return everything_work(predictor, job.points)


def _cases(programs: Sequence[Program], title: str, job: EverythingJob, folder: Path) -> Iterator[Case]:
    options = {"points_per_side": job.points, **CASES[title]}
    turns = take_turns(programs, "everything", job.repeats, uncounted=0, options=options)
    kept = {program.name: program.keep(folder / f"{program.name}.npz") for program in programs if program.name in turns}
    for program in programs:
        yield from _rows(turns, title, program.name, job, kept)


def _rows(turns: Turns, title: str, name: str, job: EverythingJob, kept: Mapping[str, Path]) -> Iterator[Case]:
    taken = turns.get(name, ())
    case = Case(title, job.setting, "s", tuple(each.seconds for each in taken), program=name)
    processor = replace(case, name=f"{title}, processor", samples=tuple(each.cpu_s for each in taken))
    if not taken or name == OURS:
        yield replace(case, note=_counted(taken[-1]) if taken else None)
        yield processor
        return
    found = _alike(kept[OURS], kept[name])
    yield replace(
        case,
        ratio=ratio_of(turns, name),
        lowest_iou=found.lowest_iou if found else None,
        note=_counted(taken[-1]) + (f", {_told(found)}" if found else ""),
    )
    yield replace(processor, ratio=ratio_of(turns, name, processor=True))


def _alike(ours: Path, theirs: Path) -> Alike | None:
    with np.load(ours) as found, np.load(theirs) as reference:
        return alike(found["everything.masks"], reference["everything.masks"])


def _counted(taken: Taken) -> str:
    return f"{taken.masks} mask{'' if taken.masks == 1 else 's'}"


def _told(found: Alike) -> str:
    return f"alike {found.ours:.1%} of masklet's and {found.theirs:.1%} of its own, mean IoU {found.mean_iou:.4f}"
