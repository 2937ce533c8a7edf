"""`masklet bench page`: a page with the tables of records.

`masklet bench compare`: two records side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import amount, show_table, tell

if TYPE_CHECKING:
    from masklet.benchmark.markdown_tables import Comparison
if TYPE_CHECKING:
    from masklet.benchmark.record import Record

__all__ = ["compare", "page"]

COLUMNS = ("case", "program", "setting", "A", "B", "B/A", "")


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Written by --json.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another of the same command.")],
) -> None:
    """Before and after: medians of both runs, and their ratio; below 1 the second is faster, or takes less memory.

    A * stands where the medians lie further apart than either run spreads.

    \b
    Examples:
      masklet bench compare before.json after.json
    """
    from masklet.benchmark.markdown_tables import compare as compared
    from masklet.benchmark.markdown_tables import differences
    from masklet.benchmark.record import read_record

    first, second = read_record(before), read_record(after)
    show_table(COLUMNS, [_row(pair) for pair in compared(first, second)])
    tell("* the difference is larger than both spreads")
    unlike = differences(first, second)
    if unlike:
        tell(f"Not measured alike, so read ratios with care: {'; '.join(unlike)}.")


def _row(pair: Comparison) -> tuple[str, ...]:
    before, after = pair.before, pair.after
    medians = (amount(case.median, case.unit) for case in (before, after))
    return (before.name, before.program, before.setting, *medians, f"{pair.ratio:.2f}", "*" if pair.differs else "")


PAGE_COLUMNS = ("record", "model", "rows", "measured on")


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
    from masklet.atomic_files import write_text
    from masklet.benchmark.docs_tables import filled_page, new_page
    from masklet.benchmark.record import read_record

    found = {path.stem: read_record(path) for path in records}
    text = _read(out) if out.exists() else new_page(list(found))
    write_text(out, filled_page(text, found))
    show_table(PAGE_COLUMNS, [_page_row(name, record) for name, record in found.items()], PAGE_COLUMNS)


def _page_row(name: str, record: Record) -> tuple[str, ...]:
    return name, record.model, str(len(record.cases) + len(record.models)), record.date[:10]


def _read(out: Path) -> str:
    from masklet.errors import InputError

    try:
        return out.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{out} cannot be read as a page ({error}); name a Markdown file, or one to be made"
        ) from error
