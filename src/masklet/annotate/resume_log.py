"""The log of a run, from which it resumes: a crash loses no annotation, and no input is annotated twice.

OUT/.masklet/annotate.sqlite has the options of the run, the class names known by now, and for each image or video its
records as lines (a video has one per frame). Annotations are in the log before labels are written from it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from masklet.annotate.annotation_records import ImageAnnotation
from masklet.atomic_files import current_keys
from masklet.damaged_files import damage_named
from masklet.datasets.write_log import CLASS_NAMES, STATE_FOLDER
from masklet.errors import InputError, OutputError
from masklet.resume_store import ResumeStore, StoredItem, read_json_lines

__all__ = ["AnnotationLog", "AnnotationLogEntry", "ClassNames", "PendingEntry", "Settings"]

Settings = Mapping[str, "str | int | float | bool | list[str] | list[int] | None"]
ClassNames = dict[int, str]

REMEDY = "use the same options to resume it, choose another output folder, or overwrite it (resume=False, --overwrite)"


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
    """The number of the records of one image or video in the log."""

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
        self.out, self.folder = out, out / STATE_FOLDER
        self.entries: dict[str, AnnotationLogEntry] = {}
        """By name of image or video, in the order in which they were annotated."""
        self.class_names: ClassNames = {}
        """This mapping grows in place, as some detectors name a class only when they detect it."""
        self._started = False
        self._earlier = [self.folder / "annotate.json", self.folder / "annotate.jsonl"]
        self._store = ResumeStore(
            self.folder / "annotate.sqlite",
            busy=f"another run is annotating into {out} at this moment: wait for it, or choose another output folder",
            write_error=self._write_error,
        )

    def __enter__(self) -> AnnotationLog:
        """Lock the folder.

        Raises:
            OutputError: if another process annotates into it, or it cannot be created or written.
        """
        self._store.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        unused = self._started and not self.entries and not self.class_names
        if unused:
            self._store.clear()
        self._store.__exit__(*error)
        if unused:  # remove the folders if they are then empty
            with suppress(OSError):
                (self.folder / "annotate.lock").unlink(missing_ok=True)
                self.folder.rmdir()
                self.out.rmdir()

    @property
    def has_previous_run(self) -> bool:
        """Whether there is an earlier run, finished or not."""
        return self._store.path.exists() or self._earlier[1].exists()

    def previous_run(self) -> tuple[list[str], list[str]]:
        """The formats that an earlier run wrote, and the names of its images and videos."""
        try:
            self._load()
            return list(self._store.settings["formats"]), list(self.entries)
        except (OutputError, KeyError, TypeError):
            return [], []

    def start(self, settings: Settings, *, overwrite: bool) -> None:
        """Resume the log of an earlier run, or overwrite it.

        Raises:
            InputError: if the earlier run had other options; the message lists them.
            OutputError: if the log cannot be written.
        """
        if overwrite:
            self._store.clear()
            self._remove_earlier()
        self._load()
        self._started = True
        if not all(entry.failed for entry in self.entries.values()):  # a run without a result does not bind
            if not self._store.settings:
                raise InputError(f"the options of the earlier run are unknown in {self.out}; {REMEDY}")
            changed = self._store.differences({**settings, CLASS_NAMES: self.class_names})
            if changed:
                changes = "; ".join(f"{key} was {old!r:.80}, now {new!r:.80}" for key, (old, new) in changed.items())
                raise InputError(f"{self.out} has a run with other options ({changes}): {REMEDY}")
        self._store.save_settings({**settings, CLASS_NAMES: self.class_names})
        self._remove_earlier()

    def append(self, new_entries: Iterable[PendingEntry]) -> None:
        """Append the records of some images or videos: all of them or none.

        Raises:
            OutputError: if the disk is full or the log not writable; the earlier entries stay.
        """
        entries: dict[str, AnnotationLogEntry] = {}

        def items() -> Iterator[StoredItem]:
            for new in new_entries:
                entries[new.name] = AnnotationLogEntry(new.count, new.fingerprint, new.failed)
                yield StoredItem(new.name, asdict(entries[new.name]), new.lines)

        self._store.add(items())
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
            self._store.save_settings({**self._store.settings, CLASS_NAMES: {**self.class_names, **names}})
            self.class_names.update(names)

    def records(self, name: str) -> Iterator[ImageAnnotation]:
        """Read the records of one image or video, one at a time."""
        return map(ImageAnnotation.from_line, self._store.lines(name))

    def _load(self) -> None:
        """Read the entries and class names of the earlier run."""
        if self._earlier[1].exists() and not self._store.settings:
            self._import(*self._earlier)
        with damage_named(
            self._store.path, "log of a run", "choose another output folder, or overwrite it", OutputError
        ):
            names = self._store.settings.get(CLASS_NAMES, {})
            self.class_names.clear()
            self.class_names.update({int(class_id): str(name) for class_id, name in names.items()})
            self.entries.clear()
            self.entries.update({key: AnnotationLogEntry(**document) for key, document in self._store.items()})

    def _import(self, settings_path: Path, path: Path) -> None:
        """Store the log of an earlier version: JSON lines, in which records follow the header of their image."""
        lines, names, last = read_json_lines(path), dict[str, str](), ("", 0)

        def items() -> Iterator[StoredItem]:
            nonlocal last
            with suppress(KeyError, TypeError, ValueError):  # the log ends before a malformed line
                for document in lines:
                    if "names" in document:
                        names.update(document["names"])
                        continue
                    entry = AnnotationLogEntry(document["records"], document["stamp"], document["failed"])
                    last = document["item"], entry.count
                    records = (json.dumps(record, ensure_ascii=False) for record in islice(lines, entry.count))
                    yield StoredItem(document["item"], asdict(entry), records)

        self._store.add(items())
        if sum(1 for _ in self._store.lines(last[0])) < last[1]:  # a crash left it incomplete
            self._store.remove(last[0])
        with suppress(OSError, ValueError, TypeError, AttributeError):  # without its options, a run cannot be resumed
            settings: dict[str, Any] = json.loads(settings_path.read_text(encoding="utf-8"))
            if "split" in settings:  # an earlier version stored the fraction for training
                train = settings.pop("split")
                settings["val_fraction"] = None if train is None else round(1 - train, 9)
            self._store.save_settings({**current_keys(settings, "annotation_settings"), CLASS_NAMES: names})

    def _remove_earlier(self) -> None:
        with suppress(OSError):
            for path in self._earlier:
                path.unlink(missing_ok=True)

    def _write_error(self, reason: str) -> OutputError:
        no_space = os.strerror(errno.ENOSPC)
        reason = no_space if reason == "database or disk is full" else reason
        if reason in (no_space, os.strerror(getattr(errno, "EDQUOT", errno.ENOSPC))):
            return OutputError(
                f"{self.out}: {reason}; all earlier annotations are kept: free disk space and run the same again to "
                "resume"
            )
        return OutputError(
            f"{self.out} cannot be written ({reason}): choose an output folder that exists or can be created, and is "
            "writable"
        )
