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

from masklet.datasets.dataset import AnnotatedFrame, DataError, DataIssue, Dataset, Sample, Size
from masklet.errors import SourceError

__all__ = [
    "DatasetStats",
    "FrameReport",
    "ValueRange",
    "check_dataset",
    "compute_stats",
    "inspect_frames",
    "is_single_image",
]

MAX_ISSUES_PER_FILE = 3
"""Findings of one entry about one file; what else is wrong with it is likely the same."""
MAX_BATCH_BYTES = 1 << 28
"""Bytes of images in memory at a time."""


@dataclass(frozen=True)
class FrameReport:
    """One frame that was read: its size (None: it could not be), its objects that are seen, and what was broken."""

    sample: str
    frame_idx: int
    size: Size | None
    areas: dict[int, int]
    """Pixels of each object that has any."""
    issues: tuple[DataIssue, ...] = ()


@dataclass(frozen=True)
class ValueRange:
    """The least, the middle and the most of something."""

    minimum: float
    median: float
    maximum: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> ValueRange | None:
        """Of at least one value; None of none."""
        return cls(min(values), float(median(values)), max(values)) if values else None


@dataclass(frozen=True)
class DatasetStats:
    """What a data set is made of, counted over the frames that were read."""

    data_format: str
    num_images: int
    """Entries of one image."""
    num_videos: int
    num_frames: int
    """Images and frames of videos in all; of a video file up to the last annotated one."""
    num_annotated: int
    """Those that carry masks."""
    num_read: int
    """Annotated frames that were read for what follows."""
    num_objects: int
    """Different ones: in a video an object counts once."""
    objects_per_frame: ValueRange | None
    sizes: tuple[Size, ...]
    """(height, width) of the smallest, the median and the largest frame by area; empty where none could be read."""
    median_area_fraction: float | None
    """Of its image, that the median object covers."""
    num_empty: int
    """Frames without an object."""
    num_broken_files: int
    """Files with a finding."""


def check_dataset(dataset: Dataset, frame_stride: int = 1) -> Iterator[DataIssue]:
    """What is broken: what was found when the data set was opened, then what reading every frame finds.

    `every` reads only one annotated frame of so many, spread over the whole.

    Example:
        >>> for finding in check(open_dataset("mine")):
        ...     print(finding.entry, finding.reason)
    """
    yield from dataset.issues
    for looked in inspect_frames(dataset, frame_stride):
        yield from looked.issues


def inspect_frames(dataset: Dataset, frame_stride: int = 1) -> Iterator[FrameReport]:
    """Read the frames, every mask of them, one after the other.

    Example:
        >>> census = take_census(dataset, examine(dataset))
    """
    assert frame_stride >= 1, f"every is 1 or more, got {frame_stride}"
    turn = 0
    for entry in dataset.samples:
        numbers = [number for place, number in enumerate(entry.frame_indices, turn) if place % frame_stride == 0]
        turn += len(entry.frame_indices)
        told: Counter[Path] = Counter()
        for looked in _read_in_batches(entry, numbers):
            told.update(finding.file for finding in looked.issues)
            new = tuple(finding for finding in looked.issues if told[finding.file] <= MAX_ISSUES_PER_FILE)
            yield FrameReport(looked.sample, looked.frame_idx, looked.size, looked.areas, new)


def compute_stats(dataset: Dataset, reports: Iterable[FrameReport]) -> DatasetStats:
    """Count what was looked at.

    Example:
        >>> take_census(dataset, examine(dataset)).objects
        4316
    """
    stills = sum(is_single_image(entry) for entry in dataset.samples)
    sizes: list[Size] = []
    counts: list[int] = []
    shares: list[float] = []
    objects: set[tuple[str, int]] = set()
    files = {finding.file for finding in dataset.issues}
    for frame in reports:
        files.update(finding.file for finding in frame.issues)
        if frame.size is not None:
            sizes.append(frame.size)
            counts.append(len(frame.areas))
            shares += [area / (frame.size[0] * frame.size[1]) for area in frame.areas.values()]
            objects.update((frame.sample, number) for number in frame.areas)
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    return DatasetStats(
        data_format=dataset.data_format,
        num_images=stills,
        num_videos=len(dataset.samples) - stills,
        num_frames=sum(_count_frames(entry) for entry in dataset.samples),
        num_annotated=sum(len(entry.frame_indices) for entry in dataset.samples),
        num_read=len(counts),
        num_objects=len(objects),
        objects_per_frame=ValueRange.from_values(counts),
        sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (),
        median_area_fraction=float(median(shares)) if shares else None,
        num_empty=counts.count(0),
        num_broken_files=len(files),
    )


def is_single_image(sample: Sample) -> bool:
    """Whether an entry is one image."""
    return isinstance(sample.source, tuple) and len(sample.source) == 1


def _count_frames(sample: Sample) -> int:
    return len(sample.source) if isinstance(sample.source, tuple) else sample.frame_indices[-1] + 1


def _read_in_batches(sample: Sample, frame_indices: list[int]) -> Iterator[FrameReport]:
    """Frames in stretches that fit the memory set aside; the first alone, to learn how large they are."""
    room = 1
    while frame_indices:
        some, frame_indices = frame_indices[:room], frame_indices[room:]
        for looked in _read_batch(sample, some):
            yield looked
            if looked.size is not None:
                room = max(1, min(64, MAX_BATCH_BYTES // (looked.size[0] * looked.size[1] * 3)))


def _read_batch(sample: Sample, frame_indices: list[int]) -> Iterator[FrameReport]:
    try:
        frames = sample.read(frame_indices)
    except SourceError as problem:
        if len(frame_indices) == 1:
            yield FrameReport(sample.name, frame_indices[0], None, {}, (_to_issue(sample, frame_indices[0], problem),))
            return
        for number in frame_indices:  # one of them is broken: which?
            yield from _read_batch(sample, [number])
        return
    for number, annotated in zip(frame_indices, frames, strict=True):
        yield _report_frame(sample, number, annotated)


def _report_frame(sample: Sample, frame_idx: int, annotated_frame: AnnotatedFrame) -> FrameReport:
    areas: dict[int, int] = {}
    findings: list[DataIssue] = []
    for label in annotated_frame.masks:
        try:
            area = int(np.count_nonzero(annotated_frame.masks[label]))
        except SourceError as problem:
            findings.append(_to_issue(sample, frame_idx, problem))
            continue
        if area:
            areas[label] = area
    return FrameReport(sample.name, frame_idx, annotated_frame.size, areas, tuple(findings))


def _to_issue(sample: Sample, frame_idx: int, problem: SourceError) -> DataIssue:
    if isinstance(problem, DataError):
        return DataIssue(sample.name, problem.file, str(problem))
    source = sample.source
    return DataIssue(sample.name, source[frame_idx] if isinstance(source, tuple) else source, str(problem))
