"""Render `report.html`, a single file, and `report.md` with its images in a folder.

Names of videos, objects and models are untrusted text: Jinja2 escapes what it puts into the HTML, and
`_escape_markdown` what it puts into the Markdown."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from masklet.atomic_files import atomic_path, write_text
from masklet.damaged_files import damage_errors
from masklet.evaluate.benchmark_predictions import MANIFEST_NAME
from masklet.evaluate.benchmark_scoring import BenchmarkScore, sequence_dirs
from masklet.evaluate.report.frame_overlays import draw_comparison, encode_jpeg, find_frame_image
from masklet.evaluate.report.published_results import (
    MODEL_FAMILIES,
    PUBLISHED_BENCHMARKS,
    PUBLISHED_RESULTS,
    Comparability,
    PublishedResult,
    check_comparability,
)
from masklet.evaluate.report.sequence_tables import ScoredFrame, SequenceSummary, summarize_sequences, worst_frames

__all__ = ["ReportOptions", "write_report"]

SCORING_RULES = {
    "davis17": "davis2017-evaluation, semi-supervised: all frames but the first and the last",
    "davis16": "DAVIS 2016: everything annotated is one object; all frames but the first and the last",
    "sav": "the SA-V evaluator: annotated frames but the first and the last, from the object's first on",
    "ytvos": "YouTube-VOS as published: annotated frames after the object's first",
    "mose": "as DAVIS 2017: all frames but the first and the last",
    "lvos": "the LVOS evaluator: frames of the object's range but the first and the last",
}


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Args:
        image_dir: the data set or its folder of images; None draws masks on gray.
        model_name: the name of the model; by default that in the record of the predictions.
        num_worst_frames: frames to show.
    """

    image_dir: Path | None = None
    model_name: str = ""
    num_worst_frames: int = 12


@dataclass(frozen=True)
class _PublishedRow:
    """A published model: a cell for each data set, None if it is unknown."""

    model: str
    cells: tuple[PublishedResult | None, ...]
    is_this_model: bool


@dataclass(frozen=True)
class _FrameImage:
    """A frame with its image: data in the HTML, a file for the Markdown."""

    frame: ScoredFrame
    jpeg: bytes
    file: str


@dataclass(frozen=True)
class _ReportContext:
    """Everything that the templates print."""

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
    """Write OUT/report.html and OUT/report.md about a score of `predictions`, and return both paths.

    Example:
        >>> score = score_predictions("davis17", "predictions", "DAVIS")
        >>> write_report(score, "predictions", "DAVIS", "report")
        (PosixPath('report/report.html'), PosixPath('report/report.md'))

    Raises:
        SourceError: if an image or mask of a shown frame is missing or damaged.
        OutputError: if `out` cannot be written.
    """
    predictions, truth, out = (Path(path).expanduser() for path in (predictions, truth, out))
    try:  # what the predictions were made with, if masklet made them
        stored = json.loads((predictions / MANIFEST_NAME).read_text())
    except damage_errors():
        stored = {}
    manifest = {str(key): str(value) for key, value in stored.items()} if isinstance(stored, dict) else {}
    model, prompt = options.model_name or manifest.get("model", "") or "this model", manifest.get("prompt", "")
    sequences = summarize_sequences(score)
    colors = {row.name: {curve.id: n for n, curve in enumerate(row.curves)} for row in sequences}
    predicted_dir, truth_dir = sequence_dirs(score.benchmark, predictions, truth)
    frames = []
    for number, frame in enumerate(worst_frames(score, options.num_worst_frames), 1):
        name = frame.sequence
        image = options.image_dir and find_frame_image(options.image_dir.expanduser(), name, frame.frame_name)
        objects = {id: colors[name][id] for id, _ in frame.objects}
        pixels = draw_comparison(image, predicted_dir / name, truth_dir / name, objects, frame.frame_name)
        frames.append(_FrameImage(frame, encode_jpeg(pixels), f"worst/{number:02d}.jpg"))
    published = {name: _published_rows(score.benchmark, family, model) for family, name in MODEL_FAMILIES.items()}
    context = _ReportContext(
        model=model,
        prompt=prompt,
        rules=SCORING_RULES.get(score.benchmark, score.benchmark),
        score=score,
        main_metric=next(iter(score.metrics.values())),
        num_videos=len(sequences),
        comparability=check_comparability(score, truth, prompt),
        published_by_family={name: rows for name, rows in published.items() if rows},
        sequences=sequences,
        worst_frames=frames,
        without_images=options.image_dir is None,
    )
    for shown in frames:
        with atomic_path(out / shown.file) as temporary:
            temporary.write_bytes(shown.jpeg)
    html, markdown = (_render(context, name) for name in ("report.html", "report.md"))
    return write_text(out / "report.html", html), write_text(out / "report.md", markdown)


def _published_rows(score_benchmark: str, family: str, model: str) -> list[_PublishedRow]:
    """Return a row for each published model of a family, in the order of the list.

    Published models are named by their files, or as in their papers.
    """
    columns = PUBLISHED_BENCHMARKS.get(score_benchmark, ())
    by_model: dict[str, dict[str, PublishedResult]] = {}
    for one in PUBLISHED_RESULTS:
        if one.family == family and one.benchmark in columns:
            by_model.setdefault(one.model, {})[one.benchmark] = one
    return [
        _PublishedRow(name, tuple(map(results.get, columns)), Path(model).name == name)
        for name, results in by_model.items()
    ]


def _render(context: _ReportContext, name: str) -> str:
    html = name.endswith("html")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=None if html else _escape_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(score=lambda value: Markup(f"{value:.3f}"), percent=lambda value: Markup(f"{value:.1f}"))
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    text = environment.get_template(f"{name}.j2").render(page=context)
    return text.encode("utf-8", "replace").decode()  # the name of a file may be bytes that are not text


def _escape_markdown(value: object) -> object:
    """Escape text for Markdown; the output of filters, and numbers, are unchanged."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    flat = "".join(char if char.isprintable() else " " for char in value)
    escaped = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~$@]|:(?=//))", r"\\\1", escaped)
