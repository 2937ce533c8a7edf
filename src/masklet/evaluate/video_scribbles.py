"""DAVIS interactive: segment videos from scribbles against the clock, as the challenge measures it.

The protocol is that of the interactive track of the DAVIS challenges of 2018 to 2020 (Caelles et al. 2018, and the
evaluation code of its authors, version 1.0.4). A **sample** is a sequence of DAVIS 2017 and one of its first scribbles,
which people drew on a frame of their choice; without any, the robot draws the first one on the frame that shows the
most objects, the one nearest to the middle of several.

**An interaction**: the model gets scribbles and answers with a label map of every frame. J and F of each object are
measured on all frames, the first, the last and those with scribbles included, as they are. Then the robot draws on the
frame with the lowest J&F on which it has not drawn yet in this sample (`masklet.evaluate.scribble_robot`), and these
scribbles start the next interaction; 8 in all.

**The clock** runs while the model has the scribbles and has not answered: from opening the video (in the first
interaction) to the last frame. It does not run while the answer is measured and the robot draws. A sample has 30
seconds for each object and interaction, 240 seconds per object in all; an interaction that ends later does not count
and is the last. Interactions that were not reached have the scores of the last one that was, and take no time; if none
was, the scores are 0.

**Figures** (`masklet.evaluate.scribble_report`): the curve has a point for each interaction: its mean J&F over the
objects of all samples, at the time that the interactions up to it took, mean over samples. It starts with 0 at 0
seconds and continues at its last height to the mean time limit of the samples. J&F@60s is read off the curve, linearly
from point to point; AUC is the area below it over its length.

**How scribbles become prompts** is up to the model in the challenge; here it is this. A stroke becomes
`points_per_stroke` points, in the middle of as many parts of equal length. They are positive for the stroke's object
and negative for all others; at most `max_points` of each kind for an object on a frame, of the longest strokes first,
negative ones on its current mask before others. An object is prompted if it has a stroke on that frame, or if its
current mask contains a point of another; otherwise it is left alone. Points add to the earlier prompts of the object on
that frame, and refine its mask there. Then all objects are tracked again in both directions from all prompts; where
they overlap, the smaller one is on top, as in the label maps that masklet writes. Within a sample a video is encoded
once, if its features fit into memory (`Session.cache_features`).

Shapes: T frames, N points, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from masklet.errors import InputError, SourceError
from masklet.evaluate.argument_checks import validate_positive_int
from masklet.evaluate.davis_sequences import IGNORE_LABEL, DavisSequence, Labels, load_ground_truth
from masklet.evaluate.metrics import boundary_f_score, region_similarity
from masklet.evaluate.scribble_robot import (
    SCRIBBLES_DIR,
    Scribble,
    ScribblesByFrame,
    choose_correction_frame,
    choose_first_frame,
    draw_scribbles,
    read_scribbles,
)
from masklet.evaluate.tracking import ScribbleModel, id_label_map, require_frames, validate_mask_size
from masklet.prompts import ObjectPrompt, Points
from masklet.video import Session, TrackOptions

__all__ = [
    "FIRST_SCRIBBLE_SOURCES",
    "Interaction",
    "ScribbleModel",
    "ScribbleOptions",
    "ScribbleResult",
    "ScribbleSample",
    "evaluate_scribbles",
    "sample_stroke_points",
    "scribble_samples",
]

Pixels = npt.NDArray[np.int64]
"""(N, 2)."""
FIRST_SCRIBBLE_SOURCES = ("person", "robot")
"""Who draws the first scribbles."""


@dataclass(frozen=True)
class ScribbleOptions:
    """How videos are scribbled on; the defaults are those of the challenge.

    Example:
        >>> ScribbleOptions(interactions=3)

    Raises:
        InputError: if a value is out of its range.
    """

    interactions: int = 8
    seconds_per_interaction: float = 30.0
    """The time for each object and interaction."""
    points_per_stroke: int = 3
    max_points: int = 8
    """Positive points, and negative ones, of an object on a frame."""

    def __post_init__(self) -> None:
        for name in ("interactions", "points_per_stroke", "max_points"):
            validate_positive_int(name, getattr(self, name))
        if not 0 < self.seconds_per_interaction < float("inf"):
            raise InputError(
                f"seconds_per_interaction={self.seconds_per_interaction!r} must be a number of seconds above 0"
            )


@dataclass(frozen=True)
class ScribbleSample:
    """A sequence and one of its first scribbles: the file of that number, or, if it is None, the robot's."""

    sequence: DavisSequence
    scribble_number: int
    file: Path | None

    @property
    def name(self) -> str:
        """The name in reports."""
        return f"{self.sequence.name}/{self.scribble_number:03d}" if self.file else f"{self.sequence.name}/robot"


