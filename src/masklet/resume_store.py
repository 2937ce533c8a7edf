"""Remember what a long run has finished, so that a stopped run resumes where it was.

One SQLite file holds the settings of the run, its finished items in order, and the lines that belong to each item. An
item is stored completely or not at all, whatever stops the process: every change is one transaction. One process has
the store at a time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from masklet.damaged_files import damage_errors, decoder_errors
from masklet.errors import OutputError

__all__ = ["ResumeStore", "StoredItem", "from_column", "read_json_lines", "to_column"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lines (item INTEGER NOT NULL, number INTEGER NOT NULL, line TEXT NOT NULL,
    PRIMARY KEY (item, number)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoredItem:
    """A finished item: its key, what is known about it as plain JSON values, and lines that are read on demand."""

    key: str
    document: Mapping[str, Any]
    lines: Iterable[str] = field(default=())


class ResumeStore:
    """The finished items of one run in one file.

    A finished item survives the end of the process, however it ends; where the store is `durable`, it survives a power
    failure as well, and storing it waits for the disk. `write_error` makes the error to raise when the file cannot be
    written; it gets the reason.

    Example:
        >>> from tempfile import mkdtemp
        >>> with ResumeStore(Path(mkdtemp()) / "run.sqlite", busy="wait for it") as store:
        ...     store.save_settings({"model": "builtin"})
        ...     store.add([StoredItem("cats/1", {"objects": 2}, ["first", "second"])])
        ...     list(store.items()), list(store.lines("cats/1"))
        ([('cats/1', {'objects': 2})], ['first', 'second'])
    """

    def __init__(
        self,
        path: Path,
        *,
        busy: str,
        write_error: Callable[[str], OutputError] | None = None,
        durable: bool = True,
    ) -> None:
        self.path, self.durable = path, durable
        self._busy = busy
        self._write_error = write_error or (
            lambda reason: OutputError(
                f"{path} cannot be written ({reason}): choose a folder that is writable and has room, or make room and "
                "run the same again"
            )
        )
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0)
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> ResumeStore:
        """Lock the file for this process.

        Raises:
            OutputError: if another process has it, or the folder cannot be made or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(self._busy) from None
        except OSError as error:
            raise self._write_error(error.strerror or str(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()
        self._lock.release()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the earlier run; empty if there is none."""
        with self._connected() as connection:
            rows = connection.execute("SELECT name, value FROM settings").fetchall()
        return {name: self._parse(value) for name, value in rows}

    def differences(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Compare with the settings of the earlier run: {name: (before, now)} of those that differ."""
        before, now = self.settings, json.loads(json.dumps(dict(settings)))
        return {
            name: (before.get(name), now.get(name)) for name in {**now, **before} if before.get(name) != now.get(name)
        }

    def save_settings(self, settings: Mapping[str, Any]) -> None:
        """Replace the stored settings.

        Raises:
            OutputError: if the file cannot be written.
        """
        with self._connected() as connection, connection:
            connection.execute("DELETE FROM settings")
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)", [(name, json.dumps(value)) for name, value in settings.items()]
            )

    def add(self, items: Iterable[StoredItem]) -> None:
        """Store finished items, all of them or none. An item with a known key replaces the earlier one.

        Raises:
            OutputError: if the file cannot be written; what was stored before stays.
        """
        with self._connected() as connection, connection:
            for item in items:
                self._delete(connection, item.key)
                document = json.dumps(dict(item.document), ensure_ascii=False)
                row = connection.execute(
                    "INSERT INTO items (key, document) VALUES (?, ?)", (to_column(item.key), to_column(document))
                )
                connection.executemany(
                    "INSERT INTO lines VALUES (?, ?, ?)",
                    ((row.lastrowid, number, to_column(line)) for number, line in enumerate(item.lines)),
                )

    def remove(self, key: str) -> None:
        """Forget an item.

        Raises:
            OutputError: if the file cannot be written.
        """
        with self._connected() as connection, connection:
            self._delete(connection, key)

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield key and document of every item, in the order in which they were stored."""
        with self._connected() as connection:
            for key, document in connection.execute("SELECT key, document FROM items ORDER BY number"):
                yield from_column(key), self._parse(document, dict)

    def document(self, key: str) -> dict[str, Any]:
        """Return the document of an item.

        Raises:
            KeyError: if there is no such item.
        """
        with self._connected() as connection:
            row = connection.execute("SELECT document FROM items WHERE key = ?", (to_column(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        document: dict[str, Any] = self._parse(row[0], dict)
        return document

    def lines(self, key: str) -> Iterator[str]:
        """Yield the lines of an item, one in memory at a time."""
        query = "SELECT line FROM lines WHERE item = (SELECT number FROM items WHERE key = ?) ORDER BY number"
        with self._connected() as connection:
            for (line,) in connection.execute(query, (to_column(key),)):
                yield from_column(line)

    def clear(self) -> None:
        """Forget everything, and remove the file."""
        self._disconnect()
        with suppress(OSError):
            for path in (self.path, Path(f"{self.path}-wal")):  # a killed process leaves the write-ahead log
                path.unlink(missing_ok=True)

    def _delete(self, connection: sqlite3.Connection, key: str) -> None:
        row = connection.execute("SELECT number FROM items WHERE key = ?", (to_column(key),)).fetchone()
        if row is not None:
            connection.execute("DELETE FROM lines WHERE item = ?", row)
            connection.execute("DELETE FROM items WHERE number = ?", row)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Open the database at its first use.

        A write-ahead log makes a transaction cheap: it is one write, without a sync unless the store is durable.
        """
        try:
            if self._connection is None:
                connection = sqlite3.connect(self.path, check_same_thread=False)
                with ExitStack() as stack:
                    stack.callback(connection.close)
                    connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # then it needs no shared memory
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
                    connection.executescript(SCHEMA)
                    stack.pop_all()
                self._connection = connection
            yield self._connection
        except (sqlite3.DatabaseError, OSError) as error:
            foreign = str(error).startswith(("Could not decode", "no such", "table "))  # other columns, no UTF-8
            if foreign or not isinstance(error, sqlite3.OperationalError | OSError):
                raise self._damage_error(str(error)) from error
            raise self._write_error(getattr(error, "strerror", None) or str(error)) from error

    def _parse(self, text: Any, kind: type = object) -> Any:
        """Return the value of a stored text of JSON, which must be a `kind`."""
        try:
            value = json.loads(from_column(text))
        except decoder_errors() as error:
            raise self._damage_error(str(error)) from error
        if not isinstance(value, kind):
            raise self._damage_error(f"{text!r:.40} is no {kind.__name__}")
        return value

    def _damage_error(self, reason: str) -> OutputError:
        return OutputError(
            f"{self.path} cannot be read ({reason}): it is damaged or of another program; remove it to start over"
        )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def to_column(text: str) -> str | bytes:
    """Return text as SQLite takes it; file names with bytes that are no text have surrogates, and become bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_column(value: str | bytes) -> str:
    """Return the text of a column that `to_column` filled.

    Raises:
        UnicodeDecodeError: if it holds bytes that are no text of `to_column`.
    """
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines, as earlier versions stored runs, up to the first incomplete line.

    Raises:
        OutputError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    document = json.loads(line) if line.endswith(b"\n") else None
                except damage_errors():
                    return
                if not isinstance(document, dict):
                    return
                yield document
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read ({error.strerror or error}): make it readable, or choose another folder"
        ) from error
