"""The file of each finished item: one row of a stage as JSON, or as .npz where a column is an array.

OUT/items/NAME.json    item, sha256 of what was read, and the columns of the stage
OUT/failed/NAME.json   item and error, until the item succeeds

A file is the same whenever and wherever it is made; seconds and times are in the manifest.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from masklet.damaged_files import decoder_errors
from masklet.errors import SourceError
from masklet.scale.stage_rows import Cell
from masklet.scale.storage import Storage, StoredFile, join_location, storage_of

__all__ = [
    "FAILED_FOLDER",
    "ITEMS_FOLDER",
    "decode_row",
    "encode_row",
    "file_of_item",
    "find_item_file",
    "read_item_file",
]

ITEMS_FOLDER, FAILED_FOLDER = "items", "failed"
SUFFIXES = (".json", ".npz")
MAX_PART_BYTES = 200
"""Of a part of a path: file systems have 255, with a suffix and the name of a temporary file."""


def file_of_item(out: str, folder: str, name: str) -> str:
    """Return the location of the file of an item, without its suffix; whatever the name, it is below the folder.

    Example:
        >>> file_of_item("out", "items", "cats/1.jpg")
        'out/items/cats/1.jpg'
    """
    parts = []
    for part in name.split("/"):
        content = part.encode("utf-8", "surrogateescape")
        is_safe = part not in ("", ".", "..") and not any(character in part for character in "\0\\:")
        if not is_safe or len(content) > MAX_PART_BYTES:  # the hash keeps it apart from names that are like it now
            kept = re.sub(r"[\0\\:]", "_", content[: MAX_PART_BYTES - 17].decode("utf-8", "ignore")).strip(".")
            part = f"{kept}-{sha256(content).hexdigest()[:16]}"
        parts.append(part)
    return join_location(out, "/".join([folder, *parts]))


def encode_row(row: Mapping[str, Cell]) -> tuple[str, bytes]:
    """Return the suffix and the content of the file of a row.

    Example:
        >>> encode_row({"item": "a.jpg", "width": 3})
        ('.json', b'{"item":"a.jpg","width":3}\\n')
    """
    arrays = {name: cell for name, cell in row.items() if isinstance(cell, np.ndarray)}
    plain = {name: cell for name, cell in row.items() if name not in arrays}
    text = json.dumps(plain, separators=(",", ":"), default=_plain_number)
    if not arrays:
        return ".json", f"{text}\n".encode()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, row=np.array(text), **arrays)
    return ".npz", buffer.getvalue()


def decode_row(suffix: str, content: bytes) -> dict[str, Any]:
    """Return the row that `encode_row` wrote.

    Raises:
        ValueError: if the content is cut short, or none of these files.
    """
    try:
        if suffix == ".json":
            row: dict[str, Any] = json.loads(content)
        else:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                row = json.loads(str(file["row"]))
                row.update((name, file[name]) for name in file.files if name != "row")
    except decoder_errors() as error:
        raise ValueError(f"no row: {error}") from error
    if not isinstance(row, dict) or "item" not in row:
        raise ValueError("no row: it has no item")
    return row


def find_item_file(out: str, folder: str, name: str, storage: Storage) -> StoredFile | None:
    """Return what is known about the file of an item now; None if there is none."""
    location = file_of_item(out, folder, name)
    return next((file for suffix in SUFFIXES if (file := storage.find(location + suffix)) is not None), None)


def read_item_file(out: str, name: str, storage: Storage | None = None) -> tuple[dict[str, Any], int] | None:
    """Return the row of a finished item and the size of its file; None if there is none, or it is cut short."""
    storage = storage or storage_of(out)
    for suffix in SUFFIXES:
        try:
            content = storage.read_if_there(file_of_item(out, ITEMS_FOLDER, name) + suffix)
            if content is not None:
                return decode_row(suffix, content), len(content)
        except (SourceError, ValueError):
            continue
    return None


def _plain_number(value: object) -> object:
    """Return a NumPy number as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a column holds {type(value).__name__}, which no file of an item takes")
