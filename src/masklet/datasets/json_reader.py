"""JSON files that people and tools wrote: read with a name for whatever is wrong with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from masklet.datasets.dataset import DataError

__all__ = ["JsonObject", "as_json_list", "as_json_object", "iter_items", "probe_keys", "read_bytes", "read_json"]

JsonObject = dict[str, object]
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """The content of a file that should not be empty.

    Raises:
        DataError: it is missing, closed to us, or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise DataError.for_file(
            path,
            f"cannot be read ({problem.strerror or problem}); a JSON file is needed: check the path, or copy it again",
        ) from problem
    if not content.strip():
        raise DataError.for_file(
            path, f"is empty ({len(content)} bytes); a JSON file is needed: copy or export it again"
        )
    return content


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        DataError: it is missing, empty, or no JSON; says where it breaks off.
    """
    content = read_bytes(path)
    try:
        value: object = json.loads(content.removeprefix(_BOM))
    except (ValueError, RecursionError) as problem:
        raise _json_error(path, problem) from problem
    return value


def as_json_object(value: object, file: Path, description: str) -> JsonObject:
    """`value`, if it is an object of JSON ({...}); else raises DataError, with `what` should have been one."""
    if isinstance(value, dict):
        return value
    raise DataError.for_file(file, _wrong_type_message(value, description, "an object {...}"))


def as_json_list(value: object, file: Path, description: str) -> list[object]:
    """`value`, if it is a list; else raises DataError, with `what` should have been one."""
    if isinstance(value, list):
        return value
    raise DataError.for_file(file, _wrong_type_message(value, description, "a list [...]"))


def iter_items(content: bytes, file: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, int, int, object]]:
    """(key, start, end, value) of every item in the lists under the `wanted` keys of one great object.

    Only one item is in memory at a time; `content[start:end]` is its text, in bytes, to come back to. Strings in
    `value` are Latin-1, whatever the file: decode `content[start:end]` where they matter.

    Raises:
        DataError: no JSON, no object, or something else than a list under a wanted key.
    """
    text = content.decode("latin-1")  # so that a character is a byte
    try:
        yield from _iter_items(text, file, keys, 3 if content.startswith(_BOM) else 0)
    except (ValueError, RecursionError, IndexError) as problem:
        if isinstance(problem, DataError):
            raise
        raise _json_error(file, problem) from problem


def _iter_items(text: str, file: Path, keys: tuple[str, ...], at: int) -> Iterator[tuple[str, int, int, object]]:
    decode = json.JSONDecoder().raw_decode
    at = _skip_space(text, at)
    if text[at] != "{":
        as_json_object(decode(text, at)[0], file, "the whole file")
    at = _skip_space(text, at + 1)
    while text[at] != "}":
        key, at = decode(text, at)
        at = _skip_space(text, _expect_char(text, _skip_space(text, at), ":"))
        if key not in keys:
            at = decode(text, at)[1]
        elif text[at] != "[":
            as_json_list(decode(text, at)[0], file, f"{key!r}")
        else:
            at = _skip_space(text, at + 1)
            while text[at] != "]":
                start = at
                value, at = decode(text, start)
                yield key, start, at, value
                at = _next_item(text, _skip_space(text, at), "]")
            at += 1
        at = _next_item(text, _skip_space(text, at), "}")
    if _skip_space(text, at + 1) != len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _next_item(text: str, at: int, end: str) -> int:
    """The place of the next item, or of `end`."""
    if text[at] == end:
        return at
    return _skip_space(text, _expect_char(text, at, ","))


def _expect_char(text: str, at: int, char: str) -> int:
    if text[at] != char:
        raise json.JSONDecodeError(f"Expecting {char!r}", text, at)
    return at + 1


def probe_keys(path: Path) -> set[str]:
    """Names in quotes before a colon in the first kilobytes and the last: enough to guess what a JSON file is."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
            file.seek(max(0, path.stat().st_size - (1 << 16)))
            tail = file.read()
    except OSError:
        return set()
    return {name.decode("latin-1") for name in re.findall(rb'"([A-Za-z_]{2,40})"\s*:', head + b" " + tail)}


def _json_error(file: Path, problem: Exception) -> DataError:
    if isinstance(problem, IndexError):
        problem = ValueError("the file breaks off")
    return DataError.for_file(file, f"is no JSON ({problem}); it is damaged or cut short: copy or export it again")


def _wrong_type_message(value: object, description: str, expected: str) -> str:
    names = {dict: "an object {...}", list: "a list [...]", str: "a text", type(None): "null"}
    found = names.get(type(value), f"{value!r:.40}")
    return (
        f"holds {found} where {description} should be {expected}; check that it is the right file, or export it again"
    )
