"""`masklet data`: what is in a data set, and what is broken in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_notice, progress_bar

if TYPE_CHECKING:
    from masklet.datasets import DataIssue, Dataset, DatasetStats

__all__ = ["app"]

SAMPLED_FRAMES = 400
"""Frames that are read of a data set when it should be quick."""
EXIT_BROKEN = 1

app = typer.Typer(help="Look at images and videos with masks.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at images and videos with masks, before a model learns from them."""


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file of a data set, or a mixture.json.")],
    data_format: Annotated[str | None, typer.Option(help="The layout; default: recognized (see docs/data.md).")] = None,
    split: Annotated[str | None, typer.Option(help="One part of it, such as train; default: all of it.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Write an image of some of it there, masks painted.")
    ] = None,
    report_file: Annotated[Path | None, typer.Option("--json", help="Write what was found there too.")] = None,
    sample: Annotated[
        bool, typer.Option("--fast", help=f"Read only about {SAMPLED_FRAMES} frames, spread over it.")
    ] = False,
) -> None:
    """Say what a data set holds, and name every file in it that is broken.

    Every image is decoded and every mask with it. The exit code is 0 when all is well and 1 when something is broken.

    \b
    Examples:
      masklet data check coco --split val2017 --sheet val.png
      masklet data check DAVIS --fast
    """
    found = [(data, *_examine_dataset(data, sample=sample)) for data in _open_datasets(path, data_format, split)]
    for data, census, findings in found:
        _print_report(data, census, findings)
    if report_file is not None:
        _write_report(report_file, found)
    if contact_sheet is not None:
        _write_contact_sheet([data for data, _, _ in found], contact_sheet)
    if any(findings for _, _, findings in found):
        raise typer.Exit(EXIT_BROKEN)


def _open_datasets(path: Path, data_format: str | None, split: str | None) -> list[Dataset]:
    from masklet.datasets import open_dataset, open_mixture
    from masklet.datasets.mixture import is_mixture

    if data_format is None and split is None and is_mixture(path):
        return [data for data, _ in open_mixture(path)]
    return [open_dataset(path, data_format=data_format, split=split)]


def _examine_dataset(data: Dataset, *, sample: bool) -> tuple[DatasetStats, list[DataIssue]]:
    from masklet.datasets import compute_stats, inspect_frames

    frames = sum(len(entry.frame_indices) for entry in data.samples)
    every = max(1, frames // SAMPLED_FRAMES) if sample else 1
    looked = []
    with progress_bar("frames", -(-frames // every), enabled=True) as step:
        for frame in inspect_frames(data, every):
            looked.append(frame)
            step()
    return compute_stats(data, looked), [*data.issues, *(finding for frame in looked for finding in frame.issues)]


def _print_report(data: Dataset, stats: DatasetStats, issues: Sequence[DataIssue]) -> None:
    from masklet.datasets import DATASET_READERS

    typer.echo(f"{data.root}\n{data.data_format}: {DATASET_READERS[data.data_format].description}\n")
    for name, value in _stats_rows(stats):
        typer.echo(f"  {name:<20}{value}")
    if issues:
        typer.echo(f"\n{stats.num_broken_files} broken {'file' if stats.num_broken_files == 1 else 'files'}:")
    for finding in issues:
        typer.echo(f"  {finding.sample}: {finding.reason}")
    typer.echo("")


def _stats_rows(stats: DatasetStats) -> list[tuple[str, str]]:
    rows = [("pictures", f"{stats.num_images}"), ("films", f"{stats.num_videos}")]
    part = f", {stats.num_read} of them read" if stats.num_read != stats.num_annotated else ""
    rows.append(("frames", f"{stats.num_frames}, {stats.num_annotated} with masks{part}"))
    rows.append(("empty frames", f"{stats.num_empty}"))
    rows.append(("objects", f"{stats.num_objects}"))
    if stats.objects_per_frame is not None:
        spread = stats.objects_per_frame
        rows.append(("objects a frame", f"{spread.minimum:g} to {spread.maximum:g}, median {spread.median:g}"))
    if stats.sizes:
        least, middle, most = (f"{width} x {height}" for height, width in stats.sizes)
        rows.append(("size", f"{least} to {most}, median {middle}"))
    if stats.median_area_fraction is not None:
        rows.append(("a typical object", f"{100 * stats.median_area_fraction:.2g} % of its image"))
    rows.append(("broken files", f"{stats.num_broken_files}"))
    return rows


def _write_report(path: Path, results: Sequence[tuple[Dataset, DatasetStats, list[DataIssue]]]) -> None:
    from masklet.atomic_files import write_text

    report = [
        {
            "root": str(data.root),
            **asdict(census),
            "findings": [{"entry": f.sample, "file": str(f.file), "reason": f.reason} for f in findings],
        }
        for data, census, findings in results
    ]
    write_text(path, json.dumps(report, indent=2) + "\n")


def _write_contact_sheet(datasets: Sequence[Dataset], path: Path) -> None:
    from masklet.datasets import Dataset, save_contact_sheet

    entries = tuple(entry for data in datasets for entry in data.samples)
    save_contact_sheet(Dataset(datasets[0].data_format, datasets[0].root, entries), path)
    print_notice(f"{path} shows some of it")
