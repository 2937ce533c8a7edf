"""Interactive video segmentation: what a film needs of a person who corrects it, offline and online.

The two protocols of promptable video segmentation are those of SAM 2 (Ravi et al., 2024): clicks only, at most 8
frames of a film are interacted with, 3 clicks on each. Every object is asked about by itself, in a session of its own,
from the first annotated frame that shows it on (its first frame), forwards.

**The clicks of a frame** are given one after the other, each on the pixel that lies deepest inside what is wrong with
the present answer on that frame (`masklet.evaluate.prompts_from_masks.next_click`): on the first frame that is the
middle of
the object, since nothing is shown yet. Each click is answered before the next one is chosen, and every answer has all
clicks of that frame so far. No pixel is clicked twice, and a frame on which nothing is wrong any more gets fewer.

**offline**: several passes over the film. In the first the first frame is interacted with; in each further one the
frame whose J is lowest in the present prediction, the earliest of several. A frame that was interacted with is taken
again only when something is wrong with it and with no other one. Then the film is followed anew from all clicks given
so far, from the first frame to the last annotated one. After k passes k frames were interacted with; J&F after 1, 2,
... 8 are the curve, and the figure is its mean. When nothing is wrong anywhere the rest of the curve stays as it is.

**online**: one pass forwards. The first frame is interacted with; wherever J of an annotated frame falls below 0.75,
the pass halts, the frame is interacted with, and the pass goes on from the corrected frame, until 8 frames were
interacted with; from there on nothing is corrected. Frames that lie behind are not followed again. The curve is J&F of
runs with at most 1, 2, ... 8 frames, and the figure is its mean, as in the paper. A run with at most k frames is that
with 8 up to where the latter interacts with frame k + 1; so it is followed on from there, and is not begun anew.

**Measured** are J and F (`masklet.evaluate.metrics`) on every annotated frame from the first frame on, those that were
interacted with included, as they are after the clicks. Where the truth does not show the object, both are 1 if nothing
is shown, else 0; so such a frame may be corrected too. An object has the mean over its frames, J&F is the mean of J
and F, and a data set has the mean over the objects of all its films.

What the paper (appendix on interactive evaluation) leaves open, and what is done here: whether an interacted frame
counts (yes); the first frame of an object that comes late (its first annotated one); frames without the object
(above); ties (the earliest); a frame that is the worst again (above); whether the logits of the last pass go with a
click on a frame that was followed before (yes, with the memory of the frames before it, as `Session.correct` does);
and whether the mean of a data set is over objects or films (objects). Figures are for comparison among models measured
here; beside the paper's they are a guide.

Shapes: H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from masklet.datasets import Entry
from masklet.errors import InputError, SourceError
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.prompts_from_masks import Click, next_click
from masklet.evaluate.semi_supervised_vos import Truth, check_size, first_seen, masks_by_frame
from masklet.prompts import ObjectPrompt, Points
from masklet.results import Results
from masklet.video import Session, TrackOptions
from masklet.video.session_save import Known

__all__ = [
    "MODES",
    "InteractiveOptions",
    "InteractiveReport",
    "InteractiveRow",
    "evaluate_interactive",
    "interactive_report",
]

Mask = npt.NDArray[np.bool_]
MODES = ("offline", "online")
ID = 1
"""Of the object in its session."""


class Corrected(Protocol):
    """What is evaluated: `SAM`, or anything that opens a session in which frames can be corrected."""

    def session(self, source: Any, *, options: TrackOptions | None = None) -> Session:
        """A film to work on."""


@dataclass(frozen=True)
class InteractiveOptions:
    """How a film is interacted with; the defaults are those of the paper.

    Example:
        >>> InteractiveOptions("online", frames=4)

    Raises:
        InputError: a value outside its range.
    """

    mode: str = "offline"
    frames: int = 8
    """Frames interacted with, at most."""
    clicks: int = 3
    """Clicks on each of them, at most."""
    pause_below: float = 0.75
    """online: the J under which a frame is corrected."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode={self.mode!r} is unknown; choose {' or '.join(map(repr, MODES))}")
        for name in ("frames", "clicks"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r} must be a whole number, 1 or more")
        if not 0 <= self.pause_below <= 1:
            raise InputError(f"pause_below={self.pause_below!r} must be an IoU, from 0 to 1")


@dataclass(frozen=True)
class InteractiveRow:
    """What one object had: means over its `frames` annotated frames, 0 to 1.

    `j` and `f` have a value for each number of interacted frames, 1 to the most.
    """

    film: str
    id: int
    frames: int
    j: tuple[float, ...]
    f: tuple[float, ...]
    interacted: tuple[int, ...]
    """Frames that were interacted with, in that order, counted in the film from 0; of the run with the most."""
    clicks: int
    """Clicks in all."""
    seconds: float = 0.0

    @property
    def curve(self) -> tuple[float, ...]:
        """J&F."""
        return tuple((j + f) / 2 for j, f in zip(self.j, self.f, strict=True))


