"""`masklet convert`: labeled images and videos from one layout into another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import print_notice, progress_bar

if TYPE_CHECKING:
    from masklet.datasets import DataIssue, Dataset, DatasetWriter, WriteOptions

__all__ = ["convert"]

EXIT_BROKEN = 1
MAX_ISSUES_LISTED = 20
"""So many broken entries are told; all of them are in the file of --json."""


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file of a data set.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; one that was begun is gone on with.")],
    to: Annotated[str, typer.Option(help="Layout to write: yolo, coco, labelme, davis, voc or cvat.")],
    data_format: Annotated[
        str | None, typer.Option(help="The layout of IN; default: recognized (see docs/data.md).")
    ] = None,
    split: Annotated[str | None, typer.Option(help="One part of IN, such as train; default: all of it.")] = None,
    val_fraction: Annotated[
        float, typer.Option(help="Share of the images without a part to make val of, the rest train.", min=0, max=1)
    ] = 0.0,
    segmentation: Annotated[
        str, typer.Option(help="In coco, labelme and cvat: rle (lossless), polygon or both.")
    ] = "rle",
    min_iou: Annotated[float, typer.Option(help="What polygons keep of each mask at least.")] = 0.98,
    image_mode: Annotated[str, typer.Option(help="What becomes of them: link, copy or none.")] = "link",
    report_file: Annotated[Path | None, typer.Option("--json", help="Write what was done and lost there too.")] = None,
) -> None:
    """Write a data set in another layout, without loss where the layout allows it; say what was lost where not.

    Stop it and call it again to go on. The exit code is 0 when all is well and 1 when something in IN is broken and was
    left out.

    \b
    Examples:
      masklet convert coco yolo --to yolo
      masklet convert photos coco --to coco --segmentation polygon --min-iou 0.95 --val 0.1
      masklet convert DAVIS cvat --to cvat --split 2017/val --images copy
    """
    from masklet.datasets import WriteOptions, class_names, open_dataset, open_dataset_writer

    _check_not_nested(source, out)
    asked = (("source", str(source.resolve())), ("val", f"{val_fraction:g}"))
    options = WriteOptions(segmentation=segmentation, min_iou=min_iou, images=image_mode, resume_options=asked)
    _check_options(to, options)
    data = open_dataset(source, data_format=data_format, split=split)
    with open_dataset_writer(to, out, names=class_names(data), options=options) as writer:
        new, there, findings = _convert_samples(data, writer, split, val_fraction)
    _print_summary(data, writer, new, there, [*data.issues, *findings])
    if report_file is not None:
        _write_report(report_file, data, writer, [*data.issues, *findings])
    if data.issues or findings:
        raise typer.Exit(EXIT_BROKEN)


def _convert_samples(
    data: Dataset, writer: DatasetWriter, split: str | None, val_fraction: float
) -> tuple[int, int, list[DataIssue]]:
    """How many were written, how many were there, and what is broken."""
    from masklet.cli.console import defer_interrupt
    from masklet.datasets import convert, list_items

    items = list_items(
        data,
        unique_per_split=writer.unique_per_split,
        split=None if split is None else Path(split).name,
        val_fraction=val_fraction,
    )
    new, findings, steps = 0, list["DataIssue"](), iter(convert(data, items, writer))
    with progress_bar("pictures", len(items), enabled=True) as tick:
        try:
            while True:
                with defer_interrupt():
                    step = next(steps, None)
                if step is None:
                    break
                new += step.is_new
                findings += [step.issue] if step.issue is not None else []
                tick()
        except KeyboardInterrupt:
            print_notice(
                f"{writer.num_images} of {len(items)} images are in {writer.folder}; the same command goes on with it"
            )
            raise
    return new, len(items) - new - len(findings), findings


def _print_summary(
    data: Dataset, writer: DatasetWriter, n_written: int, n_existing: int, issues: Iterable[DataIssue]
) -> None:
    counts = writer.counts
    before = f" ({n_existing} were there)" if n_existing else ""
    typer.echo(
        f"{data.root} ({data.data_format}) -> {writer.folder} ({writer.data_format}): {_format_count(n_written, 'image')} written{before}, "  # noqa: E501
        f"{_format_count(sum(counts.values()), 'object')} of {_format_count(len(counts), 'class')}"
    )
    for line in writer.loss.summary_lines():
        typer.echo(f"  {line}")
    found = list(issues)
    if found:
        typer.echo(f"\n{len(found)} broken and left out:")
    for finding in found[:MAX_ISSUES_LISTED]:
        typer.echo(f"  {finding.sample}: {finding.reason}")
    if len(found) > MAX_ISSUES_LISTED:
        typer.echo(f"  ... and {len(found) - MAX_ISSUES_LISTED} more (--json FILE names all of them)")


def _format_count(number: int, noun: str) -> str:
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else ending}"


def _write_report(path: Path, data: Dataset, writer: DatasetWriter, issues: Iterable[DataIssue]) -> None:
    from masklet.atomic_files import write_text

    report = {
        "source": str(data.root),
        "kind": data.data_format,
        "out": str(writer.folder),
        "layout": writer.data_format,
        "pictures": writer.num_images,
        "objects": {writer.names[number]: count for number, count in writer.counts.items()},
        "loss": {**asdict(writer.loss), "mean": writer.loss.mean},
        "findings": [{"entry": f.sample, "file": str(f.file), "reason": f.reason} for f in issues],
    }
    write_text(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _check_not_nested(source: Path, out: Path) -> None:
    from masklet.errors import InputError

    inside = source.resolve() if source.is_dir() else source.resolve().parent
    if inside in (out.resolve(), *out.resolve().parents) and source.exists():
        raise InputError(
            f"OUT {str(out)!r} is in IN {str(source)!r}, and would be read as a part of it: choose another"
        )


def _check_options(to: str, options: WriteOptions) -> None:
    from masklet.errors import InputError

    if options.segmentation != "rle" and to in ("yolo", "davis", "voc"):
        raise InputError(
            f"--segmentation {options.segmentation} is for coco, labelme and cvat; {to} has one way to hold masks: "
            "leave it out"
        )
