"""`masklet eval stills`: held-out pictures, by box and by clicks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import Asked, Measurement, measure
from masklet.cli.shared_options import EvalModel, FigureFile, ImageSize, Precision, Resume, Workers

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.datasets import Entry
    from masklet.evaluate.image_prompts import StillRow

__all__ = ["stills"]


def stills(
    root: Annotated[Path, typer.Argument(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    objects: Annotated[int, typer.Option(help="Asked for in each picture, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every picture number N x this; 1: all.", min=1)] = 1,
    workers: Workers = 1,
    report_file: FigureFile = None,
    resume: Resume = True,
) -> None:
    """Mean IoU by box, by one click, and after three and five corrective clicks, with a line a source.

    After Ctrl-C the figures of what was done are shown and written; with --json the same command goes on.

    \b
    Example:
      masklet eval stills heldout --json figures.json
    """
    from masklet.evaluate import report, stills_under
    from masklet.evaluate.image_prompts import StillRow
    from masklet.evaluate.validation_result import still_lines

    found = stills_under(root)[::limit]
    work = Measurement(
        protocol="stills",
        what="pictures",
        units=found,
        names=[still.name for still in found],
        answer=partial(_asked, objects=objects),
        row=StillRow,
        figures=lambda rows: asdict(report([row.pair for row in rows])),
        lines=lambda rows: still_lines(report([row.pair for row in rows])),
        options={"objects": objects, "limit": limit},
        steps=[1] * len(found),
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)


def _asked(
    sam: SAM, still: Entry, known: Sequence[StillRow], each: Callable[[], None], *, objects: int
) -> list[StillRow]:
    from masklet.evaluate import evaluate_stills
    from masklet.evaluate.image_prompts import StillRow

    rows = [StillRow.of(still.name, *pair) for pair in evaluate_stills(sam.predictor, [still], objects)]
    each()
    return rows
