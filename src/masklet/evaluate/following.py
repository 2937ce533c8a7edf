"""Films of any data set, followed from the first mask, box or click.

The protocol, for data where objects come late and only some frames are annotated (YouTube-VOS, SA-V, one's own):
every object is told on the first annotated frame that shows it, and nowhere else, and followed forwards from there
beside the others. It is measured by J and F (`masklet.evaluate.metrics`) on every annotated frame after that one, the
last included; where it is out of sight, nothing must be shown. Its figure is the mean over those frames. Each
object's mask is measured as it is: objects of such data may overlap, so overlaps are not settled. These are the ways
in which it differs from the protocol of DAVIS (`masklet.evaluate.films`).

All ways of asking are followed in one pass, as objects of their own: a frame is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from masklet.datasets import Entry
from masklet.errors import SourceError
from masklet.evaluate.films import Follows
from masklet.evaluate.metrics import boundary_f, region_j
from masklet.evaluate.prompting import PROMPTS, checked_prompts, first_prompt, spread
from masklet.media.pictures import said_size
from masklet.results import Results
from masklet.video import Session

__all__ = ["TrackedRow", "Truth", "check_size", "evaluate_entry", "first_seen", "masks_by_frame"]

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
