"""Make, show and write the records of the commands of `masklet bench`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklet.cli.console import command_line

if TYPE_CHECKING:
    from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord, OptionValue
    from masklet.benchmark.roofline import HardwareLimits

__all__ = [
    "Beside",
    "CpuQuota",
    "ImageFile",
    "make_record",
    "parse_positive_ints",
    "show_record",
    "show_table",
    "split_commas",
    "validate_choices",
]

ImageFile = Annotated[Path | None, typer.Option("--image", metavar="FILE", help="An image; default: a synthetic one.")]
Beside = Annotated[
    int, typer.Option("--beside", metavar="N", help="Measure beside N processes that load a core each, too.", min=0)
]
CpuQuota = Annotated[
    float | None,
    typer.Option("--cpu-quota", metavar="CORES", help="Measure with a quota of so many cores, too; root only."),
]


def make_record(
    protocol: str,
    model: str,
    options: Mapping[str, OptionValue],
    device: str,
    limits: HardwareLimits | None,
    cases: Sequence[BenchmarkCase],
    report_file: Path | None,
    versions: Mapping[str, str] | None = None,
    command: str | None = None,
) -> BenchmarkRecord:
    """Build the record of the cases so far, with lower bounds by `limits`, and write it if a file is given.

    Args:
        command: The command line; None: that of `masklet`.
    """
    from dataclasses import replace

    from masklet import __version__
    from masklet.atomic_files import write_text
    from masklet.benchmark.machine import describe_machine
    from masklet.benchmark.record import create_record

    bounded = tuple(case.with_lower_bound(limits) if limits else case for case in cases)
    record = create_record(protocol, model, options, describe_machine(device), limits, bounded, __version__)
    record = replace(record, versions=dict(versions or {}), command=command or command_line())
    if report_file is not None:
        write_text(report_file, record.to_json())
    return record


def show_record(record: BenchmarkRecord) -> None:
    """Print the table of a record and its notes."""
    from masklet.benchmark.markdown_tables import record_notes, record_table

    for line in (*record_table(record), "", *record_notes(record)):
        typer.echo(line)


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], left_aligned: Collection[str] | None = None
) -> None:
    """Print a Markdown table."""
    from masklet.benchmark.markdown_tables import TEXT_COLUMNS, markdown_table

    for line in markdown_table(columns, list(rows), TEXT_COLUMNS if left_aligned is None else left_aligned):
        typer.echo(line)


def split_commas(text: str) -> list[str]:
    """Split words that are separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_positive_ints(text: str, option: str) -> list[int]:
    """Parse whole numbers from 1, separated by commas.

    Raises:
        InputError: if `text` is something else.
    """
    from masklet.errors import InputError

    words = split_commas(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise InputError(f"{option} {text!r} must be whole numbers from 1 with commas between them, such as 1,2,4")
    return [int(word) for word in words]


def validate_choices(values: Sequence[str], allowed: Iterable[str], noun: str) -> tuple[str, ...]:
    """Return the words, each once.

    Raises:
        InputError: if there are none, or one is not allowed.
    """
    from masklet.errors import InputError

    unknown = [word for word in values if word not in allowed]
    if unknown or not values:
        raise InputError(f"{noun} {', '.join(unknown) or 'none'}: choose from {', '.join(allowed)}")
    return tuple(dict.fromkeys(values))
