"""`masklet eval stills`: held-out images, by box and by clicks."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, Precision, ReportFile, Resume, Workers

__all__ = ["images"]


def images(
    root: Annotated[Path, typer.Argument(help="Folder of sources, each with images/ID.jpg and masks/ID.json.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    objects: Annotated[int, typer.Option(help="Asked for in each image, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every image number N x this; 1: all.", min=1)] = 1,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Mean IoU by box, by one click, and after three and five corrective clicks, with a line a source.

    After Ctrl-C the figures of what was done are shown and written; with --json the same command goes on.

    \b
    Example:
      masklet eval stills heldout --json figures.json
    """
    from masklet.evaluate import ImageResult, evaluate_image, find_image_samples, image_report
    from masklet.evaluate.validation_result import image_table

    found = find_image_samples(root)[::limit]
    work = EvalTask(
        protocol="stills",
        unit_label="pictures",
        units=found,
        unit_names=[still.name for still in found],
        evaluate_unit=partial(evaluate_image, max_objects=objects),
        row_type=ImageResult,
        summarize=lambda rows: asdict(image_report(rows)),
        format_summary=lambda rows: image_table(image_report(rows)),
        options={"objects": objects, "limit": limit},
        steps_per_unit=[1] * len(found),
        prepare_model=attrgetter("predictor"),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), work)
