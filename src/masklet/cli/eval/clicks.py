"""`masklet eval clicks`: how many clicks an object needs."""

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
    from masklet.evaluate.image_click_datasets import ClickPicture
    from masklet.evaluate.image_clicks import ClickedObject, ClicksReport

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
    workers: Workers = 1,
    report_file: FigureFile = None,
    resume: Resume = True,
) -> None:
    """Clicks that an object needs: NoC@85 and NoC@90 of at most 20, failures, the curve of IoU and its area.

    Each click is on the deepest pixel of what is wrong. After Ctrl-C the figures of what was done are shown and
    written; with --json the same command goes on.

    \b
    Examples:
      masklet eval clicks GrabCut --json grabcut.json
      masklet eval clicks SBD --limit 200
    """
    from masklet.evaluate.image_click_datasets import click_pictures
    from masklet.evaluate.image_clicks import ClickedObject, click_report

    found = click_pictures(root, kind=kind, split=split, limit=limit)
    work = Measurement(
        protocol="clicks",
        what="pictures",
        units=found,
        names=[picture.name for picture in found],
        answer=partial(_clicked, objects=objects),
        row=ClickedObject,
        figures=lambda rows: asdict(click_report(rows)),
        lines=lambda rows: _click_lines(click_report(rows)),
        options={"kind": kind, "split": split, "objects": objects, "limit": limit},
        steps=[1] * len(found),
    )
    measure(Asked(model, image_size, precision, workers, report_file, resume), work)


def _clicked(
    sam: SAM, picture: ClickPicture, known: Sequence[ClickedObject], each: Callable[[], None], *, objects: int | None
) -> list[ClickedObject]:
    from masklet.evaluate.image_clicks import evaluate_clicks

    return list(evaluate_clicks(sam.predictor, [picture], objects, each))


def _click_lines(of: ClicksReport) -> list[str]:
    from masklet.evaluate.validation_result import counted

    head = f"{counted(of.objects, 'object')} in {counted(of.pictures, 'picture')}"
    lines = [f"{head}; {of.seconds / of.objects:.2f} s an object"]
    lines += [f"NoC@{target} {clicks:.2f}, not reached {of.nof[target]}" for target, clicks in of.noc.items()]
    some = (1, 2, 3, 5, 10, 15, 20)
    lines.append(f"{'clicks':<12}" + "".join(f"{n:>8}" for n in some))
    lines.append(f"{'mean IoU':<12}" + "".join(f"{of.curve[n - 1]:>8.3f}" for n in some))
    return [*lines, f"AUC {of.auc:.3f}"]
