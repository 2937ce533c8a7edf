"""`ValidationResult`: the figures of a validation, as a value that can be printed, stored and read again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from masklet.damaged_files import decoder_errors
from masklet.errors import InputError
from masklet.evaluate.image_prompts import ImageMetrics, ImageReport
from masklet.evaluate.results_file import from_dict

__all__ = ["SampleCounts", "TrackingMetrics", "TrackingReport", "ValidationResult", "image_table", "pluralize"]

NAME_WIDTH = 24
MAX_VIDEO_ROWS = 30
"""Videos in a printed table; the JSON has all."""


@dataclass(frozen=True)
class TrackingMetrics:
    """Means over tracked objects, 0 to 1."""

    objects: int
    j: float
    f: float
    jf: float


@dataclass(frozen=True)
class TrackingReport:
    """Metrics over all objects of all videos, and by video."""

    total: TrackingMetrics
    per_video: dict[str, TrackingMetrics]


@dataclass(frozen=True)
class SampleCounts:
    """How many images, videos, frames of videos and objects were measured, and how many samples have no object."""

    images: int
    videos: int
    frames: int
    objects: int
    without_objects: int = 0


@dataclass(frozen=True)
class ValidationResult:
    """The result of `validate`; `print` shows a table.

    Example:
        >>> result = model.val("photos")
        >>> result.images.total.box, result.videos["box"].total.jf
        (0.87, 0.74)
    """

    images: ImageReport | None
    """None: there were none."""
    videos: dict[str, TrackingReport]
    """By the first prompt of each object: "box", "click", "mask"; empty: there were no videos."""
    counts: SampleCounts
    skipped: dict[str, str]
    """Broken samples, with the reasons."""
    seconds: float
    broken_objects: int = 0
    """Objects that were left out of samples that were measured, because they are broken."""

    def __str__(self) -> str:
        counts = self.counts
        measured = [pluralize(counts.images, "image")] if counts.images else []
        measured += [f"{pluralize(counts.videos, 'video')} ({counts.frames} frames)"] if counts.videos else []
        more = f", {counts.without_objects} more without objects" if counts.without_objects else ""
        more += f", {len(self.skipped)} left out as broken" if self.skipped else ""
        objects = pluralize(counts.objects, "object")
        objects += f" ({self.broken_objects} more left out as broken)" if self.broken_objects else ""
        lines = [f"{' and '.join(measured)}, {objects}{more}; {self.seconds:.1f} s"]
        if self.images is not None:
            lines += ["", "images: mean IoU", *image_table(self.images)]
        if self.videos:
            lines += ["", "videos: J, F and J&F after the first prompt", *_video_table(self.videos)]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return all figures as JSON; null for prompts that were not evaluated.

        Example:
            >>> ValidationResult.from_json(result.to_json()).counts == result.counts
            True
        """
        figures = json.loads(json.dumps(asdict(self)), parse_constant=lambda nan: None)  # JSON has no nan
        return json.dumps(figures, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ValidationResult:
        """Read what `to_json` wrote; unknown keys are ignored.

        Raises:
            InputError: if the text is something else.
        """
        try:
            result: ValidationResult = from_dict(cls, json.loads(text), "validation")
            if len({tuple(report.per_video) for report in result.videos.values()}) > 1:
                raise ValueError("its prompts have different videos")
        except decoder_errors() as problem:
            raise InputError(
                f"{text[:40]!r} ... is no validation ({problem}); give what ValidationResult.to_json or "
                "masklet val --report wrote"
            ) from problem
        return result


def image_table(report: ImageReport) -> list[str]:
    """Return the lines of a table: a line for each source, their mean, and all objects.

    Example:
        >>> print("\\n".join(image_table(image_report(results))))
    """
    rows = {**report.per_source, "mean of sources": report.mean_over_sources, "all objects": report.total}
    names = [f.name for f in fields(ImageMetrics)]
    lines = [_table_row(name, [getattr(metrics, n) for n in names], 12) for name, metrics in rows.items()]
    return [_table_row("", names, 12), *lines]


def _video_table(by_prompt: dict[str, TrackingReport]) -> list[str]:
    """Return the lines of a table: a line for each video, and all objects; three columns for each prompt."""
    reports = list(by_prompt.values())
    names = list(reports[0].per_video)
    rows = [(name, [report.per_video[name] for report in reports]) for name in names[:MAX_VIDEO_ROWS]]
    rows.append(("all objects", [report.total for report in reports]))
    heading = ["objects", *(f"{prompt} {name}" for prompt in by_prompt for name in ("J", "F", "J&F"))]
    lines = [_table_row("", heading, 10)]
    for name, by_report in rows:
        values = [value for metrics in by_report for value in (metrics.j, metrics.f, metrics.jf)]
        lines.append(_table_row(name, [by_report[0].objects, *values], 10))
    if len(names) > MAX_VIDEO_ROWS:
        lines.insert(-1, f"... and {pluralize(len(names) - MAX_VIDEO_ROWS, 'video')} more")
    return lines


def _table_row(name: str, values: Sequence[str | int | float], width: int) -> str:
    """Return a name, of a long one its end (videos of one data set begin alike), and values in columns."""
    shown = name if len(name) < NAME_WIDTH else f"...{name[-NAME_WIDTH + 4 :]}"
    cells = [
        str(value) if not isinstance(value, float) else "-" if math.isnan(value) else f"{value:.3f}" for value in values
    ]
    return f"{shown:<{NAME_WIDTH}}" + "".join(f"{cell:>{width}}" for cell in cells)


def pluralize(number: int, noun: str) -> str:
    """Return a number with a noun.

    Example:
        >>> pluralize(2, "video")
        '2 videos'
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
