"""The log of a run, from which it resumes: a crash loses no annotation, and no input is annotated twice.

OUT/.masklet/annotate.json     the options of the run, compared with those of a run that resumes it
OUT/.masklet/annotate.jsonl    for each image or video a header line and a line per record (a video has one per frame);
                               a line with the class names whenever there are new ones
OUT/.masklet/annotate.lock     locked by the process that annotates

Annotations are in the log before labels are written from it. The log only grows; an incomplete end, as a crash leaves
it, is removed when it is read again.
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
from masklet.atomic_files import current_keys, write_text
from masklet.datasets.write_log import STATE_FOLDER
from masklet.errors import InputError, OutputError

__all__ = ["AnnotationLog", "AnnotationLogEntry", "ClassNames", "PendingEntry", "Settings"]

Settings = Mapping[str, "str | int | float | bool | list[str] | list[int] | None"]
ClassNames = dict[int, str]

REMEDY = "use the same options to resume it, choose another output folder, or overwrite it (resume=False, --overwrite)"
WRITE_BUFFER_BYTES = 1 << 20
"""Bytes that are buffered before they are written."""


@dataclass(frozen=True)
class PendingEntry:
    """The records of one image or video to append to the log: `count` lines."""

    name: str
    fingerprint: list[int]
    count: int
    lines: Iterable[str]
    failed: bool = False


@dataclass(frozen=True)
class AnnotationLogEntry:
    """The byte offset and the number of the records of one image or video in the log."""

    offset: int
    count: int
    fingerprint: list[int]
    failed: bool = False


class AnnotationLog:
    """The log of one output folder, locked by one process at a time.

    Example:
        >>> with AnnotationLog(Path("out")) as log:  # doctest: +SKIP
        ...     log.start(options.settings(), overwrite=False)
        ...     log.append([PendingEntry("cats/1", item.fingerprint(), 1, [record.to_line()])])
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / STATE_FOLDER
        self.entries: dict[str, AnnotationLogEntry] = {}
        """By name of image or video, in the order in which they were annotated."""
        self.class_names: ClassNames = {}
        """This mapping grows in place, as some detectors name a class only when they detect it."""
        self._settings_path, self._log_path = self.folder / "annotate.json", self.folder / "annotate.jsonl"
        self._lock = FileLock(self.folder / "annotate.lock", timeout=0)
        self._file: BinaryIO | None = None

    def __enter__(self) -> AnnotationLog:
        """Lock the folder.

        Raises:
            OutputError: if another process annotates into it, or it cannot be created or written.
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
        if empty:  # remove the files of a run that did nothing, and the folders if they are then empty
            with suppress(OSError):
                for path in (self._log_path, self._settings_path, self.folder / "annotate.lock"):
                    path.unlink(missing_ok=True)
                self.folder.rmdir()
                self.folder.parent.rmdir()

    @property
    def has_previous_run(self) -> bool:
        """Whether there is an earlier run, finished or not."""
        return self._log_path.exists()

    def previous_run(self) -> tuple[list[str], list[str]]:
        """The formats that an earlier run wrote, and the names of its images and videos."""
        try:
            formats = json.loads(self._settings_path.read_text(encoding="utf-8"))["formats"]
            with open(self._log_path, "rb") as file:
                while self._load_entry(file):
                    pass
        except (OSError, ValueError, KeyError, TypeError):
            return [], []
        return list(formats), list(self.entries)

    def start(self, settings: Settings, *, overwrite: bool) -> None:
        """Resume the log of an earlier run, or overwrite it.

        Raises:
            InputError: if the earlier run had other options; the message lists them.
            OutputError: if the log cannot be written.
        """
        try:
            if overwrite:
                self._log_path.unlink(missing_ok=True)
            self._file = open(self._log_path, "a+b", buffering=0)  # noqa: SIM115
            self.entries.clear()
            self.class_names.clear()
            with open(self._log_path, "rb") as file:
                complete = 0
                while self._load_entry(file):
                    complete = file.tell()
            if complete != self._file_size():
                os.ftruncate(self._fd, complete)
        except OSError as error:
            raise OutputError(_write_error_message(self.folder.parent, error)) from error
        if not all(entry.failed for entry in self.entries.values()):  # a run without a result does not bind
            self._check_settings(settings)
        write_text(self._settings_path, json.dumps(dict(settings), indent=1) + "\n")

    def append(self, new_entries: Iterable[PendingEntry]) -> None:
        """Append the records of some images or videos: all of them or none.

        Raises:
            OutputError: if the disk is full or the log not writable; the earlier entries stay.
        """
        start = size = self._file_size()
        entries: dict[str, AnnotationLogEntry] = {}
        pending = bytearray()
        try:
            for new in new_entries:
                header = {"item": new.name, "stamp": new.fingerprint, "records": new.count, "failed": new.failed}
                pending += _json_line(header)
                entries[new.name] = AnnotationLogEntry(size + len(pending), new.count, new.fingerprint, new.failed)
                for line in new.lines:
                    pending += line.encode() + b"\n"
                    if len(pending) > WRITE_BUFFER_BYTES:
                        size += self._write(pending)
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
        """Append class names that are new.

        Raises:
            InputError: if a class had another name before.
        """
        for class_id, name in names.items():
            if self.class_names.get(class_id, name) != name:
                raise InputError(
                    f"class {class_id} is {name!r} now and was {self.class_names[class_id]!r} before; a class has one "
                    "name per run: let the detector number its classes the same way for all images"
                )
        if any(class_id not in self.class_names for class_id in names):
            start = self._file_size()
            line = _json_line({"names": {str(class_id): name for class_id, name in names.items()}})
            try:
                self._write(bytearray(line))
            except OSError as error:
                os.ftruncate(self._fd, start)
                raise OutputError(_write_error_message(self.folder.parent, error)) from error
            self.class_names.update(names)

    def records(self, name: str) -> Iterator[ImageAnnotation]:
        """Read the records of one image or video, one at a time."""
        entry = self.entries[name]
        with open(self._log_path, "rb") as file:
            file.seek(entry.offset)
            for _ in range(entry.count):
                yield ImageAnnotation.from_line(file.readline().decode())

    @property
    def _fd(self) -> int:
        assert self._file is not None, "call start first"
        return self._file.fileno()

    def _file_size(self) -> int:
        return os.fstat(self._fd).st_size

    def _write(self, pending: bytearray) -> int:
        """Write and clear `pending`; returns its size."""
        size, view = len(pending), bytes(pending)
        while view:
            view = view[os.write(self._fd, view) :]
        pending.clear()
        return size

    def _check_settings(self, settings: Settings) -> None:
        try:
            before = json.loads(self._settings_path.read_text(encoding="utf-8"))
            if "split" in before:  # an earlier version stored the fraction for training
                train = before.pop("split")
                before["val_fraction"] = None if train is None else round(1 - train, 9)
            before = current_keys(before, "annotation_settings")
            changed = [name for name in {**settings, **before} if before.get(name) != settings.get(name)]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self._settings_path} cannot be read ({error}), so the options of the earlier run are unknown; "
                f"{REMEDY}"
            ) from error
        if changed:
            changes = "; ".join(f"{key} was {before.get(key)!r:.80}, now {settings.get(key)!r:.80}" for key in changed)
            raise InputError(f"{self.folder.parent} has a run with other options ({changes}): {REMEDY}")

    def _load_entry(self, file: BinaryIO) -> bool:
        """Read the next entry or class names; False at the end, or if the rest is incomplete."""
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
            self.class_names.update({int(class_id): name for class_id, name in doc["names"].items()})
        return True


def _json_line(doc: Mapping[str, object]) -> bytes:
    return json.dumps(doc, ensure_ascii=False).encode() + b"\n"


def _write_error_message(out: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"{out}: {reason}; all earlier annotations are kept: free disk space and run the same again to resume"
    return f"{out} cannot be written ({reason}): choose an output folder that exists or can be created, and is writable"
