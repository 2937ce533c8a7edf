"""What a writer has done so far, a line an image, so that a run that broke off is gone on with.

OUT/.masklet/LAYOUT.jsonl begins with what was asked; a line follows when everything of its image is on disk. A line
that broke off is cut away when the journal is opened again. OUT/.masklet may be removed when nothing will be added.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from masklet.datasets.json_reader import JsonObject
from masklet.datasets.labeled_image import ConversionLoss
from masklet.errors import InputError, OutputError
from masklet.media.image_source import natural_key

__all__ = ["STATE_FOLDER", "LogEntry", "WriteLog"]

STATE_FOLDER = ".masklet"
LOG_VERSION = 1
from masklet.datasets.json_reader import JsonObject  # noqa: E402, F811


@dataclass(frozen=True)
class LogEntry:
    """What is remembered of one image: `file` is where it is in the layout, `record` what its format needs again."""

    name: str
    file: str
    split: str | None
    size: tuple[int, int]
    classes: tuple[int, ...]
    loss: ConversionLoss
    record: JsonObject = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> LogEntry:
        """The line of its JSON.

        Raises:
            KeyError, TypeError: it is no line.
        """
        values = dict(content)
        values["loss"] = ConversionLoss(**values["loss"])  # type: ignore[arg-type]
        values["size"], values["classes"] = tuple(values["size"]), tuple(values["classes"])  # type: ignore[arg-type]
        return cls(**values)  # type: ignore[arg-type]


class WriteLog:
    """The lines of one layout in one folder; nobody else writes there while it is open.

    Example:
        >>> journal = Journal(Path("out"), "coco", {"min_iou": 0.98}, {0: "dog"}, lambda line: True)
        >>> journal.append(line)
        >>> journal.has("zoo/cat", "train")
        True

    Raises:
        InputError: an earlier run was asked something else.
        OutputError: another process writes there, or the folder cannot be written.
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
        self._lock = FileLock(out / STATE_FOLDER / f"{data_format}.lock", timeout=0)
        self._options: JsonObject = {"layout": data_format, "version": LOG_VERSION, **options}
        self.names = dict(names)
        self.counts: Counter[int] = Counter()
        self.loss = ConversionLoss()
        self._unique_per_split = unique_per_split
        """Whether two parts of the data may have an image of the same name."""
        self._offsets: dict[tuple[str, str | None], tuple[str | None, int]] = {}
        self._image_names: set[str] = set()
        self._acquire_lock()
        try:
            self._open(files_exist)
        except BaseException:
            self._lock.release()
            raise

    def has(self, name: str, split: str | None) -> bool:
        """Whether there is an image of this name, in this part (None: in any)."""
        return name in self._image_names if split is None else self._key(name, split) in self._offsets

    def can_add(self, name: str, split: str | None) -> bool:
        """Whether an image of this name can be added to this part (None: to none)."""
        return self._key(name, split) not in self._offsets

    def register_class(self, class_id: int, name: str) -> None:
        """Give a class its name, if it has none.

        Raises:
            InputError: it has another.
        """
        self._merge_class_names({str(class_id): name})
        self._write_line({"names": {str(class_id): name}})

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def splits(self) -> list[str | None]:
        """The parts there are, in natural order."""
        return sorted({split for split, _ in self._offsets.values()}, key=lambda split: natural_key(split or ""))

    def append(self, entry: LogEntry) -> None:
        """Remember that an image is done.

        Raises:
            OutputError: it cannot be written.
        """
        place = self._end_offset
        self._write_line(asdict(entry))
        self._register(entry, place)

    def entries(self, split: str | None) -> Iterator[LogEntry]:
        """The images of one part (None: of no part), in natural order of their names; one at a time."""
        wanted = [(natural_key(name), place) for (name, _), (part, place) in self._offsets.items() if part == split]
        with self.path.open("rb") as file:
            for _, place in sorted(wanted):
                file.seek(place)
                yield LogEntry.from_json(json.loads(file.readline()))

    def close(self) -> None:
        """Let go of the folder; the journal stays."""
        self._file.close()
        self._lock.release()

    def _key(self, name: str, split: str | None) -> tuple[str, str | None]:
        return (name, split if self._unique_per_split else None)

    def _acquire_lock(self) -> None:
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

    def _open(self, files_exist: Callable[[LogEntry], bool]) -> None:
        try:
            self._end_offset = self._read(files_exist) if self.path.exists() else 0
            self._file = self.path.open("ab", buffering=0)  # what is not on the disk is not remembered either
            self._file.truncate(self._end_offset)
        except OSError as error:
            raise self._write_error(error) from error
        if self._end_offset == 0:
            self._write_line(self._options)
        self._write_line({"names": {str(number): name for number, name in self.names.items()}})

    def _read(self, files_exist: Callable[[LogEntry], bool]) -> int:
        """Take in what an earlier run left; the bytes of it that are whole."""
        whole = 0
        with self.path.open("rb") as file:
            for raw in file:
                content = _parse_line(raw)
                if content is None or not self._replay(content, whole, files_exist):
                    break
                whole += len(raw)
        return whole

    def _replay(self, content: JsonObject, offset: int, files_exist: Callable[[LogEntry], bool]) -> bool:
        """Take in what one line says; False where it is none of ours."""
        if offset == 0:
            self._check_options(content)
        elif "names" in content:
            self._merge_class_names(content["names"])
        else:
            try:
                line = LogEntry.from_json(content)
            except (KeyError, TypeError, ValueError):
                return False
            if self.can_add(line.name, line.split) and files_exist(line):
                self._register(line, offset)
        return True

    def _check_options(self, stored: JsonObject) -> None:
        other = [key for key in self._options if stored.get(key) != self._options[key]]
        if other:
            said = "; ".join(f"{key} {stored.get(key)!r}, now {self._options[key]!r}" for key in other)
            raise InputError(
                f"{self.path.parent.parent} holds {self._options['layout']!r} that was written otherwise ({said}): ask "
                "the same to go on with it, or choose another folder"
            )

    def _merge_class_names(self, names: object) -> None:
        assert isinstance(names, dict)
        for key, name in names.items():
            number, known = int(key), self.names.setdefault(int(key), str(name))
            if known != name:
                raise InputError(
                    f"class {number} is {known!r} and was {name!r} in the earlier run that wrote "
                    f"{self.path.parent.parent}; in one data set a class has one name: choose another folder"
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


def _parse_line(raw: bytes) -> JsonObject | None:
    """The content of a whole line; None where it broke off."""
    try:
        content = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
