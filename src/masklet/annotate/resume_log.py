"""What a run remembers, so that a crash loses nothing that was found and nothing is done twice.

OUT/.masklet/annotate.json     what was asked, to compare with what is asked when the run goes on
OUT/.masklet/annotate.jsonl    for each image or video a line that names it, and a line a record (a video has one a
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

from masklet.annotate.annotation_records import ImageAnnotation
from masklet.atomic_files import write_text
from masklet.datasets.write_log import STATE_FOLDER
from masklet.errors import InputError, OutputError

__all__ = ["AnnotationLog", "AnnotationLogEntry", "ClassNames", "PendingEntry", "Settings"]

Settings = Mapping[str, "str | int | float | bool | list[str] | list[int] | None"]
ClassNames = dict[int, str]


REMEDY = "ask the same to go on with it, choose another output folder, or begin anew (resume=False, --anew)"
WRITE_BUFFER_BYTES = 1 << 20
"""Bytes that are gathered before they are written."""


@dataclass(frozen=True)
class PendingEntry:
    """The records of one image or video on their way into the journal: `count` lines."""

    name: str
    fingerprint: list[int]
    count: int
    lines: Iterable[str]
    failed: bool = False


@dataclass(frozen=True)
class AnnotationLogEntry:
    """Where the records of one image or video begin in the journal, and how many they are."""

    offset: int
    count: int
    fingerprint: list[int]
    failed: bool = False


class AnnotationLog:
    """The memory of one output folder; one process has it at a time.

    Example:
        >>> with Journal(Path("out")) as journal:
        ...     journal.begin(settings, anew=False)
        ...     journal.add([Kept("cats/1", item.stamp(), 1, [record.to_line()])])
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / STATE_FOLDER
        self.entries: dict[str, AnnotationLogEntry] = {}
        """By name of image or video, in the order in which they were done."""
        self.class_names: ClassNames = {}
        """Of the classes; the same mapping all the time, which grows where a detector tells its names late."""
        self._settings_path, self._log_path = self.folder / "annotate.json", self.folder / "annotate.jsonl"
        self._lock = FileLock(self.folder / "annotate.lock", timeout=0)
        self._file: BinaryIO | None = None

    def __enter__(self) -> AnnotationLog:
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
            raise OutputError(_write_error_message(self.folder.parent, error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        empty = self._file is not None and self._file_size() == 0
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()
        if empty:
            self._remove_files()

    @property
    def has_previous_run(self) -> bool:
        """Whether an earlier run has been here, finished or not."""
        return self._log_path.exists()

    def previous_run(self) -> tuple[list[str], list[str]]:
        """The formats that an earlier run wrote, and the names of what it annotated."""
        try:
            formats = json.loads(self._settings_path.read_text(encoding="utf-8"))["formats"]
            with open(self._log_path, "rb") as file:
                while self._load_entry(file):
                    pass
        except (OSError, ValueError, KeyError, TypeError):
            return [], []
        return list(formats), list(self.entries)

    def start(self, settings: Settings, *, overwrite: bool) -> None:
        """Go on after what an earlier run remembered, or forget it.

        Raises:
            InputError: the earlier run was asked something else; the message says what.
            OutputError: the journal cannot be written.
        """
        try:
            if overwrite:
                self._log_path.unlink(missing_ok=True)
            self._file = open(self._log_path, "a+b", buffering=0)  # noqa: SIM115
            self._load()
        except OSError as error:
            raise OutputError(_write_error_message(self.folder.parent, error)) from error
        if not all(entry.failed for entry in self.entries.values()):  # a run that found nothing out binds nobody
            self._check_settings(settings)
        write_text(self._settings_path, json.dumps(dict(settings), indent=1) + "\n")

    def append(self, new_entries: Iterable[PendingEntry]) -> None:
        """Remember the records of some images or videos: all of them or none.

        Raises:
            OutputError: no room, or no right to write; what was remembered before stays as it is.
        """
        start = place = self._file_size()
        entries: dict[str, AnnotationLogEntry] = {}
        pending = bytearray()
        try:
            for kept in new_entries:
                head = {"item": kept.name, "stamp": kept.fingerprint, "records": kept.count, "failed": kept.failed}
                pending += _json_line(head)
                entries[kept.name] = AnnotationLogEntry(place + len(pending), kept.count, kept.fingerprint, kept.failed)
                for line in kept.lines:
                    pending += line.encode() + b"\n"
                    if len(pending) > WRITE_BUFFER_BYTES:
                        place += self._write(pending)
            self._write(pending)
            os.fsync(self._fd)
        except BaseException as error:
            os.ftruncate(self._fd, start)
            if isinstance(error, OSError):
                raise OutputError(_write_error_message(self.folder.parent, error)) from error
            raise
        for name, entry in entries.items():
            self.entries.pop(name, None)
            self.entries[name] = entry

    def add_class_names(self, names: Mapping[int, str]) -> None:
        """Remember names of classes.

        Raises:
            InputError: a class had another name before.
        """
        for number, name in names.items():
            if self.class_names.get(number, name) != name:
                raise InputError(
                    f"class {number} is {name!r} now and was {self.class_names[number]!r} before; in one run a class has one "  # noqa: E501
                    "name: have the detector number its classes once and for all"
                )
        if any(number not in self.class_names for number in names):
            self._append_line({"names": {str(number): name for number, name in names.items()}})
            self.class_names.update(names)

    def records(self, name: str) -> Iterator[ImageAnnotation]:
        """The records of one image or video, read from the disk one at a time."""
        entry = self.entries[name]
        with open(self._log_path, "rb") as file:
            file.seek(entry.offset)
            for _ in range(entry.count):
                yield ImageAnnotation.from_line(file.readline().decode())

    def _remove_files(self) -> None:
        """Remove the files of a run that did nothing, and the folders if nothing else is in them."""
        with suppress(OSError):
            for path in (self._log_path, self._settings_path, self.folder / "annotate.lock"):
                path.unlink(missing_ok=True)
            self.folder.rmdir()
            self.folder.parent.rmdir()

    @property
    def _fd(self) -> int:
        assert self._file is not None, "the journal was not begun"
        return self._file.fileno()

    def _file_size(self) -> int:
        return os.fstat(self._fd).st_size

    def _write(self, pending: bytearray) -> int:
        """All of `pending`, which is empty afterwards; how much it was."""
        size, view = len(pending), bytes(pending)
        while view:
            view = view[os.write(self._fd, view) :]
        pending.clear()
        return size

    def _append_line(self, doc: Mapping[str, object]) -> None:
        start = self._file_size()
        try:
            self._write(bytearray(_json_line(doc)))
        except OSError as error:
            os.ftruncate(self._fd, start)
            raise OutputError(_write_error_message(self.folder.parent, error)) from error

    def _check_settings(self, settings: Settings) -> None:
        try:
            before: Mapping[str, object] = json.loads(self._settings_path.read_text(encoding="utf-8"))
            other = [name for name in {**settings, **before} if before.get(name) != settings.get(name)]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._settings_path} cannot be read ({error}), so nothing says what the earlier run was asked; {REMEDY}"  # noqa: E501
            ) from error
        if other:
            said = "; ".join(f"{name} was {before.get(name)!r:.80}, now {settings.get(name)!r:.80}" for name in other)
            raise InputError(f"{self.folder.parent} holds a run that was asked something else ({said}): {REMEDY}")

    def _load(self) -> None:
        """Read what is there; a tail that a crash left unfinished is cut off."""
        self.entries.clear()
        self.class_names.clear()
        with open(self._log_path, "rb") as file:
            whole = 0
            while self._load_entry(file):
                whole = file.tell()
        if whole != self._file_size():
            os.ftruncate(self._fd, whole)

    def _load_entry(self, file: BinaryIO) -> bool:
        """The next thing that was remembered; False at the end, or where the rest is not whole."""
        line = file.readline()
        if not line.endswith(b"\n"):
            return False
        try:
            doc = json.loads(line)
        except ValueError:
            return False
        if "item" in doc:
            entry = AnnotationLogEntry(file.tell(), int(doc["records"]), list(doc["stamp"]), bool(doc["failed"]))
            if not all(file.readline().endswith(b"\n") for _ in range(entry.count)):
                return False
            self.entries.pop(doc["item"], None)
            self.entries[doc["item"]] = entry
        else:
            self.class_names.update({int(number): name for number, name in doc["names"].items()})
        return True


def _json_line(doc: Mapping[str, object]) -> bytes:
    return json.dumps(doc, ensure_ascii=False).encode() + b"\n"


def _write_error_message(out: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return (
            f"{out}: {reason}; what was found before is kept: make room and run the same again, it goes on from there"
        )
    return f"{out} cannot be written ({reason}): choose an output folder that exists or can be made, and is writable"
