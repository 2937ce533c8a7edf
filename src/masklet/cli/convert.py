"""`masklet convert`: labelled pictures and films from one layout into another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import counting, note

if TYPE_CHECKING:
    from masklet.datasets import Dataset, Finding
    from masklet.datasets.conversion import LayoutOptions, LayoutWriter

__all__ = ["convert"]

BROKEN = 1
TOLD = 20
"""So many broken entries are told; all of them are in the file of --json."""


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or file of a data set.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; one that was begun is gone on with.")],
    to: Annotated[str, typer.Option(help="Layout to write: yolo, coco, labelme, davis, voc or cvat.")],
    kind: Annotated[str | None, typer.Option(help="The layout of IN; default: recognised (see docs/data.md).")] = None,
    split: Annotated[str | None, typer.Option(help="One part of IN, such as train; default: all of it.")] = None,
    val: Annotated[
        float, typer.Option(help="Share of the pictures without a part to make val of, the rest train.", min=0, max=1)
    ] = 0.0,
    segmentation: Annotated[
        str, typer.Option(help="In coco, labelme and cvat: rle (lossless), polygon or both.")
    ] = "rle",
    min_iou: Annotated[float, typer.Option(help="What polygons keep of each mask at least.")] = 0.98,
    pictures: Annotated[str, typer.Option(help="What becomes of them: link, copy or none.")] = "link",
    report_file: Annotated[Path | None, typer.Option("--json", help="Write what was done and lost there too.")] = None,
) -> None:
    """Write a data set in another layout, without loss where the layout allows it; say what was lost where not.

    Stop it and call it again to go on. The exit code is 0 when all is well and 1 when something in IN is broken and was
    left out.

    \b
    Examples:
      masklet convert coco yolo --to yolo
      masklet convert photos coco --to coco --segmentation polygon --min-iou 0.95 --val 0.1
      masklet convert DAVIS cvat --to cvat --split 2017/val --pictures copy
    """
    from masklet.datasets import open_dataset
    from masklet.datasets.conversion import LayoutOptions, class_names, open_layout

    _check_apart(source, out)
    asked = (("source", str(source.resolve())), ("val", f"{val:g}"))
    options = LayoutOptions(segmentation=segmentation, min_iou=min_iou, pictures=pictures, asked=asked)
    _check_options(to, options)
    data = open_dataset(source, kind=kind, split=split)
    with open_layout(to, out, names=class_names(data), options=options) as writer:
        new, there, findings = _run(data, writer, split, val)
    _tell(data, writer, new, there, [*data.problems, *findings])
    if report_file is not None:
        _write(report_file, data, writer, [*data.problems, *findings])
    if data.problems or findings:
        raise typer.Exit(BROKEN)


def _run(data: Dataset, writer: LayoutWriter, split: str | None, val: float) -> tuple[int, int, list[Finding]]:
    """How many were written, how many were there, and what is broken."""
    from masklet.cli.console import unbroken
    from masklet.datasets.conversion import convert, items_of

    items = items_of(data, apart=writer.apart, split=None if split is None else Path(split).name, val=val)
    new, findings, steps = 0, list["Finding"](), iter(convert(data, items, writer))
    with counting("pictures", len(items), wanted=True) as tick:
        try:
            while True:
                with unbroken():
                    step = next(steps, None)
                if step is None:
                    break
                new += step.new
                findings += [step.finding] if step.finding is not None else []
                tick()
        except KeyboardInterrupt:
            note(f"{writer.pictures} of {len(items)} pictures are in {writer.folder}; the same command goes on with it")
            raise
    return new, len(items) - new - len(findings), findings


def _tell(data: Dataset, writer: LayoutWriter, new: int, there: int, findings: Iterable[Finding]) -> None:
    counts = writer.counts
    before = f" ({there} were there)" if there else ""
    typer.echo(
        f"{data.root} ({data.kind}) -> {writer.folder} ({writer.layout}): {_counted(new, 'picture')} written{before}, "
        f"{_counted(sum(counts.values()), 'object')} of {_counted(len(counts), 'class')}"
    )
    for line in writer.loss.lines():
        typer.echo(f"  {line}")
    found = list(findings)
    if found:
        typer.echo(f"\n{len(found)} broken and left out:")
    for finding in found[:TOLD]:
        typer.echo(f"  {finding.entry}: {finding.reason}")
    if len(found) > TOLD:
        typer.echo(f"  ... and {len(found) - TOLD} more (--json FILE names all of them)")


def _counted(number: int, what: str) -> str:
    ending = "es" if what.endswith("s") else "s"
    return f"{number} {what}{'' if number == 1 else ending}"


def _write(path: Path, data: Dataset, writer: LayoutWriter, findings: Iterable[Finding]) -> None:
    from masklet.atomic_files import write_text

    report = {
        "source": str(data.root),
        "kind": data.kind,
        "out": str(writer.folder),
        "layout": writer.layout,
        "pictures": writer.pictures,
        "objects": {writer.names[number]: count for number, count in writer.counts.items()},
        "loss": {**asdict(writer.loss), "mean": writer.loss.mean},
        "findings": [{"entry": f.entry, "file": str(f.file), "reason": f.reason} for f in findings],
    }
    write_text(path, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _check_apart(source: Path, out: Path) -> None:
    from masklet.errors import InputError

    inside = source.resolve() if source.is_dir() else source.resolve().parent
    if inside in (out.resolve(), *out.resolve().parents) and source.exists():
        raise InputError(
            f"OUT {str(out)!r} is in IN {str(source)!r}, and would be read as a part of it: choose another"
        )


def _check_options(to: str, options: LayoutOptions) -> None:
    from masklet.errors import InputError

    if options.segmentation != "rle" and to in ("yolo", "davis", "voc"):
        raise InputError(
            f"--segmentation {options.segmentation} is for coco, labelme and cvat; {to} has one way to hold masks: "
            "leave it out"
        )