@dataclass(frozen=True)
class Interaction:
    """The result of one interaction: J and F of objects 1, 2, ..., means over all frames, 0 to 1."""

    frame_idx: int
    """The first frame with scribbles."""
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
    """The result of a sample; `interactions` are those that ended in time."""

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
    """Pair each sequence with each of its first scribbles, at most `max_per_sequence`.

    `first_scribbles` is "person": the files of `root`, and the robot for sequences without any; or "robot": always the
    robot.

    Example:
        >>> scribble_samples(Path("DAVIS"), find_davis_sequences(Path("DAVIS"), "2017/val"))
        [ScribbleSample(...), ...]

    Raises:
        InputError: if `first_scribbles` is unknown.
    """
    if first_scribbles not in FIRST_SCRIBBLE_SOURCES:
        choices = " or ".join(map(repr, FIRST_SCRIBBLE_SOURCES))
        raise InputError(f"first_scribbles={first_scribbles!r} is unknown; choose {choices}")
    samples: list[ScribbleSample] = []
    for sequence in sequences:
        files = sorted((root / SCRIBBLES_DIR / sequence.name).glob("*.json"))  # one for each person who drew
        files = [] if first_scribbles == "robot" else files[:max_per_sequence]
        numbered = [ScribbleSample(sequence, number, file) for number, file in enumerate(files, 1)]
        samples += numbered or [ScribbleSample(sequence, 0, None)]
    return samples


def evaluate_scribbles(
    model: ScribbleModel,
    sample: ScribbleSample,
    options: ScribbleOptions | None = None,
    on_progress: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    on_interaction: Callable[[ScribblesByFrame, Labels], None] | None = None,
) -> ScribbleResult:
    """Interact with one sample, and measure each answer.

    Args:
        on_progress: called after every tracked frame.
        clock: read when an interaction starts and when it ends.
        on_interaction: called with the scribbles of each interaction and the label maps (T, H, W) that answer them.

    Example:
        >>> [sample, *_] = scribble_samples(root, find_davis_sequences(root))
        >>> evaluate_scribbles(SAM(), sample, ScribbleOptions(interactions=3)).interactions[-1].jf
        0.71

    Raises:
        SourceError: if an image, an annotation or scribbles are unreadable or do not fit, or there is no object.
        ModelError: if the model does not track.
    """
    options, target = options or ScribbleOptions(), _ScribbleSequence(sample)
    scribbles, used = target.first_scribbles(), set[int]()
    seconds_left = options.seconds_per_interaction * options.interactions * target.objects
    interactions: list[Interaction] = []
    tracker = _ScribbleTracker(model, target, options, on_progress or (lambda: None))
    try:
        while len(interactions) < options.interactions:
            started = clock()
            tracker.add_scribbles(scribbles)
            seconds = clock() - started
            seconds_left -= seconds
            if seconds_left < 0:
                break
            j_TN, f_TN = target.score(tracker.predicted_THW)
            j, f = (tuple(map(float, score_TN.mean(0))) for score_TN in (j_TN, f_TN))
            strokes = sum(map(len, scribbles.values()))
            interactions.append(Interaction(min(scribbles, default=-1), strokes, seconds, j, f))
            if on_interaction is not None:
                on_interaction(scribbles, tracker.predicted_THW)
            frame = choose_correction_frame(((j_TN + f_TN) / 2).mean(1).tolist(), used)
            used.add(frame)
            scribbles = {frame: draw_scribbles(tracker.predicted_THW[frame], target.truth_THW[frame], target.objects)}
    finally:
        if tracker.session is not None:
            tracker.session.close()
    return ScribbleResult(
        sample.sequence.name,
        sample.scribble_number,
        target.frames,
        target.objects,
        tuple(interactions),
        seconds_left < 0,
    )


