"""`masklet eval score`: folders of predictions, by `masklet.evaluate.scoring`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.options import ObjectFile
from masklet.cli.output import note

if TYPE_CHECKING:
    from masklet.evaluate.scoring import Score

__all__ = ["SeenFile", "UnseenFile", "score", "score_lines"]

SeenFile = Annotated[
    Path | None, typer.Option("--seen", help="ytvos: what was trained on; its meta.json, or a text of categories.")
]
UnseenFile = Annotated[
    Path | None,
    typer.Option("--unseen", help="lvos: a text of unseen films; default: unseen_videos.txt beside the truth."),
]


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder with a folder of PNG files for each sequence.")],
    truth: Annotated[Path, typer.Argument(help="The data set, or its folder of annotations.")],
    kind: Annotated[str, typer.Option(help="Whose rules: davis17, davis16, sav, ytvos, mose or lvos.")],
    subset: Annotated[str | None, typer.Option("--set", help="davis17: a list of ImageSets, as val.")] = None,
    seen: SeenFile = None,
    unseen: UnseenFile = None,
    partial: Annotated[bool, typer.Option("--partial", help="Only the sequences that are predicted.")] = False,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="sav: measure the first and the last frame too.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Sequences at once.", min=1)] = 1,
    report_file: ObjectFile = None,
) -> None:
    """J and F of predictions in the layout of a benchmark, by the rules of its authors.

    \b
    Examples:
      masklet eval score predictions DAVIS --kind davis17 --set val
      masklet eval score predictions sav_val --kind sav --json score.json
    """
    from masklet.evaluate.scoring import ScoreOptions
    from masklet.evaluate.scoring import score as score_of
    from masklet.files import write_text

    options = ScoreOptions(subset, seen, partial, every_frame, workers, unseen=unseen)
    found = score_of(kind, predictions, truth, options)
    for line in score_lines(found):
        typer.echo(line)
    if found.left_out:
        note(f"{', '.join(found.left_out)}: the truth shows nothing of them on a measured frame; they do not count")
    if report_file is not None:
        write_text(report_file, found.to_json())


def score_lines(of: Score) -> list[str]:
    """A line a figure, below what they are of."""
    sequences = len({one.sequence for one in of.objects})
    head = f"{of.kind}: {len(of.objects)} objects in {sequences} sequences"
    return [head, *(f"{name:<12}{value:8.4f}" for name, value in of.figures.items())]
