"""Events that a worker reports: a frame of a video that is done, or a batch that is done."""

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
    """A frame of a video in progress; `num_frames` is None if unknown, `objects` is a count."""

    item: InputFile
    frame_idx: int
    num_frames: int | None
    objects: int


@dataclass(frozen=True)
class InputDone:
    """An annotated image or video: `count` records as lines, those of a video in `records_file`."""

    item: InputFile
    fingerprint: list[int]
    count: int
    objects: int
    failure: str = ""
    lines: tuple[str, ...] = ()
    records_file: Path | None = None

    @classmethod
    def from_record(cls, item: InputFile, fingerprint: list[int], record: ImageAnnotation) -> InputDone:
        """Make the event of an image, or of a video that failed."""
        objects = sum(one.area > 0 for one in record.objects)
        return cls(item, fingerprint, 1, objects, record.failure, (record.to_line(),))

    def to_pending_entry(self) -> PendingEntry:
        """Return the entry to append to the log."""
        lines = self.lines if self.records_file is None else _read_lines(self.records_file)
        return PendingEntry(self.item.name, self.fingerprint, self.count, lines, bool(self.failure))


@dataclass(frozen=True)
class BatchDone:
    """An annotated batch, and the class names known by now."""

    done: tuple[InputDone, ...]
    class_names: Mapping[int, str]


def _read_lines(path: Path) -> Iterable[str]:
    with open(path, encoding="utf-8", errors="surrogatepass") as file:
        for line in file:
            yield line.rstrip("\n")
