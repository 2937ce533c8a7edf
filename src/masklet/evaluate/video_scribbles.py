"""DAVIS interactive: videos segmented by scribbles, against the clock, as the challenge measured it.

The protocol is that of the interactive track of the DAVIS challenges of 2018 to 2020 (Caelles et al. 2018, and the
evaluation code of its authors, version 1.0.4). A **sample** is a sequence of DAVIS 2017 and one of its first scribbles,
which persons drew on a frame of their choice; where there are none the robot draws the first one on the frame that
shows the most objects, the one nearest to the middle of several.

**An interaction**: the model is given scribbles, and answers with a label map of every frame. J and F of each object
are measured on all frames, the first, the last and those with scribbles included, as they are. Then the robot draws on
the frame with the lowest J&F it has not drawn on in this sample (`masklet.evaluate.scribble_robot`), and these
scribbles begin the next interaction; 8 in all.

**The clock** runs while the model has the scribbles and has not answered: from opening the video (in the first
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
overlap the smaller one is kept, as in the label maps that masklet writes. A video is encoded once in a sample, where its
features have room (`Session.hold`).

Shapes: T frames, H height, W width, N points.
"""  # noqa: E501

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, SourceError
from masklet.evaluate.davis_sequences import IGNORE_LABEL, DavisSequence, Labels, load_ground_truth
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.scribble_robot import (
    Scribble,
    ScribblesByFrame,
    choose_correction_frame,
    choose_first_frame,
    draw_scribbles,
    read_scribbles,
    scribble_files,
)
from masklet.evaluate.semi_supervised_vos import validate_mask_size
from masklet.prompts import ObjectPrompt, Points
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.writers.mask_images import label_map

__all__ = [
    "FIRST_SCRIBBLE_SOURCES",
    "Interaction",
    "ScribbleOptions",
    "ScribbleResult",
    "ScribbleSample",
    "evaluate_scribbles",
    "scribble_samples",
]

Pixels = npt.NDArray[np.int64]
"""(N, 2)."""
FIRST_SCRIBBLE_SOURCES = ("person", "robot")
"""Who draws the first scribbles."""


