"""`masklet bench compare`: two records side by side; `masklet bench update-docs`: a page with the tables of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masklet.cli.bench.bench_tables import show_table

__all__ = ["compare", "update_docs"]

COMPARISON_COLUMNS = ("case", "program", "setting", "A", "B", "B/A", "")
RECORD_COLUMNS = ("record", "model", "rows", "measured on")


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Written by --report.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another of the same command.")],
) -> None:
    """Compare the medians of two runs; a ratio below 1 means that the second is faster, or takes less memory.

    A * marks medians that differ by more than both interquartile ranges.

    \b
    Examples:
      masklet bench compare before.json after.json
    """
    from masklet.benchmark.markdown_tables import compare_records, format_amount, setup_differences
    from masklet.benchmark.record import read_record

    first, second = read_record(before), read_record(after)
    rows = []
    for pair in compare_records(first, second):
        medians = (format_amount(case.median, case.unit) for case in (pair.before, pair.after))
        mark = "*" if pair.is_significant else ""
        rows.append((pair.before.name, pair.before.program, pair.before.setting, *medians, f"{pair.ratio:.2f}", mark))
    show_table(COMPARISON_COLUMNS, rows)
    typer.echo("* the medians differ by more than both interquartile ranges")
    differences = setup_differences(first, second)
    if differences:
        typer.echo(f"Not measured alike, so read ratios with care: {'; '.join(differences)}.")


def update_docs(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD.json...", help="Written by --report.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.md", help="The page; created if missing.")],
) -> None:
    """Write the tables of records into a page, each with its machine, versions, date and command line.

    The table of A.json goes between a line `<!-- record: A -->` and a line `<!-- end -->`; the rest of the page stays
    as it is. A missing page is created with a block for each record.

    \b
    Examples:
      masklet bench update-docs image.json video.json --out speed.md
      masklet bench update-docs docs/records/image.json --out page.md
    """
    from masklet.atomic_files import write_text
    from masklet.benchmark.docs_tables import make_page, update_page
    from masklet.benchmark.record import read_record
    from masklet.damaged_files import damage_errors
    from masklet.errors import InputError

    by_name = {path.stem: read_record(path) for path in records}
    try:
        page = out.read_text(encoding="utf-8") if out.exists() else make_page(list(by_name))
    except damage_errors() as error:
        raise InputError(
            f"{out} cannot be read as a page ({error}); name a Markdown file, or one to be created"
        ) from error
    write_text(out, update_page(page, by_name))
    rows = [
        (name, record.model, str(len(record.cases) + len(record.models)), record.date[:10])
        for name, record in by_name.items()
    ]
    show_table(RECORD_COLUMNS, rows, RECORD_COLUMNS)
