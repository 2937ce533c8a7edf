"""`masklet eval everything`: average recall of masks that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import Asked, Measurement, measure
from masklet.cli.segment_job import PRESET_NAMES, Wanted
from masklet.cli.shared_options import EvalModel, FigureFile, ImageSize, Precision, Resume, Workers

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.evaluate.average_recall import Proposed, RecallReport
    from masklet.evaluate.image_click_datasets import ClickPicture
    from masklet.evaluate.results_file import Option

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
    workers: Workers = 1,
    report_file: FigureFile = None,
    resume: Resume = True,
) -> None:
    """Average recall of segment everything: AR at 1, 10, 100 and 1000 masks, by size, as COCO has it.

    What class objects are of plays no part. After Ctrl-C the figures of what was done are shown and written;
    with --json the same command goes on.

    \b
    Examples:
      masklet eval everything photos --json everything.json
      masklet eval everything COCO --split val2017 --preset fine --limit 200
    """
    from masklet.evaluate.average_recall import PROTOCOL, Proposed, recall_report
    from masklet.evaluate.image_click_datasets import click_pictures

    wanted = Wanted(preset, points_per_side=points)
    found = click_pictures(root, kind=kind, split=split, limit=limit)
    work = Measurement(
        protocol=PROTOCOL,
        what="pictures",
        units=found,
        names=[picture.name for picture in found],
        answer=partial(_found, objects=objects, wanted=wanted),
        row=Proposed,
        figures=lambda rows: asdict(recall_report(rows)),
        lines=lambda rows: _lines(recall_report(rows)),
        options=lambda sam: _said(sam, wanted) | {"preset": preset, "objects": objects, "limit": limit, "split": split},
        steps=[1] * len(found),
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)


def _found(
    sam: SAM,
    picture: ClickPicture,
    known: Sequence[Proposed],
    each: Callable[[], None],
    *,
    objects: int | None,
    wanted: Wanted,
) -> list[Proposed]:
    from masklet.evaluate.average_recall import evaluate_recall, everything_by

    how = wanted.options(sam.predictor.model)
    return list(evaluate_recall(everything_by(sam.predictor, how), [picture], objects, each))


def _said(sam: SAM, wanted: Wanted) -> dict[str, Option]:
    """What the figures hang on, besides the model's name."""
    chosen = asdict(wanted.options(sam.predictor.model)).items()
    return {"picture_size": sam.info().picture_size, **{name: value for name, value in chosen if name not in UNSAID}}


def _lines(of: RecallReport) -> list[str]:
    from masklet.evaluate.validation_result import counted

    lines = [
        f"{counted(of.objects, 'object')} in {counted(of.pictures, 'picture')}; {of.masks:.1f} masks and "
        f"{of.seconds / of.pictures:.2f} s a picture"
    ]
    lines += [f"{f'AR@{limit}':<16}{value:>8.3f}" for limit, value in of.recall.items()]
    for size, figures in of.by_size.items():
        value = figures["1000"]
        shown = "-" if value is None else f"{value:.3f}"
        lines.append(f"{f'AR@1000 {size}':<16}{shown:>8}  {counted(of.sizes[size], 'object')}")
    return [*lines, f"{'mean best IoU':<16}{of.best_iou:>8.3f}"]
