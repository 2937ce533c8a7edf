"""One picture and its prompts in masklet and in other programs, which take turns question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.benchmark.image import clicks_on, predictor_of, rgb_of, works_of
from masklet.benchmark.model_family import PICTURE_SIZE
from masklet.benchmark.peers.interleaved import (
    Compared,
    Turns,
    logits_error,
    lowest_iou,
    ratio_of,
    running,
    take_turns,
    versions_of,
)
from masklet.benchmark.peers.process import OURS, Program
from masklet.benchmark.record import Case
from masklet.benchmark.roofline import Work
from masklet.benchmark.weights import Weights, weights_for

__all__ = ["PROTOCOL", "BesideJob", "compare_picture", "picture_job"]

PROTOCOL = (
    "One picture; every program a process of its own with the same picture, prompts, weights and threads, anew for "
    "every precision. They take turns (A B, then B A), one question at a time while the others wait; of each question "
    "one round that is not counted, then repeats. load: from a file of weights to a program that is ready, once, "
    "imports not counted; the file is in the cache. encode: from pixels to a program that holds the picture. "
    "1 prompt: a click, three masks at the picture's size. 1 box: a box, one mask. 64 prompts: a click each in one "
    "call, one mask each. memory before: of the process, imports done, before there is a model; peak memory: the most "
    "that it had. ratio: masklet's time by the peer's, the median over rounds. lowest IoU and logits error: over all "
    "masks of a question, between masklet and the peer in the same precision, and on masklet's own rows between a "
    "precision and fp32. floor: the longer of what operations take at the measured matrix rate and what moving "
    "the bytes takes at the measured rate of copying (each weight that is used read once, picture and answer once); "
    "bound says which. Spread: from the first to the third quarter."
)
VERBS = {"encode": "encode", "click": "1 prompt", "box": "1 box", "prompts": "64 prompts"}
"""What programs are asked, in this order, and what tables call it."""
POINT = (0.25, 0.54)
BOX = (0.417, 0.25, 0.695, 0.625)
"""Where the click and the box are, as shares of width and height."""


@dataclass(frozen=True)
class BesideJob:
    """What programs are compared on."""

    model: str
    precisions: tuple[str, ...] = ("fp32",)
    repeats: int = 5
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    picture: Path | None = None
    """A file; None for the made picture."""
    size: tuple[int, int] = PICTURE_SIZE
    """Height and width of the made picture."""


@dataclass
class _Kept:
    """Files of what programs found, by program and precision."""

    folder: Path
    files: dict[tuple[str, str], Path] = field(default_factory=dict)

    def take(self, programs: Sequence[Program], precision: str) -> None:
        for program in programs:
            path = self.folder / f"{program.name}-{precision}.npz"
            self.files[program.name, precision] = program.keep(path)

    def reference_of(self, name: str, precision: str) -> Path | None:
        """What masklet's answers are compared with on the row of a program."""
        if name != OURS:
            return self.files[name, precision]
        return self.files.get((OURS, "fp32")) if precision != "fp32" else None


def compare_picture(job: BesideJob, pythons: Mapping[str, Path], step: Callable[[Compared], None]) -> Compared:
    """Seconds, memory and agreement of all programs in each precision; `step` gets what is there after each.

    Example:
        >>> found = compare_picture(BesideJob("sam2.1_t.pt"), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.ratio) for case in found.cases if case.name == "encode"]
        [('masklet', 1.01, None), ('sam2', 1.02, 0.99)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        SourceError: no such picture.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        rgb, weights, kept = rgb_of(job.picture, job.size), weights_for(job.model, folder), _Kept(folder)
        found, works = Compared(weights), _works(weights, rgb, job.image_size)
        told = picture_job(weights, rgb, folder) | _setting(job)
        for precision in job.precisions:
            with running(pythons, {**told, "precision": precision}, folder) as programs:
                measured = _cases(programs, precision, job.repeats, kept)
                cases = tuple(replace(case, work=works.get(case.name)) for case in measured)
                found = replace(found, cases=found.cases + cases, versions=versions_of(programs))
            step(found)
    return found


def picture_job(weights: Weights, rgb: npt.NDArray[np.uint8], folder: Path) -> dict[str, object]:
    """A picture, its prompts and the weights, as adapters are told of them.

    Example:
        >>> picture_job(weights_for("sam2.1_t.pt", folder), made_picture(), folder)["point"]
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
        "point": [round(share * side) for share, side in zip(POINT, sides, strict=False)],
        "box": [round(share * side) for share, side in zip(BOX, sides, strict=True)],
        "points": clicks_on((height, width)),
    }


def _setting(job: BesideJob) -> dict[str, object]:
    return {"device": job.device, "threads": job.threads, "image_size": job.image_size}


def _works(weights: Weights, rgb: npt.NDArray[np.uint8], image_size: int | None) -> dict[str, Work]:
    """Counted here, before there is anything to measure."""
    predictor = predictor_of(str(weights.path), image_size)
    predictor.set_image(rgb)
    return works_of(predictor)


def _cases(programs: Sequence[Program], precision: str, repeats: int, kept: _Kept) -> Iterator[Case]:
    turns = {"load": take_turns(programs, "load", 1, uncounted=0)}
    turns |= {title: take_turns(programs, verb, repeats) for verb, title in VERBS.items()}
    kept.take(programs, precision)
    verbs = {title: verb for verb, title in VERBS.items()}
    for title, found in turns.items():
        for program in programs:
            yield _case(title, verbs.get(title), found, program.name, precision, kept)
    yield from _memory(programs, turns.values(), precision)


def _case(title: str, verb: str | None, turns: Turns, name: str, precision: str, kept: _Kept) -> Case:
    seconds = tuple(taken.seconds for taken in turns.get(name, ()))
    case = Case(title, precision, "s", seconds, program=name)
    if name != OURS:
        case = replace(case, ratio=ratio_of(turns, name))
    reference = kept.reference_of(name, precision)
    return case if reference is None or verb is None else _agreeing(case, verb, kept.files[OURS, precision], reference)


def _agreeing(case: Case, verb: str, found: Path, reference: Path) -> Case:
    with np.load(found) as ours, np.load(reference) as theirs:
        masks, logits = f"{verb}.masks", f"{verb}.logits"
        iou = lowest_iou(ours[masks], theirs[masks]) if masks in theirs else None
        error = logits_error(ours[logits], theirs[logits]) if logits in theirs else None
    return replace(case, lowest_iou=iou, logits_error=error)


def _memory(programs: Sequence[Program], turns: Iterable[Turns], precision: str) -> Iterator[Case]:
    """The peak is that of the last question; it only grows."""
    for program in programs:
        peaks = [taken.peak_mb for found in turns for taken in found.get(program.name, ()) if taken.peak_mb]
        figures = {"memory before": program.before_mb, "peak memory": max(peaks, default=None)}
        for title, value in figures.items():
            if value is not None:
                yield Case(title, precision, "MB", (value,), program=program.name)
