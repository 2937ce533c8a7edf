"""Reads a data set from end to end: what is broken in it, and what it is made of.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from masklet.datasets.dataset import Annotated, DataError, Dataset, Entry, Finding, Size
from masklet.errors import SourceError

__all__ = ["Census", "Looked", "Spread", "check", "examine", "is_still", "take_census"]

MOST = 3
"""Findings of one entry about one file; what else is wrong with it is likely the same."""
ROOM = 1 << 28
"""Bytes of pictures in memory at a time."""


@dataclass(frozen=True)
class Looked:
    """One frame that was read: its size (None: it could not be), its objects that are seen, and what was broken."""

    entry: str
    number: int
    size: Size | None
    areas: dict[int, int]
    """Pixels of each object that has any."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the most of something."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of at least one value; None of none."""
        return cls(min(values), float(median(values)), max(values)) if values else None


@dataclass(frozen=True)
class Census:
    """What a data set is made of, counted over the frames that were read."""

    kind: str
    pictures: int
    """Entries of one picture."""
    films: int
    frames: int
    """Pictures and frames of films in all; of a film file up to the last annotated one."""
    annotated: int
    """Those that carry masks."""
    read: int
    """Annotated frames that were read for what follows."""
    objects: int
    """Different ones: in a film an object counts once."""
    objects_per_frame: Spread | None
    sizes: tuple[Size, ...]
    """(height, width) of the smallest, the median and the largest frame by area; empty where none could be read."""
    share: float | None
    """Of its picture, that the median object covers."""
    empty: int
    """Frames without an object."""
    broken: int
    """Files with a finding."""


def check(dataset: Dataset, every: int = 1) -> Iterator[Finding]:
    """What is broken: what was found when the data set was opened, then what reading every frame finds.

    `every` reads only one annotated frame of so many, spread over the whole.

    Example:
        >>> for finding in check(open_dataset("mine")):
        ...     print(finding.entry, finding.reason)
    """
    yield from dataset.problems
    for looked in examine(dataset, every):
        yield from looked.findings


def examine(dataset: Dataset, every: int = 1) -> Iterator[Looked]:
    """Read the frames, every mask of them, one after the other.

    Example:
        >>> census = take_census(dataset, examine(dataset))
    """
    assert every >= 1, f"every is 1 or more, got {every}"
    turn = 0
    for entry in dataset.entries:
        numbers = [number for place, number in enumerate(entry.frames, turn) if place % every == 0]
        turn += len(entry.frames)
        told: Counter[Path] = Counter()
        for looked in _entry(entry, numbers):
            told.update(finding.file for finding in looked.findings)
            new = tuple(finding for finding in looked.findings if told[finding.file] <= MOST)
            yield Looked(looked.entry, looked.number, looked.size, looked.areas, new)


def take_census(dataset: Dataset, looked: Iterable[Looked]) -> Census:
    """Count what was looked at.

    Example:
        >>> take_census(dataset, examine(dataset)).objects
        4316
    """
    stills = sum(is_still(entry) for entry in dataset.entries)
    sizes: list[Size] = []
    counts: list[int] = []
    shares: list[float] = []
    objects: set[tuple[str, int]] = set()
    files = {finding.file for finding in dataset.problems}
    for frame in looked:
        files.update(finding.file for finding in frame.findings)
        if frame.size is not None:
            sizes.append(frame.size)
            counts.append(len(frame.areas))
            shares += [area / (frame.size[0] * frame.size[1]) for area in frame.areas.values()]
            objects.update((frame.entry, number) for number in frame.areas)
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    return Census(
        kind=dataset.kind,
        pictures=stills,
        films=len(dataset.entries) - stills,
        frames=sum(_length(entry) for entry in dataset.entries),
        annotated=sum(len(entry.frames) for entry in dataset.entries),
        read=len(counts),
        objects=len(objects),
        objects_per_frame=Spread.of(counts),
        sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (),
        share=float(median(shares)) if shares else None,
        empty=counts.count(0),
        broken=len(files),
    )


def is_still(entry: Entry) -> bool:
    """Whether an entry is one picture."""
    return isinstance(entry.source, tuple) and len(entry.source) == 1


def _length(entry: Entry) -> int:
    return len(entry.source) if isinstance(entry.source, tuple) else entry.frames[-1] + 1


def _entry(entry: Entry, numbers: list[int]) -> Iterator[Looked]:
    """Frames in stretches that fit the memory set aside; the first alone, to learn how large they are."""
    room = 1
    while numbers:
        some, numbers = numbers[:room], numbers[room:]
        for looked in _stretch(entry, some):
            yield looked
            if looked.size is not None:
                room = max(1, min(64, ROOM // (looked.size[0] * looked.size[1] * 3)))


def _stretch(entry: Entry, numbers: list[int]) -> Iterator[Looked]:
    try:
        frames = entry.read(numbers)
    except SourceError as problem:
        if len(numbers) == 1:
            yield Looked(entry.name, numbers[0], None, {}, (_finding(entry, numbers[0], problem),))
            return
        for number in numbers:  # one of them is broken: which?
            yield from _stretch(entry, [number])
        return
    for number, annotated in zip(numbers, frames, strict=True):
        yield _frame(entry, number, annotated)


def _frame(entry: Entry, number: int, annotated: Annotated) -> Looked:
    areas: dict[int, int] = {}
    findings: list[Finding] = []
    for label in annotated.masks:
        try:
            area = int(np.count_nonzero(annotated.masks[label]))
        except SourceError as problem:
            findings.append(_finding(entry, number, problem))
            continue
        if area:
            areas[label] = area
    return Looked(entry.name, number, annotated.size, areas, tuple(findings))


def _finding(entry: Entry, number: int, problem: SourceError) -> Finding:
    if isinstance(problem, DataError):
        return Finding(entry.name, problem.file, str(problem))
    source = entry.source
    return Finding(entry.name, source[number] if isinstance(source, tuple) else source, str(problem))