@dataclass(frozen=True)
class InteractiveReport:
    """Figures over all objects; curves have a value for each number of interacted frames.

    Example:
        >>> report = interactive_report(rows, InteractiveOptions())
        >>> report.curve[0], report.mean  # J&F after one frame, and the mean over 1 to 8
    """

    options: InteractiveOptions
    films: int
    objects: int
    frames: int
    mean: float
    """Of `curve`."""
    curve: tuple[float, ...]
    """J&F."""
    j: tuple[float, ...]
    f: tuple[float, ...]
    interacted: float
    """Mean number of frames interacted with."""
    clicks: float
    """Mean number of clicks on an object, all frames together."""
    seconds: float
    rows: tuple[InteractiveRow, ...] = ()

    def document(self) -> dict[str, Any]:
        """Options, all figures, and those of every object, as `json` can write them."""
        figures = asdict(self)
        options, rows = figures.pop("options"), figures.pop("rows")
        named = [{**row, "curve": one.curve} for row, one in zip(rows, self.rows, strict=True)]
        return {"options": options, "figures": figures, "rows": named}

    def to_json(self, model: str = "", **settings: str | int | None) -> str:
        """Protocol, model and options, then all figures, then those of every object; `settings` join the options."""
        own = self.document()
        whole = {"protocol": "interactive", "model": model, **own, "options": {**own["options"], **settings}}
        return json.dumps(whole, indent=2, allow_nan=False)


def evaluate_interactive(
    model: Corrected,
    entry: Entry,
    options: InteractiveOptions | None = None,
    step: Callable[[], None] | None = None,
    known: Sequence[InteractiveRow] = (),
) -> Iterator[InteractiveRow]:
    """Interact with every object of a film, in the order of their ids, and yield what each had.

    `step` is called after every frame of every pass. Objects of which `known` has a row, of an earlier run, are not
    asked about: the row is theirs.

    Example:
        >>> [film] = open_dataset("films").entries
        >>> rows = list(evaluate_interactive(SAM(), film, InteractiveOptions("online")))

    Raises:
        SourceError: a picture or an annotation that cannot be read or has another size.
        ModelError: a model for pictures only.
    """
    asked, truth = options or InteractiveOptions(), masks_by_frame(entry)
    by_id, first = {row.id: row for row in known}, first_seen(truth)
    if not set(first) - set(by_id):  # nothing is left
        yield from (by_id[number] for number in sorted(first))
        return
    kept = TrackOptions(keep="all" if asked.mode == "offline" else "recent")  # a frame far back may be corrected
    with model.session(entry.source, options=kept) as session:
        session.hold(entry.frames[min(first.values())], entry.frames[-1] + 1)
        for number, at in sorted(first.items()):
            film = _Film(entry, truth, number, at)
            yield by_id.get(number) or _interacted(session, film, asked, step or (lambda: None))


def _interacted(session: Session, film: _Film, options: InteractiveOptions, step: Callable[[], None]) -> InteractiveRow:
    started = time.perf_counter()
    played = _Played(session, film, options, step)
    measures = played.offline() if options.mode == "offline" else played.online()
    session.remove(ID)
    return _row(film, played, measures, time.perf_counter() - started)


def interactive_report(rows: Sequence[InteractiveRow], options: InteractiveOptions) -> InteractiveReport:
    """Means over objects of what `evaluate_interactive` yielded.

    Raises:
        SourceError: no object.
    """
    if not rows:
        raise SourceError("no film has an object, so there is nothing to interact with; name films with masks")
    j, f = np.mean([row.j for row in rows], axis=0), np.mean([row.f for row in rows], axis=0)
    return InteractiveReport(
        options=options,
        films=len({row.film for row in rows}),
        objects=len(rows),
        frames=sum(row.frames for row in rows),
        mean=float(np.mean((j + f) / 2)),
        curve=tuple(map(float, (j + f) / 2)),
        j=tuple(map(float, j)),
        f=tuple(map(float, f)),
        interacted=float(np.mean([len(row.interacted) for row in rows])),
        clicks=float(np.mean([row.clicks for row in rows])),
        seconds=sum(row.seconds for row in rows),
        rows=tuple(rows),
    )


class _Film:
    """One object of a film: its masks on the annotated frames from its first on, by the frame's number."""

    def __init__(self, entry: Entry, truth: Truth, id: int, at: int) -> None:
        self.name, self.id = entry.name, id
        self.frames = entry.frames[at:]
        self._masks = dict(zip(self.frames, truth[at:], strict=True))
        self._nothing = np.zeros_like(truth[at][id])

    def __getitem__(self, frame: int) -> Mask:
        mask = self._masks[frame].get(self.id, self._nothing)
        check_size(mask, self._nothing.shape, f"{self.name}, frame {frame}")
        return mask


Measure = tuple[float, float]
"""J and F, means over frames."""


