"""`report.html`, one file that needs nothing else, and `report.md` with its images in a folder beside it.

Names of videos, objects and models are only ever text: Jinja2 escapes what it puts into the HTML, and `_plain` what it
puts into the Markdown.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from masklet.atomic_files import atomic_path, write_text
from masklet.evaluate.benchmark_predictions import MANIFEST_NAME
from masklet.evaluate.benchmark_scoring import BenchmarkScore, sequence_dirs
from masklet.evaluate.report.frame_overlays import draw_comparison, encode_jpeg, find_frame_image
from masklet.evaluate.report.published_results import (
    MODEL_FAMILIES,
    PUBLISHED_BENCHMARKS,
    Comparability,
    PublishedResult,
    check_comparability,
    is_same_model,
    published_results_for,
)
from masklet.evaluate.report.sequence_tables import ScoredFrame, SequenceSummary, summarize_sequences, worst_frames

__all__ = ["ReportOptions", "write_report"]

SCORING_RULES = {
    "davis17": "davis2017-evaluation, semi-supervised: all frames but the first and the last",
    "davis16": "DAVIS 2016: all that is annotated is one object; all frames but the first and the last",
    "sav": "the SA-V evaluator: annotated frames but the first and the last, from the object's first on",
    "ytvos": "YouTube-VOS as published: annotated frames after the object's first",
    "mose": "as DAVIS 2017: all frames but the first and the last",
    "lvos": "the LVOS evaluator: frames of the object's range but the first and the last",
}


@dataclass(frozen=True)
class ReportOptions:
    """What a report says and shows.

    `images` is the data set or its folder of images; without it masks are on gray. `model` is the name to be said,
    by default that of the predictions' record. `worst` is how many frames are shown.
    """

    image_dir: Path | None = None
    model_name: str = ""
    num_worst_frames: int = 12


@dataclass(frozen=True)
class _PublishedRow:
    """A published model: a cell for each set, empty where nothing is known."""

    model: str
    cells: tuple[PublishedResult | None, ...]
    is_this_model: bool


@dataclass(frozen=True)
class _FrameImage:
    """A frame with its image: in the HTML as data, beside the Markdown as a file."""

    frame: ScoredFrame
    jpeg: bytes
    file: str

    @property
    def data_uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class _ReportContext:
    """All that the templates print."""

    model: str
    prompt: str
    rules: str
    score: BenchmarkScore
    main_metric: float
    num_videos: int
    comparability: list[Comparability]
    published_by_family: dict[str, list[_PublishedRow]]
    sequences: list[SequenceSummary]
    worst_frames: list[_FrameImage]
    without_images: bool


def write_report(
    score: BenchmarkScore,
    predictions: str | Path,
    truth: str | Path,
    out: str | Path,
    options: ReportOptions = ReportOptions(),
) -> tuple[Path, Path]:
    """Write OUT/report.html and OUT/report.md about a score of `predictions` by `truth`; both paths are returned.

    Example:
        >>> write_report(score("davis17", "predictions", "DAVIS"), "predictions", "DAVIS", "report")
        (PosixPath('report/report.html'), PosixPath('report/report.md'))

    Raises:
        SourceError: an image or mask of a frame that is shown is missing or damaged.
        OutputError: `out` cannot be written.
    """
    page, place = _build_context(score, Path(predictions).expanduser(), Path(truth), options), Path(out).expanduser()
    for shown in page.worst_frames:
        with atomic_path(place / shown.file) as temporary:
            temporary.write_bytes(shown.jpeg)
    html, markdown = (_render(page, name) for name in ("report.html", "report.md"))
    return write_text(place / "report.html", html), write_text(place / "report.md", markdown)


def _build_context(score: BenchmarkScore, predictions: Path, truth: Path, options: ReportOptions) -> _ReportContext:
    made = _read_manifest(predictions)
    model, rows = options.model_name or made.get("model", "") or "this model", summarize_sequences(score)
    return _ReportContext(
        model=model,
        prompt=made.get("prompt", ""),
        rules=SCORING_RULES.get(score.benchmark, score.benchmark),
        score=score,
        main_metric=next(iter(score.metrics.values())),
        num_videos=len(rows),
        comparability=check_comparability(score, truth.expanduser(), made.get("prompt", "")),
        published_by_family={
            name: peers
            for family, name in MODEL_FAMILIES.items()
            if (peers := _published_rows(score.benchmark, family, model))
        },
        sequences=rows,
        worst_frames=list(
            _render_worst_frames(score, rows, sequence_dirs(score.benchmark, predictions, truth), options)
        ),
        without_images=options.image_dir is None,
    )


def _read_manifest(predictions: Path) -> dict[str, str]:
    """What the predictions were made with, where masklet made them."""
    try:
        made = json.loads((predictions / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in made.items()} if isinstance(made, dict) else {}


def _published_rows(score_benchmark: str, family: str, model: str) -> list[_PublishedRow]:
    """A row for each published model of a family, in the order in which they are listed."""
    by_model: dict[str, dict[str, PublishedResult]] = {}
    for one in published_results_for(score_benchmark):
        if one.family == family:
            by_model.setdefault(one.model, {})[one.benchmark] = one
    rows = []
    for name, own in by_model.items():
        ours = any(is_same_model(model, one) for one in own.values())
        rows.append(
            _PublishedRow(name, tuple(own.get(benchmark) for benchmark in PUBLISHED_BENCHMARKS[score_benchmark]), ours)
        )
    return rows


def _render_worst_frames(
    score: BenchmarkScore, rows: list[SequenceSummary], sequence_dirs: tuple[Path, Path], options: ReportOptions
) -> Iterable[_FrameImage]:
    colors = {row.name: {curve.id: n for n, curve in enumerate(row.curves)} for row in rows}
    shown, true = sequence_dirs
    for number, frame in enumerate(worst_frames(score, options.num_worst_frames), 1):
        image = options.image_dir and find_frame_image(options.image_dir.expanduser(), frame.sequence, frame.frame_name)
        objects = {name: colors[frame.sequence][name] for name, _ in frame.objects}
        painted = draw_comparison(image, shown / frame.sequence, true / frame.sequence, objects, frame.frame_name)
        yield _FrameImage(frame, encode_jpeg(painted), f"worst/{number:02d}.jpg")


def _render(page: _ReportContext, name: str) -> str:
    text = _make_environment(html=name.endswith("html")).get_template(f"{name}.j2").render(page=page)
    return text.encode("utf-8", "replace").decode()  # a file's name may be of bytes that are no text


def _make_environment(*, html: bool) -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=None if html else _escape_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(figure=_format_score, hundredths=_format_percent)
    return made


def _format_score(value: float) -> Markup:
    return Markup(f"{value:.3f}")


def _format_percent(value: float) -> Markup:
    return Markup(f"{value:.1f}")


def _escape_markdown(value: object) -> object:
    """Text that Markdown shows as it is; what a filter has made, and numbers, are left."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    flat = "".join(char if char.isprintable() else " " for char in value)
    escaped = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~$@]|:(?=//))", r"\\\1", escaped)
