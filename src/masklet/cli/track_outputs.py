"""The files that `masklet track` writes: one sink a format, and what is made of the journal's lines."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.errors import InputError, MaskletError, OutputError, SourceError

if TYPE_CHECKING:
    from masklet.cli.track_resume import Journal
    from masklet.media import Video
    from masklet.results import Results
    from masklet.writers import FrameRecord, Sink

__all__ = ["DEFAULT_SAVE", "SAVES", "Outputs", "saves_of"]

SAVES = ("video", "masks", "png", "coco", "mots", "numpy")
"""In the order in which they are opened and written: masks clears its folder of label maps, which png fills."""
DEFAULT_SAVE = "video"


def saves_of(words: Sequence[str] | None) -> tuple[str, ...]:
    """Formats from repeated words and comma lists, each once.

    Example:
        >>> saves_of(["video,png", "png"])
        ('video', 'png')

    Raises:
        InputError: a name that is no format of a film.
    """
    names = [name for word in words or () for name in word.lower().replace(",", " ").split()]
    for name in names:
        if name not in SAVES:
            near = difflib.get_close_matches(name, SAVES, n=1)
            hint = f"did you mean {near[0]}?" if near else "choose one of them"
            raise InputError(f"no format {name!r} to save a film in; formats are {', '.join(SAVES)}: {hint}")
    return tuple(dict.fromkeys(names)) or (DEFAULT_SAVE,)


class Outputs:
    """The sinks of one run. With a journal, coco is a copy of its lines; going backwards, all are made from it.

    Example:
        >>> outputs = Outputs(Path("out"), "clip", video, ("video", "png"), journal)
        >>> outputs.write(frame)
        >>> outputs.close()
    """

    def __init__(self, out: Path, stem: str, video: Video, saves: Sequence[str], journal: Journal | None) -> None:
        from masklet.writers import open_sink

        self.video, self.journal = video, journal
        self.late = False
        """Nothing is written before `close`, which reads the journal: for frames that come in descending order."""
        self._lines = out / f"{stem}_masks.jsonl" if journal is not None and "coco" in saves else None
        direct = [name for name in SAVES if name in saves and (name != "coco" or journal is None)]
        source = video.path if os.path.exists(video.path) else None
        self.sinks: list[Sink] = [open_sink(name, out, stem=stem, fps=video.fps, source=source) for name in direct]
        self._copied: list[Path] = []
        self._empty = True

    @property
    def paths(self) -> list[Path]:
        """What is written."""
        paths = [path for sink in self.sinks for path in sink.paths] + self._copied
        return list(dict.fromkeys(paths))

    def check(self, ids: Iterable[int]) -> None:
        """Whether every format can hold these object ids; raises OutputError if not."""
        numbers = list(ids)
        for sink in self.sinks:
            sink.check(numbers)

    def write(self, frame: Results) -> None:
        """One frame to every sink, unless it is kept for the end."""
        self._empty = False
        if not self.late:
            self._write(frame)

    def take_over(self, records: Iterable[FrameRecord]) -> None:
        """Frames of an interrupted run: their pictures are read again, if any sink needs them."""
        self._empty = False
        if self.sinks and not self.late:
            self._paint(records)

    def close(self) -> None:
        """Finish all files; where one cannot be finished the others are, and the first reason is raised.

        Raises:
            OutputError: a file that could not be finished.
        """
        problems: list[MaskletError] = []
        try:
            if self.late and self.journal is not None and self.sinks and not self._empty:
                self.late = False
                self._paint(self.journal.records())
        except MaskletError as error:
            problems.append(error)
        for sink in self.sinks:
            try:
                sink.close()
            except OutputError as error:
                problems.append(error)
        try:
            self._copy_lines()
        except OutputError as error:
            problems.append(error)
        if problems:
            raise problems[0]

    def abandon(self) -> None:
        """Let go of a run that failed: what was written stays, and nothing more is said."""
        for sink in self.sinks:
            with sink:
                pass

    def _paint(self, records: Iterable[FrameRecord]) -> None:
        for frame in pictured(records, self.video):
            self._write(frame)

    def _write(self, frame: Results) -> None:
        for sink in self.sinks:
            sink.write(frame)

    def _copy_lines(self) -> None:
        if self._lines is not None and self.journal is not None and not self._empty:
            self.journal.copy_lines(self._lines)
            self._copied = [self._lines]


def pictured(records: Iterable[FrameRecord], video: Video) -> Iterable[Results]:
    """Frames that were written, over their pictures, which are read again.

    Raises:
        SourceError: a picture that was there is no longer.
    """
    frames = None
    for record in records:
        frames = video.frames(record.frame) if frames is None else frames
        frame = next((each for each in frames if each.index >= record.frame), None)
        if frame is None or frame.index != record.frame:
            raise SourceError(
                f"{video.path!r}: frame {record.frame}, which was tracked before, cannot be read any more; the source "
                "has changed: leave --resume out to begin anew"
            )
        yield record.results(frame.rgb, frame.path)
