"""What a writer has done so far, a line a picture, so that a run that broke off is gone on with.

OUT/.masklet/LAYOUT.jsonl begins with what was asked; a line follows when everything of its picture is on disk. A line
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

from masklet.datasets.labeled_image import Loss
from masklet.errors import InputError, OutputError
from masklet.media.image_source import natural_key

__all__ = ["FOLDER", "Journal", "Line"]

FOLDER = ".masklet"
VERSION = 1
LogRecord = dict[str, object]


@dataclass(frozen=True)
class Line:
    """What is remembered of one picture: `file` is where it is in the layout, `record` what its format needs again."""

    name: str
    file: str
    split: str | None
    size: tuple[int, int]
    classes: tuple[int, ...]
    loss: Loss
    record: LogRecord = field(default_factory=dict)

    @classmethod
    def read(cls, content: Mapping[str, object]) -> Line:
        """The line of its JSON.

        Raises:
            KeyError, TypeError: it is no line.
        """
        values = dict(content)
        values["loss"] = Loss(**values["loss"])  # type: ignore[arg-type]
        values["size"], values["classes"] = tuple(values["size"]), tuple(values["classes"])  # type: ignore[arg-type]
        return cls(**values)  # type: ignore[arg-type]


class Journal:
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
        layout: str,
        asked: LogRecord,
        names: Mapping[int, str],
        there: Callable[[Line], bool],
        *,
        apart: bool = True,
    ) -> None:
        self.path = out / FOLDER / f"{layout}.jsonl"
        self._lock = FileLock(out / FOLDER / f"{layout}.lock", timeout=0)
        self._asked: LogRecord = {"layout": layout, "version": VERSION, **asked}
        self.names = dict(names)
        self.counts: Counter[int] = Counter()
        self.loss = Loss()
        self._apart = apart
        """Whether two parts of the data may have a picture of the same name."""
        self._places: dict[tuple[str, str | None], tuple[str | None, int]] = {}
        self._names: set[str] = set()
        self._hold()
        try:
            self._open(there)
        except BaseException:
            self._lock.release()
            raise

    def has(self, name: str, split: str | None) -> bool:
        """Whether there is a picture of this name, in this part (None: in any)."""
        return name in self._names if split is None else self._key(name, split) in self._places

    def room_for(self, name: str, split: str | None) -> bool:
        """Whether a picture of this name can be added to this part (None: to none)."""
        return self._key(name, split) not in self._places

    def call(self, number: int, name: str) -> None:
        """Give a class its name, if it has none.

        Raises:
            InputError: it has another.
        """
        self._join({str(number): name})
        self._put({"names": {str(number): name}})

    def __len__(self) -> int:
        return len(self._places)

    @property
    def splits(self) -> list[str | None]:
        """The parts there are, in natural order."""
        return sorted({split for split, _ in self._places.values()}, key=lambda split: natural_key(split or ""))

    def append(self, line: Line) -> None:
        """Remember that a picture is done.

        Raises:
            OutputError: it cannot be written.
        """
        place = self._end
        self._put(asdict(line))
        self._know(line, place)

    def lines(self, split: str | None) -> Iterator[Line]:
        """The pictures of one part (None: of no part), in natural order of their names; one at a time."""
        wanted = [(natural_key(name), place) for (name, _), (part, place) in self._places.items() if part == split]
        with self.path.open("rb") as file:
            for _, place in sorted(wanted):
                file.seek(place)
                yield Line.read(json.loads(file.readline()))

    def close(self) -> None:
        """Let go of the folder; the journal stays."""
        self._file.close()
        self._lock.release()

    def _key(self, name: str, split: str | None) -> tuple[str, str | None]:
        return (name, split if self._apart else None)

    def _hold(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another process writes {self.path.parent.parent} at this moment: wait for it, or choose another "
                "folder"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error

    def _open(self, there: Callable[[Line], bool]) -> None:
        try:
            self._end = self._read(there) if self.path.exists() else 0
            self._file = self.path.open("ab", buffering=0)  # what is not on the disk is not remembered either
            self._file.truncate(self._end)
        except OSError as error:
            raise self._unwritable(error) from error
        if self._end == 0:
            self._put(self._asked)
        self._put({"names": {str(number): name for number, name in self.names.items()}})

    def _read(self, there: Callable[[Line], bool]) -> int:
        """Take in what an earlier run left; the bytes of it that are whole."""
        whole = 0
        with self.path.open("rb") as file:
            for raw in file:
                content = _parsed(raw)
                if content is None or not self._took(content, whole, there):
                    break
                whole += len(raw)
        return whole

    def _took(self, content: LogRecord, place: int, there: Callable[[Line], bool]) -> bool:
        """Take in what one line says; False where it is none of ours."""
        if place == 0:
            self._compare(content)
        elif "names" in content:
            self._join(content["names"])
        else:
            try:
                line = Line.read(content)
            except (KeyError, TypeError, ValueError):
                return False
            if self.room_for(line.name, line.split) and there(line):
                self._know(line, place)
        return True

    def _compare(self, before: LogRecord) -> None:
        other = [key for key in self._asked if before.get(key) != self._asked[key]]
        if other:
            said = "; ".join(f"{key} {before.get(key)!r}, now {self._asked[key]!r}" for key in other)
            raise InputError(
                f"{self.path.parent.parent} holds {self._asked['layout']!r} that was written otherwise ({said}): ask "
                "the same to go on with it, or choose another folder"
            )

    def _join(self, names: object) -> None:
        assert isinstance(names, dict)
        for key, name in names.items():
            number, known = int(key), self.names.setdefault(int(key), str(name))
            if known != name:
                raise InputError(
                    f"class {number} is {known!r} and was {name!r} in the earlier run that wrote "
                    f"{self.path.parent.parent}; in one data set a class has one name: choose another folder"
                )

    def _know(self, line: Line, place: int) -> None:
        self._places[self._key(line.name, line.split)] = (line.split, place)
        self._names.add(line.name)
        self.counts.update(line.classes)
        self.loss += line.loss

    def _put(self, content: LogRecord) -> None:
        raw = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        try:
            left = raw
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise self._unwritable(error) from error
        self._end += len(raw)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path} could not be written ({error.strerror or error}); choose a folder that can be made, is "
            "writable and has room"
        )


def _parsed(raw: bytes) -> LogRecord | None:
    """The content of a whole line; None where it broke off."""
    try:
        content = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
