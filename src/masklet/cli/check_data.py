"""`masklet data`: what is in a data set, and what is broken in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import counting, note

if TYPE_CHECKING:
    from masklet.datasets import Census, Dataset, Finding

__all__ = ["app"]

FAST = 400
"""Frames that are read of a data set when it should be quick."""
BROKEN = 1

app = typer.Typer(help="Look at pictures and films with masks.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at pictures and films with masks, before a model learns from them."""


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file of a data set, or a mixture.json.")],
    kind: Annotated[str | None, typer.Option(help="The layout; default: recognised (see docs/data.md).")] = None,
    split: Annotated[str | None, typer.Option(help="One part of it, such as train; default: all of it.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a picture of some of it there, masks painted.")] = None,
    report_file: Annotated[Path | None, typer.Option("--json", help="Write what was found there too.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help=f"Read only about {FAST} frames, spread over it.")] = False,
) -> None:
    """Say what a data set holds, and name every file in it that is broken.

    Every picture is decoded and every mask with it. The exit code is 0 when all is well and 1 when something is broken.

    \b
    Examples:
      masklet data check coco --split val2017 --sheet val.png
      masklet data check DAVIS --fast
    """
    found = [(data, *_counted(data, fast=fast)) for data in _opened(path, kind, split)]
    for data, census, findings in found:
        _tell(data, census, findings)
    if report_file is not None:
        _write(report_file, found)
    if sheet is not None:
        _draw([data for data, _, _ in found], sheet)
    if any(findings for _, _, findings in found):
        raise typer.Exit(BROKEN)


def _opened(path: Path, kind: str | None, split: str | None) -> list[Dataset]:
    from masklet.datasets import open_dataset, open_mixture
    from masklet.datasets.mixture import is_mixture

    if kind is None and split is None and is_mixture(path):
        return [data for data, _ in open_mixture(path)]
    return [open_dataset(path, kind=kind, split=split)]


def _counted(data: Dataset, *, fast: bool) -> tuple[Census, list[Finding]]:
    from masklet.datasets import examine, take_census

    frames = sum(len(entry.frames) for entry in data.entries)
    every = max(1, frames // FAST) if fast else 1
    looked = []
    with counting("frames", -(-frames // every), wanted=True) as step:
        for frame in examine(data, every):
            looked.append(frame)
            step()
    return take_census(data, looked), [*data.problems, *(finding for frame in looked for finding in frame.findings)]


def _tell(data: Dataset, census: Census, findings: Sequence[Finding]) -> None:
    from masklet.datasets import KINDS

    typer.echo(f"{data.root}\n{data.kind}: {KINDS[data.kind].about}\n")
    for name, value in _rows(census):
        typer.echo(f"  {name:<20}{value}")
    if findings:
        typer.echo(f"\n{census.broken} broken {'file' if census.broken == 1 else 'files'}:")
    for finding in findings:
        typer.echo(f"  {finding.entry}: {finding.reason}")
    typer.echo("")


def _rows(census: Census) -> list[tuple[str, str]]:
    rows = [("pictures", f"{census.pictures}"), ("films", f"{census.films}")]
    part = f", {census.read} of them read" if census.read != census.annotated else ""
    rows.append(("frames", f"{census.frames}, {census.annotated} with masks{part}"))
    rows.append(("empty frames", f"{census.empty}"))
    rows.append(("objects", f"{census.objects}"))
    if census.objects_per_frame is not None:
        spread = census.objects_per_frame
        rows.append(("objects a frame", f"{spread.least:g} to {spread.most:g}, median {spread.median:g}"))
    if census.sizes:
        least, middle, most = (f"{width} x {height}" for height, width in census.sizes)
        rows.append(("size", f"{least} to {most}, median {middle}"))
    if census.share is not None:
        rows.append(("a typical object", f"{100 * census.share:.2g} % of its picture"))
    rows.append(("broken files", f"{census.broken}"))
    return rows


def _write(path: Path, found: Sequence[tuple[Dataset, Census, list[Finding]]]) -> None:
    from masklet.atomic_files import write_text

    report = [
        {
            "root": str(data.root),
            **asdict(census),
            "findings": [{"entry": f.entry, "file": str(f.file), "reason": f.reason} for f in findings],
        }
        for data, census, findings in found
    ]
    write_text(path, json.dumps(report, indent=2) + "\n")


def _draw(datasets: Sequence[Dataset], path: Path) -> None:
    from masklet.datasets import Dataset, contact_sheet

    entries = tuple(entry for data in datasets for entry in data.entries)
    contact_sheet(Dataset(datasets[0].kind, datasets[0].root, entries), path)
    note(f"{path} shows some of it")
