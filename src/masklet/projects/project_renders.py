"""Write a project by the writers of results: overlay videos, MOTS text, label maps, a PNG for each object and frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import MappingProxyType

import numpy as np

from masklet.datasets import DataError, DataIssue, Dataset, class_names
from masklet.datasets.labeled_image import ConversionLoss
from masklet.errors import SourceError
from masklet.media import Frame
from masklet.projects.project_dataset import ProjectFrames, ProjectImage, ProjectVideo
from masklet.projects.project_records import ExportResult
from masklet.results import Masks, Results
from masklet.writers import Sink, SinkOptions, Writer, open_sink, open_writer
from masklet.writers.mask_images import label_map, retained_ious
from masklet.writers.video_base import safe_stem

__all__ = ["RENDER_FORMATS", "render_project"]

RENDER_FORMATS = MappingProxyType[str, tuple[str | None, str]](
    {"overlay": ("overlay", "video"), "mots": (None, "mots"), "png": ("png", "png"), "masks": ("masks", "masks")}
)
"""The writer of images (None: the sink, for one frame) and the sink of videos, by format."""
ONE_OBJECT_A_PIXEL = ("mots", "png")
"""Formats that keep the smaller of two masks where they overlap."""

ProjectSample = ProjectImage | ProjectFrames | ProjectVideo


def render_project(
    data: Dataset,
    render_format: str,
    out_dir: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportResult:
    """Write a dataset of `Project.dataset` in one of `RENDER_FORMATS`; a source that cannot be read is an issue.

    Overlay videos have all frames of the video, the other formats those that have masks or were verified.

    Raises:
        OutputError: if a file cannot be written, or an object has a number that the format cannot hold.
    """
    samples = [one for one in data.samples if isinstance(one, ProjectImage | ProjectFrames | ProjectVideo)]
    all_frames = [_frames_of(one, render_format) for one in samples]
    total, done, num_objects = sum(map(len, all_frames)), 0, 0
    loss, issues, stems = ConversionLoss(), list(data.issues), set[str]()
    image_format = RENDER_FORMATS[render_format][0]
    with ExitStack() as stack:
        writer: Writer | None = None
        if image_format is not None and any(isinstance(one, ProjectImage) for one in samples):
            is_masks = image_format == "masks"
            opened = open_writer("png" if is_masks else image_format, out_dir, per_object=is_masks, overwrite=overwrite)
            writer = stack.enter_context(opened)
        for sample, indices in zip(samples, all_frames, strict=True):
            stem, number = safe_stem(sample.name), 2
            while stem.lower() in stems:
                stem, number = f"{safe_stem(sample.name)}_{number}", number + 1
            stems.add(stem.lower())
            try:
                with _open_target(sample, stem, render_format, out_dir, writer) as target:
                    for results in _read_results(data, sample, indices, stem, issues):
                        target.write(results)
                        done, num_objects = done + 1, num_objects + len(results)
                        if render_format in ONE_OBJECT_A_PIXEL:
                            kept = retained_ious(results, label_map(results)).tolist()
                            loss += ConversionLoss.from_ious(sample.name, kept)
                        elif render_format == "masks":
                            loss += ConversionLoss.from_ious(sample.name, [1.0] * len(results))
                        if progress is not None:
                            progress(done, total)
            except SourceError as problem:
                issues.append(DataIssue.from_error(sample.name, problem))
    return ExportResult(os.fspath(out_dir), done, num_objects, loss, tuple(issues))


def _frames_of(sample: ProjectSample, render_format: str) -> Sequence[int]:
    """Return the numbers of the frames that are written of a source."""
    source = sample.content.source
    if isinstance(sample, ProjectImage):
        return (0,)
    if render_format == "overlay":
        return range(sample.frame_indices[-1] + 1 if source.num_frames is None else source.num_frames)
    return sample.frame_indices


def _open_target(
    sample: ProjectSample,
    stem: str,
    render_format: str,
    out_dir: str | os.PathLike[str],
    writer: Writer | None,
) -> AbstractContextManager[Writer | Sink]:
    """Return what the frames of a source are written to."""
    if isinstance(sample, ProjectImage) and writer is not None:
        return nullcontext(writer)
    content = sample.content
    path, fps = content.project.source_path(content.source), content.source.fps
    with content.project.open_source(content.source) as video:
        options = SinkOptions(source=path, pixel_aspect=video.pixel_aspect)
    return open_sink(RENDER_FORMATS[render_format][1], out_dir, stem=stem, fps=fps, options=options)


def _read_results(
    data: Dataset, sample: ProjectSample, indices: Sequence[int], stem: str, issues: list[DataIssue]
) -> Iterator[Results]:
    """Yield the frames of a source with their masks; a mask that cannot be read becomes an issue."""
    content, names = sample.content, class_names(data)
    class_of = {class_id: row for row, class_id in enumerate(sorted(data.names))}
    without_class = len(names)
    is_image = isinstance(sample, ProjectImage)
    with content.project.open_source(content.source) as video:
        for index in indices:
            frame: Frame = video[index]
            masks, rows = content.masks(index, frame.size), list[tuple[int, np.ndarray]]()
            for number in masks:
                try:
                    rows.append((number, masks[number]))
                except DataError as problem:
                    issues.append(DataIssue.from_error(sample.name, problem))
            known = [masks.attributes[number] for number, _ in rows]
            classes = [without_class if one.class_id is None else class_of[one.class_id] for one in known]
            yield Results(
                frame.rgb,
                f"{stem}.png" if is_image else frame.path,
                Masks(np.stack([mask for _, mask in rows])) if rows else None,
                np.array([1.0 if one.score is None else one.score for one in known], np.float32),
                ids=np.array([number for number, _ in rows], np.int32),
                classes=np.array(classes, np.int32),
                names={**names, without_class: "object"},
                frame_idx=None if is_image else index,
                time=frame.time,
            )