class _ScribbleSequence:
    """The sequence of a sample: its truth and its scribbles."""

    def __init__(self, sample: ScribbleSample) -> None:
        self.sample, self.sequence = sample, sample.sequence
        self.truth_THW = load_ground_truth(sample.sequence)
        self.frames = len(self.truth_THW)
        self.objects = int(self.truth_THW[self.truth_THW != IGNORE_LABEL].max(initial=0))
        if not self.objects:
            raise SourceError(
                f"no annotation of {self.sequence.name} has an object; a sequence needs at least one: exclude it"
            )

    def first_scribbles(self) -> ScribblesByFrame:
        """Return those of a person, or the robot's strokes through the error of an empty prediction."""
        if self.sample.file is not None:
            return read_scribbles(self.sample.file, self.sequence.name, self.frames, self.objects)
        frame = choose_first_frame(self.truth_THW, self.objects)
        truth_HW = self.truth_THW[frame]
        return {frame: draw_scribbles(np.zeros_like(truth_HW), truth_HW, self.objects)}

    def score(self, predicted_THW: Labels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return J and F by frame and object."""
        pairs = [
            [(predicted == id, truth == id) for id in range(1, self.objects + 1)]
            for predicted, truth in zip(predicted_THW, self.truth_THW, strict=True)
        ]
        j = np.array([[region_similarity(*pair) for pair in frame] for frame in pairs])
        return j, np.array([[boundary_f_score(*pair) for pair in frame] for frame in pairs])


class _ScribbleTracker:
    """A model at work on a sequence: its session, the prompted objects, and the current prediction."""

    def __init__(
        self,
        model: ScribbleModel,
        target: _ScribbleSequence,
        options: ScribbleOptions,
        on_progress: Callable[[], None],
    ) -> None:
        self.model, self.target, self.options, self.on_progress = model, target, options, on_progress
        self.session: Session | None = None
        self.prompted_ids: set[int] = set()
        self.predicted_THW = np.zeros_like(target.truth_THW)

    def add_scribbles(self, scribbles: ScribblesByFrame) -> None:
        """Update the prediction after further scribbles; without a new prompt it stays as it is."""
        paths, session = self.target.sequence.frame_paths, self.session
        if session is None:
            session = self.session = self.model.session(list(paths), options=TrackOptions(retain="all"))
            truth_HW, where = self.target.truth_THW[0] > 0, f"{self.target.sequence.mask_paths[0]}"
            validate_mask_size(truth_HW, session.video.size, where)
            session.cache_features(0, self.target.frames)
        is_prompted = False
        for frame, strokes in scribbles.items():
            predicted_HW = self.predicted_THW[frame]
            points = [
                (stroke.object_id, sample_stroke_points(stroke, predicted_HW.shape, self.options.points_per_stroke))
                for stroke in sorted(strokes, key=lambda stroke: -_path_lengths(stroke.path)[-1])
            ]
            for id in range(1, self.target.objects + 1):
                prompt = self._make_prompt(id, points, predicted_HW)
                if prompt is not None:
                    session.add_object_prompt(id, frame, prompt)
                    self.prompted_ids.add(id)
                    is_prompted = True
        if is_prompted:
            passing = session.propagate(bidirectional=True, progress=lambda _: self.on_progress())
            for results in require_frames(passing, range(self.target.frames), paths.__getitem__):
                self.predicted_THW[results.frame_idx] = id_label_map(results)

    def _make_prompt(
        self, object_id: int, points: Sequence[tuple[int, Pixels]], predicted_HW: Labels
    ) -> ObjectPrompt | None:
        """Return the prompt of an object from the points of all strokes; None if it needs none, or cannot start."""
        own = [tuple(xy) for other, path in points if other == object_id for xy in path.tolist()]
        off = [tuple(xy) for other, path in points if other != object_id for xy in path.tolist()]
        wrong = [(x, y) for x, y in off if predicted_HW[y, x] == object_id]
        if not own and (not wrong or object_id not in self.prompted_ids):
            return None
        rest = [xy for xy in off if xy not in wrong]
        on, off = own[: self.options.max_points], [*wrong, *rest][: self.options.max_points]
        xy, labels = np.array([*on, *off], np.float32), np.array([1] * len(on) + [0] * len(off), np.int32)
        return ObjectPrompt(points=Points(xy, labels), refine=object_id in self.prompted_ids)


def _path_lengths(path: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how far along a path (N, 2) each of its points is."""
    return np.concatenate([[0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()])


def sample_stroke_points(stroke: Scribble, size: tuple[int, ...], count: int) -> Pixels:
    """Return pixels (N, 2) of a stroke in an image (H, W), in the middle of `count` parts of equal length.

    Pixels that coincide are one.

    Example:
        >>> sample_stroke_points(Scribble(1, np.array([[0.0, 0.5], [1.0, 0.5]])), (11, 101), 2).tolist()
        [[25, 5], [75, 5]]
    """
    xy = stroke.path * (np.array(size[::-1]) - 1)
    along = _path_lengths(xy)
    middles = (np.arange(count) + 0.5) / count * along[-1]
    pixels = np.rint(np.stack([np.interp(middles, along, axis) for axis in xy.T], 1)).astype(np.int64)
    return np.array(list(dict.fromkeys(map(tuple, pixels.tolist()))), np.int64)
