"""`masklet eval everything`: average recall of masks that nobody asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.options import EvalModel, FigureFile, ImageSize, Precision
from masklet.cli.output import counting
from masklet.cli.wanted import PRESET_NAMES, Wanted

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.recall import Option, Proposed, RecallReport
    from masklet.image.everything import EverythingOptions

__all__ = ["everything"]

UNSAID = ("point_grids", "points_per_batch", "output_mode", "order")
"""Options that no figure depends on, or that the command has not."""


def everything(
    root: Annotated[Path, typer.Argument(help="Any data with masks that masklet val reads.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESET_NAMES)}: how it is looked.")] = "default",
    points: Annotated[int | None, typer.Option(help="A grid of N x N points is asked.", min=1)] = None,
    kind: Annotated[str | None, typer.Option(help="The layout of the data; default: seen.")] = None,
    split: Annotated[str | None, typer.Option(help="A part of the data.")] = None,
    objects: Annotated[int | None, typer.Option(help="Of each picture, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many pictures, spread evenly.", min=1)] = None,
    report_file: FigureFile = None,
) -> None:
    """Average recall of segment everything: AR at 1, 10, 100 and 1000 masks, by size, as COCO has it.

    What class objects are of plays no part. After Ctrl-C the figures of what was done are shown and written.

    \b
    Examples:
      masklet eval everything photos --json everything.json
      masklet eval everything COCO --split val2017 --preset fine --limit 200
    """
    from masklet import SAM
    from masklet.evaluate.click_data import click_pictures
    from masklet.evaluate.recall import evaluate_recall, everything_by

    wanted = Wanted(preset, points_per_side=points)
    found = click_pictures(root, kind=kind, split=split, limit=limit)
    sam = SAM(model, image_size=image_size, precision=precision)
    how = wanted.options(sam.predictor.model)
    rows: list[Proposed] = []
    try:
        with counting("pictures", len(found), wanted=True) as step:
            for row in evaluate_recall(everything_by(sam.predictor, how), found, objects, step):
                rows.append(row)  # noqa: PERF402  what is done by Ctrl-C is kept
    finally:
        said = {"preset": preset, "objects": objects, "limit": limit, "split": split}
        _tell(rows, sam, _said(sam, how) | said, report_file)


def _said(sam: SAM, how: EverythingOptions) -> dict[str, Option]:
    """What the figures hang on, besides the model's name."""
    info = sam.info()
    chosen = {name: value for name, value in asdict(how).items() if name not in UNSAID}
    return {"picture_size": info.picture_size, "precision": info.precision, "device": info.device, **chosen}


def _tell(rows: Sequence[Proposed], sam: SAM, options: Mapping[str, Option], report_file: Path | None) -> None:
    """Figures of what was done, of something at least; else the error of `recall_report`, unless there is one."""
    from masklet.evaluate.recall import recall_report
    from masklet.files import write_text

    if not rows and sys.exc_info()[0] is not None:
        return
    found = recall_report(rows, sam.info().name, options)
    for line in _lines(found):
        typer.echo(line)
    if report_file is not None:
        write_text(report_file, found.to_json())


def _lines(of: RecallReport) -> list[str]:
    lines = [
        f"{_counted(of.objects, 'object')} in {_counted(of.pictures, 'picture')}; {of.masks:.1f} masks and "
        f"{of.seconds / of.pictures:.2f} s a picture"
    ]
    lines += [f"{f'AR@{limit}':<16}{value:>8.3f}" for limit, value in of.recall.items()]
    for size, figures in of.by_size.items():
        value = figures["1000"]
        shown = "-" if value is None else f"{value:.3f}"
        lines.append(f"{f'AR@1000 {size}':<16}{shown:>8}  {_counted(of.sizes[size], 'object')}")
    return [*lines, f"{'mean best IoU':<16}{of.best_iou:>8.3f}"]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
