"""The files that `masklet track` writes: one sink a format, and what is made of the journal's lines."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masklet.errors import InputError, MaskletError, OutputError, SourceError

if TYPE_CHECKING:
    from masklet.cli.track_resume import ResumeLog
    from masklet.media import Video
    from masklet.results import Results
    from masklet.writers import FrameRecord, Sink

__all__ = ["DEFAULT_TRACK_FORMAT", "TRACK_FORMATS", "TrackOutputs", "parse_track_formats"]

TRACK_FORMATS = ("video", "masks", "png", "coco", "mots", "numpy")
"""In the order in which they are opened and written: masks clears its folder of label maps, which png fills."""
DEFAULT_TRACK_FORMAT = "video"


def parse_track_formats(values: Sequence[str] | None) -> tuple[str, ...]:
    """Formats from repeated words and comma lists, each once.

    Example:
        >>> saves_of(["video,png", "png"])
        ('video', 'png')

    Raises:
        InputError: a name that is no format of a video.
    """
    names = [name for word in values or () for name in word.lower().replace(",", " ").split()]
    for name in names:
        if name not in TRACK_FORMATS:
            near = difflib.get_close_matches(name, TRACK_FORMATS, n=1)
            hint = f"did you mean {near[0]}?" if near else "choose one of them"
            raise InputError(f"no format {name!r} to save a video in; formats are {', '.join(TRACK_FORMATS)}: {hint}")
    return tuple(dict.fromkeys(names)) or (DEFAULT_TRACK_FORMAT,)


class TrackOutputs:
    """The sinks of one run. With a journal, coco is a copy of its lines; going backwards, all are made from it.

    Example:
        >>> outputs = Outputs(Path("out"), "clip", video, ("video", "png"), journal)
        >>> outputs.write(frame)
        >>> outputs.close()
    """

    def __init__(
        self, out: Path, stem: str, video: Video, formats: Sequence[str], resume_log: ResumeLog | None
    ) -> None:
        from masklet.writers import open_sink

        self.video, self.resume_log = video, resume_log
        self.deferred = False
        """Nothing is written before `close`, which reads the journal: for frames that come in descending order."""
        self._jsonl_path = out / f"{stem}_masks.jsonl" if resume_log is not None and "coco" in formats else None
        direct = [name for name in TRACK_FORMATS if name in formats and (name != "coco" or resume_log is None)]
        source = video.path if os.path.exists(video.path) else None
        self.sinks: list[Sink] = [open_sink(name, out, stem=stem, fps=video.fps, source=source) for name in direct]
        self._copied_paths: list[Path] = []
        self._empty = True

    @property
    def paths(self) -> list[Path]:
        """What is written."""
        paths = [path for sink in self.sinks for path in sink.paths] + self._copied_paths
        return list(dict.fromkeys(paths))

    def check(self, ids: Iterable[int]) -> None:
        """Whether every format can hold these object ids; raises OutputError if not."""
        numbers = list(ids)
        for sink in self.sinks:
            sink.check_ids(numbers)

    def write(self, frame: Results) -> None:
        """One frame to every sink, unless it is kept for the end."""
        self._empty = False
        if not self.deferred:
            self._write(frame)

    def restore_frames(self, records: Iterable[FrameRecord]) -> None:
        """Frames of an interrupted run: their images are read again, if any sink needs them."""
        self._empty = False
        if self.sinks and not self.deferred:
            self._write_records(records)

    def close(self) -> None:
        """Finish all files; where one cannot be finished the others are, and the first reason is raised.

        Raises:
            OutputError: a file that could not be finished.
        """
        problems: list[MaskletError] = []
        try:
            if self.deferred and self.resume_log is not None and self.sinks and not self._empty:
                self.deferred = False
                self._write_records(self.resume_log.records())
        except MaskletError as error:
            problems.append(error)
        for sink in self.sinks:
            try:
                sink.close()
            except OutputError as error:
                problems.append(error)
        try:
            self._copy_jsonl()
        except OutputError as error:
            problems.append(error)
        if problems:
            raise problems[0]

    def abort(self) -> None:
        """Let go of a run that failed: what was written stays, and nothing more is said."""
        for sink in self.sinks:
            with sink:
                pass

    def _write_records(self, records: Iterable[FrameRecord]) -> None:
        for frame in results_from_records(records, self.video):
            self._write(frame)

    def _write(self, frame: Results) -> None:
        for sink in self.sinks:
            sink.write(frame)

    def _copy_jsonl(self) -> None:
        if self._jsonl_path is not None and self.resume_log is not None and not self._empty:
            self.resume_log.copy_jsonl(self._jsonl_path)
            self._copied_paths = [self._jsonl_path]


def results_from_records(records: Iterable[FrameRecord], video: Video) -> Iterable[Results]:
    """Frames that were written, over their images, which are read again.

    Raises:
        SourceError: an image that was there is no longer.
    """
    frames = None
    for record in records:
        frames = video.frames(record.frame_idx) if frames is None else frames
        frame = next((each for each in frames if each.index >= record.frame_idx), None)
        if frame is None or frame.index != record.frame_idx:
            raise SourceError(
                f"{video.path!r}: frame {record.frame_idx}, which was tracked before, cannot be read any more; the source "  # noqa: E501
                "has changed: leave --resume out to begin anew"
            )
        yield record.to_results(frame.rgb, frame.path)
