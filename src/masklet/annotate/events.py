"""What a worker reports: a frame of a film that was looked at, or a batch that is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.annotate.annotation_records import Record
from masklet.annotate.inputs import Item
from masklet.annotate.resume_log import Kept

__all__ = ["BatchDone", "FrameDone", "ItemDone"]


@dataclass(frozen=True)
class FrameDone:
    """One frame of a film that is not done yet: its number, how many there are (None: unknown), and its objects."""

    item: Item
    frame: int
    frames: int | None
    objects: int


@dataclass(frozen=True)
class ItemDone:
    """What came of one picture or film: lines of records, those of a film in the file `spool`."""

    item: Item
    stamp: list[int]
    count: int
    objects: int
    failure: str = ""
    lines: tuple[str, ...] = ()
    spool: Path | None = None

    @classmethod
    def of(cls, item: Item, stamp: list[int], record: Record) -> ItemDone:
        """A picture that is done."""
        objects = sum(one.area > 0 for one in record.objects)
        return cls(item, stamp, 1, objects, record.failure, (record.to_line(),))

    def kept(self) -> Kept:
        """The same as the journal takes it."""
        lines = self.lines if self.spool is None else _lines_of(self.spool)
        return Kept(self.item.name, self.stamp, self.count, lines, bool(self.failure))


@dataclass(frozen=True)
class BatchDone:
    """What came of a batch, and the names of the classes as they are known now."""

    done: tuple[ItemDone, ...]
    names: Mapping[int, str]


def _lines_of(spool: Path) -> Iterable[str]:
    with open(spool, encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")
