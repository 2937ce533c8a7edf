"""`masklet bench startup`: from a command to its first mask."""

from __future__ import annotations

from typing import Annotated

import typer

from masklet.cli.benchmarking.showing import show_record, written
from masklet.cli.options import Device, EvalModel, FigureFile

__all__ = ["startup"]


def startup(
    model: EvalModel = None,
    repeats: Annotated[int, typer.Option(help="Rounds after one that is not counted.", min=1)] = 5,
    device: Device = None,
    report_file: FigureFile = None,
) -> None:
    """How long `import masklet` takes, and a command to its first mask, as whole processes.

    \b
    Examples:
      masklet bench startup
      masklet bench startup --repeats 3 --device cpu --json startup.json
    """
    from masklet.bench.startup import PROTOCOL, measure_startup
    from masklet.devices import device_of

    place, name = device_of(device), model or "builtin"
    cases = measure_startup(name, place, repeats)
    show_record(written(PROTOCOL, name, {"repeats": repeats}, place, None, cases, report_file))
