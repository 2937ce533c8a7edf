"""`masklet eval davis` and `synthetic`: objects followed from their first mask, by one protocol."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, Precision, ReportFile, Resume, VideoPrompt, Workers

if TYPE_CHECKING:
    from masklet.evaluate import VOSMetrics
    from masklet.evaluate.synthetic import SyntheticReport

__all__ = ["synthetic", "vos"]


def vos(
    root: Annotated[Path, typer.Option(help="Folder with JPEGImages/480p and Annotations/480p (DAVIS 2016 or 2017).")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    prompt: VideoPrompt = "mask",
    split: Annotated[str | None, typer.Option("--set", help="A list of ImageSets, as 2017/val; default: all.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A sequence to leave out; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many sequences, the first by name.", min=1)] = None,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """J, F and frames a second of objects that are followed from their first mask, with a line a sequence.

    J is the IoU of regions, F the agreement of boundaries, both 0 to 1, means over objects; the first and the last
    frame are not measured. With --json the same command goes on where it was stopped.

    \b
    Example:
      masklet eval davis --root DAVIS --set 2017/val --json figures.json
    """
    from masklet.evaluate import SequenceResult, evaluate_sequence, find_davis_sequences, vos_report
    from masklet.evaluate.semi_supervised_vos import validate_prompt_type

    validate_prompt_type(prompt)
    found = find_davis_sequences(root, split, exclude or ())[:limit]
    work = EvalTask(
        protocol="davis",
        unit_label="sequences",
        units=found,
        unit_names=[sequence.name for sequence in found],
        evaluate_unit=partial(evaluate_sequence, prompt=prompt),
        row_type=SequenceResult,
        summarize=lambda rows: asdict(vos_report(rows)),
        format_summary=lambda rows: [_metrics_line("all objects", vos_report(rows).total)] if rows else [],
        options={"prompt": prompt, "split": split, "exclude": exclude or [], "limit": limit},
        step_label="frames",
        steps_per_unit=[len(sequence.frame_paths) for sequence in found],
        format_row=lambda row: _metrics_line(row.name, row.metrics),
        header=_header(),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), work)


def synthetic(
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="occlusion, twins, reentry, fast, small, long, thin or transparency; may be repeated; default: all.",
        ),
    ] = None,
    prompt: VideoPrompt = "mask",
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """J, F and frames a second on made clips, with a line a difficulty and their mean; nothing is downloaded.

    The clips are made anew each time, the same ones; protocol and columns are those of masklet eval davis. The last
    line says how often it was told right whether an object is in sight. With --json the same command goes on
    where it was stopped.

    \b
    Examples:
      masklet eval synthetic --json figures.json
      masklet eval synthetic --difficulty twins --difficulty occlusion --prompt click
    """
    from masklet.evaluate import SequenceResult
    from masklet.evaluate.semi_supervised_vos import validate_prompt_type
    from masklet.evaluate.synthetic import benchmark_clips, evaluate_clip, synthetic_report

    validate_prompt_type(prompt)
    found = benchmark_clips(scenario or ())
    work = EvalTask(
        protocol="synthetic",
        unit_label="clips",
        units=found,
        unit_names=[scene.name for scene in found],
        evaluate_unit=partial(evaluate_clip, prompt=prompt),
        row_type=SequenceResult,
        summarize=lambda rows: asdict(synthetic_report(rows)),
        format_summary=lambda rows: _synthetic_lines(synthetic_report(rows)),
        options={"prompt": prompt, "scenario": scenario or []},
        step_label="frames",
        steps_per_unit=[scene.num_frames for scene in found],
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), work)


def _synthetic_lines(report: SyntheticReport) -> list[str]:
    named = {**report.per_scenario, "mean of difficulties": report.mean_metrics}
    seen = report.presence
    said = (
        f"in sight or not: said right in {seen.accuracy:.3f} of {seen.frames} frames of objects (always in sight: "
        f"{seen.majority_baseline:.3f})"
    )
    return [_header(), *(_metrics_line(name, own) for name, own in named.items()), said]


def _header() -> str:
    return f"{'':<22}" + "".join(f"{name:>9}" for name in ("objects", "frames", "J", "F", "J&F", "fps"))


def _metrics_line(name: str, metrics: VOSMetrics) -> str:
    return f"{name:<22}{metrics.objects:>9}{metrics.frames:>9}{metrics.j:>9.3f}{metrics.f:>9.3f}{metrics.jf:>9.3f}{metrics.fps:>9.2f}"  # noqa: E501
