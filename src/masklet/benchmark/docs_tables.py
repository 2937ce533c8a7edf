"""A page whose tables are those of records: what a run found is copied by the command and never by hand.

A place for the record of NAME.json is a line `<!-- record: NAME -->` and a line `<!-- end -->`; what stands between the
two is written anew, and all else is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import wrap

from masklet.benchmark.markdown_tables import record_notes, record_table
from masklet.benchmark.record import BenchmarkRecord
from masklet.errors import InputError

__all__ = ["make_page", "record_names", "update_page"]

RECORD_BLOCK = re.compile(r"^<!-- record: (?P<name>\S+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
WIDTH = 120


def update_page(page: str, records: Mapping[str, BenchmarkRecord]) -> str:
    """The page with each record, by name, in its place.

    Example:
        >>> filled_page(text, {"image": read_record("image.json")})

    Raises:
        InputError: the page has no place for one of them.
    """
    missing = [name for name in records if name not in record_names(page)]
    if missing:
        raise InputError(
            f"the page has no place for {', '.join(missing)}; allowed are {', '.join(record_names(page)) or 'none yet'}: "  # noqa: E501
            f"write a line `<!-- record: {missing[0]} -->` and a line `<!-- end -->` where its table should be"
        )
    return RECORD_BLOCK.sub(lambda found: _fill_block(found, records), page)


def record_names(page: str) -> list[str]:
    """The names of the records that a page has places for.

    Example:
        >>> places_of("<!-- record: image -->\\n<!-- end -->")
        ['image']
    """
    return [found["name"] for found in RECORD_BLOCK.finditer(page)]


def make_page(names: list[str]) -> str:
    """A page with nothing but places.

    Example:
        >>> print(new_page(["image"]))
    """
    parts = [f"## {name}\n\n<!-- record: {name} -->\n<!-- end -->\n" for name in names]
    return "\n".join(("# Benchmarks\n", *parts))


def _fill_block(found: re.Match[str], records: Mapping[str, BenchmarkRecord]) -> str:
    name = found["name"]
    return f"<!-- record: {name} -->\n{_record_markdown(records[name])}<!-- end -->" if name in records else found[0]


def _record_markdown(record: BenchmarkRecord) -> str:
    sentences = record_notes(record)
    if record.command:
        sentences.insert(0, f"`{record.command}`")
    lines = [line for sentence in sentences for line in ("", *wrap(sentence, WIDTH, break_on_hyphens=False))]
    return "\n".join(("", *record_table(record), *lines, "", ""))
