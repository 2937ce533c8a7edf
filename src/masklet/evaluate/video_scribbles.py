"""DAVIS interactive: films segmented by scribbles, against the clock, as the challenge measured it.

The protocol is that of the interactive track of the DAVIS challenges of 2018 to 2020 (Caelles et al. 2018, and the
evaluation code of its authors, version 1.0.4). A **sample** is a sequence of DAVIS 2017 and one of its first scribbles,
which persons drew on a frame of their choice; where there are none the robot draws the first one on the frame that
shows the most objects, the one nearest to the middle of several.

**An interaction**: the model is given scribbles, and answers with a label map of every frame. J and F of each object
are measured on all frames, the first, the last and those with scribbles included, as they are. Then the robot draws on
the frame with the lowest J&F it has not drawn on in this sample (`masklet.evaluate.scribble_robot`), and these
scribbles begin the next interaction; 8 in all.

**The clock** runs while the model has the scribbles and has not answered: from opening the film (in the first
interaction) to the last frame. It does not run while the answer is measured and the robot draws. A sample has 30
seconds for each object and interaction, 240 seconds an object in all; an interaction that ends later is not counted and
is the last. Interactions that were not reached are taken as the last one that was, at no time; without any, as 0.

**Figures** (`masklet.evaluate.scribble_report`): the curve has a point for each interaction: its mean J&F over the
objects of all samples, at the time that the interactions up to it took, mean over samples. It begins with 0 at 0
seconds and is drawn on at its last height to the mean time that samples have. J&F@60s is read off the curve, straight
from point to point; AUC is the area below it over its length.

**How scribbles become prompts** is the model's affair in the challenge; here it is this. A stroke becomes `points`
points, in the middle of as many parts of equal length. They are positive for the stroke's object and negative for all
others; at most `most` of each kind for an object on a frame, of the longest strokes first, negative ones that lie on
its present mask before others. An object is told where it has a stroke of its own on that frame, or its present mask
holds a point that is not its; else it is left alone. Points add to those that it was told on that frame before, and the
mask it has there is refined. Then all objects are followed anew in both directions, from all they were told; where they
overlap the smaller one is kept, as in the label maps that masklet writes. A film is encoded once in a sample, where its
features have room (`Session.hold`).

Shapes: T frames, H height, W width, N points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, SourceError
from masklet.evaluate.davis_sequences import UNJUDGED, DavisSequence, Labels, truth_of
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.scribble_robot import (
    Drawn,
    Scribble,
    draw,
    frame_to_begin,
    frame_to_correct,
    read_scribbles,
    scribble_files,
)
from masklet.evaluate.semi_supervised_vos import check_size
from masklet.prompts import ObjectPrompt, Points
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.writers.mask_images import label_map

__all__ = ["FIRST", "Interaction", "Sample", "ScribbleOptions", "ScribbledRow", "evaluate_scribbles", "samples_of"]

Pixels = npt.NDArray[np.int64]
"""(N, 2)."""
FIRST = ("person", "robot")
"""Who draws the first scribbles."""


class Scribbled(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session in which frames can be corrected."""

    def session(self, source: Any, *, options: TrackOptions | None = None) -> Session:
        """A film to work on."""


