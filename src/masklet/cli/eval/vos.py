"""`masklet eval vos`, `synthetic` and `doubts`: objects tracked from their first mask, as DAVIS measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.eval.runner import EvalOptions, EvalTask, memory_option, model_with_memory, run_eval
from masklet.cli.shared_options import (
    EvalModel,
    ImageSize,
    Memories,
    Memory,
    MemoryPooling,
    Pointers,
    Precision,
    ReportFile,
    Resume,
    Scenarios,
    Split,
    VideoPrompt,
    Workers,
    track_options,
)

if TYPE_CHECKING:
    from masklet.evaluate import VOSMetrics, VOSReport
    from masklet.evaluate.doubt_corrections import DoubtReport, DoubtResult
    from masklet.evaluate.motion_speed import SpeedMetrics
    from masklet.evaluate.synthetic import SyntheticReport

__all__ = ["doubts", "synthetic", "vos"]

DOUBT_COLUMNS = ("before", "doubts", "at_once", "even", "random")
SPEED_HEADER = f"{'J&F by speed of motion':<31}" + "".join(f"{name:>9}" for name in ("frames", "J", "F", "J&F"))
METRICS_HEADER = f"{'':<22}" + "".join(f"{name:>9}" for name in ("objects", "frames", "J", "F", "J&F", "fps"))

BySpeed = Annotated[bool, typer.Option("--by-speed", help="Also print J and F by how fast objects move.")]


def vos(
    root: Annotated[Path, typer.Option(help="Folder with JPEGImages/480p and Annotations/480p (DAVIS 2016 or 2017).")],
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    prompt: VideoPrompt = "mask",
    memory: Memory = "sam2",
    by_speed: BySpeed = False,
    split: Split = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A sequence to skip; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only N sequences, the first by name.", min=1)] = None,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure J, F and frames per second of objects tracked from their first mask, with a line per sequence.

    J is the IoU of regions, F the agreement of boundaries, both 0 to 1, means over objects; the first and the last
    frame are not measured. --by-speed adds a line for still, slow, fast and very fast objects. With --report the same
    command resumes.

    \b
    Example:
      masklet eval vos --root DAVIS --split 2017/val --report results.json
    """
    from masklet.evaluate import SequenceResult, evaluate_sequence, find_davis_sequences, vos_report
    from masklet.evaluate.prompts_from_masks import validate_prompt_type

    validate_prompt_type(prompt)
    sequences = find_davis_sequences(root, split, exclude or ())[:limit]
    task = EvalTask(
        protocol="davis",
        unit_label="sequences",
        units=sequences,
        unit_names=[sequence.name for sequence in sequences],
        evaluate_unit=partial(evaluate_sequence, prompt=prompt),
        row_type=SequenceResult,
        summarize=lambda rows: asdict(vos_report(rows)),
        format_summary=lambda rows: _vos_lines(vos_report(rows), by_speed) if rows else [],
        options={"prompt": prompt, "split": split, "exclude": exclude or [], "limit": limit, **memory_option(memory)},
        prepare_model=partial(model_with_memory, options=track_options(memory)),
        step_label="frames",
        steps_per_unit=[len(sequence.frame_paths) for sequence in sequences],
        format_row=lambda row: _metrics_line(row.name, row.metrics),
        header=METRICS_HEADER,
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)


