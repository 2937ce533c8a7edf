"""`masklet eval images`: held-out images, prompted by boxes and clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, complete_units, run_eval
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
    from masklet.evaluate import find_image_samples, image_report
    from masklet.evaluate.image_prompts import ImageResult
    from masklet.evaluate.validation_result import image_table

    samples = find_image_samples(root)[::limit]
    task = EvalTask(
        protocol="stills",
        unit_label="images",
        units=samples,
        unit_names=[sample.name for sample in samples],
        evaluate_unit=complete_units(partial(_evaluate_image, objects=objects)),
        row_type=ImageResult,
        summarize=lambda rows: asdict(image_report([row.source_and_ious for row in rows])),
        format_summary=lambda rows: image_table(image_report([row.source_and_ious for row in rows])),
        options={"objects": objects, "limit": limit},
        steps_per_unit=[1] * len(samples),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)


def _evaluate_image(sam: SAM, sample: Sample, step: Callable[[], None], *, objects: int) -> Iterator[ImageResult]:
    from masklet.evaluate import evaluate_images
    from masklet.evaluate.image_prompts import ImageResult

    for source, ious in evaluate_images(sam.predictor, [sample], objects):
        yield ImageResult.from_ious(sample.name, source, ious)
    step()