@dataclass(frozen=True)
class ScribbleOptions:
    """How films are scribbled on; the defaults are those of the challenge.

    Example:
        >>> ScribbleOptions(interactions=3)

    Raises:
        InputError: a value outside its range.
    """

    interactions: int = 8
    seconds: float = 30.0
    """That a sample has for each object and interaction."""
    points: int = 3
    """Of a stroke."""
    most: int = 8
    """Positive points, and negative ones, of an object on a frame."""

    def __post_init__(self) -> None:
        for name in ("interactions", "points", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if not 0 < self.seconds < float("inf"):
            raise InputError(f"seconds={self.seconds!r} must be a number of seconds above 0")


@dataclass(frozen=True)
class Sample:
    """A sequence and one of its first scribbles: the `number`-th file, or, where it is None, the robot's."""

    sequence: DavisSequence
    number: int
    file: Path | None

    @property
    def name(self) -> str:
        """As in reports."""
        return f"{self.sequence.name}/{self.number:03d}" if self.file else f"{self.sequence.name}/robot"


@dataclass(frozen=True)
class Interaction:
    """What one interaction gave: J and F of objects 1, 2, ..., means over all frames, 0 to 1."""

    frame: int
    """The first that the scribbles were on, counted from 0."""
    strokes: int
    seconds: float
    j: tuple[float, ...]
    f: tuple[float, ...]

    @property
    def jf(self) -> float:
        """J&F, mean over objects."""
        return float(np.mean([self.j, self.f]))


@dataclass(frozen=True)
class ScribbledRow:
    """What a sample gave; `interactions` are those that ended in time."""

    sequence: str
    scribble: int
    """Which of the sequence's first scribbles; 0: the robot's."""
    frames: int
    objects: int
    interactions: tuple[Interaction, ...]
    out_of_time: bool = False


def samples_of(
    root: Path, sequences: Sequence[DavisSequence], most: int | None = None, *, first: str = "person"
) -> list[Sample]:
    """Each sequence with each of its first scribbles, `most` of each at most; `first` says who draws them.

    "person": the files of `root`, and the robot where a sequence has none; "robot": always the robot.

    Example:
        >>> samples_of(Path("DAVIS"), davis_under(Path("DAVIS"), "2017/val"))
        [Sample(...), ...]

    Raises:
        InputError: another `first`.
    """
    if first not in FIRST:
        raise InputError(f"first={first!r} is unknown; choose {' or '.join(map(repr, FIRST))}")
    found: list[Sample] = []
    for sequence in sequences:
        files = [] if first == "robot" else scribble_files(root, sequence.name)[:most]
        found += [Sample(sequence, n + 1, file) for n, file in enumerate(files)] or [Sample(sequence, 0, None)]
    return found


def evaluate_scribbles(
    model: Scribbled,
    sample: Sample,
    options: ScribbleOptions | None = None,
    step: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[Drawn, Labels], None] | None = None,
) -> ScribbledRow:
    """Interact with one sample, and measure each answer.

    `step` is called after every frame that is followed, `watch` with the scribbles of each interaction and the label
    maps (T, H, W) that answered them. `clock` is read when an interaction begins and when it ends.

    Example:
        >>> [sample, *_] = samples_of(root, davis_under(root))
        >>> evaluate_scribbles(SAM(), sample, ScribbleOptions(interactions=3)).interactions[-1].jf
        0.71

    Raises:
        SourceError: a picture, an annotation or scribbles that cannot be read or do not fit, or no object.
        ModelError: a model for pictures only.
    """
    asked, film = options or ScribbleOptions(), _Film(sample)
    drawn, used = film.first(), set[int]()
    left = asked.seconds * asked.interactions * film.objects
    found: list[Interaction] = []
    answers = _Answers(model, film, asked, step or (lambda: None))
    try:
        while len(found) < asked.interactions:
            started = clock()
            answers.take(drawn)
            seconds = clock() - started
            left -= seconds
            if left < 0:
                break
            j, f = film.measure(answers.shown_THW)
            found.append(Interaction(min(drawn, default=-1), sum(map(len, drawn.values())), seconds, *_means(j, f)))
            if watch is not None:
                watch(drawn, answers.shown_THW)
            drawn = film.next(answers.shown_THW, ((j + f) / 2).mean(1).tolist(), used)
    finally:
        answers.close()
    return ScribbledRow(sample.sequence.name, sample.number, film.frames, film.objects, tuple(found), left < 0)


