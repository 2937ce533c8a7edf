"""How good a model is on data of one's own: `validate`, which `SAM.val` and `masklet val` call.

What has one annotated frame is a still and asked as `masklet.evaluate.image_prompts` says; what has more is a film and
followed as `masklet.evaluate.semi_supervised_vos` says. What is broken is named, left out and counted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Protocol, TypeAlias

import numpy as np

from masklet.datasets import Dataset, Entry, open_dataset, open_mixture
from masklet.errors import InputError, MaskletWarning, ModelError, SourceError
from masklet.evaluate.image_prompts import Ious, report, source_of, still_ious
from masklet.evaluate.prompts_from_masks import checked_prompts, spread
from masklet.evaluate.semi_supervised_vos import Follows, TrackedRow, evaluate_entry
from masklet.evaluate.validation_result import Counts, TrackedFigures, TrackedReport, Validation
from masklet.image import ImagePredictor

__all__ = ["AnyData", "Outcome", "Plan", "Sample", "outcomes", "plan", "summary", "validate"]

DEFAULT_PROMPTS = ("box", "click", "mask")
MOST_TOLD = 10
"""Broken entries that are warned of when data is opened, the rest is counted."""

OF_STILLS = frozenset({"box", "click"})
"""What a still can be asked by: its mask would be the answer."""

Place: TypeAlias = "str | PathLike[str] | Dataset"
AnyData: TypeAlias = "Place | Mapping[Place, float] | Iterable[Place | tuple[Place, float]]"
"""A folder or file, also one that lists data sets, an opened data set, or several; weights mean nothing here."""


class Model(Follows, Protocol):
    """What is validated: `SAM`, or anything that answers about pictures and follows through films."""

    @property
    def predictor(self) -> ImagePredictor:
        """What pictures are asked with."""


@dataclass(frozen=True)
class Sample:
    """An entry, its name in the figures, and the source it is counted with."""

    name: str
    source: str
    entry: Entry

    @property
    def is_film(self) -> bool:
        """Whether there is anything to follow."""
        return len(self.entry.frames) > 1

    @property
    def frames(self) -> int:
        """How many frames are gone through, at most."""
        return self.entry.frames[-1] - self.entry.frames[0] + 1 if self.is_film else 1


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and what was found broken before anything was read."""

    samples: tuple[Sample, ...]
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """How often `step` will be called."""
        return sum(sample.frames for sample in self.samples)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one sample gave."""

    sample: Sample
    iou_N5: Ious = field(default_factory=lambda: np.zeros((0, 5)))
    """Of a still; see `masklet.evaluate.image_prompts`."""
    tracked: tuple[TrackedRow, ...] = ()
    """Of a film."""
    reason: str = ""
    """Why it was left out; empty: it was not."""
    seconds: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether it adds to the figures."""
        return len(self.iou_N5) > 0 or len(self.tracked) > 0


def validate(
    model: Model,
    data: AnyData,
    *,
    kind: str | None = None,
    split: str | None = None,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    objects: int = 10,
    limit: int | None = None,
    step: Callable[[], None] | None = None,
) -> Validation:
    """Measure a model on pictures and films with known masks.

    `data` is a path, a `masklet.datasets.Dataset`, or several of them; `kind` and `split` are those of
    `open_dataset`. `prompts` are "box", "click" (stills: one, three and five of them) and "mask" (films only).
    `objects` of an entry at most are asked for, and of `limit` entries at most, both spread evenly. `step` is called
    for every still and every frame of a film; `plan(...).frames` says how often.

    Example:
        >>> print(validate(SAM(), "photos", prompts=["box"]))

    Raises:
        InputError: unknown prompts or kinds, or prompts that ask nothing of this data.
        SourceError: there is no such data, or nothing in it could be measured. A single broken entry is left out
            with a MaskletWarning.
        ModelError: films alone, and a model for pictures only. In a mixture its films are left out, with a warning.
    """
    chosen = plan(data, kind=kind, split=split, limit=limit)
    return summary(outcomes(model, chosen, prompts=prompts, objects=objects, step=step), chosen.broken)


