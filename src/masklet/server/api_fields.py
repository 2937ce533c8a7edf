"""The fields of requests: their types, checked before anything else, and described for OpenAPI."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from masklet.server.api_errors import ApiError

__all__ = ["ApiField", "check_fields", "parse_query"]

MAX_INTEGER = 2**53 - 1
MAX_TEXT = 4096
MAX_ITEMS = 10_000


@dataclass(frozen=True)
class ApiField:
    """A field of a request: its type, a name of `TYPES`, what it is, and whether it must be there."""

    type: str
    about: str
    required: bool = False


def _is_number(value: object) -> bool:
    """A finite number of a size that every conversion takes."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and abs(value) <= MAX_INTEGER  # type: ignore[arg-type]


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INTEGER


def _is_text(value: object) -> bool:
    """Text of a bounded length that can be written as UTF-8, so without halves of characters."""
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_list(value: object, test: Callable[[object], bool], shortest: int = 0, longest: int = MAX_ITEMS) -> bool:
    return isinstance(value, list) and shortest <= len(value) <= longest and all(map(test, value))


def _is_rle(value: object) -> bool:
    """A run-length code; whether its runs fit is checked when it is decoded."""
    if not isinstance(value, dict) or set(value) != {"size", "counts"} or not isinstance(value["counts"], str):
        return False
    return _is_list(value["size"], _is_integer, 2, 2)


NUMBER: dict[str, Any] = {"type": "number"}
INTEGER: dict[str, Any] = {"type": "integer", "minimum": 0}
PAIR = {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}
TYPES: dict[str, tuple[Callable[[object], bool], dict[str, Any], str]] = {
    "string": (
        _is_text,
        {"type": "string", "maxLength": MAX_TEXT},
        f"text of at most {MAX_TEXT} characters",
    ),
    "integer": (_is_integer, INTEGER, "a whole number, 0 or more"),
    "number": (_is_number, NUMBER, "a number"),
    "boolean": (lambda value: isinstance(value, bool), {"type": "boolean"}, "true or false"),
    "integers": (
        lambda value: _is_list(value, _is_integer),
        {"type": "array", "items": INTEGER, "maxItems": MAX_ITEMS},
        "a list of whole numbers, 0 or more",
    ),
    "labels": (
        lambda value: _is_list(value, lambda one: _is_integer(one) and one in (0, 1), 1),
        {"type": "array", "items": {"enum": [0, 1]}, "minItems": 1},
        "a list of 1 (on the object) and 0 (off it)",
    ),
    "points": (
        lambda value: _is_list(value, lambda one: _is_list(one, _is_number, 2, 2), 1),
        {"type": "array", "items": PAIR, "minItems": 1},
        "[[x, y], ...] in pixels",
    ),
    "box": (
        lambda value: _is_list(value, _is_number, 4, 4),
        {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4},
        "[x1, y1, x2, y2] in pixels",
    ),
    "mask": (
        _is_rle,
        {
            "type": "object",
            "properties": {"size": {"type": "array", "items": INTEGER}, "counts": {"type": "string"}},
            "required": ["size", "counts"],
        },
        'a COCO run-length code {"size": [height, width], "counts": "..."}',
    ),
}
"""By name: the check, the JSON schema, and how a message calls it."""


def check_fields(given: Mapping[str, Any], fields: Mapping[str, ApiField]) -> dict[str, Any]:
    """Return the fields of a request that are not null.

    Example:
        >>> check_fields({"frame": 3, "name": None}, {"frame": ApiField("integer", ""), "name": ApiField("string", "")})
        {'frame': 3}

    Raises:
        ApiError: if one is unknown, missing or of another type.
    """
    found = {}
    for name, value in given.items():
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ApiError(400, f"there is no field {name!r:.60}; this request has {known}: remove it")
        if value is None:
            continue
        test, _, expected = TYPES[fields[name].type]
        if not test(value):
            raise ApiError(400, f"{name}={value!r:.60} is malformed; it is {expected}: correct it")
        found[name] = value
    for name, one in fields.items():
        if one.required and name not in found:
            raise ApiError(400, f"{name} is missing; it is {TYPES[one.type][2]}: {one.about}")
    return found


def parse_query(given: Mapping[str, str], fields: Mapping[str, ApiField]) -> dict[str, Any]:
    """Return the fields of a query or path, which come as text.

    Example:
        >>> parse_query({"frame": "3"}, {"frame": ApiField("integer", "")})
        {'frame': 3}

    Raises:
        ApiError: as for `check_fields`.
    """
    values: dict[str, Any] = {}
    for name, text in given.items():
        kind = fields[name].type if name in fields else "string"
        values[name] = text
        if kind == "integer" and text.isascii() and text.isdigit() and len(text) <= 16:
            values[name] = int(text)
        elif kind == "boolean" and text in ("true", "false"):
            values[name] = text == "true"
    return check_fields(values, fields)
