"""A page whose tables are those of records: what a run found is copied by the command and never by hand.

A place for the record of NAME.json is a line `<!-- record: NAME -->` and a line `<!-- end -->`; what stands between the
two is written anew, and all else is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import wrap

from masklet.benchmark.markdown_tables import record_lines, record_table
from masklet.benchmark.record import Record
from masklet.errors import InputError

__all__ = ["filled_page", "new_page", "places_of"]

PLACE = re.compile(r"^<!-- record: (?P<name>\S+) -->\n(?P<text>.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
WIDTH = 120


def filled_page(page: str, records: Mapping[str, Record]) -> str:
    """The page with each record, by name, in its place.

    Example:
        >>> filled_page(text, {"image": read_record("image.json")})

    Raises:
        InputError: the page has no place for one of them.
    """
    missing = [name for name in records if name not in places_of(page)]
    if missing:
        raise InputError(
            f"the page has no place for {', '.join(missing)}; allowed are {', '.join(places_of(page)) or 'none yet'}: "
            f"write a line `<!-- record: {missing[0]} -->` and a line `<!-- end -->` where its table should be"
        )
    return PLACE.sub(lambda found: _filled(found, records), page)


def places_of(page: str) -> list[str]:
    """The names of the records that a page has places for.

    Example:
        >>> places_of("<!-- record: image -->\\n<!-- end -->")
        ['image']
    """
    return [found["name"] for found in PLACE.finditer(page)]


def new_page(names: list[str]) -> str:
    """A page with nothing but places.

    Example:
        >>> print(new_page(["image"]))
    """
    parts = [f"## {name}\n\n<!-- record: {name} -->\n<!-- end -->\n" for name in names]
    return "\n".join(("# Benchmarks\n", *parts))


def _filled(found: re.Match[str], records: Mapping[str, Record]) -> str:
    name = found["name"]
    return f"<!-- record: {name} -->\n{_told(records[name])}<!-- end -->" if name in records else found[0]


def _told(record: Record) -> str:
    sentences = record_lines(record)
    if record.command:
        sentences.insert(0, f"`{record.command}`")
    lines = [line for sentence in sentences for line in ("", *wrap(sentence, WIDTH, break_on_hyphens=False))]
    return "\n".join(("", *record_table(record), *lines, "", ""))
