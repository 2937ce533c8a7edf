"""A project as a dataset, which is how it is exported, and datasets as the start of a project."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.datasets import (
    AnnotatedFrame,
    DataError,
    DataIssue,
    Dataset,
    Mask,
    ObjectAttributes,
    Sample,
    WriteOptions,
    class_names,
    convert,
    list_items,
    open_dataset,
    open_dataset_writer,
)
from masklet.datasets.account import ObjectAccount, object_class_name
from masklet.datasets.dataset import FrameFolderVideo, ImageSample, LazyMasks, Size, check_frame_indices
from masklet.errors import MaskletError, SourceError, StateError
from masklet.masks import rle
from masklet.masks.rle import Rle
from masklet.media.image import format_size
from masklet.projects.project_records import ExportResult, ImportResult, ProjectMask, ProjectSource
from masklet.projects.project_schema import Row
from masklet.projects.project_sources import probe_source
from masklet.resume_store import to_column

if TYPE_CHECKING:
    from masklet.projects.open_project import Project

__all__ = ["ProjectFrames", "ProjectImage", "ProjectVideo", "export_project", "import_dataset", "project_dataset"]

FRAMES_PER_BATCH = 8
SOURCES_PER_ACTION = 64
"""Images of a dataset that are stored together."""


@dataclass(frozen=True)
class _SourceMasks:
    """The masks of one source, read frame by frame."""

    project: Project
    source: ProjectSource
    verified_only: bool

    def masks(self, frame: int, size: Size) -> LazyMasks:
        """Return the masks of a frame, by the numbers of the objects; empty ones are out of sight and left out.

        Raises:
            DataError: if the frame has another size than the source.
        """
        if size != self.source.size:
            raise DataError.for_file(
                Path(self.source.name),
                f"has a frame {frame} of {format_size(size)}, and was added with {format_size(self.source.size)}: "
                "restore the file",
            )
        found = [
            one
            for one in self.project.masks(self.source.id, frame, frame + 1)
            if one.is_verified or not self.verified_only
        ]
        objects = {obj.id: obj for obj in self.project.objects(self.source.id)}
        decoders: dict[int, Callable[[], Mask]] = {}
        attributes: dict[int, ObjectAttributes] = {}
        for one in found:
            obj = objects.get(one.object_id)  # None: deleted between the two readings
            is_empty = one.rle is not None and len(rle.run_lengths(one.rle)) < 2
            if obj is None or is_empty:
                continue
            decoders[obj.number] = partial(self._decode, one)
            attributes[obj.number] = ObjectAttributes(
                obj.class_id, score=one.score, track_id=obj.track_id if self.source.kind == "image" else obj.number
            )
        return LazyMasks(decoders, attributes)

    def _decode(self, mask: ProjectMask) -> Mask:
        try:
            return mask.mask
        except (StateError, SourceError) as problem:
            raise DataError(str(problem)) from problem


@dataclass(frozen=True)
class ProjectImage(ImageSample):
    """An image of a project."""

    content: _SourceMasks

    def masks(self, size: Size) -> Mapping[int, Mask]:
        """See `ImageSample`."""
        return self.content.masks(0, size)


@dataclass(frozen=True)
class ProjectFrames(FrameFolderVideo):
    """A video of a project that is a folder of images."""

    content: _SourceMasks

    def masks(self, image_path: Path, size: Size) -> Mapping[int, Mask]:
        """See `FrameFolderVideo`."""
        return self.content.masks(self.image_names.index(image_path.name), size)


@dataclass(frozen=True)
class ProjectVideo:
    """A video of a project that is a file."""

    name: str
    video_path: Path
    frame_indices: tuple[int, ...]
    """See `Sample`."""
    content: _SourceMasks

    @property
    def source(self) -> Path:
        """See `Sample`."""
        return self.video_path

    def read(self, frame_indices: Sequence[int]) -> list[AnnotatedFrame]:
        """See `Sample`. Object ids are the numbers of the objects."""
        check_frame_indices(self, frame_indices)
        if not frame_indices:
            return []
        with self.content.project.open_source(self.content.source) as video:
            images = {index: video[index].rgb for index in sorted(set(frame_indices))}
        return [
            AnnotatedFrame(images[index], self.content.masks(index, (images[index].shape[0], images[index].shape[1])))
            for index in frame_indices
        ]


def project_dataset(
    project: Project, sources: Sequence[ProjectSource], verified_only: bool, include_empty: bool
) -> Dataset:
    """Return sources of a project as a dataset; see `Project.dataset`."""
    samples: list[Sample] = []
    issues: list[DataIssue] = []
    for source in sources:
        frames = {
            one.frame for one in project.masks(source.id, with_rle=False) if one.is_verified or not verified_only
        }.union(frame for _, frame in project.verified(source.id))
        if not frames and not (include_empty and source.kind == "image"):
            continue
        try:
            path = project.source_path(source)
        except SourceError as problem:
            issues.append(DataIssue.from_error(source.name, problem, Path(source.name)))
            continue
        content, indices = _SourceMasks(project, source, verified_only), tuple(sorted(frames))
        if source.kind == "image":
            samples.append(ProjectImage(source.name, path, content))
        elif source.files is not None:
            samples.append(ProjectFrames(source.name, path, source.files, indices, content))
        else:
            samples.append(ProjectVideo(source.name, path, indices, content))
    return Dataset(
        "project",
        project.folder,
        tuple(samples),
        tuple(issues),
        names={cls.id: cls.name for cls in project.classes},
        splits={source.name: source.split for source in sources if source.split is not None},
        video_names={source.name: source.video for source in sources if source.video is not None},
    )


def export_project(
    project: Project,
    data: Dataset,
    data_format: str,
    out_dir: str | os.PathLike[str],
    options: WriteOptions | None,
    progress: Callable[[int, int], None] | None,
) -> ExportResult:
    """Write a dataset of a project; see `Project.export`."""
    settings = options or WriteOptions(images="link")
    stamp = (("project", str(project.folder)), ("revision", str(project.revision)))
    settings = replace(settings, resume_options=(*settings.resume_options, *stamp))
    issues = list(data.issues)
    with open_dataset_writer(data_format, out_dir, names=class_names(data), options=settings) as writer:
        items = list_items(data, unique_per_split=writer.unique_per_split)
        for number, step in enumerate(convert(data, items, writer), 1):
            issues += [*([step.issue] if step.issue is not None else []), *step.object_issues]
            if progress is not None:
                progress(number, len(items))
    return ExportResult(str(writer.folder), writer.num_images, sum(writer.counts.values()), writer.loss, tuple(issues))


@dataclass
class _Entry:
    """A sample of a dataset, decoded: its file, its masks by object and frame, and what its objects are."""

    sample: Sample
    path: Path
    row: Row
    account: ObjectAccount
    masks: dict[int, dict[int, tuple[Rle, float | None]]]
    attributes: dict[int, ObjectAttributes]


def import_dataset(
    project: Project,
    path: str | os.PathLike[str],
    data_format: str | None,
    split: str | None,
    author: str | None,
    progress: Callable[[int, int], None] | None,
) -> ImportResult:
    """Add a dataset to a project; see `Project.import_dataset`."""
    data = open_dataset(path, data_format=data_format, split=split)
    issues, run, pending = list(data.issues), time.time_ns(), list[_Entry]()
    totals = [0, 0, 0, 0]
    account = ObjectAccount.for_dataset(data)
    for number, sample in enumerate(data.samples, 1):
        try:
            pending.append(_read_entry(data, sample, issues))
        except MaskletError as problem:
            issues.append(DataIssue.from_error(sample.name, problem, Path(sample.name)))
            account.merge(ObjectAccount.for_unread_sample(sample, data.names))
        is_full = len(pending) >= SOURCES_PER_ACTION or (pending and not isinstance(sample, ImageSample))
        if is_full or number == len(data.samples):
            stored = _store_entries(project, data, pending, account, author, run)
            totals, pending = [total + one for total, one in zip(totals, stored, strict=True)], []
        if progress is not None:
            progress(number, len(data.samples))
    return ImportResult(totals[0], totals[1], totals[2], totals[3], account, tuple(issues))


def _read_entry(data: Dataset, sample: Sample, issues: list[DataIssue]) -> _Entry:
    """Decode the masks of a sample; objects that are broken become issues.

    Raises:
        SourceError: if the sample cannot be used.
    """
    if isinstance(sample, ImageSample) and not sample.has_image_file:
        raise SourceError(f"{sample.name} has no image file, and a project has files: export its image first")
    files = sample.source
    is_list = isinstance(files, tuple) and not isinstance(sample, ImageSample)
    path, row = probe_source(files[0] if isinstance(files, tuple) and not is_list else files)
    entry = _Entry(sample, path, row, ObjectAccount(), defaultdict(dict), {})
    indices = sample.frame_indices
    for first in range(0, len(indices), FRAMES_PER_BATCH):
        batch = indices[first : first + FRAMES_PER_BATCH]
        for index, frame in zip(batch, sample.read(batch), strict=True):
            entry.account.merge(ObjectAccount.for_masks(frame.masks, data.names))
            for object_id in frame.masks:
                known = frame.attributes(object_id)
                name = object_class_name(data.names, known)
                try:
                    mask = frame.masks[object_id]
                    if mask.shape != (row["height"], row["width"]):
                        raise SourceError(f"{path}: a mask of {mask.shape} does not fit the source: draw it again")
                except MaskletError as problem:
                    issues.append(replace(DataIssue.from_error(sample.name, problem, path), objects={name: 1}))
                    entry.account.broken[name] += 1
                    continue
                score = known.score if known.score is not None and 0 <= known.score <= 1 else None
                entry.masks[object_id][index] = (rle.encode(mask), score)
                entry.attributes.setdefault(object_id, known)
                entry.account.written[name] += 1
    return entry


def _store_entries(
    project: Project,
    data: Dataset,
    entries: Sequence[_Entry],
    account: ObjectAccount,
    author: str | None,
    run: int,
) -> tuple[int, int, int, int]:
    """Store samples in one action; return the sources, objects and masks that are new, and the sources skipped."""
    classes = {cls.name: cls.id for cls in project.classes}
    num_sources = num_objects = num_masks = num_skipped = 0
    with project.action("import", author, f"{data.root.name} ({data.data_format})", run=run):
        for entry in entries:
            sample, is_image = entry.sample, isinstance(entry.sample, ImageSample)
            is_taken = project.database.rows("sources", "name = ?", (to_column(sample.name),))
            split, video = data.splits.get(sample.name), data.video_names.get(sample.name)
            source = project.put_source(
                entry.path, entry.row, None if is_taken else sample.name, split=split, video=video
            )
            if project.objects(source):
                num_skipped += 1
                continue
            account.merge(entry.account)
            num_sources += 1
            is_numbered = all(object_id > 0 for object_id in entry.masks)
            for number, (object_id, frames) in enumerate(entry.masks.items(), 1):
                known = entry.attributes[object_id]
                has_class = known.class_id is not None or known.label is not None
                name = object_class_name(data.names, known)
                if has_class and name not in classes:
                    classes[name] = project.add_class(name, author=author).id
                obj = project.add_object(
                    source,
                    classes[name] if has_class else None,
                    number=object_id if is_numbered else number,
                    track_id=known.track_id if is_image else None,
                    author=author,
                )
                for frame, (code, score) in frames.items():
                    project.set_mask(obj, frame, code, score=score, origin="import", author=author)
                num_objects, num_masks = num_objects + 1, num_masks + len(frames)
    return num_sources, num_objects, num_masks, num_skipped
