"""JSON files written by people and tools, read with errors that name the file and its fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from masklet.damaged_files import damage_errors, decoder_errors, open_regular_file
from masklet.datasets.dataset import DataError

__all__ = ["JsonObject", "as_json_list", "as_json_object", "iter_items", "probe_keys", "read_bytes", "read_json"]

JsonObject = dict[str, object]
PROBED_BYTES = 1 << 16
_SPACE = re.compile(r"[ \t\r\n]*")
_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """Read a file that must not be empty.

    Raises:
        DataError: if it is missing, unreadable or empty.
    """
    try:
        with open_regular_file(path) as file:
            content = file.read()
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
    """Read a JSON file.

    Raises:
        DataError: if it is missing, empty or not JSON; the message says where it breaks off.
    """
    content = read_bytes(path)
    try:
        value: object = json.loads(content.removeprefix(_BOM))
    except damage_errors() as problem:
        raise _json_error(path, problem) from problem
    return value


def as_json_object(value: object, file: Path, description: str) -> JsonObject:
    """Return `value` if it is a JSON object ({...}).

    Raises:
        DataError: if it is not; the message calls it `description`.
    """
    if isinstance(value, dict):
        return value
    raise _type_error(value, file, description, "an object {...}")


def as_json_list(value: object, file: Path, description: str) -> list[object]:
    """Return `value` if it is a list.

    Raises:
        DataError: if it is not; the message calls it `description`.
    """
    if isinstance(value, list):
        return value
    raise _type_error(value, file, description, "a list [...]")


def iter_items(content: bytes, file: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, int, int, object]]:
    """Yield (key, start, end, value) of every item in the lists under `keys` of one large JSON object.

    Only one item is in memory at a time. `content[start:end]` is its text in bytes, to return to later. Strings in
    `value` are Latin-1, whatever the file's encoding: decode `content[start:end]` where they matter.

    Raises:
        DataError: if the content is not JSON, not an object, or has something other than a list under one of `keys`.

    Example:
        >>> list(iter_items(b'{"images": [{"id": 1}], "info": {}}', Path("a.json"), ("images",)))
        [('images', 12, 21, {'id': 1})]
    """
    text = content.decode("latin-1")  # so that a character is a byte
    decode = json.JSONDecoder().raw_decode
    try:
        at = _skip_space(text, 3 if content.startswith(_BOM) else 0)
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
    except decoder_errors() as problem:  # IndexError: the text breaks off
        if isinstance(problem, DataError):
            raise
        raise _json_error(file, problem) from problem


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _next_item(text: str, at: int, end: str) -> int:
    """Return the position of the next item, or of the character `end`."""
    return at if text[at] == end else _skip_space(text, _expect_char(text, at, ","))


def _expect_char(text: str, at: int, char: str) -> int:
    if text[at] != char:
        raise json.JSONDecodeError(f"Expecting {char!r}", text, at)
    return at + 1


def probe_keys(path: Path) -> set[str]:
    """Return the quoted names before a colon in the first and last kilobytes: enough to guess what a JSON file is."""
    try:
        with open_regular_file(path) as file:
            head = file.read(PROBED_BYTES)
            file.seek(max(0, path.stat().st_size - PROBED_BYTES))
            tail = file.read()
    except OSError:
        return set()
    return {name.decode("latin-1") for name in re.findall(rb'"([A-Za-z_]{2,40})"\s*:', head + b" " + tail)}


def _json_error(file: Path, problem: Exception) -> DataError:
    if isinstance(problem, IndexError):
        problem = ValueError("the file breaks off")
    return DataError.for_file(file, f"is no JSON ({problem}); it is damaged or cut short: copy or export it again")


def _type_error(value: object, file: Path, description: str, expected: str) -> DataError:
    names = {dict: "an object {...}", list: "a list [...]", str: "a text", type(None): "null"}
    actual = names.get(type(value), f"{value!r:.40}")
    return DataError.for_file(
        file,
        f"holds {actual} where {description} should be {expected}; check that it is the right file, or export it again",
    )
