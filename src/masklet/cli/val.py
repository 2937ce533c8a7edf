"""`masklet val`: the accuracy of a model on your own images and videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_error, progress_bar
from masklet.cli.shared_options import (
    DataFormat,
    Device,
    ImageSize,
    IncludeCrowds,
    Memory,
    Model,
    Precision,
    ReportFile,
    Split,
    open_model,
    track_options,
)

if TYPE_CHECKING:
    from masklet.evaluate.validate import ValidationOutcome

__all__ = ["val"]


def val(
    data: Annotated[
        list[Path], typer.Option("--data", "-d", metavar="PATH", help="Images or videos with masks; repeatable.")
    ],
    data_format: DataFormat = None,
    split: Split = None,
    include_crowds: IncludeCrowds = False,
    model: Model = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="box, click or mask (videos only); repeatable; default: all three."),
    ] = None,
    memory: Memory = "sam2",
    objects: Annotated[int, typer.Option("--objects", help="Objects per image or video, at most.", min=1)] = 10,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="Only N images and videos, spread evenly.", min=1)
    ] = None,
    report_file: ReportFile = None,
    image_size: ImageSize = None,
    device: Device = None,
    precision: Precision = "fp32",
) -> None:
    """Measure a model on your own data: IoU on images, J and F on videos.

    Broken images, videos and objects are named on standard error and skipped; the exit code is then 2. Ctrl-C prints
    the results so far.

    \b
    Examples:
      masklet val --data photos
      masklet val --data YouTubeVOS/valid --prompt box --model sam2.1_t.pt --limit 20
      masklet val --data mine --split val --model runs/mine.safetensors --report results.json
    """
    from masklet.atomic_files import write_text
    from masklet.evaluate.prompts_from_masks import parse_prompt_types
    from masklet.evaluate.tracking import ModelWithOptions
    from masklet.evaluate.validate import DEFAULT_PROMPTS, iter_outcomes, plan_validation, summarize

    prompts = parse_prompt_types(prompt or DEFAULT_PROMPTS)
    sources = data[0] if len(data) == 1 else data
    plan = plan_validation(sources, data_format=data_format, split=split, include_crowds=include_crowds, limit=limit)
    options = track_options(memory)
    sam = open_model(model, device, precision, image_size)
    tracker = ModelWithOptions(sam, options)
    outcomes: list[ValidationOutcome] = []
    interrupted = False
    try:
        with progress_bar("frames", plan.num_frames, enabled=True) as step:
            for outcome in iter_outcomes(tracker, plan, prompts=prompts, max_objects=objects, on_progress=step):
                outcomes.append(outcome)  # noqa: PERF402  # what was measured before Ctrl-C counts
    except KeyboardInterrupt:
        if not any(outcome.is_measured for outcome in outcomes):
            raise
        interrupted = True
    result = summarize(outcomes, plan.broken)
    typer.echo(str(result))
    if report_file is not None:
        head = {"model": model or sam.info().name, "data": [str(path) for path in data]}
        write_text(report_file, json.dumps({**head, **json.loads(result.to_json())}, indent=2))
    if interrupted:
        print_error(f"stopped after {len(outcomes)} of {len(plan.items)} images and videos; the results are of these")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if result.skipped:
        print_error(f"broken, skipped: {len(result.skipped)} of {len(plan.items) + len(plan.broken)}")
    if result.broken_objects:
        print_error(f"broken objects, skipped: {result.broken_objects}")
    if result.skipped or result.broken_objects:
        raise typer.Exit(ExitCode.ERROR)