def plan(data: AnyData, *, kind: str | None = None, split: str | None = None, limit: int | None = None) -> Plan:
    """What `validate` will go through: `limit` entries at most, spread evenly over the data.

    Example:
        >>> chosen = plan("photos", limit=100)
        >>> results = summary(outcomes(model, chosen))

    Raises:
        SourceError, InputError: as `validate`.
    """
    if limit is not None:
        _check_whole("limit", limit)
    several = _opened(data, kind, split)
    names = _distinct([dataset.root.resolve().name for dataset in several], several)
    samples: list[Sample] = []
    found: list[tuple[str, str]] = []
    for name, dataset in zip(names, several, strict=True):
        prefix = f"{name}/" if len(several) > 1 else ""
        for entry in dataset.entries:
            source = source_of(entry, name) if dataset.kind == "stills" else name
            samples.append(Sample(prefix + entry.name, source, entry))
        found += [(prefix + finding.entry, finding.reason) for finding in dataset.problems]
    known = {sample.name for sample in samples}  # of these a part is broken: they are measured without it
    _tell(found, known)
    broken = {name: reason for name, reason in found if name not in known}
    return Plan(tuple(samples[i] for i in spread(len(samples), limit or len(samples))), broken)


def _check_whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number, 1 or more; or leave it out")


def _tell(found: Sequence[tuple[str, str]], known: Collection[str]) -> None:
    for name, reason in found[:MOST_TOLD]:
        _warn(f"{name}: {reason}" if name in known else f"{name} is left out: {reason}")
    if len(found) > MOST_TOLD:
        _warn(f"{len(found) - MOST_TOLD} more findings of that kind; masklet data check names them all")


def _warn(message: str) -> None:
    warnings.warn(message, MaskletWarning, stacklevel=4)


def _opened(data: AnyData, kind: str | None, split: str | None) -> list[Dataset]:
    if isinstance(data, Dataset):
        if kind is not None or split is not None:
            raise InputError(f"kind={kind!r}, split={split!r} belong to a path; this data set is open: leave them out")
        return [data]
    if isinstance(data, (str, PathLike)):
        if kind is None and split is None:  # a file that lists data sets may be one path too
            return [dataset for dataset, _ in open_mixture(data)]
        return [open_dataset(data, kind=kind, split=split)]
    places = [item[0] if isinstance(item, tuple) else item for item in data]
    if not places:
        raise InputError("data holds no path; give at least one: a folder or file with pictures and masks")
    return [dataset for place in places for dataset in _opened(place, kind, split)]


def _distinct(names: Sequence[str], several: Sequence[Dataset]) -> list[str]:
    """Names of data sets; whole paths where two have one name."""
    return [n if names.count(n) == 1 else str(d.root) for n, d in zip(names, several, strict=True)]


def outcomes(
    model: Model,
    chosen: Plan,
    *,
    prompts: Sequence[str] = DEFAULT_PROMPTS,
    objects: int = 10,
    step: Callable[[], None] | None = None,
) -> Iterator[Outcome]:
    """Yield what each sample of a plan gave, as soon as it is measured; see `validate`.

    Stills are passed over where `prompts` is "mask" alone. A model that follows nothing is still measured on the
    stills of a mixture: films are then left out.
    """
    asked = checked_prompts(prompts)
    _check_whole("objects", objects)
    samples = _askable(chosen.samples, asked)
    mixed, refused = any(not sample.is_film for sample in samples), ""
    for sample in samples:
        spared = refused if sample.is_film else ""  # a model that refused one film refuses them all
        with _Count(sample.frames, step or (lambda: None)) as count:
            try:
                outcome = Outcome(sample, reason=spared) if spared else _outcome(model, sample, asked, objects, count)
            except ModelError as problem:
                if not (mixed and sample.is_film):
                    raise
                refused = str(problem)
                outcome = Outcome(sample, reason=refused)
        if outcome.reason and not spared:
            _warn(f"{sample.name} is left out: {outcome.reason}")
        yield outcome


