"""Films with known masks, followed from what the first mask says: the semi-supervised protocol of DAVIS.

The protocol. Every object of a sequence's first mask is followed through all frames, all objects together and
forwards only. What is said about it, on the first frame and nowhere else, is its mask, the tight box of its mask, or
one click on the pixel that lies deepest inside it. Where the answers overlap, the smaller one is kept, as in the
label maps that masklet writes. Each object is measured by J and F (`masklet.evaluate.metrics`) on every frame but
the first, which is given, and the last; its figure is the mean over those frames. A sequence's figure is the mean
over its objects, the figure of all is the mean over all objects of all sequences, and J&F is the mean of J and F.

In an annotation that has other objects, 255 is a place that nobody judges. A first mask of 0 and 255 alone (DAVIS
2016) is of one object. Films of other data sets, whose objects may come late, are measured by
`masklet.evaluate.semi_supervised_vos`.

Beside its masks a tracker says whether an object is in sight; how often it is right is counted over the same frames
(`Presence`), and is no part of J and F.

Shapes: T frames, N objects, H height, W width.

Films of any data set, followed from the first mask, box or click.

The protocol, for data where objects come late and only some frames are annotated (YouTube-VOS, SA-V, one's own):
every object is told on the first annotated frame that shows it, and nowhere else, and followed forwards from there
beside the others. It is measured by J and F (`masklet.evaluate.metrics`) on every annotated frame after that one, the
last included; where it is out of sight, nothing must be shown. Its figure is the mean over those frames. Each
object's mask is measured as it is: objects of such data may overlap, so overlaps are not settled. These are the ways
in which it differs from the protocol of DAVIS (`masklet.evaluate.semi_supervised_vos`).

All ways of asking are followed in one pass, as objects of their own: a frame is encoded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.datasets import Entry
from masklet.errors import SourceError
from masklet.evaluate.davis_sequences import UNJUDGED, DavisSequence, Labels, truth_of
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.prompts_from_masks import PROMPTS, check_prompt, checked_prompts, first_prompt, spread
from masklet.media.image import said_size
from masklet.prompts import ObjectPrompt
from masklet.results import Results
from masklet.video import Session
from masklet.writers.mask_images import label_map

__all__ = [
    "FilmFigures",
    "FilmRow",
    "FilmsReport",
    "Presence",
    "TrackedRow",
    "Truth",
    "check_prompt",
    "check_size",
    "evaluate_entry",
    "evaluate_film",
    "films_report",
    "first_seen",
    "masks_by_frame",
]

Mask = npt.NDArray[np.bool_]
Truth = Sequence[Mapping[int, Mask]]

AT_ONCE = 32
"""Frames read in one go: their pictures are not kept, and a film of an hour need not fit into memory."""


@dataclass(frozen=True)
class TrackedRow:
    """What one object had that was followed from one kind of prompt: means over `frames` measured frames, 0 to 1."""

    id: int
    prompt: str
    j: float
    f: float
    frames: int


def evaluate_entry(
    model: Follows,
    entry: Entry,
    prompts: Sequence[str] = PROMPTS,
    objects: int = 10,
    step: Callable[[], None] | None = None,
) -> tuple[TrackedRow, ...]:
    """Follow at most `objects` objects of a film, spread evenly over their ids, and measure them.

    `prompts` are what is said of each object on the first annotated frame that shows it: "mask", "box", "click", each
    followed by itself. `step` is called after every frame. A row for each object and prompt; none where no object is
    seen before the last annotated frame.

    Example:
        >>> [film] = open_dataset("films").entries
        >>> evaluate_entry(model, film, ["box"])
        (TrackedRow(id=1, prompt='box', j=0.81, f=0.84, frames=19),)

    Raises:
        InputError: an unknown prompt.
        SourceError: a picture or an annotation that cannot be read or has another size.
        ModelError: a model for pictures only.
    """
    asked = checked_prompts(prompts)
    truth = masks_by_frame(entry)
    first = {number: at for number, at in first_seen(truth).items() if at + 1 < len(truth)}
    numbers = sorted(first)
    chosen = [numbers[i] for i in spread(len(numbers), objects)]
    if not chosen:
        return ()
    told = [_Told(number, first[number], prompt) for number in chosen for prompt in asked]
    _follow(model, entry, truth, told, step or (lambda: None))
    return tuple(one.row for one in told)


class _Told:
    """An object that is followed from one prompt, and its measures so far."""

    def __init__(self, id: int, at: int, prompt: str) -> None:
        self.id, self.at, self.prompt = id, at, prompt
        self.j: list[float] = []
        self.f: list[float] = []

    def measure(self, shown: Mask, truth: Mask) -> None:
        """One more frame."""
        self.j.append(region_j(shown, truth))
        self.f.append(boundary_f(shown, truth))

    @property
    def row(self) -> TrackedRow:
        """Means over the frames."""
        return TrackedRow(self.id, self.prompt, float(np.mean(self.j)), float(np.mean(self.f)), len(self.j))


def masks_by_frame(entry: Entry) -> Truth:
    """The masks of every annotated frame, still to be decoded."""
    parts = [entry.frames[start : start + AT_ONCE] for start in range(0, len(entry.frames), AT_ONCE)]
    return [frame.masks for part in parts for frame in entry.read(part)]


def first_seen(truth: Truth) -> dict[int, int]:
    """By id, the first of the annotated frames that shows the object."""
    found: dict[int, int] = {}
    for at, masks in enumerate(truth):
        found.update({number: at for number in masks if number not in found and masks[number].any()})
    return found


def _follow(model: Follows, entry: Entry, truth: Truth, told: Sequence[_Told], step: Callable[[], None]) -> None:
    """Let `told` be followed to the last annotated frame, and measured."""
    number_of = {number: at for at, number in enumerate(entry.frames)}
    left = set(entry.frames[min(one.at for one in told) :])
    with model.session(entry.source) as session:
        _tell(session, entry, truth, told)
        for results in session.propagate(stop=entry.frames[-1] + 1):
            assert results.frame is not None
            if results.frame in number_of:
                at = number_of[results.frame]
                _measure(results, truth[at], {n: one for n, one in enumerate(told) if one.at < at}, session.video.size)
                left.discard(results.frame)
            step()
    if left:  # the reader leaves a damaged picture out and goes on; figures without it would be of another film
        raise SourceError(
            f"frame {min(left)} of {entry.name} is damaged or is not there; every annotated frame counts: mend it, or "
            "take the film out"
        )


def _tell(session: Session, entry: Entry, truth: Truth, told: Sequence[_Told]) -> None:
    for number, one in enumerate(told):
        mask = truth[one.at][one.id]
        check_size(mask, session.video.size, f"{entry.name}, frame {entry.frames[one.at]}")
        session.say(number, entry.frames[one.at], first_prompt(mask, one.prompt))


def _measure(results: Results, truth: Mapping[int, Mask], told: Mapping[int, _Told], size: tuple[int, int]) -> None:
    """Measure `told`, by their number in the session, on one frame; what is not there is empty."""
    nothing = np.zeros(size, bool)
    shown = {} if results.masks is None else dict(zip(results.ids.tolist(), results.masks.data, strict=True))
    true = {id: truth.get(id, nothing) for id in {one.id for one in told.values()}}
    for number, one in told.items():
        check_size(true[one.id], size, f"object {one.id}, frame {results.frame} of {results.path}")
        one.measure(shown.get(number, nothing), true[one.id])


def check_size(mask: Mask, size: tuple[int, ...], where: str) -> None:
    """Raise SourceError when a mask has not the size of its picture."""
    if mask.shape != size:
        raise SourceError(
            f"{where}: the mask is {said_size(mask.shape)} and the picture is {said_size(size)}; both have one size: "
            "mend it, or take it out"
        )


Said = npt.NDArray[np.bool_]
"""(T, N): whether an object is said to be in sight."""


class Follows(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session on a list of pictures."""

    def session(self, source: Any) -> Session:
        """A film to work on."""


