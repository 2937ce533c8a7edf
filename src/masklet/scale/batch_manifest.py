"""The manifest: a line of JSON for every item that a process finished, or failed to.

OUT/manifest/INDEX-of-COUNT.KEY.jsonl   one file for each process, or several in an object store
OUT/manifest.jsonl                      one line for each item, by `masklet batch merge`
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from masklet.damaged_files import decoder_errors
from masklet.resume_store import from_column, to_column
from masklet.scale.storage import Storage, join_location
from masklet.writers.append_file import AppendOnlyFile, write_error

__all__ = ["ManifestRow", "ManifestWriter", "Outcome", "best_rows", "read_manifests"]

Outcome = Literal["done", "failed"]
MANIFEST_FOLDER = "manifest"
FLUSH_ROWS, FLUSH_S = 500, 30.0
"""An object store takes whole objects: rows wait for so many others, or so long."""


@dataclass(frozen=True)
class ManifestRow:
    """The outcome of one item.

    Args:
        item: Its name.
        source: Where it was read, without credentials.
        sha256: Of what was read; empty if it was not.
        size: Bytes of its file in OUT; 0 if it failed.
        seconds: Of the stage; 0 where only the file of an earlier process was found.
        error: Why it failed.
        shard: Of the process.
        at: Seconds since 1970.

    Example:
        >>> row = ManifestRow("a.jpg", "photos/a.jpg", "e3b0", 120, 0.2, "done", "", "0/1", 1.8e9)
        >>> ManifestRow.from_line(row.to_line()) == row
        True
    """

    item: str
    source: str
    sha256: str
    size: int
    seconds: float
    outcome: Outcome
    error: str
    shard: str
    at: float

    def to_line(self) -> str:
        """Return the row as one line of JSON, without the newline."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> ManifestRow | None:
        """Return the row of a line; None if it is cut short, or none of these lines."""
        try:
            row = cls(**json.loads(line))
        except decoder_errors():
            return None
        return row if isinstance(row.item, str) and row.outcome in ("done", "failed") else None


class ManifestWriter:
    """Writes the rows of one process; a context manager, used from several threads.

    Example:
        >>> with ManifestWriter(storage, "s3://bucket/out", "0-of-8.a1b2") as manifest:  # doctest: +SKIP
        ...     manifest.add(row)
    """

    def __init__(self, storage: Storage, out: str, key: str) -> None:
        self.storage, self.folder, self.key = storage, join_location(out, MANIFEST_FOLDER), key
        self._file: AppendOnlyFile | None = None
        self._waiting: list[str] = []
        self._parts = 0
        self._flushed_at = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._flush()
            if self._file is not None:
                self._file.close()

    def add(self, row: ManifestRow) -> None:
        """Write a row.

        Raises:
            OutputError: if the manifest cannot be written.
        """
        with self._lock:
            if self.storage.is_remote:
                self._waiting.append(row.to_line())
                if len(self._waiting) >= FLUSH_ROWS or time.monotonic() - self._flushed_at > FLUSH_S:
                    self._flush()
                return
            if self._file is None:
                path = Path(self.folder) / f"{self.key}.jsonl"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise write_error(path, error) from error
                self._file = AppendOnlyFile(path)
            self._file.append(row.to_line())

    def flush(self) -> None:
        """Write the rows that wait for others.

        Raises:
            OutputError: if the manifest cannot be written.
        """
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        """Write the rows that wait as one object."""
        self._flushed_at = time.monotonic()
        if self._waiting:
            self._parts += 1
            content = "".join(f"{line}\n" for line in self._waiting).encode()
            self.storage.write(join_location(self.folder, f"{self.key}.{self._parts:05d}.jsonl"), content)
            self._waiting.clear()


def read_manifests(storage: Storage, out: str) -> Iterator[ManifestRow]:
    """Yield the rows of all processes; a line that a crash cut short is left out.

    Raises:
        SourceError: if a manifest cannot be read.
    """
    folder = join_location(out, MANIFEST_FOLDER)
    if not storage.is_folder(folder):
        return
    for name, file in storage.walk(folder):
        if not name.endswith(".jsonl"):
            continue
        with storage.open(file.location) as lines:
            for line in lines:
                row = ManifestRow.from_line(line.decode("utf-8", "replace"))
                if row is not None:
                    yield row


@contextmanager
def best_rows(rows: Iterator[ManifestRow]) -> Iterator[Callable[[], Iterator[ManifestRow]]]:
    """Sort rows by item and keep one of each: one that is done if there is one, with its seconds, and the latest.

    They wait in a file, so that memory does not grow with them. What the block gets yields them, as often as it is
    called.

    Example:
        >>> first = ManifestRow("a.jpg", "a.jpg", "", 0, 0.1, "failed", "cut short", "0/1", 1.0)
        >>> again = ManifestRow("a.jpg", "a.jpg", "e3b0", 120, 0.2, "done", "", "0/1", 2.0)
        >>> with best_rows(iter([again, first])) as best:
        ...     [row.outcome for row in best()]
        ['done']
    """

    def rank(row: ManifestRow) -> int:
        return 0 if row.outcome == "failed" else 1 + (row.seconds > 0)

    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "rows.sqlite")) as connection:
        connection.execute("CREATE TABLE rows (item PRIMARY KEY, done INTEGER, at REAL, line TEXT) WITHOUT ROWID")
        connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT (item) DO UPDATE SET done = excluded.done, "
            "at = excluded.at, line = excluded.line WHERE (excluded.done, excluded.at) > (rows.done, rows.at)",
            ((to_column(row.item), rank(row), row.at, row.to_line()) for row in rows),
        )

        def best() -> Iterator[ManifestRow]:
            for (line,) in connection.execute("SELECT line FROM rows ORDER BY item"):
                row = ManifestRow.from_line(from_column(line))
                assert row is not None
                yield row

        yield best
