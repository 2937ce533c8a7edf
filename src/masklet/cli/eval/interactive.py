"""`masklet eval interactive`: films that are corrected by clicks, offline and online."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import note
from masklet.cli.eval.runner import Asked, Measurement, measure
from masklet.cli.shared_options import EvalModel, ImageSize, ObjectFile, Precision, Resume, Workers

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.datasets import Entry
    from masklet.evaluate.video_clicks import InteractiveOptions, InteractiveReport, InteractiveRow

__all__ = ["interactive"]


def interactive(
    root: Annotated[Path, typer.Option(help="Films with masks, in any layout that masklet val reads.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    mode: Annotated[str, typer.Option(help="offline (passes, the worst frame corrected) or online.")] = "offline",
    frames: Annotated[int, typer.Option(help="Interacted with, at most.", min=1)] = 8,
    clicks: Annotated[int, typer.Option(help="On each of these frames, at most.", min=1)] = 3,
    kind: Annotated[str | None, typer.Option(help="The layout of the data, where it is not recognised.")] = None,
    split: Annotated[str | None, typer.Option(help="A part of the data, as 2017/val.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many films, the first by name.", min=1)] = None,
    workers: Workers = 1,
    report_file: ObjectFile = None,
    resume: Resume = True,
) -> None:
    """J&F of films whose objects are corrected by clicks on up to 8 frames, as SAM 2 is measured; a line an object.

    offline: in every pass the worst frame gets three clicks, and the film is followed anew; online: one pass, halted
    where the IoU falls below 0.75, and the same with fewer frames at most. The figure is the mean over 1 to 8 frames.
    With --json the same command goes on where it was stopped, after the last whole object. The exit code is 2 where
    films are broken and left out.

    \b
    Examples:
      masklet eval interactive --root DAVIS --json offline.json
      masklet eval interactive --root DAVIS --mode online --split 2017/val
    """
    from masklet.datasets import open_dataset
    from masklet.evaluate.video_clicks import InteractiveOptions, InteractiveRow, interactive_report

    options = InteractiveOptions(mode, frames, clicks)
    data = open_dataset(root, kind=kind, split=split)
    for problem in data.problems:
        note(f"{problem.reason}; left out")
    films = [entry for entry in data.entries if len(entry.frames) > 1][:limit]
    work = Measurement(
        protocol="interactive",
        what="films",
        units=films,
        names=[film.name for film in films],
        answer=partial(_corrected, options=options),
        row=InteractiveRow,
        figures=lambda rows: interactive_report(rows, options).document(),
        lines=lambda rows: _total_lines(interactive_report(rows, options)),
        options={**asdict(options), "kind": kind, "split": split, "limit": limit},
        of="frames",
        line=_object_line,
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)
    if data.problems:
        raise typer.Exit(2)


def _corrected(
    sam: SAM, film: Entry, known: Sequence[InteractiveRow], each: Callable[[], None], *, options: InteractiveOptions
) -> Iterator[InteractiveRow]:
    from masklet.evaluate.video_clicks import evaluate_interactive

    return evaluate_interactive(sam, film, options, each, known)


def _object_line(row: InteractiveRow) -> str:
    shown = " ".join(f"{value:.3f}" for value in row.curve)
    return f"{row.film} {row.id}: J&F {shown}; frames {', '.join(map(str, row.interacted))}; {row.clicks} clicks"


def _total_lines(of: InteractiveReport) -> list[str]:
    from masklet.evaluate.validation_result import counted

    head = f"{of.options.mode}: {counted(of.objects, 'object')} in {counted(of.films, 'film')}; {of.seconds:.1f} s"
    asked = f"frames interacted with {of.interacted:.2f}, clicks {of.clicks:.2f}"
    lines = [head, f"{'frames':<8}" + "".join(f"{n + 1:>8}" for n in range(len(of.curve)))]
    for name, curve in (("J&F", of.curve), ("J", of.j), ("F", of.f)):
        lines.append(f"{name:<8}" + "".join(f"{value:>8.3f}" for value in curve))
    return [*lines, f"J&F, mean of the curve {of.mean:.3f}; {asked}"]
