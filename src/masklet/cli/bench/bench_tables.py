"""Tables that the commands of `masklet bench` share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.benchmark.markdown_tables import TEXT, amount, markdown, record_lines, record_table
from masklet.cli.console import command_line

if TYPE_CHECKING:
    from masklet.benchmark.record import Case, Option, Record
    from masklet.benchmark.roofline import Limits

__all__ = ["amount", "listed", "numbers", "show_record", "show_table", "tell", "written"]


def written(
    protocol: str,
    model: str,
    options: Mapping[str, Option],
    place: str,
    limits: Limits | None,
    cases: Sequence[Case],
    report_file: Path | None,
    versions: Mapping[str, str] | None = None,
) -> Record:
    """A record of what was measured at `place` till now, written where a file was asked for; floors are by `limits`."""
    from dataclasses import replace

    from masklet import __version__
    from masklet.atomic_files import write_text
    from masklet.benchmark.machine import this_machine
    from masklet.benchmark.record import new_record

    floored = tuple(case.with_floor(limits) if limits else case for case in cases)
    record = new_record(protocol, model, options, this_machine(place), limits, floored, __version__)
    record = replace(record, versions=dict(versions or {}), command=command_line())
    if report_file is not None:
        write_text(report_file, record.to_json())
    return record


def show_record(record: Record) -> None:
    """Machine and limits, and a row a case."""
    for line in (*record_table(record), "", *record_lines(record)):
        tell(line)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = TEXT) -> None:
    """A Markdown table; `left` are the columns that are aligned to the left."""
    for line in markdown(columns, list(rows), left):
        tell(line)


def tell(line: str) -> None:
    """A line below a table, as it is."""
    import typer

    typer.echo(line)


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
