"""`masklet eval report`: a score as a page, by `masklet.evaluate.reporting`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.evaluating.scoring import SeenFile, UnseenFile

__all__ = ["report"]


def report(
    predictions: Annotated[Path, typer.Argument(help="Folder with a folder of PNG files for each sequence.")],
    truth: Annotated[Path, typer.Argument(help="The data set, or its folder of annotations.")],
    kind: Annotated[str, typer.Option(help="Whose rules: as of masklet eval score.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.md and its pictures.")] = Path("report"),
    pictures: Annotated[
        Path | None, typer.Option(help="The data set, or its folder of pictures; default: masks are shown on grey.")
    ] = None,
    model: Annotated[str, typer.Option(help="Said in the report; default: as the predictions' record says.")] = "",
    worst: Annotated[int, typer.Option(help="Frames to show, the worst first.", min=0)] = 12,
    subset: Annotated[str | None, typer.Option("--set", help="davis17: a list of ImageSets, as val.")] = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: Annotated[bool, typer.Option("--partial", help="Only the sequences that are predicted.")] = False,
) -> None:
    """A page about predictions: figures beside published ones, bars, curves, and the frames that went worst.

    The HTML is one file that needs nothing else; the pictures of the Markdown lie beside it.

    \b
    Example:
      masklet eval report predictions DAVIS --kind davis17 --pictures DAVIS --out report
    """
    from masklet.evaluate.reporting import ReportOptions, write_report
    from masklet.evaluate.scoring import ScoreOptions, score

    found = score(kind, predictions, truth, ScoreOptions(subset, seen, partial, unseen=unseen))
    for path in write_report(found, predictions, truth, out, ReportOptions(pictures, model, worst)):
        typer.echo(path)
