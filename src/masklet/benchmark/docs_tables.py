"""Fill the tables of a page from records: results are copied by the command, never by hand.

The table of NAME.json stands between a line `<!-- record: NAME -->` and a line `<!-- end -->`. Everything else on the
page stays as it is.
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
LINE_WIDTH = 120


def update_page(page: str, records: Mapping[str, BenchmarkRecord]) -> str:
    """Return the page with the tables of `records`, by name.

    Example:
        >>> update_page(text, {"image": read_record("image.json")})

    Raises:
        InputError: if the page has no block for a record.
    """
    missing = [name for name in records if name not in record_names(page)]
    if missing:
        raise InputError(
            f"the page has no place for {', '.join(missing)}; allowed are "
            f"{', '.join(record_names(page)) or 'none yet'}: "
            f"write a line `<!-- record: {missing[0]} -->` and a line `<!-- end -->` where its table should be"
        )

    def fill_block(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in records:
            return block[0]
        record = records[name]
        notes = [*([f"`{record.command}`"] if record.command else []), *record_notes(record)]
        lines = [line for note in notes for line in ("", *wrap(note, LINE_WIDTH, break_on_hyphens=False))]
        return "\n".join((f"<!-- record: {name} -->", "", *record_table(record), *lines, "", "<!-- end -->"))

    return RECORD_BLOCK.sub(fill_block, page)


def record_names(page: str) -> list[str]:
    """Return the names of the records that a page has blocks for.

    Example:
        >>> record_names("<!-- record: image -->\\n<!-- end -->")
        ['image']
    """
    return [block["name"] for block in RECORD_BLOCK.finditer(page)]


def make_page(names: list[str]) -> str:
    """Return a page with empty blocks.

    Example:
        >>> print(make_page(["image"]))
    """
    parts = [f"## {name}\n\n<!-- record: {name} -->\n<!-- end -->\n" for name in names]
    return "\n".join(("# Benchmarks\n", *parts))