def synthetic(
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    memories: Memories = 6,
    pointers: Pointers = 16,
    memory_pooling: MemoryPooling = 1,
    scenario: Scenarios = None,
    prompt: VideoPrompt = "mask",
    memory: Memory = "sam2",
    by_speed: BySpeed = False,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure J, F and frames per second on synthetic clips, with a line per scenario and their mean.

    The clips are rendered in each run, always the same ones, and nothing is downloaded; protocol and columns are those
    of masklet eval vos. The last line is the accuracy of predicting whether an object is visible. With --report the
    same command resumes.

    \b
    Examples:
      masklet eval synthetic --report results.json
      masklet eval synthetic --scenario twins --scenario occlusion --prompt click
    """
    from masklet.evaluate import SequenceResult
    from masklet.evaluate.prompts_from_masks import validate_prompt_type
    from masklet.evaluate.synthetic import benchmark_clips, evaluate_clip, synthetic_report

    validate_prompt_type(prompt)
    clips = benchmark_clips(scenario or ())
    task = EvalTask(
        protocol="synthetic",
        unit_label="clips",
        units=clips,
        unit_names=[clip.name for clip in clips],
        evaluate_unit=partial(evaluate_clip, prompt=prompt),
        row_type=SequenceResult,
        summarize=lambda rows: asdict(synthetic_report(rows)),
        format_summary=lambda rows: _synthetic_lines(synthetic_report(rows), by_speed),
        options={
            "prompt": prompt,
            "scenario": scenario or [],
            **memory_option(memory, memories, pointers, memory_pooling),
        },
        prepare_model=partial(model_with_memory, options=track_options(memory, memories, pointers)),
        step_label="frames",
        steps_per_unit=[clip.num_frames for clip in clips],
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume, memory_pooling), task)


def doubts(
    model: EvalModel = None,
    image_size: ImageSize = None,
    precision: Precision = "fp32",
    scenario: Scenarios = None,
    correction: Annotated[str, typer.Option(help="How a frame is corrected: mask (the true one) or clicks.")] = "mask",
    frames: Annotated[int, typer.Option(help="Corrected frames of a clip.", min=1)] = 5,
    check_backward: Annotated[
        bool, typer.Option("--check-backward", help="Doubts also where tracking backward differs.")
    ] = False,
    workers: Workers = 1,
    report_file: ReportFile = None,
    resume: Resume = True,
) -> None:
    """Measure what correcting the most doubtful frames gains on synthetic clips, with a line per clip.

    The clips of masklet eval synthetic are tracked, corrected and tracked again: on the frames that session.doubts()
    names, one after the other, each in the clip as it was tracked after the one before; on those it names first, all
    at once; on evenly spread ones and on random ones. The last lines are the means of J&F, and the gains. With --report
    the same command resumes.

    \b
    Examples:
      masklet eval doubts --report doubts.json
      masklet eval doubts --scenario twins --correction clicks --frames 3
    """
    from masklet.evaluate.doubt_corrections import DoubtOptions, DoubtResult, doubts_report, evaluate_doubts
    from masklet.evaluate.synthetic import benchmark_clips

    options, clips = DoubtOptions(correction, frames, check_backward), benchmark_clips(scenario or ())
    task = EvalTask(
        protocol="doubts-one-by-one",
        unit_label="clips",
        units=clips,
        unit_names=[clip.name for clip in clips],
        evaluate_unit=partial(evaluate_doubts, options=options),
        row_type=DoubtResult,
        summarize=lambda rows: asdict(doubts_report(rows)),
        format_summary=lambda rows: _doubt_lines(doubts_report(rows)) if rows else [],
        options={**asdict(options), "scenario": scenario or []},
        prepare_model=partial(model_with_memory, options=track_options()),
        step_label="frames",
        steps_per_unit=[(4 + frames) * clip.num_frames for clip in clips],
        format_row=lambda row: f"{row.name:<22}{_doubt_scores(row)}   frames {', '.join(map(str, row.doubt_frames))}",
        header=f"{'J&F':<22}" + "".join(f"{name.replace('_', ' '):>9}" for name in DOUBT_COLUMNS),
    )
    run_eval(EvalOptions(model, image_size, precision, workers, report_file, resume), task)


def _doubt_scores(scores: DoubtResult | DoubtReport) -> str:
    return "".join(f"{getattr(scores, name):>9.3f}" for name in DOUBT_COLUMNS)


def _doubt_lines(report: DoubtReport) -> list[str]:
    gains = "".join(f"{getattr(report, name) - report.before:>+9.3f}" for name in DOUBT_COLUMNS)
    return [f"{'mean of scenarios':<22}{_doubt_scores(report)}", f"{'gain':<22}{gains}"]


def _vos_lines(report: VOSReport, by_speed: bool) -> list[str]:
    return [_metrics_line("all objects", report.total), *(_speed_lines(report.by_speed) if by_speed else [])]


def _synthetic_lines(report: SyntheticReport, by_speed: bool) -> list[str]:
    rows = {**report.per_scenario, "mean of scenarios": report.mean_metrics}
    presence = report.presence
    visibility = (
        f"visible or not: correct in {presence.accuracy:.3f} of {presence.frames} frames of objects (always visible: "
        f"{presence.majority_baseline:.3f})"
    )
    lines = [METRICS_HEADER, *(_metrics_line(name, metrics) for name, metrics in rows.items()), visibility]
    return [*lines, *(_speed_lines(report.by_speed) if by_speed else [])]


def _speed_lines(by_speed: Mapping[str, SpeedMetrics]) -> list[str]:
    lines = [SPEED_HEADER]
    for name, metrics in by_speed.items():
        scores = "".join(f"{value:>9.3f}" for value in (metrics.j, metrics.f, metrics.jf))
        lines.append(f"{name:<31}{metrics.frames:>9}{scores}")
    return lines


def _metrics_line(name: str, metrics: VOSMetrics) -> str:
    scores = "".join(f"{value:>9.3f}" for value in (metrics.j, metrics.f, metrics.jf))
    return f"{name:<22}{metrics.objects:>9}{metrics.frames:>9}{scores}{metrics.fps:>9.2f}"
