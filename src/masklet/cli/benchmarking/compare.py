"""`masklet bench compare`: two records side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.benchmarking.showing import amount, show_table, tell

if TYPE_CHECKING:
    from masklet.bench.compare import Comparison

__all__ = ["compare"]

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
    from masklet.bench.compare import compare as compared
    from masklet.bench.compare import differences
    from masklet.bench.record import read_record

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
