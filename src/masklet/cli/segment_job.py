"""The work of `segment`, `generate` and `predict`: every image through the model, every result to every writer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from masklet.cli.console import ExitCode, format_paths, print_error, progress_bar
from masklet.cli.segment_prompts import PromptKeywords
from masklet.cli.shared_options import IMAGE_FORMATS, PRESETS, open_model
from masklet.errors import InputError, MaskletError, OutputError, PromptError, SourceError

if TYPE_CHECKING:
    from masklet.exported import RuntimeOptions
    from masklet.image.automatic_mask_generator import MaskGeneratorOptions
    from masklet.media import SourceImage
    from masklet.models.types import PromptableModel
    from masklet.results import Results
    from masklet.writers import Writer

__all__ = ["MaskGeneratorArgs", "SegmentJob", "run_segment"]

MAX_SCORES_SHOWN = 8
"""Scores in one line."""


@dataclass(frozen=True)
class MaskGeneratorArgs:
    """A preset, and the options that differ from it: names as in `MaskGeneratorOptions`; None: as in the preset.

    Example:
        >>> MaskGeneratorArgs("fast", points_per_side=8).to_options(model).points_per_side
        8

    Raises:
        InputError: if the preset is unknown.
    """

    preset: str = "default"
    points_per_side: int | None = None
    pred_iou_thresh: float | None = None
    stability_score_thresh: float | None = None
    box_nms_thresh: float | None = None
    crop_n_layers: int | None = None
    min_mask_region_area: int | None = None
    use_m2m: bool | None = None
    adaptive: bool | None = None
    mask_nms_thresh: float | None = None
    refine: int | None = None
    merge_thresh: float | None = None
    min_points: int | None = None
    max_masks: int | None = None
    sort_by: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(f"--preset {self.preset!r} is unknown; choose one of {', '.join(PRESETS)}")

    def to_options(self, model: PromptableModel) -> MaskGeneratorOptions:
        """Return the options for a network, whose thresholds the presets know.

        Raises:
            InputError: if a value is out of range.
        """
        from masklet.image.automatic_mask_generator import preset

        names = [one.name for one in fields(self) if one.name != "preset"]
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(preset(model, self.preset), **changes)


@dataclass(frozen=True)
class SegmentJob:
    """One run: images, prompts, model and output."""

    sources: tuple[str, ...]
    prompts: PromptKeywords = field(default_factory=PromptKeywords)
    everything: MaskGeneratorArgs | None = None
    """Without prompts: how masks are generated."""
    formats: tuple[str, ...] = IMAGE_FORMATS[:1]
    out: Path = Path("masklet-out")
    model: str | None = None
    device: str | None = None
    precision: str = "fp32"
    runtime: RuntimeOptions | None = None
    """Threads, and where an exported folder runs; None: the defaults."""
    image_size: int | None = None
    multimask: bool | None = None
    fill_hole_area: int | None = None
    overwrite: bool = False
    """Whether files that masklet did not write, or that were changed since, are replaced."""
    quiet: bool = False


def run_segment(job: SegmentJob) -> None:
    """Do `job`, and print a line per image on standard output.

    An image among several that cannot be read, or that the prompts do not fit, is named on standard error and the
    others continue; the exit code is then 2. It is 1 if an image ended in an error that masklet does not know.

    Raises:
        MaskletError: if all images fail: no model, no folder to write to, a source that is the only one.
        OutputError: if a file of somebody else has the name of an output, before a model is opened.
    """
    queue = _ImageQueue(job.sources)
    writers: list[Writer] = []
    done = 0

    def echo(line: str) -> None:
        if not job.quiet:
            typer.echo(line)

    try:
        if queue.is_readable:
            from masklet.atomic_files import is_name_refused
            from masklet.writers import open_writer

            with ExitStack() as stack:  # writers first: a folder that cannot be written is known before a model loads
                root = queue.shared_folder()
                for name in job.formats:
                    writer = open_writer(name, job.out, overwrite=job.overwrite, root=root)
                    writers.append(stack.enter_context(writer))
                    writer.check(queue.paths)
                model = open_model(job.model, job.device, job.precision, job.image_size, job.runtime)
                everything = None if job.everything is None else job.everything.to_options(model.predictor.model)
                bar = progress_bar("images", queue.total, enabled=job.quiet or not sys.stdout.isatty())
                step = stack.enter_context(bar)
                for image in queue:
                    try:
                        [results] = model(
                            image,
                            **job.prompts,
                            multimask=job.multimask,
                            fill_hole_area=job.fill_hole_area,
                            everything=everything,
                        )
                        written = [path for writer in writers for path in writer.write(results)]
                        done += 1
                        echo(_summary(results, written, generated=everything is not None))
                    except PromptError as error:
                        queue.skip(error, f"{image.path}: ")
                    except MaskletError as error:
                        if not isinstance(error, OutputError) or not is_name_refused(error):
                            raise
                        queue.skip(error, f"{image.path}: ")
                    except Exception as error:
                        queue.skip_fault(error, image.path)
                    step()
            for name, writer in zip(job.formats, writers, strict=True):
                if name in ("coco", "yolo") and writer.paths:
                    echo(f"all {done} image(s) -> {writer.paths[-1]}")
    except KeyboardInterrupt:
        paths = [path for writer in writers for path in writer.paths]
        print_error(f"stopped after {done} of {queue.total} image(s); written: {format_paths(paths)}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if queue.failed:
        print_error(f"{queue.failed} of {queue.total} images failed")
        raise typer.Exit(ExitCode.BROKEN if queue.faults else ExitCode.ERROR)


class _ImageQueue:
    """The images of several sources; those that cannot be read are named and counted."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        from masklet.media import ImageIterator, open_images

        self.failed = self.faults = 0
        self._iterators: list[ImageIterator] = []
        missing: list[SourceError] = []
        for source in sources:
            try:
                self._iterators.append(open_images(source))
            except SourceError as error:
                missing.append(error)
        self.is_readable = bool(self._iterators)
        self.total = sum(len(images) for images in self._iterators) + len(missing)
        for reason in missing:
            self.skip(reason)

    def __iter__(self) -> Iterator[SourceImage]:
        for images in self._iterators:
            while True:
                try:
                    yield next(images)
                except StopIteration:
                    break
                except SourceError as error:
                    self.skip(error)
                except Exception as error:
                    self.skip_fault(error, "an image")

    @property
    def paths(self) -> list[str]:
        """The files of all images, as far as they are known before they are read."""
        return [path for images in self._iterators for path in images.paths]

    def shared_folder(self) -> str | None:
        """The folder that the images share if two in different folders have one name: they keep their subfolders."""
        from masklet.results import image_stem

        paths = [path for path in self.paths if "://" not in path]
        if len({image_stem(path).lower() for path in paths}) == len(paths):
            return None
        folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
        try:
            return os.path.commonpath(folders) if len(folders) > 1 else None
        except ValueError:  # on different drives
            return None

    def skip_fault(self, error: Exception, name: str) -> None:
        """Name an image that ended in an error which no list has: a fault of masklet or of a library."""
        self.failed += 1
        self.faults += 1
        print_error(f"{name}: {type(error).__name__}: {error}")

    def skip(self, error: MaskletError, prefix: str = "") -> None:
        """Name an image that fails; raise if it is the only one."""
        if self.total == 1:
            raise error
        self.failed += 1
        print_error(f"{prefix}{error}")


