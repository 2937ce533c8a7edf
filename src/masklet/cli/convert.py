"""`masklet convert`: labeled images and videos from one format to another."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import ExitCode, print_notice, progress_bar
from masklet.cli.shared_options import (
    DataFormat,
    IncludeCrowds,
    Overwrite,
    ReportFile,
    Split,
    check_report_file,
)

if TYPE_CHECKING:
    from masklet.datasets import DataIssue

__all__ = ["convert"]

MAX_ISSUES_LISTED = 20
"""Broken images that are named; all of them are in the file of --report."""


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file of a data set.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder; an interrupted conversion resumes.")],
    to: Annotated[str, typer.Option(help="Format to write: yolo, coco, labelme, davis, voc or cvat.")],
    data_format: DataFormat = None,
    split: Split = None,
    val_fraction: Annotated[
        float,
        typer.Option(help="Fraction of the images without a split that become val, the rest train.", min=0, max=1),
    ] = 0.0,
    segmentation: Annotated[
        str, typer.Option(help="In coco, labelme and cvat: rle (lossless), polygon or both.")
    ] = "rle",
    min_iou: Annotated[float, typer.Option(help="Lowest IoU of a polygon with its mask.")] = 0.98,
    include_crowds: IncludeCrowds = False,
    image_mode: Annotated[str, typer.Option("--images", help="Images in OUT: link, copy or none.")] = "link",
    report_file: ReportFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a data set in another format, without loss if the format allows it; print what was lost otherwise.

    Stopped, the same command resumes. Where objects of IN are not in OUT, a table says how many of which class, and
    why. The exit code is 0 if all is well, and 1 if something in IN is broken and was skipped.

    \b
    Examples:
      masklet convert coco yolo --to yolo
      masklet convert photos coco --to coco --segmentation polygon --min-iou 0.95 --val-fraction 0.1
      masklet convert DAVIS cvat --to cvat --split 2017/val --images copy
    """
    from masklet.atomic_files import defer_interrupt, write_text
    from masklet.datasets import WriteOptions, class_names, list_items, open_dataset, open_dataset_writer
    from masklet.datasets import convert as convert_samples
    from masklet.datasets.account import ObjectAccount
    from masklet.errors import InputError

    folder = source.resolve() if source.is_dir() else source.resolve().parent
    if folder in (out.resolve(), *out.resolve().parents) and source.exists():
        raise InputError(
            f"OUT {str(out)!r} is in IN {str(source)!r}, and would be read as a part of it: choose another"
        )
    if not overwrite:
        check_report_file(report_file)
    crowds = " with crowds" if include_crowds else ""
    settings = (("source", f"{source.resolve()}{crowds}"), ("val", f"{val_fraction:g}"))
    options = WriteOptions(
        segmentation=segmentation,
        min_iou=min_iou,
        images=image_mode,
        resume_options=settings,
        overwrite=overwrite,
    )
    if options.segmentation != "rle" and to in ("yolo", "davis", "voc"):
        raise InputError(
            f"--segmentation {options.segmentation} is for coco, labelme and cvat; {to} has one way to hold masks: "
            "remove it"
        )
    data = open_dataset(source, data_format=data_format, split=split, include_crowds=include_crowds)
    written, failed, issues = 0, 0, list["DataIssue"](data.issues)
    account = ObjectAccount.for_dataset(data)
    with open_dataset_writer(to, out, names=class_names(data), options=options) as writer:
        items = list_items(
            data,
            unique_per_split=writer.unique_per_split,
            split=None if split is None else Path(split).name,
            val_fraction=val_fraction,
        )
        steps = iter(convert_samples(data, items, writer))
        with progress_bar("images", len(items), enabled=True) as advance:
            try:
                while True:
                    with defer_interrupt():
                        step = next(steps, None)
                    if step is None:
                        break
                    written += step.is_new
                    if step.issue is not None:
                        failed += 1
                        issues.append(step.issue)
                        account.merge(ObjectAccount.for_issue(step.issue))
                    issues += step.object_issues
                    advance()
            except KeyboardInterrupt:
                print_notice(
                    f"{writer.num_images} of {len(items)} images are in {writer.folder}; the same command resumes"
                )
                raise
    existing = len(items) - written - failed
    account.merge(writer.account)
    counts = writer.counts
    typer.echo(
        f"{data.root} ({data.data_format}) -> {writer.folder} ({writer.data_format}): "
        f"{_format_count(written, 'image')} written{f' ({existing} existed)' if existing else ''}, "
        f"{_format_count(sum(writer.account.written.values()), 'object')} of {_format_count(len(counts), 'class')}"
    )
    is_complete = account.is_balanced and not issues
    loss_lines = writer.loss.summary_lines() if is_complete or not writer.loss.is_lossless else []
    summary = account.summary_line()
    if issues and not summary:
        summary = f"{sum(account.written.values())} objects came through; what the broken files hold is not known"
    for line in [*loss_lines, *summary.splitlines(), *account.table_lines()]:
        typer.echo(f"  {line}")
    if "iscrowd" in account.left_out:
        typer.echo("  --include-crowds converts the regions marked iscrowd too, into another folder")
    if issues:
        typer.echo(f"\n{len(issues)} broken and skipped:")
    for issue in issues[:MAX_ISSUES_LISTED]:
        typer.echo(f"  {issue.sample}: {issue.reason}")
    if len(issues) > MAX_ISSUES_LISTED:
        typer.echo(f"  ... and {len(issues) - MAX_ISSUES_LISTED} more (--report FILE names all of them)")
    if report_file is not None:
        report = {
            "source": str(data.root),
            "data_format": data.data_format,
            "out": str(writer.folder),
            "out_format": writer.data_format,
            "images": writer.num_images,
            "objects": {writer.names[number]: count for number, count in counts.items()},
            "loss": {**asdict(writer.loss), "mean": writer.loss.mean},
            "account": account.to_json(),
            "findings": [{"entry": one.sample, "file": str(one.file), "reason": one.reason} for one in issues],
        }
        write_text(report_file, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if issues or account.broken:
        raise typer.Exit(ExitCode.BROKEN)


def _format_count(number: int, noun: str) -> str:
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else ending}"
