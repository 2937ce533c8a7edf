"""Read a dataset completely: what is broken in it, and its statistics.

Shapes: H height, W width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from masklet.datasets.account import ObjectAccount, object_class_name
from masklet.datasets.dataset import DataIssue, Dataset, LazyMasks, Sample, Size

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
"""Issues reported of one sample and file; further ones are likely the same."""
MAX_BATCH_BYTES = 1 << 28
"""Bytes of images in memory at a time."""
MAX_BATCH_FRAMES = 64


@dataclass(frozen=True)
class FrameReport:
    """One frame that was read: its size (None if it is unreadable), the areas of its objects, and its issues."""

    sample: str
    frame_idx: int
    size: Size | None
    areas: dict[int, int]
    """Pixels of each object that has any."""
    issues: tuple[DataIssue, ...] = ()
    account: ObjectAccount = field(default_factory=ObjectAccount)
    """The objects of the source; `written` are those that could be read."""


@dataclass(frozen=True)
class ValueRange:
    """Minimum, median and maximum."""

    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class DatasetStats:
    """The contents of a dataset, counted over the frames that were read."""

    data_format: str
    num_images: int
    """Samples of one image."""
    num_videos: int
    num_frames: int
    """All images and frames of videos; of a video file up to the last annotated one."""
    num_annotated: int
    """Frames with masks."""
    num_read: int
    """Annotated frames that were read for the following fields."""
    num_objects: int
    """Different objects: in a video an object counts once."""
    objects_per_frame: ValueRange | None
    sizes: tuple[Size, ...]
    """(height, width) of the smallest, the median and the largest frame by area; empty if none is readable."""
    median_area_fraction: float | None
    """The fraction of its image that the median object covers."""
    num_empty: int
    """Frames without an object."""
    num_broken_files: int
    """Files with an issue."""


def check_dataset(dataset: Dataset, frame_stride: int = 1) -> Iterator[DataIssue]:
    """Yield the issues from opening the dataset, then those from reading its frames and all their masks.

    `frame_stride` reads only every n-th annotated frame of the dataset.

    Example:
        >>> for issue in check_dataset(open_dataset("photos")):  # doctest: +SKIP
        ...     print(issue.sample, issue.reason)
    """
    yield from dataset.issues
    for report in inspect_frames(dataset, frame_stride):
        yield from report.issues


def inspect_frames(dataset: Dataset, frame_stride: int = 1) -> Iterator[FrameReport]:
    """Read the annotated frames with every mask, one after the other.

    Example:
        >>> stats = compute_stats(dataset, inspect_frames(dataset))  # doctest: +SKIP
    """
    assert frame_stride >= 1, f"frame_stride is 1 or more, got {frame_stride}"
    position = 0
    for sample in dataset.samples:
        indices = [index for at, index in enumerate(sample.frame_indices, position) if at % frame_stride == 0]
        position += len(sample.frame_indices)
        num_issues: Counter[Path] = Counter()
        batch_size = 1  # the first frame says how many fit in memory
        while indices:
            batch, indices = indices[:batch_size], indices[batch_size:]
            for report in _read_batch(sample, batch, dataset):
                num_issues.update(issue.file for issue in report.issues)
                shown = tuple(issue for issue in report.issues if num_issues[issue.file] <= MAX_ISSUES_PER_FILE)
                yield replace(report, issues=shown)
                if report.size is not None:
                    image_bytes = report.size[0] * report.size[1] * 3
                    batch_size = max(1, min(MAX_BATCH_FRAMES, MAX_BATCH_BYTES // image_bytes))


def _read_batch(sample: Sample, frame_indices: list[int], dataset: Dataset) -> Iterator[FrameReport]:
    """Read frames of a sample. Whatever a frame or an object raises is the issue of that one."""

    def to_issue(frame_idx: int, problem: Exception) -> DataIssue:
        source = sample.source
        return DataIssue.from_error(sample.name, problem, source[frame_idx] if isinstance(source, tuple) else source)

    try:
        frames = sample.read(frame_indices)
    except Exception as problem:
        if len(frame_indices) == 1:
            index = frame_indices[0]
            account = ObjectAccount.for_unread_sample(sample, dataset.names)
            issue = replace(to_issue(index, problem), objects=account.source)
            yield FrameReport(sample.name, index, None, {}, (issue,), ObjectAccount.for_issue(issue))
            return
        for index in frame_indices:  # find the broken one
            yield from _read_batch(sample, [index], dataset)
        return
    for index, frame in zip(frame_indices, frames, strict=True):
        areas: dict[int, int] = {}
        account = ObjectAccount.for_masks(frame.masks, dataset.names)
        left_out = frame.masks.left_out if isinstance(frame.masks, LazyMasks) else ()
        issues = [to_issue(index, item.problem) for item in left_out if item.problem is not None]
        for object_id in frame.masks:
            name = object_class_name(dataset.names, frame.attributes(object_id))
            try:
                area = int(np.count_nonzero(frame.masks[object_id]))
            except Exception as problem:
                account.broken[name] += 1
                issues.append(replace(to_issue(index, problem), objects={name: 1}))
                continue
            account.written[name] += 1
            if area:
                areas[object_id] = area
        yield FrameReport(sample.name, index, frame.size, areas, tuple(issues), account)


def compute_stats(dataset: Dataset, reports: Iterable[FrameReport]) -> DatasetStats:
    """Compute the statistics of a dataset from the reports of `inspect_frames`.

    Example:
        >>> compute_stats(dataset, inspect_frames(dataset)).num_objects  # doctest: +SKIP
        4316
    """
    sizes: list[Size] = []
    object_counts: list[int] = []
    area_fractions: list[float] = []
    objects: set[tuple[str, int]] = set()
    broken_files = {issue.file for issue in dataset.issues}
    for report in reports:
        broken_files.update(issue.file for issue in report.issues)
        if report.size is not None:
            sizes.append(report.size)
            object_counts.append(len(report.areas))
            area_fractions += [area / (report.size[0] * report.size[1]) for area in report.areas.values()]
            objects.update((report.sample, object_id) for object_id in report.areas)
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    num_images = sum(is_single_image(sample) for sample in dataset.samples)
    objects_per_frame = None
    if object_counts:
        objects_per_frame = ValueRange(min(object_counts), float(median(object_counts)), max(object_counts))
    return DatasetStats(
        data_format=dataset.data_format,
        num_images=num_images,
        num_videos=len(dataset.samples) - num_images,
        num_frames=sum(
            len(sample.source) if isinstance(sample.source, tuple) else sample.frame_indices[-1] + 1
            for sample in dataset.samples
        ),
        num_annotated=sum(len(sample.frame_indices) for sample in dataset.samples),
        num_read=len(object_counts),
        num_objects=len(objects),
        objects_per_frame=objects_per_frame,
        sizes=(sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (),
        median_area_fraction=float(median(area_fractions)) if area_fractions else None,
        num_empty=object_counts.count(0),
        num_broken_files=len(broken_files),
    )


def is_single_image(sample: Sample) -> bool:
    """Return whether a sample is one image."""
    return isinstance(sample.source, tuple) and len(sample.source) == 1
