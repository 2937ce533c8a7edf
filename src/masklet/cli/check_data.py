"""`masklet data`: statistics of a data set, and what is broken in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_notice, progress_bar
from masklet.cli.shared_options import DataFormat, IncludeCrowds, ReportFile, Split

if TYPE_CHECKING:
    from masklet.datasets import DataIssue, Dataset, DatasetStats
    from masklet.datasets.account import ObjectAccount

__all__ = ["app"]

SAMPLED_FRAMES = 400
"""Frames that --sample reads."""

app = typer.Typer(help="Inspect images and videos with masks.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Inspect images and videos with masks, before a model learns from them."""


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Folder or file of a data set, or a mixture.json.")],
    data_format: DataFormat = None,
    split: Split = None,
    include_crowds: IncludeCrowds = False,
    contact_sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an image with examples there, masks painted.")
    ] = None,
    report_file: ReportFile = None,
    sample: Annotated[
        bool, typer.Option("--sample", help=f"Read only about {SAMPLED_FRAMES} frames, spread evenly.")
    ] = False,
) -> None:
    """Print what a data set holds, and name every file in it that is broken.

    Every image is decoded and every mask with it. Objects that are left out or broken are counted by class. The exit
    code is 0 if nothing is broken, and 1 otherwise.

    \b
    Examples:
      masklet data check coco --split val2017 --contact-sheet val.png
      masklet data check DAVIS --sample
    """
    from masklet.atomic_files import write_text
    from masklet.datasets import (
        Dataset,
        compute_stats,
        inspect_frames,
        open_dataset,
        open_mixture,
        save_contact_sheet,
    )
    from masklet.datasets.account import ObjectAccount
    from masklet.datasets.mixture import is_mixture

    if data_format is None and split is None and is_mixture(path):
        datasets = [data for data, _ in open_mixture(path)]
    else:
        datasets = [open_dataset(path, data_format=data_format, split=split, include_crowds=include_crowds)]
    reports = []
    for data in datasets:
        num_frames = sum(len(entry.frame_indices) for entry in data.samples)
        every = max(1, num_frames // SAMPLED_FRAMES) if sample else 1
        frames = []
        with progress_bar("frames", -(-num_frames // every), enabled=True) as step:
            for frame in inspect_frames(data, every):
                frames.append(frame)
                step()
        stats = compute_stats(data, frames)
        issues = [*data.issues, *(issue for frame in frames for issue in frame.issues)]
        account = ObjectAccount.for_dataset(data)
        for frame in frames:
            account.merge(frame.account)
        _print_report(data, stats, issues, account)
        findings = [{"entry": one.sample, "file": str(one.file), "reason": one.reason} for one in issues]
        reports.append({"root": str(data.root), **asdict(stats), "account": account.to_json(), "findings": findings})
    if report_file is not None:
        write_text(report_file, json.dumps(reports, indent=2) + "\n")
    if contact_sheet is not None:
        samples = tuple(entry for data in datasets for entry in data.samples)
        save_contact_sheet(Dataset(datasets[0].data_format, datasets[0].root, samples), contact_sheet)
        print_notice(f"{contact_sheet} shows examples")
    if any(report["findings"] for report in reports):
        raise typer.Exit(ExitCode.BROKEN)


def _print_report(data: Dataset, stats: DatasetStats, issues: Sequence[DataIssue], account: ObjectAccount) -> None:
    from masklet.datasets import DATASET_READERS

    rows = [("images", f"{stats.num_images}"), ("videos", f"{stats.num_videos}")]
    part = f", {stats.num_read} of them read" if stats.num_read != stats.num_annotated else ""
    rows.append(("frames", f"{stats.num_frames}, {stats.num_annotated} with masks{part}"))
    rows.append(("empty frames", f"{stats.num_empty}"))
    rows.append(("objects", f"{stats.num_objects}"))
    if stats.objects_per_frame is not None:
        spread = stats.objects_per_frame
        rows.append(("objects per frame", f"{spread.minimum:g} to {spread.maximum:g}, median {spread.median:g}"))
    if stats.sizes:
        least, middle, most = (f"{width} x {height}" for height, width in stats.sizes)
        rows.append(("size", f"{least} to {most}, median {middle}"))
    if stats.median_area_fraction is not None:
        rows.append(("median object", f"{100 * stats.median_area_fraction:.2g} % of its image"))
    rows.append(("broken files", f"{stats.num_broken_files}"))
    typer.echo(f"{data.root}\n{data.data_format}: {DATASET_READERS[data.data_format].description}\n")
    for name, value in rows:
        typer.echo(f"  {name:<20}{value}")
    lines = account.table_lines("read")
    if lines:
        typer.echo("\n" + "\n".join(f"  {line}" for line in lines))
    if "iscrowd" in account.left_out:
        typer.echo("  --include-crowds reads the regions marked iscrowd too")
    if issues:
        typer.echo(f"\n{stats.num_broken_files} broken {'file' if stats.num_broken_files == 1 else 'files'}:")
    for issue in issues:
        typer.echo(f"  {issue.sample}: {issue.reason}")
    typer.echo("")
