"""The log of a dataset writer: one line for each image, so that an interrupted run can be resumed.

OUT/.masklet/FORMAT.jsonl begins with a header of the options; a line follows when all files of its image are on disk.
An incomplete last line is cut off when the log is opened again. OUT/.masklet may be removed when nothing will be added.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from masklet.atomic_files import current_keys
from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import ConversionLoss
from masklet.errors import InputError, OutputError
from masklet.media.image_source import natural_key

__all__ = ["STATE_FOLDER", "LogEntry", "WriteLog"]

STATE_FOLDER = ".masklet"
LOG_VERSION = 1


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

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LogEntry:
        """Build the entry of a line.

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
        self.path = out / STATE_FOLDER / f"{data_format}.jsonl"
        self.names = dict(names)
        self.counts: Counter[int] = Counter()
        self.loss = ConversionLoss()
        self._header: JsonObject = {"format": data_format, "version": LOG_VERSION, **options}
        self._unique_per_split = unique_per_split
        self._offsets: dict[tuple[str, str | None], tuple[str | None, int]] = {}
        self._image_names: set[str] = set()
        self._lock = FileLock(out / STATE_FOLDER / f"{data_format}.lock", timeout=0)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another process writes {self.path.parent.parent} at this moment: wait for it, or choose another "
                "folder"
            ) from None
        except OSError as error:
            raise self._write_error(error) from error
        try:
            self._open(files_exist)
        except BaseException:
            self._lock.release()
            raise

    def has(self, name: str, split: str | None) -> bool:
        """Return whether an image of this name was written to this split (None: to any)."""
        return name in self._image_names if split is None else self._key(name, split) in self._offsets

    def can_add(self, name: str, split: str | None) -> bool:
        """Return whether an image of this name can be added to this split (None: to no split)."""
        return self._key(name, split) not in self._offsets

    def register_class(self, class_id: int, name: str) -> None:
        """Name a class that has no name.

        Raises:
            InputError: if it has another name.
        """
        self._merge_class_names({str(class_id): name})
        self._write_line({"names": {str(class_id): name}})

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def splits(self) -> list[str | None]:
        """The splits with images, in natural order."""
        return sorted({split for split, _ in self._offsets.values()}, key=lambda split: natural_key(split or ""))

    def append(self, entry: LogEntry) -> None:
        """Add an image whose files are all written.

        Raises:
            OutputError: if the log cannot be written.
        """
        offset = self._end_offset
        self._write_line(asdict(entry))
        self._register(entry, offset)

    def entries(self, split: str | None) -> Iterator[LogEntry]:
        """Yield the images of a split (None: of no split), one at a time, in natural order of their names."""
        offsets = [(natural_key(name), at) for (name, _), (part, at) in self._offsets.items() if part == split]
        with self.path.open("rb") as file:
            for _, at in sorted(offsets):
                file.seek(at)
                yield LogEntry.from_json(json.loads(file.readline()))

    def close(self) -> None:
        """Unlock the folder; the log file stays."""
        self._file.close()
        self._lock.release()

    def _key(self, name: str, split: str | None) -> tuple[str, str | None]:
        return (name, split if self._unique_per_split else None)

    def _open(self, files_exist: Callable[[LogEntry], bool]) -> None:
        """Replay the lines of earlier runs up to the first one that is not ours, and cut off the rest."""
        self._end_offset = 0
        try:
            if self.path.exists():
                with self.path.open("rb") as file:
                    for raw in file:
                        if not self._replay(raw, files_exist):
                            break
                        self._end_offset += len(raw)
            self._file = self.path.open("ab", buffering=0)  # a line counts as written only when it is on disk
            self._file.truncate(self._end_offset)
        except OSError as error:
            raise self._write_error(error) from error
        if self._end_offset == 0:
            self._write_line(self._header)
        self._write_line({"names": {str(number): name for number, name in self.names.items()}})

    def _replay(self, raw: bytes, files_exist: Callable[[LogEntry], bool]) -> bool:
        """Apply one line of an earlier run; return False if it is incomplete or not ours."""
        try:
            content = json.loads(raw) if raw.endswith(b"\n") else None
        except ValueError:
            return False
        if not isinstance(content, dict):
            return False
        if self._end_offset == 0:
            stored = current_keys(content, "dataset_log")
            different = [key for key in self._header if stored.get(key) != self._header[key]]
            if different:
                changes = "; ".join(f"{key} {stored.get(key)!r}, now {self._header[key]!r}" for key in different)
                raise InputError(
                    f"{self.path.parent.parent} holds {self._header['format']!r} that was written with other options "
                    f"({changes}): use the same options to resume, or choose another folder"
                )
        elif "names" in content:
            self._merge_class_names(content["names"])
        else:
            try:
                entry = LogEntry.from_json(content)
            except (KeyError, TypeError, ValueError):
                return False
            if self.can_add(entry.name, entry.split) and files_exist(entry):
                self._register(entry, self._end_offset)
        return True

    def _merge_class_names(self, names: Mapping[str, str]) -> None:
        for key, name in names.items():
            number, known = int(key), self.names.setdefault(int(key), str(name))
            if known != name:
                raise InputError(
                    f"class {number} is {known!r} and was {name!r} in the earlier run that wrote "
                    f"{self.path.parent.parent}; in one dataset a class has one name: choose another folder"
                )

    def _register(self, entry: LogEntry, offset: int) -> None:
        self._offsets[self._key(entry.name, entry.split)] = (entry.split, offset)
        self._image_names.add(entry.name)
        self.counts.update(entry.classes)
        self.loss += entry.loss

    def _write_line(self, content: JsonObject) -> None:
        raw = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        try:
            left = raw
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end_offset)
            raise self._write_error(error) from error
        self._end_offset += len(raw)

    def _write_error(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} could not be written ({error.strerror or error}); choose a folder that can be made, is "
            "writable and has room"
        )
