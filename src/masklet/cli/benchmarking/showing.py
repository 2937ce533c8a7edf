"""Tables that the commands of `masklet bench` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masklet.bench.record import Case, Record

__all__ = ["amount", "listed", "numbers", "show_record", "show_table", "tell"]

COLUMNS = ("case", "setting", "median", "lowest", "spread", "floor", "share")
PIPE_WIDTH = 160
"""Columns where there is no terminal to ask."""


def show_record(record: Record) -> None:
    """Machine and limits, and a row a case."""
    machine, limits = record.machine, record.limits
    show_table(COLUMNS, [_row(case) for case in record.cases])
    tell(
        f"{record.model}; {machine.processor}, {machine.cores} cores, {machine.threads} thread(s), {machine.device}, "
        f"torch {machine.torch}, Python {machine.python}; masklet {record.masklet}, {record.commit or 'no checkout'}."
    )
    if limits is not None:
        tell(
            f"Measured limits: {limits.fp32_gflops:.0f} G operations/s in fp32, {limits.bf16_gflops:.0f} in bf16, "
            f"copying {limits.copy_gbytes:.1f} GB/s."
        )
    for case in record.cases:
        if case.note:
            tell(f"{case.name}, {case.setting}: {case.note}")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table; what stands in the first two columns is text."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.MARKDOWN, header_style="bold")
    for number, title in enumerate(columns):
        table.add_column(title, justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


def tell(line: str) -> None:
    """A line below a table, as it is."""
    import typer

    typer.echo(line)


def amount(value: float | None, unit: str) -> str:
    """A figure with its unit, seconds below one in milliseconds; nothing for None."""
    if value is None:
        return ""
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
    return f"{value:.1f} {unit}"


def listed(text: str) -> list[str]:
    """Words with commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1 with commas between them.

    Raises:
        InputError: something else.
    """
    from masklet.errors import InputError

    words = listed(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{option} {text!r} must be whole numbers from 1 with commas between them, such as 1,2,4")
    return [int(word) for word in words]


def _row(case: Case) -> tuple[str, ...]:
    figures = (amount(value, case.unit) for value in (case.median, case.lowest, case.spread, case.floor))
    share = "" if case.share is None else f"{case.share:.0%}"
    return (
        (case.name, case.setting, *figures, share) if case.samples else (case.name, case.setting, "not here", *[""] * 4)
    )
