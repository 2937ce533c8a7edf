"""What `segment` and `predict` both do: every image through the model, every result to every writer.

What `masklet auto` was told about everything: a preset, and what is otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from masklet.errors import InputError

if TYPE_CHECKING:
    from masklet.image.automatic_mask_generator import MaskGeneratorOptions
    from masklet.models.types import PromptableModel
import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import typer

from masklet.cli.console import format_paths, loading_progress, print_error, progress_bar
from masklet.cli.segment_prompts import Prompts
from masklet.errors import PromptError, SourceError

if TYPE_CHECKING:
    from masklet.media import ImageIterator, SourceImage
    from masklet.results import Results
    from masklet.sam import SAM
    from masklet.writers import Writer

__all__ = [
    "DEFAULT_FORMAT",
    "FORMATS",
    "PRESET_NAMES",
    "MaskGeneratorArgs",
    "SegmentJob",
    "open_model",
    "parse_formats",
    "run_segment",
]

PRESET_NAMES = ("fast", "default", "fine")
"""As `masklet.image.automatic_mask_generator.PRESETS`, which takes a second to import."""


@dataclass(frozen=True)
class MaskGeneratorArgs:
    """Names are those of `EverythingOptions`; None: as the preset has it.

    Example:
        >>> Wanted("fast", points_per_side=8).options(network).points_per_side
        8

    Raises:
        InputError: an unknown preset.
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
    sort_by: str | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESET_NAMES:
            raise InputError(f"--preset {self.preset!r} is unknown; choose one of {', '.join(PRESET_NAMES)}")

    def to_options(self, model: PromptableModel) -> MaskGeneratorOptions:
        """For a network, whose thresholds the presets know.

        Raises:
            InputError: a value that has no meaning.
        """
        from masklet.image.automatic_mask_generator import preset

        names = [field.name for field in fields(self) if field.name != "preset"]
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(preset(model, self.preset), **changes)


FORMATS = ("overlay", "png", "coco", "yolo", "json", "cutout")
DEFAULT_FORMAT = "overlay"
MAX_SCORES_SHOWN = 8
"""Scores in one line."""


@dataclass(frozen=True)
class SegmentJob:
    """One run: which images, what to look for, with what, and where the results go."""

    sources: tuple[str, ...]
    prompts: Prompts
    everything: MaskGeneratorArgs | None = None
    """Without prompts: what everything is looked for with."""
    formats: tuple[str, ...] = (DEFAULT_FORMAT,)
    out: Path = Path("masklet-out")
    model: str | None = None
    device: str | None = None
    precision: str = "fp32"
    multimask: bool | None = None
    quiet: bool = False


def parse_formats(values: Sequence[str] | None) -> tuple[str, ...]:
    """Formats from repeated words and comma lists, each once.

    Example:
        >>> formats_of(["png,coco", "png"])
        ('png', 'coco')

    Raises:
        InputError: a name that is no format.
    """
    names = [name for word in values or () for name in word.lower().replace(",", " ").split()]
    for name in names:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {near[0]}?" if near else "choose one of them"
            raise InputError(f"no format {name!r}; formats are {', '.join(FORMATS)}: {hint}")
    return tuple(dict.fromkeys(names)) or (DEFAULT_FORMAT,)


def open_model(model: str | None, device: str | None = None, precision: str = "fp32") -> SAM:
    """The model, with progress on a terminal while it is downloaded and read."""
    with loading_progress(model or "the built-in model") as progress:
        from masklet.sam import SAM

        return SAM(model, device=device, precision=precision, progress=progress)


def run_segment(job: SegmentJob) -> None:
    """Do `job`; a line an image on standard output.

    An image among several that cannot be read, or that the prompts do not fit, is named on standard error and the
    others go on; the exit code is then 2.

    Raises:
        MaskletError: what concerns all images: no model, no folder to write to, a source that is the only one.
    """
    shelf = _ImageQueue(job.sources)
    run = _SegmentRun(job, shelf)
    try:
        run.run()
    except KeyboardInterrupt:
        print_error(f"stopped after {run.done} of {shelf.total} image(s); written: {format_paths(run.paths)}")
        raise typer.Exit(130) from None
    if shelf.failed:
        print_error(f"{shelf.failed} of {shelf.total} images failed")
        raise typer.Exit(2)


