"""The tables of a project's database, its migrations, and the types that their values must have.

The tables of `TABLES` hold what people and models did; every change of a row is in `changes`, as the row before and the
row after, and belongs to an action. The others hold what can be made again (`contents` of masks of models), what
belongs to one machine (`locations`), and the log.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Any

from masklet.errors import ProjectError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "TABLES", "Row", "TableSpec", "check_row", "parse_stored_json"]

APPLICATION_ID = 0x6D736B6C
"""The mark of a project in the header of the SQLite file."""

Row = dict[str, Any]

_VERSION_1 = """
CREATE TABLE migrations (version INTEGER PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE sources (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, frames INTEGER,
    fps REAL, files TEXT, split TEXT, video TEXT);
CREATE INDEX sources_by_content ON sources (sha256);
CREATE TABLE classes (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, color TEXT);
CREATE TABLE objects (id INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL REFERENCES sources (id) DEFERRABLE INITIALLY DEFERRED,
    class INTEGER REFERENCES classes (id) DEFERRABLE INITIALLY DEFERRED,
    number INTEGER NOT NULL, track_id INTEGER, name TEXT NOT NULL, hidden INTEGER NOT NULL, locked INTEGER NOT NULL,
    UNIQUE (source, number));
CREATE INDEX objects_of_class ON objects (class);
CREATE TABLE prompts (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, points TEXT, labels TEXT, box TEXT, mask TEXT, author TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE masks (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, content TEXT NOT NULL, state TEXT NOT NULL, score REAL, origin TEXT NOT NULL,
    author TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE verified (object INTEGER NOT NULL REFERENCES objects (id) DEFERRABLE INITIALLY DEFERRED,
    frame INTEGER NOT NULL, author TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (object, frame)) WITHOUT ROWID;
CREATE TABLE contents (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, counts TEXT NOT NULL,
    kept INTEGER NOT NULL);
CREATE INDEX droppable_contents ON contents (number) WHERE kept = 0;
CREATE TABLE locations (source INTEGER PRIMARY KEY, path TEXT NOT NULL, relative TEXT, mtime_ns INTEGER NOT NULL);
CREATE TABLE actions (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, summary TEXT NOT NULL,
    author TEXT NOT NULL, at REAL NOT NULL, run INTEGER, state TEXT NOT NULL, undone_by INTEGER);
CREATE INDEX undone_actions ON actions (undone_by) WHERE state = 'undone';
CREATE TABLE changes (action INTEGER NOT NULL REFERENCES actions (id), number INTEGER NOT NULL,
    table_name TEXT NOT NULL, before TEXT, after TEXT, PRIMARY KEY (action, number)) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_VERSION_1,)
"""SQL that leads from each version to the next, beginning at an empty file; an entry never changes once released."""

_INTEGER, _NUMBER, _TEXT = (int,), (float, int), (str,)
_ANY_INTEGER, _ANY_NUMBER, _ANY_TEXT = (int, NoneType), (float, int, NoneType), (str, NoneType)


@dataclass(frozen=True)
class TableSpec:
    """The key of a table, and the types that the values of its columns may have."""

    key: tuple[str, ...]
    columns: Mapping[str, tuple[type, ...]]


TABLES: Mapping[str, TableSpec] = MappingProxyType(
    {
        "sources": TableSpec(
            ("id",),
            {
                "id": _INTEGER,
                "name": _TEXT,
                "kind": _TEXT,
                "sha256": _TEXT,
                "bytes": _INTEGER,
                "height": _INTEGER,
                "width": _INTEGER,
                "frames": _ANY_INTEGER,
                "fps": _ANY_NUMBER,
                "files": _ANY_TEXT,
                "split": _ANY_TEXT,
                "video": _ANY_TEXT,
            },
        ),
        "classes": TableSpec(("id",), {"id": _INTEGER, "name": _TEXT, "color": _ANY_TEXT}),
        "objects": TableSpec(
            ("id",),
            {
                "id": _INTEGER,
                "source": _INTEGER,
                "class": _ANY_INTEGER,
                "number": _INTEGER,
                "track_id": _ANY_INTEGER,
                "name": _TEXT,
                "hidden": _INTEGER,
                "locked": _INTEGER,
            },
        ),
        "prompts": TableSpec(
            ("object", "frame"),
            {
                "object": _INTEGER,
                "frame": _INTEGER,
                "points": _ANY_TEXT,
                "labels": _ANY_TEXT,
                "box": _ANY_TEXT,
                "mask": _ANY_TEXT,
                "author": _TEXT,
                "at": _NUMBER,
            },
        ),
        "masks": TableSpec(
            ("object", "frame"),
            {
                "object": _INTEGER,
                "frame": _INTEGER,
                "content": _TEXT,
                "state": _TEXT,
                "score": _ANY_NUMBER,
                "origin": _TEXT,
                "author": _TEXT,
                "at": _NUMBER,
            },
        ),
        "verified": TableSpec(
            ("object", "frame"), {"object": _INTEGER, "frame": _INTEGER, "author": _TEXT, "at": _NUMBER}
        ),
    }
)
"""The tables whose changes are logged, so that undo works on all of them; columns of migrations stand last."""


def check_row(path: object, table: str, row: Row) -> Row:
    """Return a row of a table if each value has a type that its column allows; `path` is the file, for the message.

    Raises:
        ProjectError: if one has not, as in a file that another program wrote.
    """
    columns = TABLES[table].columns
    for name, value in row.items():
        if name not in columns or not isinstance(value, columns[name]):
            raise ProjectError(
                f"{path} is damaged: {value!r:.40} in {table}.{name} is none of the values that masklet writes there; "
                "restore a copy of the project"
            )
    return row


def parse_stored_json(path: object, text: str, kind: type) -> Any:
    """Parse a JSON text of the database whose value must be a `kind`.

    Raises:
        ProjectError: if it is no JSON, or another value.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{path} is damaged: {text!r:.40} is no JSON; restore a copy of the project") from error
    if not isinstance(value, kind):
        raise ProjectError(
            f"{path} is damaged: {text!r:.40} is no {kind.__name__} in JSON; restore a copy of the project"
        )
    return value
