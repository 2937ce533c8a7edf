"""The cache of a project: bytes by key that can be made again, such as features of frames, bounded and droppable.

It is another file than the database, and never holds the only copy of anything: you may delete it at any time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

__all__ = ["DEFAULT_CACHE_BYTES", "ProjectCache"]

DEFAULT_CACHE_BYTES = 4 << 30
T = TypeVar("T")

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL,
    used REAL NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entries (used, size);
"""


class ProjectCache:
    """Bytes by key in one file, of at most `max_bytes`: those that were not used for longest are dropped first.

    A cache never fails: what cannot be read is not there, what cannot be written is not kept, and a damaged file is
    replaced by an empty one. Any thread and several processes may use it.

    Example:
        >>> from tempfile import mkdtemp
        >>> cache = ProjectCache(Path(mkdtemp()) / "cache.sqlite", max_bytes=10)
        >>> cache.put("a", b"12345678"), cache.put("b", b"1234")
        (True, True)
        >>> cache.get("a"), cache.get("b"), cache.num_bytes
        (None, b'1234', 4)
        >>> cache.close()
    """

    def __init__(self, path: Path, *, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file, which the next use opens again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @property
    def num_bytes(self) -> int:
        """The size of all entries together."""
        query = "SELECT COALESCE(SUM(size), 0) FROM entries"
        return self._run(lambda connection: int(connection.execute(query).fetchone()[0]), 0)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key; None if they were never put there, or dropped."""

        def read(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
            if row is None or not isinstance(row[0], bytes):
                return None
            connection.execute("UPDATE entries SET used = ? WHERE key = ?", (time.time(), key))
            return row[0]

        return self._run(read, None)

    def put(self, key: str, value: bytes) -> bool:
        """Store bytes for a key and drop the oldest entries beyond the bound; False: they were not kept."""

        def write(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (key, value, len(value), time.time())
            )
            excess = connection.execute("SELECT SUM(size) FROM entries").fetchone()[0] - self.max_bytes
            for oldest, size in connection.execute("SELECT key, size FROM entries ORDER BY used, rowid").fetchall():
                if excess <= 0:
                    break
                connection.execute("DELETE FROM entries WHERE key = ?", (oldest,))
                excess -= size
            connection.execute("COMMIT")
            return True

        return len(value) <= self.max_bytes and self._run(write, False)

    def drop(self) -> int:
        """Remove all entries and return the number of bytes that they had."""
        num_bytes = self.num_bytes
        self.close()
        self._remove()
        return num_bytes

    def _run(self, work: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Return what `work` returns for the open file; `default`, and an empty file, if the file is damaged."""
        with self._lock:
            try:
                if self._connection is None:
                    connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
                    self._connection = connection
                    connection.execute("PRAGMA auto_vacuum = FULL")  # what is dropped leaves the disk
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = OFF")
                    connection.executescript(_TABLE)
                return work(self._connection)
            except (sqlite3.Error, OSError, TypeError, ValueError) as error:
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
                if not isinstance(error, sqlite3.OperationalError):  # a full disk or a busy file is no damage
                    self._remove()
                return default

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
