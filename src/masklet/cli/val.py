"""`masklet val`: how good a model is on pictures and films of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import counting, tell_failure
from masklet.cli.segment_job import open_model
from masklet.cli.shared_options import Device, Model, Precision

if TYPE_CHECKING:
    from masklet.evaluate.validate import Outcome, Plan
    from masklet.evaluate.validation_result import Validation
    from masklet.sam import SAM

__all__ = ["val"]


def val(
    data: Annotated[
        list[Path], typer.Option("--data", "-d", metavar="PATH", help="Pictures or films with masks; may be repeated.")
    ],
    kind: Annotated[
        str | None, typer.Option("--kind", help="coco, yolo, png, davis, sa1b, sav or stills; default: recognised.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Such as val; default: all there is.")] = None,
    model: Model = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="box, click or mask (films only); may be repeated; default: all three."),
    ] = None,
    objects: Annotated[int, typer.Option("--objects", help="Asked for in each entry, at most.", min=1)] = 10,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="Only so many entries, spread evenly.", min=1)
    ] = None,
    report_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    device: Device = None,
    precision: Precision = "fp32",
) -> None:
    """Measure a model on data of your own: IoU on pictures, J and F on films.

    Broken entries are named on standard error and left out; the exit code is then 2. Ctrl-C shows the figures so far.

    \b
    Examples:
      masklet val --data photos
      masklet val --data YouTubeVOS/valid --prompt box --model sam2.1_t.pt --limit 20
      masklet val --data mine --split val --model runs/mine.safetensors --json figures.json
    """
    from masklet.evaluate.prompts_from_masks import checked_prompts
    from masklet.evaluate.validate import DEFAULT_PROMPTS, plan, summary

    asked = checked_prompts(prompt or DEFAULT_PROMPTS)
    chosen = plan(data[0] if len(data) == 1 else data, kind=kind, split=split, limit=limit)
    sam = open_model(model, device, precision)
    found, whole = _measured(sam, chosen, asked, objects)
    figures = summary(found, chosen.broken)
    typer.echo(str(figures))
    if report_file is not None:
        _write(report_file, figures, model or sam.info().name, data)
    if not whole:
        tell_failure(f"stopped after {len(found)} of {len(chosen.samples)} entries; the figures are of these")
        raise typer.Exit(130)
    if figures.left_out:
        tell_failure(f"broken, left out: {len(figures.left_out)} of {len(chosen.samples) + len(chosen.broken)}")
        raise typer.Exit(2)


def _measured(sam: SAM, chosen: Plan, prompts: tuple[str, ...], objects: int) -> tuple[list[Outcome], bool]:
    """What was measured, and whether that is all: Ctrl-C ends it early."""
    from masklet.evaluate.validate import outcomes

    found: list[Outcome] = []
    try:
        with counting("frames", chosen.frames, wanted=True) as step:
            for outcome in outcomes(sam, chosen, prompts=prompts, objects=objects, step=step):
                found.append(outcome)  # noqa: PERF402 - what was measured before Ctrl-C is kept
    except KeyboardInterrupt:
        if not any(outcome.measured for outcome in found):
            raise
        return found, False
    return found, True


def _write(path: Path, figures: Validation, model: str, data: list[Path]) -> None:
    from masklet.atomic_files import write_text

    head = {"model": model, "data": [str(place) for place in data]}
    write_text(path, json.dumps({**head, **json.loads(figures.to_json())}, indent=2))