def _askable(samples: tuple[Sample, ...], asked: Sequence[str]) -> tuple[Sample, ...]:
    """Those that can be asked so."""
    if OF_STILLS & set(asked):
        return samples
    films = tuple(sample for sample in samples if sample.is_film)
    if samples and not films:
        raise InputError("prompts=('mask',) asks nothing of pictures, their masks are the answer: add 'box'")
    return films


class _Count:
    """Calls `step` `total` times in all, however many frames there turn out to be."""

    def __init__(self, total: int, step: Callable[[], None]) -> None:
        self.left, self.step = total, step

    def __enter__(self) -> _Count:
        return self

    def __exit__(self, *problem: object) -> None:
        while self.left and problem[0] is None:
            self()

    def __call__(self) -> None:
        if self.left:
            self.left -= 1
            self.step()


def _outcome(model: Model, sample: Sample, asked: Sequence[str], objects: int, step: Callable[[], None]) -> Outcome:
    started = time.perf_counter()
    outcome = Outcome(sample)
    try:
        if sample.is_film:
            outcome = replace(outcome, tracked=evaluate_entry(model, sample.entry, asked, objects, step))
        else:
            [picture] = sample.entry.read(sample.entry.frames)
            outcome = replace(outcome, iou_N5=still_ious(model.predictor, picture, objects, asked))
    except InputError as problem:  # of this entry: prompts were checked before
        outcome = replace(outcome, reason=str(problem))
    return replace(outcome, seconds=time.perf_counter() - started)


def summary(found: Iterable[Outcome], broken: Mapping[str, str] | None = None) -> Validation:
    """The figures of what `outcomes` yielded; `broken` are those of its plan.

    Raises:
        SourceError: nothing could be measured.
    """
    found = list(found)
    left_out = {**(broken or {}), **{one.sample.name: one.reason for one in found if one.reason}}
    stills = [one for one in found if len(one.iou_N5)]
    films = [one for one in found if one.tracked]
    if not stills and not films:
        raise SourceError(_nothing(len(found), left_out))
    return Validation(
        stills=report([(one.sample.source, one.iou_N5) for one in stills]) if stills else None,
        films=_by_prompt(films),
        counts=_counts(stills, films, len(found) - sum(bool(one.reason) for one in found)),
        left_out=left_out,
        seconds=sum(one.seconds for one in found),
    )


def _nothing(count: int, left_out: Mapping[str, str]) -> str:
    if not left_out:
        return f"none of {count} entries has an object that can be measured; name data with masks that are not empty"
    name, reason = next(iter(left_out.items()))
    return (
        f"nothing could be measured; {len(left_out)} entries are broken: mend them, or name other data; the first is "
        f"{name}: {reason}"
    )


def _counts(stills: Sequence[Outcome], films: Sequence[Outcome], whole: int) -> Counts:
    objects = sum(len(one.iou_N5) for one in stills) + sum(len({row.id for row in one.tracked}) for one in films)
    return Counts(
        pictures=len(stills),
        films=len(films),
        frames=sum(one.sample.frames for one in films),
        objects=objects,
        without=whole - len(stills) - len(films),
    )


def _by_prompt(films: Sequence[Outcome]) -> dict[str, TrackedReport]:
    prompts = dict.fromkeys(row.prompt for one in films for row in one.tracked)
    return {prompt: _tracked_report({o.sample.name: _only(o.tracked, prompt) for o in films}) for prompt in prompts}


def _only(rows: Sequence[TrackedRow], prompt: str) -> list[TrackedRow]:
    return [row for row in rows if row.prompt == prompt]


def _tracked_report(rows: Mapping[str, Sequence[TrackedRow]]) -> TrackedReport:
    every = [row for own in rows.values() for row in own]
    return TrackedReport(_tracked(every), {name: _tracked(own) for name, own in rows.items()})


def _tracked(rows: Sequence[TrackedRow]) -> TrackedFigures:
    j, f = (float(np.mean([getattr(row, name) for row in rows])) for name in ("j", "f"))
    return TrackedFigures(len(rows), j, f, (j + f) / 2)
