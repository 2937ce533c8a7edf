"""`masklet eval mask-generation`: average recall and precision of masks generated without prompts."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.segment_job import MaskGeneratorArgs
from masklet.cli.shared_options import (
    PRESETS,
    DataFormat,
    EvalModel,
    ImageSize,
    Precision,
    ReportFile,
    Resume,
    Split,
    Workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from masklet import SAM
    from masklet.evaluate.average_recall import Proposals, RecallReport
    from masklet.evaluate.results_file import OptionValue

__all__ = ["mask_generation"]

UNRECORDED_OPTIONS = ("point_grids", "points_per_batch", "output_mode", "sort_by")
"""Options that no result depends on, or that the command does not have."""


def mask_generation(
    root: Annotated[Path, typer.Argument(help="Any data set with masks that masklet val reads.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}: options of the mask generator.")] = "default",
    points_per_side: Annotated[
        int | None, typer.Option("--points", metavar="N", help="Prompt a grid of N x N points.", min=1)
    ] = None,
    data_format: DataFormat = None,
    split: Split = None,
    objects: Annotated[int | None, typer.Option(help="Objects per image, at most; default: all.", min=1)] = None,
    limit: Annotated[int | None, typer.Option(help="Only N images, spread evenly.", min=1)] = None,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure mask generation: average recall at 1, 10, 100 and 1000 masks, as COCO defines it, and precision.

    Classes are ignored. Precision, the fraction of masks that are on an object (IoU 0.5 or more), says something only
    if every object of the data is annotated. After Ctrl-C the results so far are printed and written; with --report
    the same command resumes.

    \b
    Examples:
      masklet eval mask-generation photos --report recall.json
      masklet eval mask-generation COCO --split val2017 --preset fine --limit 200
    """
    from masklet.evaluate.average_recall import PROTOCOL, ImageRecall, evaluate_recall, recall_report
    from masklet.evaluate.image_click_datasets import click_images

    generator = MaskGeneratorArgs(preset, points_per_side=points_per_side)
    samples = click_images(root, data_format=data_format, split=split, limit=limit)
    task = EvalTask(
        protocol=PROTOCOL,
        unit_label="images",
        units=samples,
        unit_names=[image.name for image in samples],
        evaluate_unit=partial(evaluate_recall, max_objects=objects),
        row_type=ImageRecall,
        summarize=lambda rows: asdict(recall_report(rows)),
        format_summary=lambda rows: _report_lines(recall_report(rows)),
        options=lambda sam: (
            _recorded_options(sam, generator) | {"preset": preset, "objects": objects, "limit": limit, "split": split}
        ),
        steps_per_unit=[1] * len(samples),
        prepare_model=partial(_open_generator, generator),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)


def _open_generator(generator_args: MaskGeneratorArgs, sam: SAM) -> Callable[[npt.NDArray[np.uint8]], Proposals]:
    from masklet.image.automatic_mask_generator import generate_masks

    options = generator_args.to_options(sam.predictor.model)
    return lambda rgb: generate_masks(sam.predictor, rgb, options)


def _recorded_options(sam: SAM, generator_args: MaskGeneratorArgs) -> dict[str, OptionValue]:
    """Return what results depend on, besides the model's name."""
    chosen = asdict(generator_args.to_options(sam.predictor.model)).items()
    return {
        "still_image_size": sam.info().still_image_size,
        **{name: value for name, value in chosen if name not in UNRECORDED_OPTIONS},
    }


def _report_lines(report: RecallReport) -> list[str]:
    from masklet.evaluate.validation_result import pluralize

    lines = [
        f"{pluralize(report.objects, 'object')} in {pluralize(report.images, 'image')}; "
        f"{report.mean_masks:.1f} masks and {report.seconds / report.images:.2f} s an image"
    ]
    lines += [f"{f'AR@{limit}':<16}{value:>8.3f}" for limit, value in report.recall.items()]
    for size, figures in report.recall_by_size.items():
        value = figures["1000"]
        shown = "-" if value is None else f"{value:.3f}"
        lines.append(f"{f'AR@1000 {size}':<16}{shown:>8}  {pluralize(report.objects_by_size[size], 'object')}")
    for limit in ("10", "100"):
        value = report.precision[limit]
        shown = "-" if value is None else f"{value:.3f}"
        lines.append(f"{f'precision@{limit}':<16}{shown:>8}")
    return [*lines, f"{'mean best IoU':<16}{report.mean_best_iou:>8.3f}"]
