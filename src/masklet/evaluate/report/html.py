"""`report.html`, one file that needs nothing else, and `report.md` with its pictures in a folder beside it.

Names of films, objects and models are only ever text: Jinja2 escapes what it puts into the HTML, and `_plain` what it
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
from masklet.evaluate.benchmark_predictions import RECORD
from masklet.evaluate.benchmark_scoring import Score, folders
from masklet.evaluate.report.frame_overlays import as_jpeg, paint, picture_of
from masklet.evaluate.report.published_results import BENCHMARKS, FAMILIES, Compared, Published, compare, fits, same
from masklet.evaluate.report.sequence_tables import Frame, SequenceRow, sequences, worst_frames

__all__ = ["ReportOptions", "write_report"]

RULES = {
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

    `pictures` is the data set or its folder of pictures; without it masks are on grey. `model` is the name to be said,
    by default that of the predictions' record. `worst` is how many frames are shown.
    """

    pictures: Path | None = None
    model: str = ""
    worst: int = 12


@dataclass(frozen=True)
class _Peer:
    """A published model: a cell for each set, empty where nothing is known."""

    model: str
    cells: tuple[Published | None, ...]
    ours: bool


@dataclass(frozen=True)
class _Shown:
    """A frame with its picture: in the HTML as data, beside the Markdown as a file."""

    frame: Frame
    jpeg: bytes
    file: str

    @property
    def data(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class _Page:
    """All that the templates print."""

    model: str
    prompt: str
    rules: str
    score: Score
    main: float
    films: int
    compared: list[Compared]
    families: dict[str, list[_Peer]]
    rows: list[SequenceRow]
    worst: list[_Shown]
    on_grey: bool


def write_report(
    found: Score, predictions: str | Path, truth: str | Path, out: str | Path, options: ReportOptions = ReportOptions()
) -> tuple[Path, Path]:
    """Write OUT/report.html and OUT/report.md about a score of `predictions` by `truth`; both paths are returned.

    Example:
        >>> write_report(score("davis17", "predictions", "DAVIS"), "predictions", "DAVIS", "report")
        (PosixPath('report/report.html'), PosixPath('report/report.md'))

    Raises:
        SourceError: a picture or mask of a frame that is shown is missing or damaged.
        OutputError: `out` cannot be written.
    """
    page, place = _page(found, Path(predictions).expanduser(), Path(truth), options), Path(out).expanduser()
    for shown in page.worst:
        with atomic_path(place / shown.file) as temporary:
            temporary.write_bytes(shown.jpeg)
    html, markdown = (_rendered(page, name) for name in ("report.html", "report.md"))
    return write_text(place / "report.html", html), write_text(place / "report.md", markdown)


def _page(found: Score, predictions: Path, truth: Path, options: ReportOptions) -> _Page:
    made = _record(predictions)
    model, rows = options.model or made.get("model", "") or "this model", sequences(found)
    return _Page(
        model=model,
        prompt=made.get("prompt", ""),
        rules=RULES.get(found.kind, found.kind),
        score=found,
        main=next(iter(found.figures.values())),
        films=len(rows),
        compared=compare(found, truth.expanduser(), made.get("prompt", "")),
        families={name: peers for family, name in FAMILIES.items() if (peers := _peers(found.kind, family, model))},
        rows=rows,
        worst=list(_worst(found, rows, folders(found.kind, predictions, truth), options)),
        on_grey=options.pictures is None,
    )


def _record(predictions: Path) -> dict[str, str]:
    """What the predictions were made with, where masklet made them."""
    try:
        made = json.loads((predictions / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in made.items()} if isinstance(made, dict) else {}


def _peers(kind: str, family: str, model: str) -> list[_Peer]:
    """A row for each published model of a family, in the order in which they are listed."""
    by_model: dict[str, dict[str, Published]] = {}
    for one in fits(kind):
        if one.family == family:
            by_model.setdefault(one.model, {})[one.benchmark] = one
    rows = []
    for name, own in by_model.items():
        ours = any(same(model, one) for one in own.values())
        rows.append(_Peer(name, tuple(own.get(benchmark) for benchmark in BENCHMARKS[kind]), ours))
    return rows


def _worst(
    found: Score, rows: list[SequenceRow], places: tuple[Path, Path], options: ReportOptions
) -> Iterable[_Shown]:
    colors = {row.name: {curve.id: n for n, curve in enumerate(row.curves)} for row in rows}
    shown, true = places
    for number, frame in enumerate(worst_frames(found, options.worst), 1):
        picture = options.pictures and picture_of(options.pictures.expanduser(), frame.sequence, frame.frame)
        objects = {name: colors[frame.sequence][name] for name, _ in frame.objects}
        painted = paint(picture, shown / frame.sequence, true / frame.sequence, objects, frame.frame)
        yield _Shown(frame, as_jpeg(painted), f"worst/{number:02d}.jpg")


def _rendered(page: _Page, name: str) -> str:
    text = _environment(html=name.endswith("html")).get_template(f"{name}.j2").render(page=page)
    return text.encode("utf-8", "replace").decode()  # a file's name may be of bytes that are no text


def _environment(*, html: bool) -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=html,
        undefined=StrictUndefined,
        finalize=None if html else _plain,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(figure=_figure, hundredths=_hundredths)
    return made


def _figure(value: float) -> Markup:
    return Markup(f"{value:.3f}")


def _hundredths(value: float) -> Markup:
    return Markup(f"{value:.1f}")


def _plain(value: object) -> object:
    """Text that Markdown shows as it is; what a filter has made, and numbers, are left."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    flat = "".join(char if char.isprintable() else " " for char in value)
    escaped = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~$@]|:(?=//))", r"\\\1", escaped)
