"""`Validation`: what a validation found, as a value that can be printed, stored and read again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from masklet.errors import InputError
from masklet.evaluate.image_prompts import ImageMetrics, ImageReport

__all__ = ["SampleCounts", "TrackingMetrics", "TrackingReport", "ValidationResult", "image_table", "pluralize"]

NAME_WIDTH = 24
MAX_VIDEO_ROWS = 30
"""Videos in a printed table; the JSON has all."""


@dataclass(frozen=True)
class TrackingMetrics:
    """Means over objects that were followed, 0 to 1."""

    objects: int
    j: float
    f: float
    jf: float


@dataclass(frozen=True)
class TrackingReport:
    """Figures over all objects of all videos, and by video."""

    total: TrackingMetrics
    per_video: dict[str, TrackingMetrics]


@dataclass(frozen=True)
class SampleCounts:
    """How many were measured; `without` are entries without an object, `frames` those of the videos."""

    images: int
    videos: int
    frames: int
    objects: int
    without_objects: int = 0


@dataclass(frozen=True)
class ValidationResult:
    """What `validate` found; `print` shows a table.

    Example:
        >>> found = model.val("photos")
        >>> found.stills.total.box, found.videos["box"].total.jf
        (0.87, 0.74)
    """

    images: ImageReport | None
    """None: there were none."""
    videos: dict[str, TrackingReport]
    """By what was said of each object first: "box", "click", "mask"; empty: there were no videos."""
    counts: SampleCounts
    skipped: dict[str, str]
    """Broken entries, by name: why."""
    seconds: float

    def __str__(self) -> str:
        lines = [self._summary_line()]
        if self.images is not None:
            lines += ["", "images: mean IoU", *image_table(self.images)]
        if self.videos:
            lines += ["", "videos: J, F and J&F after the first prompt", *_video_table(self.videos)]
        return "\n".join(lines)

    def _summary_line(self) -> str:
        counts = self.counts
        of = [pluralize(counts.images, "picture")] if counts.images else []
        of += [f"{pluralize(counts.videos, 'video')} ({counts.frames} frames)"] if counts.videos else []
        more = f", {counts.without_objects} more without objects" if counts.without_objects else ""
        more += f", {len(self.skipped)} left out as broken" if self.skipped else ""
        return f"{' and '.join(of)}, {pluralize(counts.objects, 'object')}{more}; {self.seconds:.1f} s"

    def to_json(self) -> str:
        """All figures as JSON; null where something was not asked for.

        Example:
            >>> Validation.from_json(found.to_json()).counts == found.counts
            True
        """
        return json.dumps(_nan_to_none(asdict(self)), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ValidationResult:
        """What `to_json` wrote; further keys are passed over.

        Raises:
            InputError: it is not that.
        """
        try:
            raw = json.loads(text)
            return cls(
                images=None if raw["stills"] is None else _image_report_from_dict(raw["stills"]),
                videos={prompt: _tracking_report_from_dict(report) for prompt, report in raw["films"].items()},
                counts=SampleCounts(**raw["counts"]),
                skipped=dict(raw["left_out"]),
                seconds=float(raw["seconds"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise InputError(
                f"{text[:40]!r} ... is no validation ({problem}); give what Validation.to_json or "
                "masklet val --json wrote"
            ) from problem


def _nan_to_none(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _image_report_from_dict(raw: Any) -> ImageReport:
    by_source = {name: _image_metrics_from_dict(figures) for name, figures in raw["by_source"].items()}
    return ImageReport(
        _image_metrics_from_dict(raw["total"]), by_source, _image_metrics_from_dict(raw["mean_of_sources"])
    )


def _image_metrics_from_dict(raw: Any) -> ImageMetrics:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in raw.items()}
    return ImageMetrics(**known)


def _tracking_report_from_dict(raw: Any) -> TrackingReport:
    by_video = {name: TrackingMetrics(**figures) for name, figures in raw["by_film"].items()}
    return TrackingReport(TrackingMetrics(**raw["total"]), by_video)


def image_table(report: ImageReport) -> list[str]:
    """A table: a line a source, their mean, and all objects.

    Example:
        >>> print("\\n".join(still_lines(report(rows))))
    """
    rows = {**report.per_source, "mean of sources": report.mean_over_sources, "all objects": report.total}
    names = [f.name for f in fields(ImageMetrics)]
    lines = [
        f"{_shorten(name):<{NAME_WIDTH}}" + _format_cells([getattr(of, n) for n in names], 12)
        for name, of in rows.items()
    ]
    return [" " * NAME_WIDTH + _format_cells(names, 12), *lines]


def _video_table(by_prompt: dict[str, TrackingReport]) -> list[str]:
    """A table: a line a video, and all objects; three columns a prompt."""
    first = next(iter(by_prompt.values()))
    heading = ["objects", *(f"{prompt} {name}" for prompt in by_prompt for name in ("J", "F", "J&F"))]
    videos = list(first.per_video)
    lines = [
        _video_row(name, [report.per_video[name] for report in by_prompt.values()]) for name in videos[:MAX_VIDEO_ROWS]
    ]
    if len(videos) > MAX_VIDEO_ROWS:
        lines.append(f"... and {pluralize(len(videos) - MAX_VIDEO_ROWS, 'video')} more")
    total = _video_row("all objects", [report.total for report in by_prompt.values()])
    return [" " * NAME_WIDTH + _format_cells(heading, 10), *lines, total]


def _video_row(name: str, metrics: list[TrackingMetrics]) -> str:
    return f"{_shorten(name):<{NAME_WIDTH}}" + _format_cells(
        [metrics[0].objects, *(v for o in metrics for v in (o.j, o.f, o.jf))], 10
    )


def pluralize(number: int, noun: str) -> str:
    """A number and what it counts.

    Example:
        >>> counted(2, "video")
        '2 videos'
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _format_cells(values: list[Any], width: int) -> str:
    return "".join(f"{_format_cell(value):>{width}}" for value in values)


def _format_cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _shorten(name: str) -> str:
    """The end of a long name: videos of one data set begin alike."""
    return name if len(name) < NAME_WIDTH else f"...{name[-NAME_WIDTH + 4 :]}"
