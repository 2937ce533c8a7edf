"""`masklet eval images`: held-out images, prompted by boxes and clicks."""

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
    objects: Annotated[int, typer.Option(help="Objects per image, at most.", min=1)] = 10,
    limit: Annotated[int, typer.Option(help="Only every N-th image; 1: all.", min=1)] = 1,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure mean IoU by box, by one click, and after three and five corrective clicks, with a line per source.

    After Ctrl-C the results so far are printed and written; with --report the same command resumes.

    \b
    Example:
      masklet eval images heldout --report results.json
    """
    from masklet.evaluate import ImageResult, evaluate_image, find_image_samples, image_report
    from masklet.evaluate.validation_result import image_table

    samples = find_image_samples(root)[::limit]
    task = EvalTask(
        protocol="stills",
        unit_label="images",
        units=samples,
        unit_names=[sample.name for sample in samples],
        evaluate_unit=partial(evaluate_image, max_objects=objects),
        row_type=ImageResult,
        summarize=lambda rows: asdict(image_report(rows)),
        format_summary=lambda rows: image_table(image_report(rows)),
        options={"objects": objects, "limit": limit},
        steps_per_unit=[1] * len(samples),
        prepare_model=attrgetter("predictor"),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)
