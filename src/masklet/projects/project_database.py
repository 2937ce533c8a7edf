"""The database of a project: open, check and migrate it, change rows in actions, and undo these.

A write-ahead log and one transaction for each action: an action is in the file completely or not at all, and it is
there, also after a power failure, when the call that made it returns. Several processes and threads may use one
project: a writer waits for the one before it, and readers wait for nobody.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from masklet.errors import MaskletError, OutputError, ProjectError, StateError
from masklet.projects import project_schema
from masklet.projects.project_schema import APPLICATION_ID, TABLES, Row, check_row, parse_stored_json
from masklet.resume_store import from_column, to_column

__all__ = ["DATABASE_FILE", "ProjectDatabase"]

DATABASE_FILE = "project.sqlite"
MAX_VALUE_BYTES = 1 << 28
"""The longest text that is read from a file: longer ones are no work of masklet."""
_BUSY = ("locked", "busy")
_NO_WRITING = ("readonly", "unable to open", "full", "disk i/o")


class ProjectDatabase:
    """The open database of a project; close it when it is no longer used.

    All methods may be called from any thread. Between processes, a writer waits `timeout_s` for another one. Where the
    database is not `durable`, the last actions may be lost in a power failure, though not when the process is killed.

    Raises:
        ProjectError: if the file is damaged, of another program, or of a newer version.
        OutputError: if it cannot be made or written, or another process holds it for too long.
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0, durable: bool = True) -> None:
        self.path, self.timeout_s = path, timeout_s
        self.lock = threading.RLock()
        self._action: int | None = None
        self._num_changes = 0
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), timeout=timeout_s), ExitStack() as stack:
                connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
                stack.callback(connection.close)
                if hasattr(connection, "setlimit"):  # since Python 3.11
                    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
                self._connection = connection
                connection.execute("PRAGMA trusted_schema = OFF")
                self._check_and_migrate()
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("PRAGMA foreign_keys = ON")
                stack.pop_all()
        self._closing = weakref.finalize(self, connection.close)

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self.lock:
            self._closing()

    # reading ----------------------------------------------------------------------------------------------------

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement of SQL and return its rows as the database holds them.

        Raises:
            ProjectError: if the file is damaged.
            OutputError: if another process holds it for too long, or it cannot be written.
            StateError: if the project is closed.
        """
        with self.lock, self._errors():
            if not self._closing.alive:
                raise StateError(f"{self.path.parent} is closed; open it again with masklet.open_project")
            return self._connection.execute(sql, args).fetchall()

    def rows(self, table: str, where: str = "1", args: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a table of `TABLES` that match, in the order of its key, their types checked."""
        spec = TABLES[table]
        order = ", ".join(spec.key)
        found = self.query(f"SELECT {', '.join(spec.columns)} FROM {table} WHERE {where} ORDER BY {order}", args)
        with self._errors():
            decoded = (
                [from_column(value) if isinstance(value, bytes) else value for value in values] for values in found
            )
            return [check_row(self.path, table, dict(zip(spec.columns, row, strict=True))) for row in decoded]

    def get(self, table: str, *key: int) -> Row | None:
        """Return the row of a key; None if there is none."""
        where = " AND ".join(f"{name} = ?" for name in TABLES[table].key)
        return next(iter(self.rows(table, where, key)), None)

    def text(self, value: Any) -> str:
        """Return the text of a column that is read without `rows`.

        Raises:
            ProjectError: if it is no text.
        """
        if not isinstance(value, (str, bytes)):
            raise ProjectError(f"{self.path} is damaged: {value!r:.40} is no text; restore a copy of the project")
        with self._errors():
            return from_column(value)

    @property
    def revision(self) -> int:
        """The number of the last action of anyone; 0: there was none."""
        return int(self.query("SELECT COALESCE(MAX(id), 0) FROM actions")[0][0])

    # writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep other writers out while the block runs, and store all that it writes, or nothing after an error.

        Raises:
            OutputError: if the file cannot be written, or another process writes for too long.
            StateError: if a row that the block refers to is gone, or the project is closed or was migrated.
        """
        with self.lock:
            if self._closing.alive and self._connection.in_transaction:
                yield
                return
            self.query("BEGIN IMMEDIATE")
            try:
                if self.query("PRAGMA user_version") != [(len(project_schema.MIGRATIONS),)]:
                    raise StateError(f"{self.path.parent} was migrated by another version of masklet: open it again")
                yield
                self.query("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.rollback()

    @contextmanager
    def action(self, kind: str, author: str, summary: str = "", run: int | None = None) -> Iterator[int]:
        """Collect the changes of the block in one action of the history, and yield its number.

        An action inside of another one is a part of it. A block that changes no row leaves no action. Actions of one
        `run`, a number of your choice, that follow each other are undone together.
        """
        with self.transaction():
            if self._action is not None:
                yield self._action
                return
            state = kind if kind in _LOG_KINDS else "done"
            self.query(
                "INSERT INTO actions (kind, summary, author, at, run, state) VALUES (?, ?, ?, ?, ?, ?)",
                (kind, to_column(summary), to_column(author), time.time(), run, state),
            )
            self._action, self._num_changes = int(self.query("SELECT last_insert_rowid()")[0][0]), 0
            try:
                yield self._action
                if not self._num_changes:
                    self.query("DELETE FROM actions WHERE id = ?", (self._action,))
                    self.query("UPDATE sqlite_sequence SET seq = ? WHERE name = 'actions'", (self._action - 1,))
                elif state == "done":
                    drop = "UPDATE actions SET state = 'dropped' WHERE state = 'undone' AND author = ?"
                    self.query(drop, (to_column(author),))
            finally:
                self._action = None

    def put(self, table: str, row: Row) -> Row:
        """Insert a row, or replace the one of its key, inside of an action; a row without an id gets the next one."""
        assert self._action is not None, "rows change inside of an action"
        spec = TABLES[table]
        before = None if row.get("id", 0) is None else self.get(table, *(row[name] for name in spec.key))
        if before is not None and {**before, **row} == before:
            return before
        values = [to_column(value) if isinstance(value, str) else value for value in row.values()]
        updates = ", ".join(f"{name} = excluded.{name}" for name in row if name not in spec.key)
        self.query(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) "
            f"ON CONFLICT ({', '.join(spec.key)}) DO UPDATE SET {updates}",
            values,
        )
        if row.get("id", 0) is None:
            row = {**row, "id": int(self.query("SELECT last_insert_rowid()")[0][0])}
        check_row(self.path, table, row)
        self._log(table, before, {**(before or {}), **row})
        return row

    def delete(self, table: str, row: Row) -> None:
        """Delete a row inside of an action."""
        assert self._action is not None, "rows change inside of an action"
        key = TABLES[table].key
        where = " AND ".join(f"{name} = ?" for name in key)
        self.query(f"DELETE FROM {table} WHERE {where}", [row[name] for name in key])
        self._log(table, row, None)

    def _log(self, table: str, before: Row | None, after: Row | None) -> None:
        texts = [None if row is None else json.dumps(row) for row in (before, after)]
        self.query("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", (self._action, self._num_changes, table, *texts))
        self._num_changes += 1

    def shrink(self) -> None:
        """Give the room of deleted rows back to the disk; inside of a transaction, nothing happens."""
        with self.lock, self._errors():
            if self._closing.alive and not self._connection.in_transaction:
                self._connection.executescript("PRAGMA incremental_vacuum")  # `execute` would stop after a page

    # undo -------------------------------------------------------------------------------------------------------

    def undo(self, by: str, author: str | None = None) -> list[int]:
        """Revert the last action that is done (of `author`, if given), and return the numbers of what was reverted.

        Actions of one run that follow each other are reverted together. Empty: there is nothing to undo.

        Raises:
            StateError: if a later action of another author changed the same rows.
        """
        where, args = ("", ()) if author is None else (" AND author = ?", (to_column(author),))
        with self.transaction():
            self._check_no_action("undone")
            found: list[tuple[int, int | None, str]] = []
            query = (
                f"SELECT id, run, summary FROM actions WHERE state = 'done' AND id < ?{where} ORDER BY id DESC LIMIT 64"
            )
            last, is_complete = 1 << 62, False
            while not is_complete:
                rows = self.query(query, (last, *args))
                for action_id, run, summary in rows:
                    is_complete = bool(found) and (run is None or run != found[0][1])
                    if is_complete:
                        break
                    found.append((action_id, run, summary))
                is_complete = is_complete or not rows
                last = rows[-1][0] if rows else 0
            if not found:
                return []
            with self.action("undo", by, self.text(found[0][2])) as number:
                for action_id, _, _ in found:
                    self._replay(action_id, backward=True)
                    mark = "UPDATE actions SET state = 'undone', undone_by = ? WHERE id = ?"
                    self.query(mark, (number, action_id))
        return [action_id for action_id, _, _ in found]

    def redo(self, by: str, author: str | None = None) -> list[int]:
        """Repeat what was undone last (of `author`, if given), and return the numbers of the repeated actions.

        Raises:
            StateError: if a later action of another author changed the same rows.
        """
        where, args = ("", ()) if author is None else (" AND author = ?", (to_column(author),))
        with self.transaction():
            self._check_no_action("redone")
            found = self.query(
                "SELECT id, summary FROM actions WHERE state = 'undone' AND undone_by = (SELECT MAX(undone_by) FROM "
                f"actions WHERE state = 'undone'{where}) ORDER BY id",
                args,
            )
            if not found:
                return []
            with self.action("redo", by, self.text(found[-1][1])):
                for action_id, _ in found:
                    self._replay(action_id, backward=False)
                    self.query("UPDATE actions SET state = 'done', undone_by = NULL WHERE id = ?", (action_id,))
        return [action_id for action_id, _ in found]

    def _check_no_action(self, verb: str) -> None:
        if self._action is not None:
            raise StateError(
                f"nothing can be {verb} inside of an action, which is stored at its end: leave its block first"
            )

    def _replay(self, action_id: int, *, backward: bool) -> None:
        """Apply the changes of an action once more, or in reverse, to rows that are as the action left or found them.

        Raises:
            StateError: if one is not.
        """
        order = "DESC" if backward else "ASC"
        for table, *texts in self.query(
            f"SELECT table_name, before, after FROM changes WHERE action = ? ORDER BY number {order}", (action_id,)
        ):
            if table not in TABLES or texts == [None, None]:
                raise ProjectError(f"{self.path} is damaged: its log names the table {table!r:.40}; restore a copy")
            before, after = (
                None if text is None else check_row(self.path, table, parse_stored_json(self.path, text, dict))
                for text in texts
            )
            expected, target = (after, before) if backward else (before, after)
            row = target or expected or {}
            if not all(name in row for name in TABLES[table].key):
                raise ProjectError(f"{self.path} is damaged: its log has a row of {table} without key; restore a copy")
            current = self.get(table, *(row[name] for name in TABLES[table].key))
            if (current is None) != (expected is None) or (current or {}) != {**(current or {}), **(expected or {})}:
                raise StateError(
                    f"action {action_id} cannot be {'undone' if backward else 'repeated'}: a later action changed the "
                    f"same rows of {table}; undo the later action first (undo() of all authors goes back in order)"
                )
            if target is not None:
                self.put(table, target)
            elif current is not None:
                self.delete(table, current)

    # opening ----------------------------------------------------------------------------------------------------

    def _check_and_migrate(self) -> None:
        """Check that the file is a project of a known version, and bring it to the newest one, all or nothing.

        Raises:
            ProjectError: if it is not.
        """
        connection = self._connection
        newest, version = len(project_schema.MIGRATIONS), self._int_pragma("user_version")
        kinds = dict(connection.execute("SELECT type, COUNT(*) FROM sqlite_master GROUP BY type").fetchall())
        if (kinds or version) and self._int_pragma("application_id") != APPLICATION_ID:
            raise ProjectError(
                f"{self.path} is a database of another program; a project is a folder that masklet made: choose "
                "another name"
            )
        if "trigger" in kinds or "view" in kinds:
            raise ProjectError(
                f"{self.path} has triggers or views, which masklet never makes, so it may be harmful: restore a copy"
            )
        if not 0 <= version <= newest:
            raise ProjectError(
                f"{self.path} has version {version} of the format, and this masklet knows {newest}: update masklet"
            )
        if version == newest:
            return
        if version:  # work of people is in it: what goes wrong must not cost it
            with closing(sqlite3.connect(self.path.with_suffix(f".v{version}.sqlite"))) as copy:
                connection.backup(copy)
        if not version:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for number, script in enumerate(project_schema.MIGRATIONS[version:], version + 1):
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?)", (number, time.time()))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {newest}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.rollback()

    def _int_pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what SQLite and the disk raise into errors of masklet."""
        try:
            yield
        except MaskletError:
            raise
        except Timeout:
            raise self._busy_error() from None
        except sqlite3.IntegrityError as error:
            raise StateError(
                f"{self.path.parent}: the change contradicts another one ({error}), so it was not stored: read the "
                "state again, and repeat the change if it is still right"
            ) from error
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            text = str(getattr(error, "strerror", None) or error)
            low = text.lower()
            if isinstance(error, sqlite3.OperationalError) and any(word in low for word in _BUSY):
                raise self._busy_error() from error
            if isinstance(error, OSError) or any(word in low for word in _NO_WRITING):
                raise OutputError(
                    f"{self.path} cannot be written ({text}): choose a folder that is writable, or make room; what "
                    "was stored before is kept"
                ) from error
            raise ProjectError(
                f"{self.path} cannot be read ({text}): it is damaged or of another program; restore a copy"
            ) from error

    def _busy_error(self) -> OutputError:
        return OutputError(
            f"{self.path} is locked: another process has been writing for {self.timeout_s:g} s; wait for it, or end it"
        )


_LOG_KINDS = ("undo", "redo")
