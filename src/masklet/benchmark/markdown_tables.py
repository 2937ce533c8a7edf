"""Format the results of a run as Markdown tables and notes, and compare two runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from masklet.errors import InputError

if TYPE_CHECKING:  # the command line imports this module for its help, which needs no torch
    from masklet.benchmark.record import BenchmarkCase, BenchmarkRecord

__all__ = [
    "TEXT_COLUMNS",
    "CaseComparison",
    "compare_records",
    "format_amount",
    "markdown_table",
    "record_notes",
    "record_table",
    "setup_differences",
]

TEXT_COLUMNS = ("case", "program", "setting", "limited by")
"""Columns of text; the others are aligned to the right."""
CASE_COLUMNS = ("case", "program", "setting", "median", "min", "IQR")
LIMIT_COLUMNS = ("lower bound", "limited by", "of limit")
"""Columns of runs with lower bounds."""
PEER_COLUMNS = ("ratio", "min IoU", "logits error")
"""Columns of runs with peers."""
FAMILY_COLUMNS = ("model", "parameters", "published", "file", "encode", "click", "everything", "one pass", "weights")
FAMILY_TEXT_COLUMNS = ("model", "weights")


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], left_aligned: Collection[str] = TEXT_COLUMNS
) -> list[str]:
    r"""Return the lines of a table.

    Example:
        >>> markdown_table(("case", "median"), [("encode", "39.1 ms")])
        ['| case   |  median |', '| ------ | ------: |', '| encode | 39.1 ms |']
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    justify = [str.ljust if title in left_aligned else str.rjust for title in columns]
    rules = [
        "-" * width if title in left_aligned else "-" * (width - 1) + ":"
        for title, width in zip(columns, widths, strict=True)
    ]
    padded = [[side(cell, width) for side, cell, width in zip(justify, row, widths, strict=True)] for row in cells]
    return [f"| {' | '.join(row)} |" for row in (padded[0], rules, *padded[1:])]


def record_table(record: BenchmarkRecord) -> list[str]:
    """Return a table with one row per case, or per model of the family.

    Columns of lower bounds and of peers are left out if the record has none.

    Example:
        >>> print("\\n".join(record_table(read_record("before.json"))))
    """
    if record.models:
        family = []
        for row in record.models:
            prompted, generation = row.prompted, row.mask_generation
            cells = (
                row.title,
                f"{row.num_parameters / 1e6:.2f} M",
                "" if row.published_millions is None else f"{row.published_millions:g} M",
                f"{row.file_megabytes:.1f} MB",
                "" if prompted is None else f"{prompted.encode_ms:.0f} ms",
                "" if prompted is None else f"{prompted.click_ms:.0f} ms",
                "" if generation is None else f"{'~' if generation.estimated else ''}{generation.seconds:.1f} s",
                "" if row.inference_ms is None else f"{row.inference_ms:.0f} ms",
                "trained" if row.trained else "random",
            )
            family.append(cells)
        return markdown_table(FAMILY_COLUMNS, family, FAMILY_TEXT_COLUMNS)
    columns = (*CASE_COLUMNS, *LIMIT_COLUMNS, *PEER_COLUMNS)
    absent = set[str]()
    if all(case.program == "masklet" for case in record.cases):
        absent |= {"program", *PEER_COLUMNS}
    if all(case.lower_bound is None for case in record.cases):
        absent |= set(LIMIT_COLUMNS)
    present = [number for number, title in enumerate(columns) if title not in absent]
    rows = [[cells[i] for i in present] for cells in map(_case_row, record.cases)]
    return markdown_table([columns[i] for i in present], rows)


