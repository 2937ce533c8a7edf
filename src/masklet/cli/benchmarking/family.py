"""`masklet bench family`: the models of the family in one table."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import show_table, tell
from masklet.cli.options import FigureFile
from masklet.cli.output import counting, note

if TYPE_CHECKING:
    from masklet.bench.family import FamilyRow, How

__all__ = ["family"]

COLUMNS = ("model", "parameters", "published", "file", "encode", "click", "everything", "one pass", "weights")
WORDS = ("model", "weights")
"""Columns that are aligned to the left."""
HEAD = ("protocol", "options", "machine", "masklet", "commit", "date")
"""What the file has of a record."""


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

    from masklet.bench.family import FAMILY, PHASES, PICTURE_SIZE, How, bench_model
    from masklet.bench.image import rgb_of
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
            if report_file is not None:
                _write(report_file, rows, how)
    _show(rows, how)


def _show(rows: list[FamilyRow], how: How) -> None:
    from masklet.bench.machine import this_machine

    show_table(COLUMNS, [_cells(row) for row in rows], WORDS)
    machine, (height, width) = this_machine(), how.rgb.shape[:2]
    tell("")
    tell(
        f"{machine.processor}, {machine.threads} thread(s), torch {machine.torch}, Python {machine.python}; picture of "
        f"{width} x {height}, median of {how.repeats}, {_clock(how)}."
    )
    for name in (row.name for row in rows if not row.agrees):
        note(f"{name}: the parameters are not those that were published")


def _cells(row: FamilyRow) -> tuple[str, ...]:
    asked, everything = row.prompted, row.everything
    return (
        row.title,
        f"{row.parameters / 1e6:.2f} M",
        "" if row.published_millions is None else f"{row.published_millions:g} M",
        f"{row.file_megabytes:.1f} MB",
        "" if asked is None else f"{asked.encode_ms:.0f} ms",
        "" if asked is None else f"{asked.click_ms:.0f} ms",
        "" if everything is None else f"{'~' if everything.estimated else ''}{everything.seconds:.1f} s",
        "" if row.pass_ms is None else f"{row.pass_ms:.0f} ms",
        "its own" if row.trained else "random",
    )


def _clock(how: How) -> str:
    return "processor time" if how.clock is time.process_time else "wall time"


def _write(path: Path, rows: list[FamilyRow], how: How) -> None:
    from masklet import __version__
    from masklet.bench.family import PROTOCOL
    from masklet.bench.machine import this_machine
    from masklet.bench.record import Option, new_record
    from masklet.files import write_text

    options: dict[str, Option] = {
        "picture": [how.rgb.shape[1], how.rgb.shape[0]],
        "repeats": how.repeats,
        "points": how.points_per_side,
        "limit_s": how.limit_s,
        "clock": _clock(how),
    }
    head = asdict(new_record(PROTOCOL, "family", options, this_machine(), None, (), __version__))
    told = {name: head[name] for name in HEAD} | {"models": [asdict(row) for row in rows]}
    write_text(path, json.dumps(told, indent=2) + "\n")
