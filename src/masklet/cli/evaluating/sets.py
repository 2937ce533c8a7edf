"""`masklet eval sets`: the data sets of benchmarks, and what of one is missing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sets"]


def sets(
    name: Annotated[str | None, typer.Argument(help="One of the sets; without it, all are listed.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder that should hold it.")] = None,
) -> None:
    """The data sets that figures are published on, where to get them, and what a folder lacks of one.

    Nothing is downloaded. The exit code is 2 where something is missing.

    \b
    Examples:
      masklet eval sets
      masklet eval sets davis17 --root DAVIS
    """
    from masklet.errors import InputError
    from masklet.evaluate.sets import SETS, lacking

    if name is None:
        for known, one in SETS.items():
            typer.echo(f"{known:<10}{one.about}\n{'':<10}{one.page}")
        return
    if name not in SETS or root is None:
        missing = f"--root is missing: name the folder of {name}" if name in SETS else ""
        raise InputError(missing or f"no data set {name!r} is known; choose among {', '.join(SETS)}")
    wrong = lacking(name, root)
    for line in wrong:
        typer.echo(line)
    said = f"get it from {SETS[name].page}" if wrong else "whole; measure with"
    typer.echo(f"{SETS[name].about}: {said}")
    for command in () if wrong else SETS[name].commands:
        typer.echo(f"  {command.format(root=shlex.quote(str(root)))}")
    raise typer.Exit(2 if wrong else 0)
