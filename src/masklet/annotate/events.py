"""What a worker reports: a frame of a video that was looked at, or a batch that is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from masklet.annotate.annotation_records import ImageAnnotation
from masklet.annotate.inputs import InputFile
from masklet.annotate.resume_log import PendingEntry

__all__ = ["BatchDone", "FrameDone", "InputDone"]


@dataclass(frozen=True)
class FrameDone:
    """One frame of a video that is not done yet: its number, how many there are (None: unknown), and its objects."""

    item: InputFile
    frame_idx: int
    num_frames: int | None
    objects: int


@dataclass(frozen=True)
class InputDone:
    """What came of one image or video: lines of records, those of a video in the file `spool`."""

    item: InputFile
    fingerprint: list[int]
    count: int
    objects: int
    failure: str = ""
    lines: tuple[str, ...] = ()
    records_file: Path | None = None

    @classmethod
    def from_record(cls, item: InputFile, fingerprint: list[int], record: ImageAnnotation) -> InputDone:
        """An image that is done."""
        objects = sum(one.area > 0 for one in record.objects)
        return cls(item, fingerprint, 1, objects, record.failure, (record.to_line(),))

    def to_pending_entry(self) -> PendingEntry:
        """The same as the journal takes it."""
        lines = self.lines if self.records_file is None else _lines_of(self.records_file)
        return PendingEntry(self.item.name, self.fingerprint, self.count, lines, bool(self.failure))


@dataclass(frozen=True)
class BatchDone:
    """What came of a batch, and the names of the classes as they are known now."""

    done: tuple[InputDone, ...]
    class_names: Mapping[int, str]


def _lines_of(spool: Path) -> Iterable[str]:
    with open(spool, encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")