@dataclass(frozen=True)
class _Paused:
    """A pass at a frame that is about to be corrected: what the session knows, and what is shown."""

    frame: int
    known: Known
    shown: dict[int, Mask]


class _Played:
    """One object in its session: what is shown of it on the annotated frames, and the clicks given so far."""

    def __init__(self, session: Session, film: _Film, options: InteractiveOptions, step: Callable[[], None]) -> None:
        self.session, self.film, self.options, self.step = session, film, options, step
        self.first = film.frames[0]
        check_size(film[self.first], session.video.size, f"{film.name}, frame {self.first}")
        self._nothing = np.zeros(session.video.size, bool)
        self.shown = dict.fromkeys(film.frames, self._nothing)
        self.clicks: dict[int, list[Click]] = {}
        self.interacted: list[int] = []

    def offline(self) -> list[Measure]:
        """A measure for each number of interacted frames."""
        found: list[Measure] = []
        while len(found) < self.options.frames and self._correct_worst():
            for _ in self._follow(self._pass(), self.film.frames):
                pass
            found.append(self._measure())
        return found + found[-1:] * (self.options.frames - len(found))

    def online(self) -> list[Measure]:
        """A measure for each number of frames at most."""
        paused: dict[int, _Paused] = {}
        self._correct(self.first)
        for frame in self._follow(self._pass(), self.film.frames):
            fails = region_j(self.shown[frame], self.film[frame]) < self.options.pause_below
            if fails and frame not in self.clicks and len(self.interacted) < self.options.frames:
                paused[len(self.interacted)] = _Paused(frame, self.session.remembered(), dict(self.shown))
                self._correct(frame)
        counts, whole = range(1, self.options.frames + 1), self._measure()
        return [self._uncorrected(paused[n]) if n < len(self.interacted) else whole for n in counts]

    def _uncorrected(self, paused: _Paused) -> Measure:
        """The measure of the run that goes on where another one corrects a frame."""
        self.session.go_back(paused.known)
        self.shown = paused.shown
        for _ in self._follow(self.session.go_on(), [frame for frame in self.film.frames if frame > paused.frame]):
            pass
        return self._measure()

    def _pass(self) -> Iterator[Results]:
        return self.session.propagate(stop=self.film.frames[-1] + 1)

    def _correct_worst(self) -> bool:
        """Interact with the frame that needs it most; False: there is nothing to click on any frame."""
        if not self.clicks:
            return self._correct(self.first)
        j = {frame: region_j(self.shown[frame], self.film[frame]) for frame in self.film.frames}
        wrong = [frame for frame in self.film.frames if j[frame] < 1]
        return any(map(self._correct, sorted(wrong, key=lambda frame: (frame in self.clicks, j[frame]))))

    def _correct(self, frame: int) -> bool:
        """Interact with a frame; False: there is nothing to click."""
        given = [self._click(frame) for _ in range(self.options.clicks)]
        if given[0]:
            self.interacted.append(frame)
        return given[0]

    def _click(self, frame: int) -> bool:
        """One click; the session adds it to those that were given on the frame."""
        taken = self.clicks.get(frame, [])
        click = next_click(self.shown[frame], self.film[frame], taken)
        if click is None:
            return False
        point = Points(np.array([click[:2]], np.float32), np.array([click.label], np.int32))
        refine = bool(self.clicks)  # only the very first click must be on the object
        self.clicks[frame] = [*taken, click]
        self.shown[frame] = self._mask(self.session.say(ID, frame, ObjectPrompt(points=point, refine=refine)))
        return True

    def _follow(self, under_way: Iterator[Results], frames: Sequence[int]) -> Iterator[int]:
        """A pass over annotated `frames`; it may be halted to correct the one that is yielded."""
        left = set(frames)
        for results in under_way:
            assert results.frame is not None
            if results.frame in left:
                self.shown[results.frame] = self._mask(results)
                left.discard(results.frame)
                yield results.frame
            self.step()
        if left:  # the reader leaves a damaged picture out and goes on
            raise SourceError(
                f"frame {min(left)} of {self.film.name} is damaged or is not there; every annotated frame counts: "
                "mend it, or take the film out"
            )

    def _mask(self, results: Results) -> Mask:
        shown: dict[int, Mask] = {}
        if results.masks is not None:
            shown = dict(zip(results.ids.tolist(), results.masks.data, strict=True))
        return shown.get(ID, self._nothing)

    def _measure(self) -> Measure:
        pairs = [(self.shown[frame], self.film[frame]) for frame in self.film.frames]
        return float(np.mean([region_j(*pair) for pair in pairs])), float(np.mean([boundary_f(*p) for p in pairs]))


def _row(film: _Film, played: _Played, measures: Sequence[Measure], seconds: float) -> InteractiveRow:
    j, f = zip(*measures, strict=True)
    clicks = sum(map(len, played.clicks.values()))
    return InteractiveRow(film.name, film.id, len(film.frames), j, f, tuple(played.interacted), clicks, seconds)