@dataclass(frozen=True)
class FilmFigures:
    """Means over objects, 0 to 1, and pace."""

    objects: int
    frames: int
    j: float
    f: float
    jf: float
    fps: float
    """Frames a second, all objects of a film together: from opening it to its last frame, reading included."""


@dataclass(frozen=True)
class Presence:
    """Of the measured frames of all objects: how many, on how many the object is in sight, and said right whether.

    Example:
        >>> Presence(frames=100, in_sight=83, right=87).share
        0.87
    """

    frames: int = 0
    in_sight: int = 0
    right: int = 0

    def __add__(self, other: Presence) -> Presence:
        return Presence(self.frames + other.frames, self.in_sight + other.in_sight, self.right + other.right)

    @property
    def share(self) -> float:
        """What is said right, 0 to 1; nan of no frame."""
        return self.right / self.frames if self.frames else float("nan")

    @property
    def always(self) -> float:
        """What would be said right by always saying that the object is in sight."""
        return self.in_sight / self.frames if self.frames else float("nan")


@dataclass(frozen=True)
class FilmRow:
    """What one sequence gave: J and F of each object, means over the measured frames."""

    name: str
    j: dict[int, float]
    f: dict[int, float]
    frames: int
    seconds: float
    presence: Presence = Presence()

    @property
    def figures(self) -> FilmFigures:
        """Means over the objects."""
        return _figures([self])


