"""`masklet eval clicks`: how many clicks an object needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.options import EvalModel, FigureFile, ImageSize, Precision
from masklet.cli.output import counting

if TYPE_CHECKING:
    from masklet.evaluate.clicks import ClickedObject, ClicksReport

__all__ = ["clicks"]


def clicks(
    root: Annotated[Path, typer.Argument(help="Folder of GrabCut, Berkeley, DAVIS-345, SBD, or any data with masks.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    kind: Annotated[
        str | None, typer.Option(help="grabcut, berkeley, davis345, sbd or a layout of masklet val; default: seen.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="A part of the data; of SBD: val.")] = None,
    objects: Annotated[int | None, typer.Option(help="Of each picture, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many pictures, spread evenly.", min=1)] = None,
    report_file: FigureFile = None,
) -> None:
    """Clicks that an object needs: NoC@85 and NoC@90 of at most 20, failures, the curve of IoU and its area.

    Each click is on the deepest pixel of what is wrong. After Ctrl-C the figures of what was done are shown and
    written.

    \b
    Examples:
      masklet eval clicks GrabCut --json grabcut.json
      masklet eval clicks SBD --limit 200
    """
    from masklet import SAM
    from masklet.evaluate.click_data import click_pictures
    from masklet.evaluate.clicks import evaluate_clicks

    found = click_pictures(root, kind=kind, split=split, limit=limit)
    predictor, rows = SAM(model, image_size=image_size, precision=precision).predictor, []
    try:
        with counting("pictures", len(found), wanted=True) as step:
            for row in evaluate_clicks(predictor, found, objects, step):
                rows.append(row)  # noqa: PERF402  what is done by Ctrl-C is kept
    finally:
        _tell_clicks(rows, report_file)


def _tell_clicks(rows: Sequence[ClickedObject], report_file: Path | None) -> None:
    """Figures of what was clicked on, of something at least; else the error of `click_report`, unless there is one."""
    from masklet.evaluate.clicks import click_report
    from masklet.files import write_text

    if not rows and sys.exc_info()[0] is not None:
        return
    found = click_report(rows)
    for line in _click_lines(found):
        typer.echo(line)
    if report_file is not None:
        write_text(report_file, found.to_json())


def _click_lines(of: ClicksReport) -> list[str]:
    lines = [f"{of.objects} objects in {of.pictures} pictures; {of.seconds / of.objects:.2f} s an object"]
    lines += [f"NoC@{target} {clicks:.2f}, not reached {of.nof[target]}" for target, clicks in of.noc.items()]
    some = (1, 2, 3, 5, 10, 15, 20)
    lines.append(f"{'clicks':<12}" + "".join(f"{n:>8}" for n in some))
    lines.append(f"{'mean IoU':<12}" + "".join(f"{of.curve[n - 1]:>8.3f}" for n in some))
    return [*lines, f"AUC {of.auc:.3f}"]
