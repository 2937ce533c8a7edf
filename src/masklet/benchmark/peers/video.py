"""Objects followed by masklet and by other programs, which take turns frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from masklet.atomic_files import write_image
from masklet.benchmark.flops import frame_works
from masklet.benchmark.image import predictor_of
from masklet.benchmark.peers.interleaved import Compared, Turns, lowest_iou, ratio_of, running, take_turns, versions_of
from masklet.benchmark.peers.process import OURS, Job, Program
from masklet.benchmark.record import Case
from masklet.benchmark.roofline import Work
from masklet.benchmark.sample_video import FILM_SIZE, made_film, places, reach
from masklet.benchmark.video import WARM
from masklet.benchmark.weights import Weights, weights_for
from masklet.errors import InputError
from masklet.models.sam2 import SAM2

__all__ = ["PROTOCOL", "FollowJob", "compare_followed", "prompts_of"]

PROTOCOL = (
    "A made film as a folder of JPEG files, a disc for each object, points and boxes in turn on the first frame; every "
    "program a process of its own with the same film, prompts, weights and threads, all of them anew for every number "
    "of objects. Seven frames are not counted, so that all memories are full; then programs take turns, frame by "
    "frame. a frame: from asking for it to masks at its size; masklet reads the file meanwhile, others have read the "
    "film while loading. load: the weights and the film, imports not counted. prompts: all of them. No program fills "
    "holes. ratio: masklet's time by the peer's, the median over frames; lowest IoU and logits error: over the objects "
    "on all counted frames, between masklet and the peer in the same precision. floor: the longer of what masklet's "
    "operations take at the measured matrix rate and what moving the bytes takes at the measured rate of copying "
    "(weights, memories, frame and masks once); bound says which. Spread: from the first to the third quarter."
)
FRAME = "a frame"
SALT = "c"
"""Of weights that are made: with these the objects stay in sight."""
Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FollowJob:
    """What programs are compared on."""

    model: str
    objects: tuple[int, ...] = (1, 2, 4, 8)
    frames: int = 3
    precision: str = "fp32"
    device: str = "cpu"
    threads: int = 1
    image_size: int | None = None
    picture: tuple[int, int] = FILM_SIZE
    """Height and width of the frames."""

    def __post_init__(self) -> None:
        if not all(1 <= count <= 64 for count in self.objects) or self.frames < 1:
            counts = ", ".join(map(str, self.objects))
            raise InputError(f"objects {counts} and frames {self.frames} must be 1 to 64, and 1 or more")

    def setting(self, objects: int) -> str:
        """As tables name it."""
        return f"{objects} object{'s' if objects > 1 else ''}, {self.precision}"


def compare_followed(job: FollowJob, pythons: Mapping[str, Path], step: Callable[[Compared], None]) -> Compared:
    """Seconds, memory and agreement of all programs by number of objects; `step` gets what is there after each.

    Example:
        >>> found = compare_followed(FollowJob("sam2.1_t.pt", objects=(1,)), pythons_of(["sam2"]), lambda _: None)
        >>> [(case.program, case.median, case.ratio) for case in found.cases if case.name == FRAME]
        [('masklet', 2.29, None), ('sam2', 5.43, 0.42)]

    Raises:
        UnknownModelError, InputError: a model that the programs do not have.
        StateError: a program ended early.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = Compared(weights_for(job.model, folder, SALT))
        works = _works(found.weights, job)
        for count in job.objects:
            with running(pythons, _told(job, found.weights, count, folder), folder) as programs:
                measured = _cases(programs, job, count, folder)
                cases = tuple(_with_work(case, works[count]) for case in measured)
                found = replace(found, cases=found.cases + cases, versions=versions_of(programs))
            step(found)
    return found


def _works(weights: Weights, job: FollowJob) -> dict[int, Work]:
    """Of a frame by number of objects, counted before there is anything to measure."""
    network = predictor_of(str(weights.path), job.image_size).model
    assert isinstance(network, SAM2)
    return dict(zip(job.objects, frame_works(network, job.picture, job.objects), strict=True))


