"""`masklet eval stills`: held-out pictures, by box and by clicks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.options import EvalModel, FigureFile, ImageSize, Precision
from masklet.cli.output import counting

__all__ = ["stills"]


def stills(
    root: Annotated[Path, typer.Argument(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    objects: Annotated[int, typer.Option(help="Asked for in each picture, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every picture number N x this; 1: all.", min=1)] = 1,
    report_file: FigureFile = None,
) -> None:
    """Mean IoU by box, by one click, and after three and five corrective clicks, with a line a source.

    \b
    Example:
      masklet eval stills heldout --json figures.json
    """
    from masklet import SAM
    from masklet.evaluate import evaluate_stills, report, stills_under
    from masklet.evaluate.record import still_lines

    found = stills_under(root)[::limit]
    predictor, rows = SAM(model, image_size=image_size, precision=precision).predictor, []
    with counting("pictures", len(found), wanted=True) as step:
        for row in evaluate_stills(predictor, found, objects):
            rows.append(row)
            step()
    figures = report(rows)
    for line in still_lines(figures):
        typer.echo(line)
    if report_file is not None:
        from masklet.files import write_text

        write_text(report_file, json.dumps(asdict(figures), indent=2))
