"""`masklet bench page`: a page with the tables of records.

`masklet bench compare`: two records side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.bench.bench_tables import echo, format_amount, show_table

if TYPE_CHECKING:
    from masklet.benchmark.markdown_tables import CaseComparison
if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkRecord

__all__ = ["compare", "update_docs"]

COMPARISON_COLUMNS = ("case", "program", "setting", "A", "B", "B/A", "")


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
    from masklet.benchmark.markdown_tables import compare_records as compared
    from masklet.benchmark.markdown_tables import setup_differences
    from masklet.benchmark.record import read_record

    first, second = read_record(before), read_record(after)
    show_table(COMPARISON_COLUMNS, [_comparison_row(pair) for pair in compared(first, second)])
    echo("* the difference is larger than both spreads")
    unlike = setup_differences(first, second)
    if unlike:
        echo(f"Not measured alike, so read ratios with care: {'; '.join(unlike)}.")


def _comparison_row(pair: CaseComparison) -> tuple[str, ...]:
    before, after = pair.before, pair.after
    medians = (format_amount(case.median, case.unit) for case in (before, after))
    return (
        before.name,
        before.program,
        before.setting,
        *medians,
        f"{pair.ratio:.2f}",
        "*" if pair.is_significant else "",
    )


RECORD_COLUMNS = ("record", "model", "rows", "measured on")


def update_docs(
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
    from masklet.benchmark.docs_tables import make_page, update_page
    from masklet.benchmark.record import read_record

    found = {path.stem: read_record(path) for path in records}
    text = _read_page(out) if out.exists() else make_page(list(found))
    write_text(out, update_page(text, found))
    show_table(RECORD_COLUMNS, [_record_row(name, record) for name, record in found.items()], RECORD_COLUMNS)


def _record_row(name: str, record: BenchmarkRecord) -> tuple[str, ...]:
    return name, record.model, str(len(record.cases) + len(record.models)), record.date[:10]


def _read_page(out: Path) -> str:
    from masklet.errors import InputError

    try:
        return out.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{out} cannot be read as a page ({error}); name a Markdown file, or one to be made"
        ) from error