@dataclass(frozen=True)
class FilmsReport:
    """Figures over all objects, by sequence, and what each object had."""

    total: FilmFigures
    by_sequence: dict[str, FilmFigures]
    rows: tuple[FilmRow, ...]


def evaluate_film(
    model: Follows, sequence: DavisSequence, prompt: str = "mask", step: Callable[[], None] | None = None
) -> FilmRow:
    """Follow the objects of one sequence from its first mask, and measure them.

    `prompt` is what is said of each object: "mask", "box" or "click". `step` is called after every frame.

    Example:
        >>> model = SAM("sam2.1_t.pt")
        >>> films_report([evaluate_film(model, film) for film in davis_under(Path("DAVIS"))]).total.jf

    Raises:
        InputError: an unknown `prompt`.
        SourceError: a picture or an annotation that cannot be read or has another size, or a first mask without
            objects.
        ModelError: a model for pictures only.
    """
    check_prompt(prompt)
    truth_THW = truth_of(sequence)
    ids = [int(label) for label in np.unique(truth_THW[0]) if label not in (0, UNJUDGED)]
    if not ids:
        raise SourceError(f"{sequence.masks[0]} has no object; the first annotation says what to follow: exclude it")
    prompts = {number: first_prompt(truth_THW[0] == number, prompt) for number in ids}
    started = time.perf_counter()
    found_THW, present_TN = _followed(model, sequence, prompts, step or (lambda: None), truth_THW.shape[1:])
    seconds = time.perf_counter() - started
    row = _measured(sequence.name, found_THW, truth_THW, ids, seconds)
    return replace(row, presence=_presence(present_TN, truth_THW, ids))


def _followed(
    model: Follows,
    sequence: DavisSequence,
    prompts: dict[int, ObjectPrompt],
    step: Callable[[], None],
    size: tuple[int, ...],
) -> tuple[Labels, Said]:
    """Ids (T, H, W) of what was found, where objects overlap of the smaller one; and what was said to be in sight."""
    found = np.zeros((len(sequence.frames), *size), np.uint8)
    present, column = np.zeros((len(found), len(prompts)), bool), {number: n for n, number in enumerate(prompts)}
    left = set(range(len(found)))
    with model.session(list(sequence.frames)) as session:
        if session.video.size != size:
            raise SourceError(
                f"{sequence.frames[0]} is {said_size(session.video.size)} and {sequence.masks[0]} is "
                f"{said_size(size)}; a picture and its annotation have one size: mend it, or exclude the sequence"
            )
        for number, prompt in prompts.items():
            session.say(number, 0, prompt)
        for results in session.propagate():
            assert results.frame is not None
            assert results.presence is not None
            present[results.frame, [column[number] for number in results.ids.tolist()]] = results.presence > 0
            found[results.frame] = np.concatenate([[0], results.ids]).astype(np.uint8)[label_map(results)]
            left.discard(results.frame)
            step()
    if left:  # the reader leaves a damaged picture out and goes on; figures without it would be of another film
        raise SourceError(f"{sequence.frames[min(left)]} is damaged or was not reached; every picture counts: mend it")
    return found, present


def _measured(name: str, found_THW: Labels, truth_THW: Labels, ids: Sequence[int], seconds: float) -> FilmRow:
    judged_THW = truth_THW != UNJUDGED
    inner = range(1, len(truth_THW) - 1)
    j, f = {}, {}
    for number in ids:
        pairs = [((found_THW[t] == number) & judged_THW[t], truth_THW[t] == number) for t in inner]
        j[number] = float(np.mean([region_j(*pair) for pair in pairs]))
        f[number] = float(np.mean([boundary_f(*pair) for pair in pairs]))
    return FilmRow(name, j, f, len(truth_THW), seconds)


def _presence(present_TN: Said, truth_THW: Labels, ids: Sequence[int]) -> Presence:
    true_TN = np.array([[(labels == number).any() for number in ids] for labels in truth_THW])[1:-1]
    return Presence(true_TN.size, int(true_TN.sum()), int((true_TN == present_TN[1:-1]).sum()))


def films_report(rows: Sequence[FilmRow]) -> FilmsReport:
    """Means of what `evaluate_film` gave, at least one row."""
    return FilmsReport(_figures(rows), {row.name: row.figures for row in rows}, tuple(rows))


def _figures(rows: Sequence[FilmRow]) -> FilmFigures:
    j = float(np.mean([value for row in rows for value in row.j.values()]))
    f = float(np.mean([value for row in rows for value in row.f.values()]))
    frames, seconds = sum(row.frames for row in rows), sum(row.seconds for row in rows)
    return FilmFigures(sum(len(row.j) for row in rows), frames, j, f, (j + f) / 2, frames / seconds)