class ScribbleModel(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session in which frames can be corrected."""

    def session(self, source: Any, *, options: TrackOptions | None = None) -> Session:
        """A video to work on."""


@dataclass(frozen=True)
class ScribbleOptions:
    """How videos are scribbled on; the defaults are those of the challenge.

    Example:
        >>> ScribbleOptions(interactions=3)

    Raises:
        InputError: a value outside its range.
    """

    interactions: int = 8
    seconds_per_interaction: float = 30.0
    """That a sample has for each object and interaction."""
    points_per_stroke: int = 3
    """Of a stroke."""
    max_points: int = 8
    """Positive points, and negative ones, of an object on a frame."""

    def __post_init__(self) -> None:
        for name in ("interactions", "points", "most"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if not 0 < self.seconds_per_interaction < float("inf"):
            raise InputError(f"seconds={self.seconds_per_interaction!r} must be a number of seconds above 0")


@dataclass(frozen=True)
class ScribbleSample:
    """A sequence and one of its first scribbles: the `number`-th file, or, where it is None, the robot's."""

    sequence: DavisSequence
    scribble_number: int
    file: Path | None

    @property
    def name(self) -> str:
        """As in reports."""
        return f"{self.sequence.name}/{self.scribble_number:03d}" if self.file else f"{self.sequence.name}/robot"


@dataclass(frozen=True)
class Interaction:
    """What one interaction gave: J and F of objects 1, 2, ..., means over all frames, 0 to 1."""

    frame_idx: int
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
class ScribbleResult:
    """What a sample gave; `interactions` are those that ended in time."""

    sequence: str
    scribble_number: int
    """Which of the sequence's first scribbles; 0: the robot's."""
    frames: int
    objects: int
    interactions: tuple[Interaction, ...]
    timed_out: bool = False


def scribble_samples(
    root: Path,
    sequences: Sequence[DavisSequence],
    max_per_sequence: int | None = None,
    *,
    first_scribbles: str = "person",
) -> list[ScribbleSample]:
    """Each sequence with each of its first scribbles, `most` of each at most; `first` says who draws them.

    "person": the files of `root`, and the robot where a sequence has none; "robot": always the robot.

    Example:
        >>> samples_of(Path("DAVIS"), davis_under(Path("DAVIS"), "2017/val"))
        [Sample(...), ...]

    Raises:
        InputError: another `first`.
    """
    if first_scribbles not in FIRST_SCRIBBLE_SOURCES:
        raise InputError(
            f"first={first_scribbles!r} is unknown; choose {' or '.join(map(repr, FIRST_SCRIBBLE_SOURCES))}"
        )
    found: list[ScribbleSample] = []
    for sequence in sequences:
        files = [] if first_scribbles == "robot" else scribble_files(root, sequence.name)[:max_per_sequence]
        found += [ScribbleSample(sequence, n + 1, file) for n, file in enumerate(files)] or [
            ScribbleSample(sequence, 0, None)
        ]
    return found


def evaluate_scribbles(
    model: ScribbleModel,
    sample: ScribbleSample,
    options: ScribbleOptions | None = None,
    on_progress: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_interaction: Callable[[ScribblesByFrame, Labels], None] | None = None,
) -> ScribbleResult:
    """Interact with one sample, and measure each answer.

    `step` is called after every frame that is followed, `watch` with the scribbles of each interaction and the label
    maps (T, H, W) that answered them. `clock` is read when an interaction begins and when it ends.

    Example:
        >>> [sample, *_] = samples_of(root, davis_under(root))
        >>> evaluate_scribbles(SAM(), sample, ScribbleOptions(interactions=3)).interactions[-1].jf
        0.71

    Raises:
        SourceError: an image, an annotation or scribbles that cannot be read or do not fit, or no object.
        ModelError: a model for images only.
    """
    asked, video = options or ScribbleOptions(), _ScribbleSequence(sample)
    drawn, used = video.first_scribbles(), set[int]()
    left = asked.seconds_per_interaction * asked.interactions * video.objects
    found: list[Interaction] = []
    answers = _ScribbleSession(model, video, asked, on_progress or (lambda: None))
    try:
        while len(found) < asked.interactions:
            started = clock()
            answers.add_scribbles(drawn)
            seconds = clock() - started
            left -= seconds
            if left < 0:
                break
            j, f = video.score(answers.predicted_THW)
            found.append(
                Interaction(min(drawn, default=-1), sum(map(len, drawn.values())), seconds, *_object_means(j, f))
            )
            if on_interaction is not None:
                on_interaction(drawn, answers.predicted_THW)
            drawn = video.next_scribbles(answers.predicted_THW, ((j + f) / 2).mean(1).tolist(), used)
    finally:
        answers.close()
    return ScribbleResult(
        sample.sequence.name, sample.scribble_number, video.frames, video.objects, tuple(found), left < 0
    )


def _object_means(*measures_TN: npt.NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Of each object, over the frames."""
    return [tuple(map(float, measure_TN.mean(0))) for measure_TN in measures_TN]


class _ScribbleSequence:
    """The sequence of a sample, its truth, and who draws on it."""

    def __init__(self, sample: ScribbleSample) -> None:
        self.sample, self.sequence = sample, sample.sequence
        self.truth_THW = load_ground_truth(sample.sequence)
        self.frames = len(self.truth_THW)
        self.objects = int(self.truth_THW[self.truth_THW != IGNORE_LABEL].max(initial=0))
        if not self.objects:
            raise SourceError(
                f"no annotation of {self.sequence.name} has an object; a sequence to scribble on has one at least: "
                "leave it out"
            )

    def first_scribbles(self) -> ScribblesByFrame:
        """Those of a person, else the robot's, who sees nothing shown."""
        if self.sample.file is not None:
            return read_scribbles(self.sample.file, self.sequence.name, self.frames, self.objects)
        frame = choose_first_frame(self.truth_THW, self.objects)
        return self._robot_scribbles(frame, np.zeros_like(self.truth_THW[frame]))

    def next_scribbles(self, predicted_THW: Labels, jf: Sequence[float], used: set[int]) -> ScribblesByFrame:
        """The robot's, on the worst frame that is not used, which then is."""
        frame = choose_correction_frame(jf, used)
        used.add(frame)
        return self._robot_scribbles(frame, predicted_THW[frame])

    def _robot_scribbles(self, frame: int, predicted_HW: Labels) -> ScribblesByFrame:
        return {frame: draw_scribbles(predicted_HW, self.truth_THW[frame], self.objects)}

    def score(self, predicted_THW: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """J and F, by frame and object."""
        pairs = [
            [(shown == id, truth == id) for id in range(1, self.objects + 1)]
            for shown, truth in zip(predicted_THW, self.truth_THW, strict=True)
        ]
        j = np.array([[region_similarity(*pair) for pair in of] for of in pairs])
        return j, np.array([[boundary_f_score(*pair) for pair in of] for of in pairs])


@dataclass
class _ScribbleSession:
    """A model at work on a video: what it was told, and what it shows."""

    model: ScribbleModel
    target: _ScribbleSequence
    options: ScribbleOptions
    on_progress: Callable[[], None]
    session: Session | None = None
    prompted_ids: set[int] = field(default_factory=set)
    """Objects that the session knows."""

    def __post_init__(self) -> None:
        self.predicted_THW = np.zeros_like(self.target.truth_THW)

    def close(self) -> None:
        """Let go of the video."""
        if self.session is not None:
            self.session.close()

    def add_scribbles(self, scribbles: ScribblesByFrame) -> None:
        """Answer to some more scribbles; where they say nothing new the answer stays."""
        session = self.session = self.session or self._open_session()
        told = [self._add_prompts(session, frame, strokes) for frame, strokes in scribbles.items()]
        if any(told):
            self._propagate(session)

    def _open_session(self) -> Session:
        session = self.model.session(list(self.target.sequence.frame_paths), options=TrackOptions(retain="all"))
        validate_mask_size(self.target.truth_THW[0] > 0, session.video.size, f"{self.target.sequence.mask_paths[0]}")
        session.cache_features(0, self.target.frames)
        return session

    def _add_prompts(self, session: Session, frame: int, strokes: Sequence[Scribble]) -> bool:
        """Tell each object what the strokes on a frame say of it; False: nothing."""
        shown_HW = self.predicted_THW[frame]
        points = [
            (one.object_id, sample_stroke_points(one, shown_HW.shape, self.options.points_per_stroke))
            for one in _longest_first(strokes)
        ]
        prompts = {id: self._make_prompt(id, points, shown_HW) for id in range(1, self.target.objects + 1)}
        for id, prompt in prompts.items():
            if prompt is not None:
                session._add_object_prompt(id, frame, prompt)
                self.prompted_ids.add(id)
        return any(prompts.values())

    def _make_prompt(
        self, object_id: int, points: Sequence[tuple[int, Pixels]], predicted_HW: Labels
    ) -> ObjectPrompt | None:
        """What some points say of an object; None: nothing that it needs, or can begin with."""
        own = [tuple(xy) for other, path in points if other == object_id for xy in path.tolist()]
        off = [tuple(xy) for other, path in points if other != object_id for xy in path.tolist()]
        wrong = [(x, y) for x, y in off if predicted_HW[y, x] == object_id]
        if not own and (not wrong or object_id not in self.prompted_ids):
            return None
        rest = [xy for xy in off if xy not in wrong]
        on, off = own[: self.options.max_points], [*wrong, *rest][: self.options.max_points]
        xy, labels = np.array([*on, *off], np.float32), np.array([1] * len(on) + [0] * len(off), np.int32)
        return ObjectPrompt(points=Points(xy, labels), refine=object_id in self.prompted_ids)

    def _propagate(self, session: Session) -> None:
        left = set(range(self.target.frames))
        for results in session.propagate(bidirectional=True, progress=lambda _: self.on_progress()):
            assert results.frame_idx is not None
            self.predicted_THW[results.frame_idx] = _result_label_map(results)
            left.discard(results.frame_idx)
        if left:  # the reader leaves a damaged image out and goes on
            raise SourceError(
                f"{self.target.sequence.frame_paths[min(left)]} is damaged or was not reached; every image counts: mend it"  # noqa: E501
            )


def _result_label_map(results: Results) -> Labels:
    return np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)]


def _longest_first(strokes: Sequence[Scribble]) -> list[Scribble]:
    return sorted(strokes, key=lambda one: -_path_lengths(one.path)[-1])


def _path_lengths(path: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far along a path each of its points is."""
    return np.concatenate([[0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()])


def sample_stroke_points(stroke: Scribble, size: tuple[int, ...], count: int) -> Pixels:
    """Pixels (N, 2) of a stroke in an image of (height, width), in the middle of `points` parts of equal length.

    Pixels that fall together are one.

    Example:
        >>> points_on(Scribble(1, np.array([[0.0, 0.5], [1.0, 0.5]])), (11, 101), 2).tolist()
        [[25, 5], [75, 5]]
    """
    xy = stroke.path * (np.array(size[::-1]) - 1)
    along = _path_lengths(xy)
    places = (np.arange(count) + 0.5) / count * along[-1]
    pixels = np.rint(np.stack([np.interp(places, along, axis) for axis in xy.T], 1)).astype(np.int64)
    return np.array(list(dict.fromkeys(map(tuple, pixels.tolist()))), np.int64)
