"""XML files that people and tools wrote, read without trusting them.

A document type is refused, since entities are declared there: none of these formats has one, and a few lines of it can
stand for gigabytes or for other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from masklet.datasets.dataset import DataError

__all__ = ["ElementSpan", "iter_elements", "parse_xml", "read_xml"]

MAX_DEPTH = 40
"""Elements in each other; label files have five."""
CHUNK_BYTES = 1 << 20
UTF8_ENCODINGS = ("utf-8", "us-ascii", "ascii")


@dataclass(frozen=True)
class ElementSpan:
    """An element directly below the root: its name, its attributes, and where it lies in the file, in bytes."""

    tag: str
    attributes: dict[str, str]
    start: int
    end: int


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        DataError: it is missing, no XML, or has a document type.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise _read_error(path, problem) from problem
    return parse_xml(content, path)


def parse_xml(content: bytes, file: Path) -> Element:
    """The root of an XML text; `file` is where it comes from.

    Raises:
        DataError: no XML, or with a document type.

    Example:
        >>> parse_xml(b"<image name='a.jpg'/>", Path("a.xml")).get("name")
        'a.jpg'
    """
    builder = TreeBuilder()
    parser = _make_parser(file)
    parser.CharacterDataHandler = builder.data
    _limit_depth(parser, file, builder.start, builder.end)
    try:
        parser.Parse(content, True)
    except expat.ExpatError as problem:
        raise _xml_error(file, problem) from problem
    return builder.close()


def iter_elements(path: Path) -> Iterator[ElementSpan]:
    """The elements directly below the root, one after the other; the file is read in chunks.

    Raises:
        DataError: it is missing, no XML, not UTF-8, or has a document type.
    """
    cutter = _ElementSplitter(path)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield from cutter.feed(chunk)
        yield from cutter.feed(b"")
    except expat.ExpatError as problem:
        raise _xml_error(path, problem) from problem
    except OSError as problem:
        raise _read_error(path, problem) from problem


class _ElementSplitter:
    """Finds where the elements below the root begin and end; one ends where the next thing begins."""

    def __init__(self, path: Path) -> None:
        self._parser = _make_parser(path)
        self._elements: list[ElementSpan] = []
        self._open_element: tuple[str, dict[str, str], int] | None = None
        self._depth = 0
        _limit_depth(self._parser, path, self._start, self._end)
        self._parser.XmlDeclHandler = lambda version, encoding, standalone: _check_encoding(path, encoding)

    def feed(self, chunk: bytes) -> list[ElementSpan]:
        """The pieces that end in this chunk; an empty one is the end of the file."""
        self._elements = []
        self._parser.Parse(chunk, not chunk)
        return self._elements

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 2:
            self._finish_element()
            self._open_element = (tag, attributes, self._parser.CurrentByteIndex)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._finish_element()

    def _finish_element(self) -> None:
        if self._open_element is not None:
            tag, attributes, at = self._open_element
            self._elements.append(ElementSpan(tag, attributes, at, self._parser.CurrentByteIndex))
            self._open_element = None


def _make_parser(file: Path) -> expat.XMLParserType:
    def refuse(*_: object) -> None:
        raise DataError.for_file(
            file, "declares a document type (<!DOCTYPE ...>), which label files do not have; remove it, or export again"
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    return parser


def _limit_depth(
    parser: expat.XMLParserType,
    file: Path,
    start: Callable[[str, dict[str, str]], object],
    end: Callable[[str], object],
) -> None:
    depth = 0

    def deeper(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError.for_file(
                file, f"has elements in each other {depth} deep; label files have few: export it again"
            )
        start(tag, attributes)

    def back(tag: str) -> None:
        nonlocal depth
        depth -= 1
        end(tag)

    parser.StartElementHandler = deeper
    parser.EndElementHandler = back


def _check_encoding(file: Path, encoding: str | None) -> None:
    if encoding is not None and encoding.lower() not in UTF8_ENCODINGS:
        raise DataError.for_file(file, f"is written in {encoding}; UTF-8 is read: save it so, or export it again")


def _xml_error(file: Path, problem: Exception) -> DataError:
    return DataError.for_file(file, f"is no XML ({problem}); it is damaged or cut short: copy or export it again")


def _read_error(file: Path, problem: OSError) -> DataError:
    return DataError.for_file(
        file,
        f"cannot be read ({problem.strerror or problem}); an XML file is needed: check the path, or copy it again",
    )
