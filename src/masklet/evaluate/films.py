"""Films with known masks, followed from what the first mask says: the semi-supervised protocol of DAVIS.

The protocol. Every object of a sequence's first mask is followed through all frames, all objects together and
forwards only. What is said about it, on the first frame and nowhere else, is its mask, the tight box of its mask, or
one click on the pixel that lies deepest inside it. Where the answers overlap, the smaller one is kept, as in the
label maps that masklet writes. Each object is measured by J and F (`masklet.evaluate.metrics`) on every frame but
the first, which is given, and the last; its figure is the mean over those frames. A sequence's figure is the mean
over its objects, the figure of all is the mean over all objects of all sequences, and J&F is the mean of J and F.

In an annotation that has other objects, 255 is a place that nobody judges. A first mask of 0 and 255 alone (DAVIS
2016) is of one object. Films of other data sets, whose objects may come late, are measured by
`masklet.evaluate.following`.

Beside its masks a tracker says whether an object is in sight; how often it is right is counted over the same frames
(`Presence`), and is no part of J and F.

Shapes: T frames, N objects, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.errors import SourceError
from masklet.evaluate.davis import UNJUDGED, DavisSequence, Labels, truth_of
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.prompting import check_prompt, first_prompt
from masklet.formats.pictures import label_map
from masklet.media.pictures import said_size
from masklet.prompts import ObjectPrompt
from masklet.video import Session

__all__ = ["FilmFigures", "FilmRow", "FilmsReport", "Presence", "check_prompt", "evaluate_film", "films_report"]

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
