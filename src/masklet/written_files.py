"""Remember which files masklet wrote into a folder, so that no file of somebody else is replaced unasked.

A hidden SQLite file in the output folder has the size, the time and (of texts) the hash of each file when it was
written. A file without an entry, or that has changed since, is somebody's: it is kept, and an OutputError names it.
`masklet.atomic_files` asks the guard of the running block before it replaces a file.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from masklet.errors import OutputError

__all__ = ["RECORD_FILE", "WrittenFiles", "output_guard"]

RECORD_FILE = ".masklet.sqlite"
"""The record of a folder, unless it has a folder for the state of its runs."""
HASHED_SUFFIXES = frozenset((".csv", ".html", ".json", ".jsonl", ".md", ".txt", ".xml", ".yaml", ".yml"))
"""Files that people edit, and that are copied with another time: these are compared by their content."""
MAX_HASHED_BYTES = 1 << 24
LOCK_TIMEOUT_S = 60.0
"""How long to wait for another process that writes the files of an entire run."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL, source BLOB, note TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sources ON files (source);
"""

_GUARD: ContextVar[WrittenFiles | None] = ContextVar("masklet_output_guard", default=None)


def output_guard(path: Path) -> WrittenFiles | None:
    """Return the record that guards `path` in the running block; None if there is none, or it is of another folder."""
    guard = _GUARD.get()
    return guard if guard is not None and guard.covers(path) else None


class WrittenFiles:
    """The files that masklet wrote into `folder`; with `overwrite`, those of others are replaced too.

    Several processes can write into one folder. `database` is the path of the record below the folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> _ = (folder / "classes.txt").write_text("cat")
        >>> WrittenFiles(folder).is_own(folder / "classes.txt")
        False
    """

    def __init__(self, folder: str | os.PathLike[str], *, overwrite: bool = False, database: str = RECORD_FILE) -> None:
        self.folder, self.overwrite = Path(folder), overwrite
        self.database = self.folder / database
        self._database_path = os.fspath(self.database)
        self._prefix = os.path.join(os.path.abspath(folder), "")
        self._source: str | None = None
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[..., WrittenFiles] | None = None
        self._in_transaction = False
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the record, which the next use opens again; also done when the object is no longer used."""
        with self._lock:
            if self._closing is not None:
                self._closing()
            self._connection = self._closing = None

    @contextmanager
    def protect(self, source: str | None = None) -> Iterator[None]:
        """Guard the files that the block writes below the folder; `source` is the image that they are made of."""
        before, self._source = self._source, source
        token = _GUARD.set(self)
        try:
            yield
        finally:
            _GUARD.reset(token)
            self._source = before

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing while the block reads files and writes them again.

        Raises:
            OutputError: if another process writes for longer than a minute.
        """
        with self._lock, self._connected(create=True) as connection:
            assert connection is not None
            if self._in_transaction:
                yield
                return
            connection.execute("BEGIN IMMEDIATE")
            self._in_transaction = True
            try:
                yield
                connection.execute("COMMIT")
            finally:
                self._in_transaction = False
                if connection.in_transaction:
                    connection.rollback()

    def covers(self, path: str | os.PathLike[str]) -> bool:
        """Whether `path` is below the folder, and not hidden."""
        full = os.path.abspath(path)
        return full.startswith(self._prefix) and full[len(self._prefix)] != "."

    def check(self, *paths: str | os.PathLike[str]) -> None:
        """Check that no path has a file of somebody else.

        Raises:
            OutputError: if one has; the message names it.
        """
        for path in () if self.overwrite else paths:
            if os.path.lexists(path) and self.covers(path) and not self.is_own(path):
                raise OutputError(
                    f"{path} was not written by masklet, or was changed since, and is kept: choose another folder, "
                    "move it away, or replace it (--overwrite, overwrite=True)"
                )

    def knows(self, path: str | os.PathLike[str]) -> bool:
        """Whether masklet wrote a file of this name, as it is or before it was changed."""
        return self._row(path) is not None

    def is_own(self, path: str | os.PathLike[str]) -> bool:
        """Whether masklet wrote this file, and nobody changed it since."""
        row = self._row(path)
        if row is None:
            return False
        size, mtime_ns, digest = row[:3]
        try:
            status = os.stat(path)
            if status.st_size != size:
                return False
            return status.st_mtime_ns == mtime_ns or digest == _hash(path, os.path.splitext(path)[1], size) != ""
        except OSError:
            return False

    def record(self, path: str | os.PathLike[str], content: str | os.PathLike[str] | None = None) -> None:
        """Remember a file as written; `content` is the file that is about to be renamed to `path`.

        Raises:
            OutputError: if the record cannot be written.
        """
        path, written = os.fspath(path), os.fspath(content or path)
        status = os.stat(written)
        source = None if self._source is None else os.fsencode(self._source)
        digest = _hash(written, os.path.splitext(path)[1], status.st_size)
        with self._connected(create=True) as connection:
            assert connection is not None
            connection.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, '') ON CONFLICT (path) DO UPDATE SET size = excluded.size, "
                "mtime_ns = excluded.mtime_ns, sha256 = excluded.sha256, source = excluded.source",
                (self._key(path), status.st_size, status.st_mtime_ns, digest, source),
            )

    def record_existing(self, paths: Iterable[Path]) -> None:
        """Remember files that were written without the guard, and all files of folders."""
        for path in paths:
            for file in path.rglob("*") if path.is_dir() else (path,):
                if file.is_file() and not self.is_own(file):
                    self.record(file)

    def source_of(self, path: str | os.PathLike[str]) -> str | None:
        """Return the image that a file was made of; None if it is unknown, or the file is gone."""
        row = self._row(path)
        return None if row is None or row[3] is None or not os.path.exists(path) else os.fsdecode(row[3])

    def note_of(self, path: str | os.PathLike[str]) -> str:
        """Return what `set_note` stored; empty if the file is gone or not ours."""
        row = self._row(path)
        return "" if row is None or not self.is_own(path) else str(row[4])

    def set_note(self, path: str | os.PathLike[str], note: str) -> None:
        """Store a text with a file that is recorded, for the next run."""
        with self._connected(create=True) as connection:
            assert connection is not None
            connection.execute("UPDATE files SET note = ? WHERE path = ?", (note, self._key(path)))

    def _row(self, path: str | os.PathLike[str]) -> tuple[int, int, str, bytes | None, str] | None:
        with self._connected(create=False) as connection:
            if connection is None:
                return None
            query = "SELECT size, mtime_ns, sha256, source, note FROM files WHERE path = ?"
            row: tuple[int, int, str, bytes | None, str] | None = connection.execute(
                query, (self._key(path),)
            ).fetchone()
            return row

    def _key(self, path: str | os.PathLike[str]) -> bytes:
        """The path below the folder as bytes, which any name has."""
        full = os.path.abspath(path)
        relative = full[len(self._prefix) :] if full.startswith(self._prefix) else os.path.relpath(full, self._prefix)
        return os.fsencode(relative.replace(os.sep, "/"))

    @contextmanager
    def _connected(self, *, create: bool) -> Iterator[sqlite3.Connection | None]:
        """Yield the open record, inside or outside of `locked`; without `create`, None if there is none."""
        with self._lock:
            if self._in_transaction:
                yield self._connection
                return
            try:
                exists = os.path.exists(self._database_path)
                if not exists and self._connection is not None:  # the folder was removed
                    self.close()
                if not exists and not create:
                    yield None
                    return
                if self._connection is None:
                    self.database.parent.mkdir(parents=True, exist_ok=True)
                    self._connection = _open_record(self.database)
                    self._closing = weakref.finalize(self, self._connection.close)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, OutputError):
                    raise
                raise OutputError(
                    f"{self.database} could not be written ({error}): make room and run the same again, or remove it "
                    "if it is damaged"
                ) from error


def _open_record(database: Path) -> sqlite3.Connection:
    """Open the record for many short transactions, which other processes see at once.

    Raises:
        sqlite3.Error: if it is damaged, or the disk is full.
    """
    connection = sqlite3.connect(database, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    with ExitStack() as stack:
        stack.callback(connection.close)
        connection.execute("PRAGMA synchronous = OFF")  # a power failure may cost the record, no file
        with suppress(sqlite3.OperationalError):  # another process makes the file: it has, or will have, the mode
            connection.execute("PRAGMA journal_mode = WAL")  # a transaction is one write, without locks on the file
        connection.executescript(SCHEMA)
        stack.pop_all()
    return connection


def _hash(path: str | os.PathLike[str], suffix: str, size: int) -> str:
    """Hash the content of a text of moderate size; empty for other files, which size and time identify."""
    if suffix.lower() not in HASHED_SUFFIXES or size > MAX_HASHED_BYTES:
        return ""
    with open(path, "rb", buffering=0) as file:
        return hashlib.sha256(file.read()).hexdigest()
