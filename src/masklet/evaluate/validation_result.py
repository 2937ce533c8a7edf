"""`Validation`: what a validation found, as a value that can be printed, stored and read again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from masklet.errors import InputError
from masklet.evaluate.image_prompts import Figures, StillsReport

__all__ = ["Counts", "TrackedFigures", "TrackedReport", "Validation", "counted", "still_lines"]

NAME = 24
MOST_FILMS = 30
"""Films in a printed table; the JSON has all."""


@dataclass(frozen=True)
class TrackedFigures:
    """Means over objects that were followed, 0 to 1."""

    objects: int
    j: float
    f: float
    jf: float


@dataclass(frozen=True)
class TrackedReport:
    """Figures over all objects of all films, and by film."""

    total: TrackedFigures
    by_film: dict[str, TrackedFigures]


@dataclass(frozen=True)
class Counts:
    """How many were measured; `without` are entries without an object, `frames` those of the films."""

    pictures: int
    films: int
    frames: int
    objects: int
    without: int = 0


@dataclass(frozen=True)
class Validation:
    """What `validate` found; `print` shows a table.

    Example:
        >>> found = model.val("photos")
        >>> found.stills.total.box, found.films["box"].total.jf
        (0.87, 0.74)
    """

    stills: StillsReport | None
    """None: there were none."""
    films: dict[str, TrackedReport]
    """By what was said of each object first: "box", "click", "mask"; empty: there were no films."""
    counts: Counts
    left_out: dict[str, str]
    """Broken entries, by name: why."""
    seconds: float

    def __str__(self) -> str:
        lines = [self._said()]
        if self.stills is not None:
            lines += ["", "pictures: mean IoU", *still_lines(self.stills)]
        if self.films:
            lines += ["", "films: J, F and J&F after the first prompt", *_film_lines(self.films)]
        return "\n".join(lines)

    def _said(self) -> str:
        counts = self.counts
        of = [counted(counts.pictures, "picture")] if counts.pictures else []
        of += [f"{counted(counts.films, 'film')} ({counts.frames} frames)"] if counts.films else []
        more = f", {counts.without} more without objects" if counts.without else ""
        more += f", {len(self.left_out)} left out as broken" if self.left_out else ""
        return f"{' and '.join(of)}, {counted(counts.objects, 'object')}{more}; {self.seconds:.1f} s"

    def to_json(self) -> str:
        """All figures as JSON; null where something was not asked for.

        Example:
            >>> Validation.from_json(found.to_json()).counts == found.counts
            True
        """
        return json.dumps(_plain(asdict(self)), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Validation:
        """What `to_json` wrote; further keys are passed over.

        Raises:
            InputError: it is not that.
        """
        try:
            raw = json.loads(text)
            return cls(
                stills=None if raw["stills"] is None else _stills(raw["stills"]),
                films={prompt: _tracked(report) for prompt, report in raw["films"].items()},
                counts=Counts(**raw["counts"]),
                left_out=dict(raw["left_out"]),
                seconds=float(raw["seconds"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as problem:
            raise InputError(
                f"{text[:40]!r} ... is no validation ({problem}); give what Validation.to_json or "
                "masklet val --json wrote"
            ) from problem


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _stills(raw: Any) -> StillsReport:
    by_source = {name: _figures(figures) for name, figures in raw["by_source"].items()}
    return StillsReport(_figures(raw["total"]), by_source, _figures(raw["mean_of_sources"]))


def _figures(raw: Any) -> Figures:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in raw.items()}
    return Figures(**known)


def _tracked(raw: Any) -> TrackedReport:
    by_film = {name: TrackedFigures(**figures) for name, figures in raw["by_film"].items()}
    return TrackedReport(TrackedFigures(**raw["total"]), by_film)


def still_lines(figures: StillsReport) -> list[str]:
    """A table: a line a source, their mean, and all objects.

    Example:
        >>> print("\\n".join(still_lines(report(rows))))
    """
    rows = {**figures.by_source, "mean of sources": figures.mean_of_sources, "all objects": figures.total}
    names = [f.name for f in fields(Figures)]
    lines = [f"{_short(name):<{NAME}}" + _cells([getattr(of, n) for n in names], 12) for name, of in rows.items()]
    return [" " * NAME + _cells(names, 12), *lines]


def _film_lines(by_prompt: dict[str, TrackedReport]) -> list[str]:
    """A table: a line a film, and all objects; three columns a prompt."""
    first = next(iter(by_prompt.values()))
    heading = ["objects", *(f"{prompt} {name}" for prompt in by_prompt for name in ("J", "F", "J&F"))]
    films = list(first.by_film)
    lines = [_film_line(name, [report.by_film[name] for report in by_prompt.values()]) for name in films[:MOST_FILMS]]
    if len(films) > MOST_FILMS:
        lines.append(f"... and {counted(len(films) - MOST_FILMS, 'film')} more")
    total = _film_line("all objects", [report.total for report in by_prompt.values()])
    return [" " * NAME + _cells(heading, 10), *lines, total]


def _film_line(name: str, of: list[TrackedFigures]) -> str:
    return f"{_short(name):<{NAME}}" + _cells([of[0].objects, *(v for o in of for v in (o.j, o.f, o.jf))], 10)


def counted(number: int, of: str) -> str:
    """A number and what it counts.

    Example:
        >>> counted(2, "film")
        '2 films'
    """
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _cells(values: list[Any], width: int) -> str:
    return "".join(f"{_cell(value):>{width}}" for value in values)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def _short(name: str) -> str:
    """The end of a long name: films of one data set begin alike."""
    return name if len(name) < NAME else f"...{name[-NAME + 4 :]}"
