"""`masklet eval interactive`: videos corrected by clicks, offline and online."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_notice
from masklet.cli.eval.runner import EvalOptions, EvalTask, model_with_memory, run_eval
from masklet.cli.shared_options import (
    DataFormat,
    EvalModel,
    ImageSize,
    ObjectReportFile,
    Precision,
    Resume,
    Split,
    Workers,
    track_options,
)

if TYPE_CHECKING:
    from masklet.evaluate.video_clicks import InteractiveReport

__all__ = ["interactive"]


def interactive(
    root: Annotated[Path, typer.Option(help="Videos with masks, in any format that masklet val reads.")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    mode: Annotated[str, typer.Option(help="offline (passes, the worst frame corrected) or online.")] = "offline",
    frames: Annotated[int, typer.Option(help="Corrected frames, at most.", min=1)] = 8,
    clicks: Annotated[int, typer.Option(help="Clicks on each of these frames, at most.", min=1)] = 3,
    data_format: DataFormat = None,
    split: Split = None,
    limit: Annotated[int | None, typer.Option(help="Only N videos, the first by name.", min=1)] = None,
    workers: Workers = 1,
    report_file: ObjectReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure J&F of videos corrected by clicks on up to 8 frames, as in the SAM 2 paper, with a line per object.

    offline: in every pass the worst frame gets three clicks, and the video is tracked again; online: one pass, halted
    where the IoU falls below 0.75, and the same with a lower limit of frames. The result is the mean over 1 to 8
    frames. With --report the same command resumes after the last complete object. The exit code is 2 if broken videos
    are skipped.

    \b
    Examples:
      masklet eval interactive --root DAVIS --report offline.json
      masklet eval interactive --root DAVIS --mode online --split 2017/val
    """
    from masklet.datasets import open_dataset
    from masklet.evaluate.video_clicks import (
        InteractiveOptions,
        InteractiveResult,
        evaluate_interactive,
        interactive_report,
    )

    options = InteractiveOptions(mode, frames, clicks)
    data = open_dataset(root, data_format=data_format, split=split)
    for problem in data.issues:
        print_notice(f"{problem.reason}; skipped")
    videos = [entry for entry in data.samples if len(entry.frame_indices) > 1][:limit]
    task = EvalTask(
        protocol="interactive",
        unit_label="videos",
        units=videos,
        unit_names=[video.name for video in videos],
        evaluate_unit=partial(evaluate_interactive, options=options),
        row_type=InteractiveResult,
        summarize=lambda rows: interactive_report(rows, options).to_dict(),
        format_summary=lambda rows: _report_lines(interactive_report(rows, options)),
        options={**asdict(options), "data_format": data_format, "split": split, "limit": limit},
        prepare_model=partial(model_with_memory, options=track_options()),
        step_label="frames",
        format_row=lambda row: (
            f"{row.video} {row.id}: J&F {' '.join(map('{:.3f}'.format, row.curve))}; "
            f"frames {', '.join(map(str, row.interacted_frames))}; {row.clicks} clicks"
        ),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)
    if data.issues:
        raise typer.Exit(ExitCode.ERROR)


def _report_lines(report: InteractiveReport) -> list[str]:
    from masklet.evaluate.validation_result import pluralize

    counts = f"{pluralize(report.objects, 'object')} in {pluralize(report.videos, 'video')}"
    effort = f"frames interacted with {report.mean_interacted_frames:.2f}, clicks {report.mean_clicks:.2f}"
    lines = [
        f"{report.options.mode}: {counts}; {report.seconds:.1f} s",
        f"{'frames':<8}" + "".join(f"{n + 1:>8}" for n in range(len(report.curve))),
    ]
    for name, curve in (("J&F", report.curve), ("J", report.j), ("F", report.f)):
        lines.append(f"{name:<8}" + "".join(f"{value:>8.3f}" for value in curve))
    return [*lines, f"J&F, mean of the curve {report.mean_jf:.3f}; {effort}"]
