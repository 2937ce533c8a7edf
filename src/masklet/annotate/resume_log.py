"""What a run remembers, so that a crash loses nothing that was found and nothing is done twice.

OUT/.masklet/annotate.json     what was asked, to compare with what is asked when the run goes on
OUT/.masklet/annotate.jsonl    for each picture or film a line that names it, and a line a record (a film has one a
                               frame); a line with the names of the classes whenever there are new ones
OUT/.masklet/annotate.lock     held by the process that annotates

What was found is in the journal before labels are written from it. It is only ever added to, and what a crash cut
short is cut off when it is read again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from masklet.annotate.annotation_records import Record
from masklet.atomic_files import write_text
from masklet.datasets.write_log import FOLDER
from masklet.errors import InputError, OutputError

__all__ = ["Entry", "Journal", "Kept", "Names", "Settings"]

Settings = Mapping[str, "str | int | float | bool | list[str] | list[int] | None"]
Names = dict[int, str]


REMEDY = "ask the same to go on with it, choose another output folder, or begin anew (resume=False, --anew)"
AT_ONCE = 1 << 20
"""Bytes that are gathered before they are written."""


@dataclass(frozen=True)
class Kept:
    """The records of one picture or film on their way into the journal: `count` lines."""

    name: str
    stamp: list[int]
    count: int
    lines: Iterable[str]
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """Where the records of one picture or film begin in the journal, and how many they are."""

    offset: int
    count: int
    stamp: list[int]
    failed: bool = False


class Journal:
    """The memory of one output folder; one process has it at a time.

    Example:
        >>> with Journal(Path("out")) as journal:
        ...     journal.begin(settings, anew=False)
        ...     journal.add([Kept("cats/1", item.stamp(), 1, [record.to_line()])])
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self.entries: dict[str, Entry] = {}
        """By name of picture or film, in the order in which they were done."""
        self.names: Names = {}
        """Of the classes; the same mapping all the time, which grows where a detector tells its names late."""
        self._settings, self._path = self.folder / "annotate.json", self.folder / "annotate.jsonl"
        self._lock = FileLock(self.folder / "annotate.lock", timeout=0)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Journal:
        """Have the folder to oneself.

        Raises:
            OutputError: another process annotates into it, or it cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another run is annotating into {self.folder.parent} at this moment: wait for it, or choose another "
                "output folder"
            ) from None
        except OSError as error:
            raise OutputError(_unwritable(self.folder.parent, error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        empty = self._file is not None and self._end() == 0
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()
        if empty:
            self._leave_no_trace()

    @property
    def is_left_over(self) -> bool:
        """Whether an earlier run has been here, finished or not."""
        return self._path.exists()

    def before(self) -> tuple[list[str], list[str]]:
        """The formats that an earlier run wrote, and the names of what it annotated."""
        try:
            formats = json.loads(self._settings.read_text(encoding="utf-8"))["formats"]
            with open(self._path, "rb") as file:
                while self._recall_one(file):
                    pass
        except (OSError, ValueError, KeyError, TypeError):
            return [], []
        return list(formats), list(self.entries)

    def begin(self, settings: Settings, *, anew: bool) -> None:
        """Go on after what an earlier run remembered, or forget it.

        Raises:
            InputError: the earlier run was asked something else; the message says what.
            OutputError: the journal cannot be written.
        """
        try:
            if anew:
                self._path.unlink(missing_ok=True)
            self._file = open(self._path, "a+b", buffering=0)  # noqa: SIM115 - closed when the journal is left
            self._recall()
        except OSError as error:
            raise OutputError(_unwritable(self.folder.parent, error)) from error
        if not all(entry.failed for entry in self.entries.values()):  # a run that found nothing out binds nobody
            self._compare(settings)
        write_text(self._settings, json.dumps(dict(settings), indent=1) + "\n")

    def add(self, found: Iterable[Kept]) -> None:
        """Remember the records of some pictures or films: all of them or none.

        Raises:
            OutputError: no room, or no right to write; what was remembered before stays as it is.
        """
        start = place = self._end()
        entries: dict[str, Entry] = {}
        pending = bytearray()
        try:
            for kept in found:
                head = {"item": kept.name, "stamp": kept.stamp, "records": kept.count, "failed": kept.failed}
                pending += _line(head)
                entries[kept.name] = Entry(place + len(pending), kept.count, kept.stamp, kept.failed)
                for line in kept.lines:
                    pending += line.encode() + b"\n"
                    if len(pending) > AT_ONCE:
                        place += self._write(pending)
            self._write(pending)
            os.fsync(self._descriptor)
        except BaseException as error:
            os.ftruncate(self._descriptor, start)
            if isinstance(error, OSError):
                raise OutputError(_unwritable(self.folder.parent, error)) from error
            raise
        for name, entry in entries.items():
            self.entries.pop(name, None)
            self.entries[name] = entry

    def learn(self, names: Mapping[int, str]) -> None:
        """Remember names of classes.

        Raises:
            InputError: a class had another name before.
        """
        for number, name in names.items():
            if self.names.get(number, name) != name:
                raise InputError(
                    f"class {number} is {name!r} now and was {self.names[number]!r} before; in one run a class has one "
                    "name: have the detector number its classes once and for all"
                )
        if any(number not in self.names for number in names):
            self._tell({"names": {str(number): name for number, name in names.items()}})
            self.names.update(names)

    def records(self, name: str) -> Iterator[Record]:
        """The records of one picture or film, read from the disk one at a time."""
        entry = self.entries[name]
        with open(self._path, "rb") as file:
            file.seek(entry.offset)
            for _ in range(entry.count):
                yield Record.from_line(file.readline().decode())

    def _leave_no_trace(self) -> None:
        """Remove the files of a run that did nothing, and the folders if nothing else is in them."""
        with suppress(OSError):
            for path in (self._path, self._settings, self.folder / "annotate.lock"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()
            self.folder.parent.rmdir()

    @property
    def _descriptor(self) -> int:
        assert self._file is not None, "the journal was not begun"
        return self._file.fileno()

    def _end(self) -> int:
        return os.fstat(self._descriptor).st_size

    def _write(self, pending: bytearray) -> int:
        """All of `pending`, which is empty afterwards; how much it was."""
        size, view = len(pending), bytes(pending)
        while view:
            view = view[os.write(self._descriptor, view) :]
        pending.clear()
        return size

    def _tell(self, doc: Mapping[str, object]) -> None:
        start = self._end()
        try:
            self._write(bytearray(_line(doc)))
        except OSError as error:
            os.ftruncate(self._descriptor, start)
            raise OutputError(_unwritable(self.folder.parent, error)) from error

    def _compare(self, settings: Settings) -> None:
        try:
            before: Mapping[str, object] = json.loads(self._settings.read_text(encoding="utf-8"))
            other = [name for name in {**settings, **before} if before.get(name) != settings.get(name)]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._settings} cannot be read ({error}), so nothing says what the earlier run was asked; {REMEDY}"
            ) from error
        if other:
            said = "; ".join(f"{name} was {before.get(name)!r:.80}, now {settings.get(name)!r:.80}" for name in other)
            raise InputError(f"{self.folder.parent} holds a run that was asked something else ({said}): {REMEDY}")

    def _recall(self) -> None:
        """Read what is there; a tail that a crash left unfinished is cut off."""
        self.entries.clear()
        self.names.clear()
        with open(self._path, "rb") as file:
            whole = 0
            while self._recall_one(file):
                whole = file.tell()
        if whole != self._end():
            os.ftruncate(self._descriptor, whole)

    def _recall_one(self, file: BinaryIO) -> bool:
        """The next thing that was remembered; False at the end, or where the rest is not whole."""
        line = file.readline()
        if not line.endswith(b"\n"):
            return False
        try:
            doc = json.loads(line)
        except ValueError:
            return False
        if "item" in doc:
            entry = Entry(file.tell(), int(doc["records"]), list(doc["stamp"]), bool(doc["failed"]))
            if not all(file.readline().endswith(b"\n") for _ in range(entry.count)):
                return False
            self.entries.pop(doc["item"], None)
            self.entries[doc["item"]] = entry
        else:
            self.names.update({int(number): name for number, name in doc["names"].items()})
        return True


def _line(doc: Mapping[str, object]) -> bytes:
    return json.dumps(doc, ensure_ascii=False).encode() + b"\n"


def _unwritable(out: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return (
            f"{out}: {reason}; what was found before is kept: make room and run the same again, it goes on from there"
        )
    return f"{out} cannot be written ({reason}): choose an output folder that exists or can be made, and is writable"
