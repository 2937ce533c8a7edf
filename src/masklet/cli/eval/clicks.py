"""`masklet eval clicks`: the number of clicks an object needs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, Precision, ReportFile, Resume, Split, Workers

if TYPE_CHECKING:
    from masklet.evaluate.image_clicks import ClicksReport

__all__ = ["clicks"]


def clicks(
    root: Annotated[Path, typer.Argument(help="Folder of GrabCut, Berkeley, DAVIS-345, SBD, or any data with masks.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    data_format: Annotated[
        str | None, typer.Option(help="grabcut, berkeley, davis345, sbd or one of masklet val; default: recognized.")
    ] = None,
    split: Split = None,
    objects: Annotated[int | None, typer.Option(help="Objects per image, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only N images, spread evenly.", min=1)] = None,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure the clicks an object needs: NoC@85 and NoC@90 of at most 20, failures, the IoU curve and its area.

    Each click is on the deepest pixel of the wrong region. After Ctrl-C the results so far are printed and written;
    with --report the same command resumes.

    \b
    Examples:
      masklet eval clicks GrabCut --report grabcut.json
      masklet eval clicks SBD --limit 200
    """
    from masklet.evaluate.image_click_datasets import click_images
    from masklet.evaluate.image_clicks import ClickResult, click_report, evaluate_clicks

    samples = click_images(root, data_format=data_format, split=split, limit=limit)
    task = EvalTask(
        protocol="clicks",
        unit_label="images",
        units=samples,
        unit_names=[image.name for image in samples],
        evaluate_unit=partial(evaluate_clicks, max_objects=objects),
        row_type=ClickResult,
        summarize=lambda rows: asdict(click_report(rows)),
        format_summary=lambda rows: _report_lines(click_report(rows)),
        options={"data_format": data_format, "split": split, "objects": objects, "limit": limit},
        steps_per_unit=[1] * len(samples),
        prepare_model=attrgetter("predictor"),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)


def _report_lines(report: ClicksReport) -> list[str]:
    from masklet.evaluate.validation_result import pluralize

    head = f"{pluralize(report.objects, 'object')} in {pluralize(report.images, 'image')}"
    lines = [f"{head}; {report.seconds / report.objects:.2f} s an object"]
    lines += [f"NoC@{target} {clicks:.2f}, not reached {report.nof[target]}" for target, clicks in report.noc.items()]
    shown = (1, 2, 3, 5, 10, 15, 20)
    lines.append(f"{'clicks':<12}" + "".join(f"{n:>8}" for n in shown))
    lines.append(f"{'mean IoU':<12}" + "".join(f"{report.iou_curve[n - 1]:>8.3f}" for n in shown))
    return [*lines, f"AUC {report.auc:.3f}"]
