"""`masklet eval scribbles`: DAVIS interactive, videos segmented by scribbles against the clock."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_notice
from masklet.cli.eval.runner import EvalOptions, EvalTask, model_with_memory, run_eval
from masklet.cli.shared_options import EvalModel, ImageSize, ObjectReportFile, Precision, Resume, Split, track_options

if TYPE_CHECKING:
    from masklet.evaluate.scribble_report import ScribblesReport
    from masklet.evaluate.video_scribbles import ScribbleResult

__all__ = ["scribbles"]


def scribbles(
    root: Annotated[Path, typer.Option(help="DAVIS 2017: JPEGImages/480p, Annotations/480p and Scribbles.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    interactions: Annotated[int, typer.Option(help="Interactions, at most.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="Time limit per object and interaction.")] = 30.0,
    first_scribble: Annotated[
        str,
        typer.Option(
            "--scribbles", help="Who draws first: person (the files of Scribbles; robot if there are none) or robot."
        ),
    ] = "person",
    points: Annotated[int, typer.Option(help="Points per stroke.", min=1)] = 3,
    max_points: Annotated[int, typer.Option(help="Points on and off an object on a frame, at most.", min=1)] = 8,
    split: Split = None,
    limit: Annotated[int | None, typer.Option(help="Only N sequences, the first by name.", min=1)] = None,
    starts: Annotated[
        int | None, typer.Option(help="First scribbles per sequence, at most; default: all.", min=1)
    ] = None,
    report_file: ObjectReportFile = None,
    resume: Resume = True,
) -> None:
    """Run DAVIS interactive: J&F at 60 seconds and the area below J&F over time, of videos segmented by scribbles.

    A person's scribble begins; then the robot of the challenge draws on the frame with the lowest J&F, 8 times at most.
    Time is measured, so nothing else should run on the machine. With --report the same command resumes.

    \b
    Examples:
      masklet eval scribbles --root DAVIS --split 2017/val --report scribbles.json
      masklet eval scribbles --root DAVIS --scribbles robot --interactions 3 --limit 2
    """
    from masklet.evaluate.davis_sequences import find_davis_sequences
    from masklet.evaluate.scribble_report import scribbles_report
    from masklet.evaluate.video_scribbles import ScribbleOptions, ScribbleResult, evaluate_scribbles, scribble_samples

    options = ScribbleOptions(interactions, seconds, points, max_points)
    samples = scribble_samples(root, find_davis_sequences(root, split)[:limit], starts, first_scribbles=first_scribble)
    missing = [sample.sequence.name for sample in samples if sample.file is None]
    if missing and first_scribble == "person":
        print_notice(
            f"Scribbles has none of {', '.join(missing)}; the robot draws the first ones: not comparable with the "
            "results of the challenge"
        )
    task = EvalTask(
        protocol="davis-interactive",
        unit_label="samples",
        units=samples,
        unit_names=[sample.name for sample in samples],
        evaluate_unit=partial(evaluate_scribbles, options=options),
        row_type=ScribbleResult,
        summarize=lambda rows: scribbles_report(rows, options).to_dict(),
        format_summary=lambda rows: _report_lines(scribbles_report(rows, options)),
        options={
            **asdict(options),
            "first_scribbles": first_scribble,
            "split": split,
            "limit": limit,
            "starts": starts,
        },
        prepare_model=partial(model_with_memory, options=track_options()),
        step_label="frames",
        format_row=_format_sample,
    )
    run_eval(EvalOptions(model, image_size, precision, results_file=report_file, resume=resume), task)


def _format_sample(row: ScribbleResult) -> str:
    who = f"{row.scribble_number:03d}" if row.scribble_number else "robot"
    shown = " ".join(f"{one.jf:.3f}" for one in row.interactions) or "-"
    frames = ", ".join(str(one.frame_idx) for one in row.interactions) or "-"
    late = "; out of time" if row.timed_out else ""
    return f"{row.sequence} {who}: J&F {shown}; frames {frames}; {sum(o.seconds for o in row.interactions):.1f} s{late}"


def _report_lines(report: ScribblesReport) -> list[str]:
    late = f", {report.timed_out} out of time" if report.timed_out else ""
    robot = f", {report.robot_samples} begun by the robot" if report.robot_samples else ""
    lines = [f"{report.samples} samples of {report.sequences} sequences{robot}{late}; {report.seconds:.1f} s"]
    for name, values in (
        ("seconds", [f"{p.seconds:.1f}" for p in report.curve]),
        ("J&F", [f"{p.jf:.3f}" for p in report.curve]),
        ("J", [f"{p.j:.3f}" for p in report.curve]),
        ("F", [f"{p.f:.3f}" for p in report.curve]),
    ):
        lines.append(f"{name:<8}" + "".join(f"{value:>8}" for value in values))
    return [
        *lines,
        f"AUC {report.auc:.3f}, J&F@60s {report.jf_at_60s:.3f}; "
        f"of J alone {report.j_auc:.3f} and {report.j_at_60s:.3f}",
    ]