def _means(*measures_TN: npt.NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Of each object, over the frames."""
    return [tuple(map(float, measure_TN.mean(0))) for measure_TN in measures_TN]


class _Film:
    """The sequence of a sample, its truth, and who draws on it."""

    def __init__(self, sample: Sample) -> None:
        self.sample, self.sequence = sample, sample.sequence
        self.truth_THW = truth_of(sample.sequence)
        self.frames = len(self.truth_THW)
        self.objects = int(self.truth_THW[self.truth_THW != UNJUDGED].max(initial=0))
        if not self.objects:
            raise SourceError(
                f"no annotation of {self.sequence.name} has an object; a sequence to scribble on has one at least: "
                "leave it out"
            )

    def first(self) -> Drawn:
        """Those of a person, else the robot's, who sees nothing shown."""
        if self.sample.file is not None:
            return read_scribbles(self.sample.file, self.sequence.name, self.frames, self.objects)
        frame = frame_to_begin(self.truth_THW, self.objects)
        return self._drawn(frame, np.zeros_like(self.truth_THW[frame]))

    def next(self, shown_THW: Labels, jf: Sequence[float], used: set[int]) -> Drawn:
        """The robot's, on the worst frame that is not used, which then is."""
        frame = frame_to_correct(jf, used)
        used.add(frame)
        return self._drawn(frame, shown_THW[frame])

    def _drawn(self, frame: int, shown_HW: Labels) -> Drawn:
        return {frame: draw(shown_HW, self.truth_THW[frame], self.objects)}

    def measure(self, shown_THW: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """J and F, by frame and object."""
        pairs = [
            [(shown == id, truth == id) for id in range(1, self.objects + 1)]
            for shown, truth in zip(shown_THW, self.truth_THW, strict=True)
        ]
        j = np.array([[region_j(*pair) for pair in of] for of in pairs])
        return j, np.array([[boundary_f(*pair) for pair in of] for of in pairs])


@dataclass
class _Answers:
    """A model at work on a film: what it was told, and what it shows."""

    model: Scribbled
    film: _Film
    options: ScribbleOptions
    step: Callable[[], None]
    session: Session | None = None
    told: set[int] = field(default_factory=set)
    """Objects that the session knows."""

    def __post_init__(self) -> None:
        self.shown_THW = np.zeros_like(self.film.truth_THW)

    def close(self) -> None:
        """Let go of the film."""
        if self.session is not None:
            self.session.close()

    def take(self, drawn: Drawn) -> None:
        """Answer to some more scribbles; where they say nothing new the answer stays."""
        session = self.session = self.session or self._opened()
        told = [self._tell(session, frame, strokes) for frame, strokes in drawn.items()]
        if any(told):
            self._follow(session)

    def _opened(self) -> Session:
        session = self.model.session(list(self.film.sequence.frames), options=TrackOptions(keep="all"))
        check_size(self.film.truth_THW[0] > 0, session.video.size, f"{self.film.sequence.masks[0]}")
        session.hold(0, self.film.frames)
        return session

    def _tell(self, session: Session, frame: int, strokes: Sequence[Scribble]) -> bool:
        """Tell each object what the strokes on a frame say of it; False: nothing."""
        shown_HW = self.shown_THW[frame]
        points = [(one.id, points_on(one, shown_HW.shape, self.options.points)) for one in _longest_first(strokes)]
        prompts = {id: self._prompt(id, points, shown_HW) for id in range(1, self.film.objects + 1)}
        for id, prompt in prompts.items():
            if prompt is not None:
                session.say(id, frame, prompt)
                self.told.add(id)
        return any(prompts.values())

    def _prompt(self, id: int, points: Sequence[tuple[int, Pixels]], shown_HW: Labels) -> ObjectPrompt | None:
        """What some points say of an object; None: nothing that it needs, or can begin with."""
        own = [tuple(xy) for other, path in points if other == id for xy in path.tolist()]
        off = [tuple(xy) for other, path in points if other != id for xy in path.tolist()]
        wrong = [(x, y) for x, y in off if shown_HW[y, x] == id]
        if not own and (not wrong or id not in self.told):
            return None
        rest = [xy for xy in off if xy not in wrong]
        on, off = own[: self.options.most], [*wrong, *rest][: self.options.most]
        xy, labels = np.array([*on, *off], np.float32), np.array([1] * len(on) + [0] * len(off), np.int32)
        return ObjectPrompt(points=Points(xy, labels), refine=id in self.told)

    def _follow(self, session: Session) -> None:
        left = set(range(self.film.frames))
        for results in session.propagate(both=True, progress=lambda _: self.step()):
            assert results.frame is not None
            self.shown_THW[results.frame] = _labels(results)
            left.discard(results.frame)
        if left:  # the reader leaves a damaged picture out and goes on
            raise SourceError(
                f"{self.film.sequence.frames[min(left)]} is damaged or was not reached; every picture counts: mend it"
            )


def _labels(results: Results) -> Labels:
    return np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)]


def _longest_first(strokes: Sequence[Scribble]) -> list[Scribble]:
    return sorted(strokes, key=lambda one: -_lengths(one.path)[-1])


def _lengths(path: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far along a path each of its points is."""
    return np.concatenate([[0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()])


def points_on(stroke: Scribble, size: tuple[int, ...], points: int) -> Pixels:
    """Pixels (N, 2) of a stroke in a picture of (height, width), in the middle of `points` parts of equal length.

    Pixels that fall together are one.

    Example:
        >>> points_on(Scribble(1, np.array([[0.0, 0.5], [1.0, 0.5]])), (11, 101), 2).tolist()
        [[25, 5], [75, 5]]
    """
    xy = stroke.path * (np.array(size[::-1]) - 1)
    along = _lengths(xy)
    places = (np.arange(points) + 0.5) / points * along[-1]
    pixels = np.rint(np.stack([np.interp(places, along, axis) for axis in xy.T], 1)).astype(np.int64)
    return np.array(list(dict.fromkeys(map(tuple, pixels.tolist()))), np.int64)
