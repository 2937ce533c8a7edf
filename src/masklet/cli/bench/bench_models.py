"""`masklet bench family`: the models of the family in one table."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import show_record, written
from masklet.cli.console import counting, note
from masklet.cli.shared_options import FigureFile

if TYPE_CHECKING:
    from masklet.benchmark.model_family import FamilyRow, How
    from masklet.benchmark.record import Option, Record

__all__ = ["family"]


def family(
    models: Annotated[
        str | None, typer.Option(help="Names with commas between them; default: the whole family.")
    ] = None,
    points: Annotated[int, typer.Option("--everything-points", help="Points a side of the grid.", min=1)] = 32,
    repeats: Annotated[int, typer.Option(help="Rounds; the median counts.", min=1)] = 3,
    limit: Annotated[float, typer.Option(help="Seconds; everything that takes longer is estimated.", min=0)] = 60.0,
    threads: Annotated[int | None, typer.Option(help="Of PyTorch; default: as it likes.", min=1)] = None,
    processor: Annotated[
        bool, typer.Option("--processor-time", help="Count the processor's time: for a busy machine, one thread.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="A picture; default: one that is made, 1280 x 720.")] = None,
    report_file: FigureFile = None,
) -> None:
    """Parameters, size of the file and speed on the CPU of the family's models, in one table.

    Encode and click are what one prompted answer takes; everything is segmenting everything with a grid of points, or
    with ~ an estimate; one pass is a detector's way from picture to boxes and masks. Models whose file is not here are
    timed with random weights. The table is Markdown; the file of --json is written anew after every model.

    \b
    Examples:
      masklet bench family --json family.json
      masklet bench family --models builtin,sam2.1_t.pt,mobile_sam.pt --everything-points 16 --repeats 1
    """
    import torch

    from masklet.benchmark.image import rgb_of
    from masklet.benchmark.model_family import FAMILY, PHASES, PICTURE_SIZE, How, bench_model
    from masklet.registry import find

    names = [find(name.strip()).name for name in models.split(",")] if models else list(FAMILY)
    if threads:
        torch.set_num_threads(threads)
    clock = time.process_time if processor else time.perf_counter
    how = How(rgb_of(picture, PICTURE_SIZE), repeats, points, limit, clock=clock)
    rows: list[FamilyRow] = []
    with counting("steps", len(names) * PHASES, wanted=True) as step:
        for name in names:
            rows.append(bench_model(name, how, step))
            _record(rows, how, report_file)
    show_record(_record(rows, how, report_file))
    for name in (row.name for row in rows if not row.agrees):
        note(f"{name}: the parameters are not those that were published")


def _clock(how: How) -> str:
    return "processor time" if how.clock is time.process_time else "wall time"


def _record(rows: list[FamilyRow], how: How, report_file: Path | None) -> Record:
    from masklet.atomic_files import write_text
    from masklet.benchmark.model_family import PROTOCOL

    options: dict[str, Option] = {
        "picture": [how.rgb.shape[1], how.rgb.shape[0]],
        "repeats": how.repeats,
        "points": how.points_per_side,
        "limit_s": how.limit_s,
        "clock": _clock(how),
    }
    record = replace(written(PROTOCOL, "family", options, "cpu", None, (), None), models=tuple(rows))
    if report_file is not None:
        write_text(report_file, record.to_json())
    return record