class _ImageQueue:
    """The images of several sources; those that cannot be had are told and counted."""

    def __init__(self, sources: tuple[str, ...]) -> None:
        from masklet.media import open_images

        self.failed = 0
        self.image_iterators: list[ImageIterator] = []
        missing: list[SourceError] = []
        for source in sources:
            try:
                self.image_iterators.append(open_images(source))
            except SourceError as error:
                missing.append(error)
        self.total = sum(len(images) for images in self.image_iterators) + len(missing)
        for reason in missing:
            self.skip(reason)

    def __iter__(self) -> Iterator[SourceImage]:
        for images in self.image_iterators:
            while True:
                try:
                    yield next(images)
                except StopIteration:
                    break
                except SourceError as error:
                    self.skip(error)

    def skip(self, error: InputError, prefix: str = "") -> None:
        """Tell of one image and go on; raise where it is the only one."""
        if self.total == 1:
            raise error
        self.failed += 1
        print_error(f"{prefix}{error}")


class _SegmentRun:
    """A job while it is being done."""

    def __init__(self, job: SegmentJob, queue: _ImageQueue) -> None:
        self.job, self.queue = job, queue
        self.done = 0
        self.writers: list[Writer] = []

    @property
    def paths(self) -> list[Path]:
        """What was written so far."""
        return [path for writer in self.writers for path in writer.paths]

    def run(self) -> None:
        """Every image; writers are opened first, so that a folder that cannot be written is known at once."""
        if not self.queue.image_iterators:
            return
        with ExitStack() as stack:
            self._open_writers(stack)
            model = open_model(self.job.model, self.job.device, self.job.precision)
            wanted = self.job.quiet or not sys.stdout.isatty()
            with progress_bar("pictures", self.queue.total, enabled=wanted) as step:
                for image in self.queue:
                    self._segment_image(model, image)
                    step()
        self._print_run_files()

    def _open_writers(self, stack: ExitStack) -> None:
        from masklet.writers import open_writer

        for name in self.job.formats:
            self.writers.append(stack.enter_context(open_writer(name, self.job.out)))

    def _segment_image(self, model: SAM, image: SourceImage) -> None:
        asked, wanted = self.job.prompts, self.job.everything
        try:
            [results] = model(
                image,
                points=asked.points,
                labels=asked.labels,
                bboxes=asked.bboxes,
                masks=asked.masks,
                multimask=self.job.multimask,
                everything=None if wanted is None else wanted.to_options(model.predictor.model),
            )
        except PromptError as error:
            self.queue.skip(error, f"{image.path}: ")
            return
        written = [path for writer in self.writers for path in writer.write(results)]
        self.done += 1
        summary = _summary(results) if wanted is None else _mask_generation_summary(results)
        self._print(f"{summary}{' -> ' + format_paths(written) if written else ''}")

    def _print_run_files(self) -> None:
        """Files of the run as a whole, which no image's line named."""
        for name, writer in zip(self.job.formats, self.writers, strict=True):
            if name in ("coco", "yolo") and writer.paths:
                self._print(f"all {self.done} image(s) -> {writer.paths[-1]}")

    def _print(self, line: str) -> None:
        if not self.job.quiet:
            typer.echo(line)


def _summary(results: Results) -> str:
    """`dog.jpg: 2 objects, scores 0.93 0.88, 41 ms`."""
    objects = len(set(results.ids.tolist()))
    candidates = f" with {len(results)} candidates" if len(results) > objects else ""
    scores = " ".join(f"{score:.2f}" for score in results.scores[:MAX_SCORES_SHOWN]) + (
        " ..." if len(results) > MAX_SCORES_SHOWN else ""
    )
    many = f"{objects} object{'s' if objects != 1 else ''}"
    return f"{results.path}: {many}{candidates}, score {scores}, {sum(results.speed.values()):.0f} ms"


def _mask_generation_summary(results: Results) -> str:
    """`dog.jpg: 57 masks, 83 % covered, 3.2 s`."""
    covered = 0.0 if results.masks is None else float(results.masks.data.any(axis=0).mean())
    many = f"{len(results)} mask{'s' if len(results) != 1 else ''}"
    return f"{results.path}: {many}, {covered:.0%} covered, {sum(results.speed.values()) / 1e3:.1f} s"
