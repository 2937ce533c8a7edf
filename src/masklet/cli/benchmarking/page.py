"""`masklet bench page`: a page with the tables of records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import show_table

if TYPE_CHECKING:
    from masklet.bench.record import Record

__all__ = ["page"]

COLUMNS = ("record", "model", "rows", "measured on")


def page(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD.json...", help="Written by --json.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.md", help="The page; begun where there is none.")],
) -> None:
    """Write the tables of records into a page, each with its machine, versions, date and command line.

    What A.json found goes between a line `<!-- record: A -->` and a line `<!-- end -->`; everything else in the page
    stays as it is. A page that is not there yet is begun with a place for each record.

    \b
    Examples:
      masklet bench page image.json video.json --out speed.md
      masklet bench page docs/records/*.json --out docs/benchmarks.md
    """
    from masklet.bench.page import filled_page, new_page
    from masklet.bench.record import read_record
    from masklet.files import write_text

    found = {path.stem: read_record(path) for path in records}
    text = _read(out) if out.exists() else new_page(list(found))
    write_text(out, filled_page(text, found))
    show_table(COLUMNS, [_row(name, record) for name, record in found.items()], COLUMNS)


def _row(name: str, record: Record) -> tuple[str, ...]:
    return name, record.model, str(len(record.cases) + len(record.models)), record.date[:10]


def _read(out: Path) -> str:
    from masklet.errors import InputError

    try:
        return out.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{out} cannot be read as a page ({error}); name a Markdown file, or one to be made"
        ) from error
