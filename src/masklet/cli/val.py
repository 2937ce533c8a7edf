"""`masklet val`: how good a model is on images and videos of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_error, progress_bar
from masklet.cli.segment_job import open_model
from masklet.cli.shared_options import Device, Model, Precision

if TYPE_CHECKING:
    from masklet.evaluate.validate import ValidationOutcome, ValidationPlan
    from masklet.evaluate.validation_result import ValidationResult
    from masklet.sam import SAM

__all__ = ["val"]


def val(
    data: Annotated[
        list[Path], typer.Option("--data", "-d", metavar="PATH", help="Images or videos with masks; may be repeated.")
    ],
    data_format: Annotated[
        str | None, typer.Option("--kind", help="coco, yolo, png, davis, sa1b, sav or stills; default: recognized.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Such as val; default: all there is.")] = None,
    model: Model = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="box, click or mask (videos only); may be repeated; default: all three."),
    ] = None,
    objects: Annotated[int, typer.Option("--objects", help="Asked for in each entry, at most.", min=1)] = 10,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="Only so many entries, spread evenly.", min=1)
    ] = None,
    report_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    device: Device = None,
    precision: Precision = "fp32",
) -> None:
    """Measure a model on data of your own: IoU on images, J and F on videos.

    Broken entries are named on standard error and left out; the exit code is then 2. Ctrl-C shows the figures so far.

    \b
    Examples:
      masklet val --data photos
      masklet val --data YouTubeVOS/valid --prompt box --model sam2.1_t.pt --limit 20
      masklet val --data mine --split val --model runs/mine.safetensors --json figures.json
    """
    from masklet.evaluate.prompts_from_masks import parse_prompt_types
    from masklet.evaluate.validate import DEFAULT_PROMPTS, plan_validation, summarize

    asked = parse_prompt_types(prompt or DEFAULT_PROMPTS)
    chosen = plan_validation(data[0] if len(data) == 1 else data, data_format=data_format, split=split, limit=limit)
    sam = open_model(model, device, precision)
    found, whole = _validate(sam, chosen, asked, objects)
    figures = summarize(found, chosen.broken)
    typer.echo(str(figures))
    if report_file is not None:
        _write_report(report_file, figures, model or sam.info().name, data)
    if not whole:
        print_error(f"stopped after {len(found)} of {len(chosen.items)} entries; the figures are of these")
        raise typer.Exit(130)
    if figures.skipped:
        print_error(f"broken, left out: {len(figures.skipped)} of {len(chosen.items) + len(chosen.broken)}")
        raise typer.Exit(2)


def _validate(
    sam: SAM, validation_plan: ValidationPlan, prompts: tuple[str, ...], objects: int
) -> tuple[list[ValidationOutcome], bool]:
    """What was measured, and whether that is all: Ctrl-C ends it early."""
    from masklet.evaluate.validate import iter_outcomes

    found: list[ValidationOutcome] = []
    try:
        with progress_bar("frames", validation_plan.num_frames, enabled=True) as step:
            for outcome in iter_outcomes(sam, validation_plan, prompts=prompts, max_objects=objects, on_progress=step):
                found.append(outcome)  # noqa: PERF402
    except KeyboardInterrupt:
        if not any(outcome.is_measured for outcome in found):
            raise
        return found, False
    return found, True


def _write_report(path: Path, result: ValidationResult, model: str, data: list[Path]) -> None:
    from masklet.atomic_files import write_text

    head = {"model": model, "data": [str(place) for place in data]}
    write_text(path, json.dumps({**head, **json.loads(result.to_json())}, indent=2))
