"""`masklet eval stills`: held-out figures, by the protocol of `masklet.evaluate.stills`."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.evaluate import Figures, StillsReport

__all__ = ["app"]

app = typer.Typer(help="Measure how good a model is.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure how good a model is."""


@app.command("stills")
def stills(
    root: Annotated[Path, typer.Argument(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    model: Annotated[str | None, typer.Option(help="A name or a file; default: the built-in model.")] = None,
    objects: Annotated[int, typer.Option(help="Asked for in each picture, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every picture number N x this; 1: all.", min=1)] = 1,
    report_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there too.")] = None,
) -> None:
    """Mean IoU by box, by one click, and after three and five corrective clicks, with a line a source.

    \b
    Example:
      masklet eval stills heldout --json figures.json
    """
    from masklet import SAM
    from masklet.evaluate import evaluate_stills, report, stills_under

    found = stills_under(root)[::limit]
    predictor, rows = SAM(model).predictor, []
    with counting("pictures", len(found), wanted=True) as step:
        for row in evaluate_stills(predictor, found, objects):
            rows.append(row)
            step()
    figures = report(rows)
    for line in _table(figures):
        typer.echo(line)
    if report_file is not None:
        from masklet.files import write_text

        write_text(report_file, json.dumps(asdict(figures), indent=2))


def _table(figures: StillsReport) -> list[str]:
    names = [f.name for f in fields(figures.total)]
    rows = {**figures.by_source, "mean of sources": figures.mean_of_sources, "all objects": figures.total}
    return [f"{'':<22}" + "".join(f"{name:>12}" for name in names), *(_line(k, v) for k, v in rows.items())]


def _line(name: str, figures: Figures) -> str:
    numbers = (getattr(figures, f.name) for f in fields(figures))
    return f"{name:<22}" + "".join(f"{n:>12}" if isinstance(n, int) else f"{n:>12.3f}" for n in numbers)
