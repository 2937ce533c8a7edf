"""XML files written by people and tools, read without trusting them.

A document type is refused, since it declares entities: none of the formats has one, and a few lines of it can expand
to gigabytes or include other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from masklet.damaged_files import decoder_errors, open_regular_file
from masklet.datasets.dataset import DataError

__all__ = ["ElementSpan", "iter_elements", "parse_xml", "read_xml"]

MAX_DEPTH = 40
"""Nested elements; label files have five."""
CHUNK_BYTES = 1 << 20
MAX_XML_BYTES = 1 << 26
"""The largest file that is read as a whole."""
UTF8_ENCODINGS = ("utf-8", "us-ascii", "ascii")


@dataclass(frozen=True)
class ElementSpan:
    """An element directly below the root: its tag, its attributes, and its position in the file, in bytes."""

    tag: str
    attributes: dict[str, str]
    start: int
    end: int


def read_xml(path: Path) -> Element:
    """Read an XML file and return its root.

    Raises:
        DataError: if it is missing, too large, not XML, or has a document type.
    """
    try:
        with open_regular_file(path) as file:
            content = file.read(MAX_XML_BYTES + 1)
    except OSError as problem:
        raise _read_error(path, problem) from problem
    if len(content) > MAX_XML_BYTES:
        raise DataError.for_file(
            path, f"has over {MAX_XML_BYTES >> 20} MiB; the XML of an image has some kilobytes: is it the right file?"
        )
    return parse_xml(content, path)


def parse_xml(content: bytes, file: Path) -> Element:
    """Parse an XML text and return its root; `file` is named in errors.

    Raises:
        DataError: if it is not XML, or has a document type.

    Example:
        >>> parse_xml(b"<image name='a.jpg'/>", Path("a.xml")).get("name")
        'a.jpg'
    """
    builder = TreeBuilder()
    parser = _make_parser(
        file, lambda tag, attributes, _: builder.start(tag, attributes), lambda tag, _: builder.end(tag)
    )
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except DataError:
        raise
    except decoder_errors() as problem:  # LookupError: an unknown encoding
        raise _xml_error(file, problem) from problem
    return builder.close()


def iter_elements(path: Path) -> Iterator[ElementSpan]:
    """Yield the elements directly below the root, one after the other; the file is read in chunks.

    An element ends where the next node begins.

    Raises:
        DataError: if the file is missing, not XML, not UTF-8, or has a document type.
    """
    spans: list[ElementSpan] = []
    pending: list[tuple[str, dict[str, str], int]] = []  # the element that has not ended yet

    def end_pending() -> None:
        spans.extend(ElementSpan(*element, parser.CurrentByteIndex) for element in pending)
        pending.clear()

    def on_start(tag: str, attributes: dict[str, str], depth: int) -> None:
        if depth == 2:
            end_pending()
            pending.append((tag, attributes, parser.CurrentByteIndex))

    def on_end(_: str, depth: int) -> None:
        if depth == 1:
            end_pending()

    def check_encoding(_: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in UTF8_ENCODINGS:
            raise DataError.for_file(path, f"is written in {encoding}; UTF-8 is read: save it so, or export it again")

    parser = _make_parser(path, on_start, on_end)
    parser.XmlDeclHandler = check_encoding
    try:
        with open_regular_file(path) as file:
            chunk = b"."
            while chunk:
                chunk = file.read(CHUNK_BYTES)
                parser.Parse(chunk, not chunk)
                yield from spans
                spans.clear()
    except DataError:
        raise
    except OSError as problem:
        raise _read_error(path, problem) from problem
    except decoder_errors() as problem:
        raise _xml_error(path, problem) from problem


def _make_parser(
    file: Path,
    on_start: Callable[[str, dict[str, str], int], object],
    on_end: Callable[[str, int], object],
) -> expat.XMLParserType:
    """Return a parser that refuses document types and deep nesting; handlers get the depth of the element, from 1."""
    depth = 0

    def refuse(*_: object) -> None:
        raise DataError.for_file(
            file, "declares a document type (<!DOCTYPE ...>), which label files do not have; remove it, or export again"
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError.for_file(
                file, f"has elements in each other {depth} deep; label files have few: export it again"
            )
        on_start(tag, attributes, depth)

    def end(tag: str) -> None:
        nonlocal depth
        on_end(tag, depth)
        depth -= 1

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    return parser


def _xml_error(file: Path, problem: Exception) -> DataError:
    return DataError.for_file(file, f"is no XML ({problem}); it is damaged or cut short: copy or export it again")


def _read_error(file: Path, problem: OSError) -> DataError:
    return DataError.for_file(
        file,
        f"cannot be read ({problem.strerror or problem}); an XML file is needed: check the path, or copy it again",
    )
