"""Messages with masks: a JSON header and binary payload in one message, the same on both sides of a WebSocket.

A binary message is the length of the header (4 bytes, big endian), the header as UTF-8 JSON, and the payload. Masks are
COCO run-length codes, which lose nothing: `objects` of the header has for each the size and where its characters lie
in the payload. A request without payload may be plain JSON text.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from masklet.errors import InputError
from masklet.masks.rle import Rle

__all__ = ["pack_masks", "pack_message", "parse_json_object", "unpack_masks", "unpack_message"]

LENGTH = struct.Struct(">I")


def parse_json_object(data: bytes | str) -> dict[str, Any]:
    """Parse a JSON object of a client.

    Example:
        >>> parse_json_object(b'{"frame": 3}')
        {'frame': 3}

    Raises:
        InputError: if it is no JSON object, is nested without bound, or has a number that is none.
    """

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is no number")

    try:
        value = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON ({str(error)[:80]}): send an object, such as {{}}") from None
    if not isinstance(value, dict):
        raise InputError(f"the request is a JSON {type(value).__name__}: send an object, such as {{}}")
    return value


def pack_message(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Join header and payload.

    Example:
        >>> unpack_message(pack_message({"type": "masks"}, b"06"))
        ({'type': 'masks'}, b'06')
    """
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + payload


def unpack_message(data: bytes | str) -> tuple[dict[str, Any], bytes]:
    """Split a message into header and payload; text is a header alone.

    Raises:
        InputError: if it is malformed.
    """
    if isinstance(data, str):
        return parse_json_object(data), b""
    if len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
        raise InputError(
            f"a message of {len(data)} bytes is cut; it is the length of the header (4 bytes), the header and the "
            "payload: send it whole"
        )
    end = LENGTH.size + LENGTH.unpack_from(data)[0]
    return parse_json_object(data[LENGTH.size : end]), data[end:]


def pack_masks(codes: Sequence[tuple[Mapping[str, Any], Rle]]) -> tuple[list[dict[str, Any]], bytes]:
    """Return `objects` of a header and the payload for masks, each with what is to be known of it.

    Example:
        >>> pack_masks([({"object": 1}, {"size": [2, 3], "counts": "06"})])
        ([{'object': 1, 'size': [2, 3], 'offset': 0, 'bytes': 2}], b'06')
    """
    objects, parts, offset = [], [], 0
    for known, code in codes:
        counts = code["counts"].encode("ascii")
        objects.append({**known, "size": code["size"], "offset": offset, "bytes": len(counts)})
        parts.append(counts)
        offset += len(counts)
    return objects, b"".join(parts)


def unpack_masks(header: Mapping[str, Any], payload: bytes) -> list[tuple[dict[str, Any], Rle]]:
    """Return the masks of a message, each with what is known of it.

    Example:
        >>> unpack_masks({"objects": [{"object": 1, "size": [2, 3], "offset": 0, "bytes": 2}]}, b"06")[0][1]
        {'size': [2, 3], 'counts': '06'}

    Raises:
        InputError: if the payload does not hold what the header says.
    """
    found = []
    try:
        for one in header["objects"]:
            counts = payload[one["offset"] : one["offset"] + one["bytes"]]
            if len(counts) != one["bytes"]:
                raise ValueError(f"{len(counts)} bytes of {one['bytes']}")
            known = {key: value for key, value in one.items() if key not in ("size", "offset", "bytes")}
            code: Rle = {"size": list(one["size"]), "counts": counts.decode("ascii")}
            found.append((known, code))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the masks of a message are malformed ({error}): send header and payload as one") from error
    return found
