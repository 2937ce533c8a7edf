"""`masklet bench family`: the models of the family in one table."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import make_record, show_record
from masklet.cli.console import print_notice, progress_bar
from masklet.cli.shared_options import ReportFile

if TYPE_CHECKING:
    from masklet.benchmark.model_family import FamilyOptions, FamilyRow
    from masklet.benchmark.record import BenchmarkRecord, OptionValue

__all__ = ["models"]


def models(
    model_names: Annotated[
        str | None, typer.Option(help="Names with commas between them; default: the whole family.")
    ] = None,
    points: Annotated[int, typer.Option("--everything-points", help="Points a side of the grid.", min=1)] = 32,
    repeats: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = 3,
    limit: Annotated[float, typer.Option(help="Seconds; everything that takes longer is estimated.", min=0)] = 60.0,
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    cpu_time: Annotated[
        bool, typer.Option("--processor-time", help="Count the processor's time: for a busy machine, one thread.")
    ] = False,
    image_path: Annotated[Path | None, typer.Option(help="An image; default: one that is made, 1280 x 720.")] = None,
    report_file: ReportFile = None,
) -> None:
    """Parameters, size of the file and speed on the CPU of the family's models, in one table.

    Encode and click are what one prompted answer takes; everything is segmenting everything with a grid of points, or
    with ~ an estimate; one pass is a detector's way from image to boxes and masks. Models whose file is not here are
    timed with random weights. The table is Markdown; the file of --json is written anew after every model.

    \b
    Examples:
      masklet bench family --json family.json
      masklet bench family --models builtin,sam2.1_t.pt,mobile_sam.pt --everything-points 16 --repeats 1
    """
    import torch

    from masklet.benchmark.image import load_image
    from masklet.benchmark.model_family import (
        MODEL_FAMILY,
        SAMPLE_IMAGE_SIZE,
        STEPS_PER_MODEL,
        FamilyOptions,
        benchmark_model,
    )
    from masklet.registry import get_card

    names = [get_card(name.strip()).name for name in model_names.split(",")] if model_names else list(MODEL_FAMILY)
    if threads:
        torch.set_num_threads(threads)
    clock = time.process_time if cpu_time else time.perf_counter
    how = FamilyOptions(load_image(image_path, SAMPLE_IMAGE_SIZE), repeats, points, limit, clock=clock)
    rows: list[FamilyRow] = []
    with progress_bar("steps", len(names) * STEPS_PER_MODEL, enabled=True) as step:
        for name in names:
            rows.append(benchmark_model(name, how, step))
            _write_record(rows, how, report_file)
    show_record(_write_record(rows, how, report_file))
    for name in (row.name for row in rows if not row.matches_published):
        print_notice(f"{name}: the parameters are not those that were published")


def _clock(how: FamilyOptions) -> str:
    return "processor time" if how.clock is time.process_time else "wall time"


def _write_record(rows: list[FamilyRow], family_options: FamilyOptions, report_file: Path | None) -> BenchmarkRecord:
    from masklet.atomic_files import write_text
    from masklet.benchmark.model_family import PROTOCOL

    options: dict[str, OptionValue] = {
        "picture": [family_options.image.shape[1], family_options.image.shape[0]],
        "repeats": family_options.repeats,
        "points": family_options.points_per_side,
        "limit_s": family_options.max_seconds,
        "clock": _clock(family_options),
    }
    record = replace(make_record(PROTOCOL, "family", options, "cpu", None, (), None), models=tuple(rows))
    if report_file is not None:
        write_text(report_file, record.to_json())
    return record