def _summary(results: Results, written: Sequence[Path], *, generated: bool) -> str:
    """`dog.jpg: 2 objects, score 0.93 0.88, 41 ms -> FILES`, or `dog.jpg: 57 masks, 83 % covered, 3.2 s -> FILES`.

    A second line names the objects whose best mask has a low score.
    """
    milliseconds = sum(results.speed.values())
    files = f" -> {format_paths(written)}" if written else ""
    if generated:
        covered = 0.0 if results.masks is None else float(results.masks.data.any(axis=0).mean())
        count = f"{len(results)} mask{'s' if len(results) != 1 else ''}"
        return f"{results.path}: {count}, {covered:.0%} covered, {milliseconds / 1e3:.1f} s{files}"
    ids: list[int] = results.ids.tolist()
    prompts = sorted(set(ids))
    count = f"{len(prompts)} object{'s' if len(prompts) != 1 else ''}"
    candidates = f" with {len(results)} candidates" if len(results) > len(prompts) else ""
    scores = " ".join(f"{score:.2f}" for score in results.scores[:MAX_SCORES_SHOWN])
    more = " ..." if len(results) > MAX_SCORES_SHOWN else ""
    line = f"{results.path}: {count}{candidates}, score {scores}{more}, {milliseconds:.0f} ms{files}"
    best_rows = {prompt: ids.index(prompt) for prompt in prompts}  # candidates are ordered, the best first
    low = [
        f"{results.scores[row]:.2f}" if len(prompts) == 1 else f"object {prompt + 1}: {results.scores[row]:.2f}"
        for prompt, row in best_rows.items()
        if results.low_confidence[row]
    ]
    if not low:
        return line
    listed = ", ".join(low[:MAX_SCORES_SHOWN]) + (", ..." if len(low) > MAX_SCORES_SHOWN else "")
    return f"{line}\n  low confidence ({listed}): add a click or a box"
