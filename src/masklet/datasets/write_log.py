"""The log of a dataset writer: one entry for each image, so that an interrupted run can be resumed.

OUT/.masklet/FORMAT.sqlite has the options of the run, its class names, and an entry for each image whose files are all
written. OUT/.masklet may be removed when nothing will be added.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from masklet.atomic_files import current_keys
from masklet.damaged_files import damage_named
from masklet.datasets.account import ObjectAccount
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import ConversionLoss
from masklet.errors import InputError, OutputError
from masklet.media.image_source import natural_key
from masklet.resume_store import ResumeStore, StoredItem, read_json_lines

__all__ = ["CLASS_NAMES", "STATE_FOLDER", "LogEntry", "WriteLog"]

STATE_FOLDER = ".masklet"
LOG_VERSION = 1
CLASS_NAMES = "class_names"
"""The setting that has the class names; the others are the options of the run."""


@dataclass(frozen=True)
class LogEntry:
    """One written image: `file` is its path in the dataset, `record` the data its format needs again at the end."""

    name: str
    file: str
    split: str | None
    size: tuple[int, int]
    classes: tuple[int, ...]
    loss: ConversionLoss
    record: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    """`ObjectAccount.to_json`; empty in the log of an earlier version, which kept none."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LogEntry:
        """Build the entry of a document.

        Raises:
            KeyError, TypeError: if the content is not an entry.
        """
        loss = ConversionLoss(**content["loss"])
        return cls(**{**content, "loss": loss, "size": tuple(content["size"]), "classes": tuple(content["classes"])})


class WriteLog:
    """The log of one format in one folder; it locks the folder while it is open.

    `files_exist` says of an entry of an earlier run whether its files are still there; others are forgotten. Images of
    two splits may have the same name where names are `unique_per_split`.

    Example:
        >>> log = WriteLog(Path("out"), "coco", {"min_iou": 0.98}, {0: "dog"}, lambda entry: True)  # doctest: +SKIP
        >>> log.append(entry)  # doctest: +SKIP
        >>> log.has("zoo/cat", "train")  # doctest: +SKIP
        True

    Raises:
        InputError: if an earlier run had other options or class names.
        OutputError: if another process writes there, or the folder cannot be written.
    """

    def __init__(
        self,
        out: Path,
        data_format: str,
        options: JsonObject,
        names: Mapping[int, str],
        files_exist: Callable[[LogEntry], bool],
        *,
        unique_per_split: bool = True,
    ) -> None:
        self.path, self.names = out / STATE_FOLDER / f"{data_format}.sqlite", dict(names)
        self.counts: Counter[int] = Counter()
        self.loss = ConversionLoss()
        self.account = ObjectAccount()
        self._out, self._unique_per_split = out, unique_per_split
        self._images: dict[str, tuple[str, str | None]] = {}
        self._image_names: set[str] = set()
        self._store = ResumeStore(
            self.path,
            busy=f"another process writes {out} at this moment: wait for it, or choose another folder",
            write_error=lambda reason: OutputError(
                f"{self.path} could not be written ({reason}); choose a folder that can be made, is writable and has "
                "room"
            ),
            durable=False,  # a sync per image costs more than the image, whose files are not synced either
        )
        with ExitStack() as stack:
            stack.enter_context(self._store)
            self._resume({"format": data_format, "version": LOG_VERSION, **options}, files_exist)
            self._open_store = stack.pop_all()

    def has(self, name: str, split: str | None) -> bool:
        """Return whether an image of this name was written to this split (None: to any)."""
        return name in self._image_names if split is None else not self.can_add(name, split)

    def can_add(self, name: str, split: str | None) -> bool:
        """Return whether an image of this name can be added to this split (None: to no split)."""
        return self._key(name, split) not in self._images

    def register_class(self, class_id: int, name: str) -> None:
        """Name a class that has no name.

        Raises:
            InputError: if it has another name.
        """
        self._merge_class_names({class_id: name})
        self._store.save_settings({**self._store.settings, CLASS_NAMES: self.names})

    def __len__(self) -> int:
        return len(self._images)

    @property
    def splits(self) -> list[str | None]:
        """The splits with images, in natural order."""
        return sorted({split for _, split in self._images.values()}, key=lambda split: natural_key(split or ""))

    def append(self, entry: LogEntry) -> None:
        """Add an image whose files are all written.

        Raises:
            OutputError: if the log cannot be written.
        """
        self._store.add([StoredItem(self._key(entry.name, entry.split), asdict(entry))])
        self._register(entry)

    def entries(self, split: str | None) -> Iterator[LogEntry]:
        """Yield the images of a split (None: of no split), one at a time, in natural order of their names."""
        for name in sorted((name for name, part in self._images.values() if part == split), key=natural_key):
            yield LogEntry.from_json(self._store.document(self._key(name, split)))

    def close(self) -> None:
        """Unlock the folder; the log file stays."""
        self._open_store.close()

    def _key(self, name: str, split: str | None) -> str:
        return json.dumps([name, split if self._unique_per_split else None])

    def _register(self, entry: LogEntry) -> None:
        self._images[self._key(entry.name, entry.split)] = (entry.name, entry.split)
        self._image_names.add(entry.name)
        self.counts.update(entry.classes)
        self.loss += entry.loss
        counts = Counter(self.names.get(number, str(number)) for number in entry.classes)
        self.account.merge(ObjectAccount.from_json(entry.account or {"source": counts, "written": counts}))

    def _merge_class_names(self, names: Mapping[int, str]) -> None:
        for number, name in names.items():
            known = self.names.setdefault(number, name)
            if known != name:
                raise InputError(
                    f"class {number} is {known!r} and was {name!r} in the earlier run that wrote {self._out}; in one "
                    "dataset a class has one name: choose another folder"
                )

    def _resume(self, header: JsonObject, files_exist: Callable[[LogEntry], bool]) -> None:
        """Compare the options with those of the earlier run, if there is one, and register its images."""
        earlier_log = self.path.with_suffix(".jsonl")
        if not self._store.settings and earlier_log.exists():
            self._import(earlier_log)
        before = self._store.settings
        different = [name for name in header if before and before.get(name) != header[name]]
        if different:
            changes = "; ".join(f"{name} {before.get(name)!r}, now {header[name]!r}" for name in different)
            raise InputError(
                f"{self._out} holds {header['format']!r} that was written with other options ({changes}): use the same "
                "options to resume, or choose another folder"
            )
        with damage_named(
            self.path, "log of a dataset", "choose another folder, or remove it to start over", OutputError
        ):
            self._merge_class_names({int(number): str(name) for number, name in before.get(CLASS_NAMES, {}).items()})
            for entry in (LogEntry.from_json(document) for _, document in self._store.items()):
                if files_exist(entry):
                    self._register(entry)
        self._store.save_settings({**before, **header, CLASS_NAMES: self.names})
        with suppress(OSError):
            earlier_log.unlink()

    def _import(self, path: Path) -> None:
        """Store the log of an earlier version, whose lines are the options, then class names and entries."""
        lines = read_json_lines(path)
        header, names = current_keys(next(lines, {}), "dataset_log"), dict[str, str]()

        def read_items() -> Iterator[StoredItem]:
            with suppress(KeyError, TypeError, ValueError):  # the log ends before a malformed line
                for document in lines:
                    if "names" in document:
                        names.update(document["names"])
                    else:
                        entry = LogEntry.from_json(document)
                        yield StoredItem(self._key(entry.name, entry.split), document)

        self._store.add(read_items())
        self._store.save_settings({**header, CLASS_NAMES: names} if header else {})
