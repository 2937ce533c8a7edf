"""`masklet eval clicks`: how many clicks an object needs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, Precision, ReportFile, Resume, Workers

if TYPE_CHECKING:
    from masklet.evaluate.image_clicks import ClicksReport

__all__ = ["clicks"]


def clicks(
    root: Annotated[Path, typer.Argument(help="Folder of GrabCut, Berkeley, DAVIS-345, SBD, or any data with masks.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    data_format: Annotated[
        str | None, typer.Option(help="grabcut, berkeley, davis345, sbd or a layout of masklet val; default: seen.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="A part of the data; of SBD: val.")] = None,
    objects: Annotated[int | None, typer.Option(help="Of each image, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many images, spread evenly.", min=1)] = None,
    workers: Workers = 1,
    report_file: ReportFile = None,
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
    from masklet.evaluate.image_click_datasets import click_images
    from masklet.evaluate.image_clicks import ClickResult, click_report, evaluate_clicks

    found = click_images(root, data_format=data_format, split=split, limit=limit)
    work = EvalTask(
        protocol="clicks",
        unit_label="pictures",
        units=found,
        unit_names=[image.name for image in found],
        evaluate_unit=partial(evaluate_clicks, max_objects=objects),
        row_type=ClickResult,
        summarize=lambda rows: asdict(click_report(rows)),
        format_summary=lambda rows: _report_lines(click_report(rows)),
        options={"data_format": data_format, "split": split, "objects": objects, "limit": limit},
        steps_per_unit=[1] * len(found),
        prepare_model=attrgetter("predictor"),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), work)


def _report_lines(report: ClicksReport) -> list[str]:
    from masklet.evaluate.validation_result import pluralize

    head = f"{pluralize(report.objects, 'object')} in {pluralize(report.images, 'image')}"
    lines = [f"{head}; {report.seconds / report.objects:.2f} s an object"]
    lines += [f"NoC@{target} {clicks:.2f}, not reached {report.nof[target]}" for target, clicks in report.noc.items()]
    some = (1, 2, 3, 5, 10, 15, 20)
    lines.append(f"{'clicks':<12}" + "".join(f"{n:>8}" for n in some))
    lines.append(f"{'mean IoU':<12}" + "".join(f"{report.iou_curve[n - 1]:>8.3f}" for n in some))
    return [*lines, f"AUC {report.auc:.3f}"]
