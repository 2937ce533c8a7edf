"""Tables that the commands of `masklet bench` share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.benchmark.markdown_tables import TEXT_COLUMNS, format_amount, markdown_table, record_notes, record_table
from masklet.cli.console import command_line

if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, OptionValue
    from masklet.benchmark.roofline import HardwareLimits

__all__ = ["echo", "format_amount", "make_record", "parse_positive_ints", "show_record", "show_table", "split_commas"]


def make_record(
    protocol: str,
    model: str,
    options: Mapping[str, OptionValue],
    device: str,
    limits: HardwareLimits | None,
    cases: Sequence[BenchmarkCase],
    report_file: Path | None,
    versions: Mapping[str, str] | None = None,
) -> BenchmarkRecord:
    """A record of what was measured at `place` till now, written where a file was asked for; floors are by `limits`."""
    from dataclasses import replace

    from masklet import __version__
    from masklet.atomic_files import write_text
    from masklet.benchmark.machine import describe_machine
    from masklet.benchmark.record import create_record

    floored = tuple(case.with_lower_bound(limits) if limits else case for case in cases)
    record = create_record(protocol, model, options, describe_machine(device), limits, floored, __version__)
    record = replace(record, versions=dict(versions or {}), command=command_line())
    if report_file is not None:
        write_text(report_file, record.to_json())
    return record


def show_record(record: BenchmarkRecord) -> None:
    """Machine and limits, and a row a case."""
    for line in (*record_table(record), "", *record_notes(record)):
        echo(line)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], left_aligned: Collection[str] = TEXT_COLUMNS
) -> None:
    """A Markdown table; `left` are the columns that are aligned to the left."""
    for line in markdown_table(columns, list(rows), left_aligned):
        echo(line)


def echo(line: str) -> None:
    """A line below a table, as it is."""
    import typer

    typer.echo(line)


def split_commas(text: str) -> list[str]:
    """Words with commas between them."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_positive_ints(text: str, option: str) -> list[int]:
    """Whole numbers from 1 with commas between them.

    Raises:
        InputError: something else.
    """
    from masklet.errors import InputError

    words = split_commas(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{option} {text!r} must be whole numbers from 1 with commas between them, such as 1,2,4")
    return [int(word) for word in words]
