"""The film of a tracked video: its frames with their masks painted on them."""

from __future__ import annotations

import os
from pathlib import Path

from masklet.errors import InputError, OutputError, StateError
from masklet.results import Results
from masklet.writers.video_base import Sink, SinkOptions
from masklet.writers.video_encoding import FilmPart, Sound, finish_film, known_encoders, plays

__all__ = ["VideoSink"]


class VideoSink(Sink):
    """An overlay film that browsers play, STEM_overlay.mp4: H.264, yuv420p, index first, with the source's sound.

    Frames come in ascending order. Each is shown at its `time`, so a variable frame rate is kept, or without one at
    `frame` / fps. The sound is cut to the frames that were written: AAC and MP3 are copied, other sound is encoded
    as AAC. An odd width or height gets one more column or row.

    While it is written the film is STEM_overlay.part.mp4, silent, which plays up to the last second or two also
    when the program is killed. When the disk has no room for the finished film, that part gets its name.

    Example:
        >>> with VideoSink("out", "clip", SinkOptions(fps=25.0, source="clip.mp4")) as sink:
        ...     for frame in model.track("clip.mp4", points=[210, 350], labels=[1]):
        ...         sink.write(frame)
        >>> sink.paths
        [PosixPath('out/clip_overlay.mp4')]

    Raises:
        OutputError: PyAV has no H.264 encoder, or the film would replace its own source.
        InputError: a frame of another size than the first.
        StateError: a frame that is not after the one before.
    """

    def __init__(self, folder: str | os.PathLike[str], stem: str, options: SinkOptions | None = None) -> None:
        super().__init__(folder, stem, options)
        self._part: FilmPart | None = None
        self._broken: OutputError | None = None
        self._step = 1 / self.options.fps
        known_encoders()
        _check_apart(self._path("_overlay.mp4"), self.options.source)
        _check_apart(self._path("_overlay.part.mp4"), self.options.source)

    def _write(self, results: Results, frame: int) -> None:
        if self._broken is not None:
            raise OutputError(str(self._broken)) from self._broken
        if self._part is None:
            self._begin(results, frame)
        else:
            self._advance(results, frame)
        self._frame, self._time = frame, results.time
        picture = results.plot(boxes=self.options.boxes, labels=self.options.labels, style=self.options.style)
        assert self._part is not None
        try:
            self._part.add(picture, self._at)
        except OutputError as error:
            self._broken = error
            raise

    def _begin(self, results: Results, frame: int) -> None:
        self._size = results.orig_shape
        path = self._path("_overlay.part.mp4")
        self._part = FilmPart(path, self._size, self.options.fps, self.options.crf)
        self._start = frame / self.options.fps if results.time is None else results.time
        self._at = 0.0

    def _advance(self, results: Results, frame: int) -> None:
        """Move on to the time of this frame; a clock that stands still or jumps back counts as one frame."""
        if frame <= self._frame:
            raise StateError(
                f"frame {frame} came after frame {self._frame}, but a film is written in ascending order: track "
                "forward, or save coco and write the film from read_tracks afterwards"
            )
        if results.orig_shape != self._size:
            (height, width), (first_height, first_width) = results.orig_shape, self._size
            raise InputError(
                f"frame {frame} is {width}x{height} and the film is {first_width}x{first_height}; a film has one "
                "size: track the part with another size on its own"
            )
        known = results.time is not None and self._time is not None
        passed = (results.time or 0.0) - (self._time or 0.0) if known else (frame - self._frame) / self.options.fps
        self._step = passed if passed > 0 else 1 / self.options.fps
        self._at += self._step

    def _finish(self) -> None:
        if self._part is None:
            return
        trouble = self._close_part(self._part)
        part, path = self._part.path, self._path("_overlay.mp4")
        if not plays(part):  # the disk was full before the first second
            part.unlink(missing_ok=True)
            if trouble is not None:
                raise trouble
            return
        try:
            finish_film(part, path, self._sound())
            part.unlink(missing_ok=True)
        except OutputError:
            os.replace(part, path)
            self._wrote(path)
            raise
        self._wrote(path)
        if trouble is not None:
            raise trouble

    def _close_part(self, part: FilmPart) -> OutputError | None:
        """End the part; what keeps it from being whole, unless that was said before."""
        if self._broken is not None:
            part.abandon()
            return None
        try:
            part.close(self._step)
        except OutputError as error:
            return error
        return None

    def _sound(self) -> Sound | None:
        if self.options.source is None or not self.options.audio:
            return None
        return Sound(self.options.source, self._start, self._start + self._at + self._step)


def _check_apart(path: Path, source: str | os.PathLike[str] | None) -> None:
    """A film must not be written over the one it is made from."""
    if source is not None and path.exists() and os.path.exists(source) and os.path.samefile(path, source):
        raise OutputError(f"{path} is the film that is tracked and is not replaced: choose another folder or stem")