def record_notes(record: BenchmarkRecord) -> list[str]:
    """Return the sentences below the table: machine, versions, limits, notes.

    Example:
        >>> record_notes(read_record("before.json"))[0]
        'builtin; AMD EPYC, 2 cores, 2 thread(s), cpu, torch 2.13.0, Python 3.11.7; masklet 0.1.0, 9d146d7b...'
    """
    machine, limits, options = record.machine, record.limits, record.options
    versions = ", ".join(
        f"{name} {version}" for name, version in {"masklet": record.masklet_version, **record.versions}.items()
    )
    notes = [
        f"{record.model}; {machine.processor}, {machine.cores} cores, {machine.threads} thread(s), {machine.device}, "
        f"torch {machine.torch}, Python {machine.python}; {versions}, "
        f"{record.commit or 'no checkout'}; {record.date[:10]}."
    ]
    if limits is not None:
        notes.append(
            f"Measured limits: {limits.fp32_gflops:.0f} G operations/s in fp32, {limits.bf16_gflops:.0f} in bf16, "
            f"copying {limits.copy_gbytes:.1f} GB/s."
        )
    if record.models:
        size = options["image"]
        sides = " x ".join(map(str, size)) if isinstance(size, list) else size
        notes.append(f"An image of {sides}, median of {options['repeats']}, {options['clock']}.")
    for case in record.cases:
        if case.note:
            words = (case.name, case.setting) if case.program == "masklet" else (case.name, case.program, case.setting)
            notes.append(f"{', '.join(words)}: {case.note}")
    return notes


def format_amount(value: float | None, unit: str) -> str:
    """Format a figure with its unit, seconds below one in milliseconds; nothing for None.

    Example:
        >>> format_amount(0.0391, "s")
        '39.1 ms'
    """
    if value is None:
        return ""
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
    return f"{value:.1f} {unit}"


def _case_row(case: BenchmarkCase) -> tuple[str, ...]:
    """Return the cells of all columns."""
    amounts = [format_amount(value, case.unit) for value in (case.median, case.minimum, case.iqr, case.lower_bound)]
    if not case.samples:
        amounts[0] = "not here"
    figures = (
        (case.fraction_of_limit, ".0%"),
        (case.peer_ratio, ".2f"),
        (case.min_iou, ".4f"),
        (case.max_logits_error, ".1e"),
    )
    cells = ("" if value is None else format(value, form) for value, form in figures)
    return (case.name, case.program, case.setting, *amounts, case.limited_by or "", *cells)


@dataclass(frozen=True)
class CaseComparison:
    """A case that both runs have."""

    before: BenchmarkCase
    after: BenchmarkCase

    @property
    def ratio(self) -> float:
        """The second median divided by the first; below 1 is faster, or less memory."""
        assert self.before.median
        assert self.after.median is not None
        return self.after.median / self.before.median

    @property
    def is_significant(self) -> bool:
        """Whether the medians differ by more than both interquartile ranges; never for single samples."""
        ranges = (self.before.iqr, self.after.iqr)
        if None in ranges or self.before.median is None or self.after.median is None:
            return False
        return abs(self.after.median - self.before.median) > max(value for value in ranges if value is not None)


def compare_records(baseline: BenchmarkRecord, candidate: BenchmarkRecord) -> list[CaseComparison]:
    """Pair the cases that both runs have, in the order of the first.

    Example:
        >>> [(row.before.name, row.ratio) for row in compare_records(read_record("a.json"), read_record("b.json"))]
        [('encode', 0.93)]

    Raises:
        InputError: if they have none in common.
    """
    key = attrgetter("name", "program", "setting", "unit")
    later = {key(case): case for case in candidate.cases if case.median is not None}
    pairs = [CaseComparison(case, later[key(case)]) for case in baseline.cases if case.median and key(case) in later]
    if not pairs:
        raise InputError("the two records have no case in common; compare two runs of the same command and options")
    return pairs


def setup_differences(before: BenchmarkRecord, after: BenchmarkRecord) -> list[str]:
    """List the differences of machine, model, peers and options, one per line.

    Example:
        >>> setup_differences(read_record("a.json"), read_record("b.json"))
        ['threads: 1 and 2']
    """
    first, second = ({"model": r.model, **asdict(r.machine), **r.versions, **r.options} for r in (before, after))
    names = list(dict.fromkeys((*first, *second)))
    return [
        f"{name}: {first.get(name)} and {second.get(name)}" for name in names if first.get(name) != second.get(name)
    ]
