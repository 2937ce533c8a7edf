"""`masklet bench models`: compare the models of the family in one table."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import ImageFile, make_record, show_record, split_commas
from masklet.cli.console import print_notice, progress_bar
from masklet.cli.shared_options import ReportFile, Threads

if TYPE_CHECKING:
    from masklet.benchmark.model_family import FamilyRow
    from masklet.benchmark.record import BenchmarkRecord, OptionValue

__all__ = ["models"]


def models(
    names: Annotated[
        str | None, typer.Option("--models", help="Names, separated by commas; default: the complete family.")
    ] = None,
    points: Annotated[int, typer.Option("--points", help="Points per side of the grid.", min=1)] = 32,
    repeats: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = 3,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", help="Mask generation that takes longer is estimated.", min=0)
    ] = 60.0,
    threads: Threads = None,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="Measure CPU time: for a busy machine, with one thread.")
    ] = False,
    image_path: ImageFile = None,
    report_file: ReportFile = None,
) -> None:
    """Compare parameters, file size and CPU speed of the models in one table.

    Encode and click are the two steps of one prompt. Everything is automatic mask generation with a grid of points, or
    with ~ an estimate. One pass is a detector from image to boxes and masks. Models whose file is missing are timed
    with random weights. The table is Markdown; the file of --report is written again after every model.

    \b
    Examples:
      masklet bench models --report family.json
      masklet bench models --models builtin,sam2.1_t.pt,mobile_sam.pt --points 16 --repeats 1
    """
    from masklet.atomic_files import write_text
    from masklet.benchmark.image import load_image
    from masklet.benchmark.model_family import (
        MODEL_FAMILY,
        PROTOCOL,
        SAMPLE_IMAGE_SIZE,
        STEPS_PER_MODEL,
        FamilyOptions,
        benchmark_model,
    )
    from masklet.cpu_threads import fix_threads
    from masklet.registry import get_card

    canonical = [get_card(name).name for name in split_commas(names)] if names else list(MODEL_FAMILY)
    if threads:
        fix_threads(threads)
    image = load_image(image_path, SAMPLE_IMAGE_SIZE)
    clock = time.process_time if cpu_time else time.perf_counter
    settings = FamilyOptions(image, repeats, points, max_seconds, clock=clock)
    options: dict[str, OptionValue] = {
        "image": [image.shape[1], image.shape[0]],
        "repeats": repeats,
        "points_per_side": points,
        "max_seconds": max_seconds,
        "clock": "CPU time" if cpu_time else "wall time",
    }
    rows: list[FamilyRow] = []

    def record() -> BenchmarkRecord:
        made = replace(make_record(PROTOCOL, "family", options, "cpu", None, (), None), models=tuple(rows))
        if report_file is not None:
            write_text(report_file, made.to_json())
        return made

    with progress_bar("steps", len(canonical) * STEPS_PER_MODEL, enabled=True) as step:
        for name in canonical:
            rows.append(benchmark_model(name, settings, step))
            record()
    show_record(record())
    for name in (row.name for row in rows if not row.matches_published):
        print_notice(f"{name}: the number of parameters is not the published one")
