"""`masklet eval stills`: held-out images, by box and by clicks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, Precision, ReportFile, Resume, Workers

if TYPE_CHECKING:
    from masklet import SAM
    from masklet.datasets import Sample
    from masklet.evaluate.image_prompts import ImageResult

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
    from masklet.evaluate import find_image_samples, image_report
    from masklet.evaluate.image_prompts import ImageResult
    from masklet.evaluate.validation_result import image_table

    found = find_image_samples(root)[::limit]
    work = EvalTask(
        protocol="stills",
        unit_label="pictures",
        units=found,
        unit_names=[still.name for still in found],
        evaluate_unit=partial(_evaluate_image, objects=objects),
        row_type=ImageResult,
        summarize=lambda rows: asdict(image_report([row.source_and_ious for row in rows])),
        format_summary=lambda rows: image_table(image_report([row.source_and_ious for row in rows])),
        options={"objects": objects, "limit": limit},
        steps_per_unit=[1] * len(found),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), work)


def _evaluate_image(
    sam: SAM, sample: Sample, previous_rows: Sequence[ImageResult], step: Callable[[], None], *, objects: int
) -> list[ImageResult]:
    from masklet.evaluate import evaluate_images
    from masklet.evaluate.image_prompts import ImageResult

    rows = [ImageResult.from_ious(sample.name, *pair) for pair in evaluate_images(sam.predictor, [sample], objects)]
    step()
    return rows