def _with_work(case: Case, work: Work) -> Case:
    return replace(case, work=work) if case.name == FRAME else case


def prompts_of(size: tuple[int, int], objects: int) -> list[dict[str, object]]:
    """Points and boxes in turn, one on each disc of the first frame.

    Example:
        >>> prompts_of((480, 854), 1)
        [{'id': 1, 'point': [469.7, 240.0], 'box': None}]
    """
    far = reach(size, objects)
    return [
        {
            "id": i + 1,
            "point": None if i % 2 else [x, y],
            "box": [x - far, y - far, x + far, y + far] if i % 2 else None,
        }
        for i, (x, y) in enumerate(places(size, objects, 0))
    ]


def _told(job: FollowJob, weights: Weights, count: int, folder: Path) -> Job:
    return {
        "kind": "film",
        "model": weights.model,
        "weights": str(weights.path),
        "precision": job.precision,
        "device": job.device,
        "threads": job.threads,
        "image_size": job.image_size,
        "film": str(_written(job, count, folder / f"film{count}")),
        "prompts": prompts_of(job.picture, count),
        "kept_from": WARM,
    }


def _written(job: FollowJob, count: int, folder: Path) -> Path:
    """The form of film that all programs open without another decoder."""
    for number, rgb in enumerate(islice(made_film(job.picture, count), WARM + job.frames)):
        write_image(folder / f"{number:05d}.jpg", rgb)
    return folder


def _cases(programs: Sequence[Program], job: FollowJob, count: int, folder: Path) -> Iterator[Case]:
    able = [program for program in programs if program.has("step")]
    loaded = take_turns(able, "load", 1, uncounted=0)
    prompted = take_turns(able, "prompt", 1, uncounted=0)
    stepped = take_turns(able, "step", job.frames, uncounted=WARM)
    kept = {program.name: program.keep(folder / f"{program.name}.npz") for program in able}
    setting = job.setting(count)
    for program in programs:
        name = program.name
        if name not in kept:
            yield Case(FRAME, setting, "s", note="follows no objects", program=name)
            continue
        yield replace(_compared(stepped, name, kept), setting=setting)
        yield Case("load", setting, "s", _seconds(loaded, name), program=name)
        yield Case("prompts", setting, "s", _seconds(prompted, name), program=name)
        yield from _memory(setting, name, loaded, stepped)


def _seconds(turns: Turns, name: str) -> tuple[float, ...]:
    return tuple(taken.seconds for taken in turns[name])


def _memory(setting: str, name: str, loaded: Turns, stepped: Turns) -> Iterator[Case]:
    figures = {"memory with weights and film": loaded[name][0].rss_mb, "peak memory": stepped[name][-1].peak_mb}
    for title, value in figures.items():
        if value is not None:
            yield Case(title, setting, "MB", (value,), program=name)


def _compared(stepped: Turns, name: str, kept: Mapping[str, Path]) -> Case:
    case = Case(FRAME, "", "s", _seconds(stepped, name), program=name)
    if name == OURS:
        return case
    with np.load(kept[OURS]) as ours, np.load(kept[name]) as theirs:
        ious = [lowest_iou(ours[key], theirs[key]) for key in theirs if key.endswith(".masks")]
        errors = [_error(ours[key], theirs[key]) for key in theirs if key.endswith(".logits")]
    alike = [iou for iou in ious if iou is not None]
    return replace(
        case,
        ratio=ratio_of(stepped, name),
        lowest_iou=min(alike, default=None),
        logits_error=max((error for error in errors if error is not None), default=None),
        note=None if len(alike) == len(ious) else "other numbers of masks than masklet on some frames",
    )


def _error(found: Maps, reference: Maps) -> float | None:
    """Of the objects of one frame; one that is out of sight has one logit everywhere, and that is compared."""
    if found.shape != reference.shape:
        return None
    deviation = np.maximum(reference.std((1, 2)), 1.0)
    return float((np.abs(found - reference).max((1, 2)) / deviation).max())
