"""Video files that FFmpeg reads, with frames in any order."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from functools import partial

import av

from masklet.errors import MaskletWarning, SourceError
from masklet.media.video import Frame, FrameOrWarning, FrameWarning, SeekableVideo, frame_size_error
from masklet.media.video_decoder import (
    NumberedFrame,
    build_frame_index,
    color_note,
    decode_from,
    decode_packet,
    frame_rate,
    is_quarter_turned,
    iter_packets,
    open_video_file,
    upright_rgb,
)

__all__ = ["VideoFile"]

MAX_PIXEL_ASPECT = 100


class VideoFile(SeekableVideo):
    """A video file, read once without decoding so that its frames are known and numbered.

    Times are in seconds on the clock that players show: the file begins at 0, whatever its first time stamp.

    Example:
        >>> VideoFile("clip.mp4", 4).num_frames  # doctest: +SKIP
        289

    Raises:
        SourceError: if the file is empty, no video, without a video stream or without one undamaged frame.
    """

    def __init__(self, path: str, prefetch_frames: int) -> None:
        super().__init__(path, prefetch_frames)
        with open_video_file(path) as (container, stream):
            self._frame_index, self._declared_frames = build_frame_index(container, stream)
            self._fps = frame_rate(stream)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            if Fraction(1, MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT:  # others are damage
                self.pixel_aspect = Fraction(aspect)
            # AVI stores an order and no times: those of FFmpeg follow the order of the decoder.
            synthesized = self._frame_index is None and "avi" in container.format.name
            self._time_base: Fraction | None = None if synthesized else stream.time_base
            self._start_time = (container.start_time or 0) / av.time_base
            self._estimated_frames: int | None = None
            if container.duration is not None and self._fps:
                estimate = max(1, round(container.duration / av.time_base * self._fps))
                self._estimated_frames = estimate if estimate <= container.size else None  # a frame has a byte
        self._size: tuple[int, int] | None = None
        self._notes: list[str] = []
        with closing(self._read(0, None)) as items:
            first = next((item for item in items if isinstance(item, Frame)), None)
        if first is None:
            raise SourceError(
                f"{path!r} holds no frame that can be decoded; "
                "a video has at least one: it is damaged or cut short, copy or export it again"
            )
        self._size = first.size
        self._cache[first.index] = first
        for note in self._notes:
            warnings.warn(note, MaskletWarning, stacklevel=3)

    @property
    def size(self) -> tuple[int, int]:
        """See Video."""
        assert self._size is not None
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video."""
        return self._fps

    @property
    def num_frames(self) -> int | None:
        """See Video."""
        return len(self._frame_index.pts) if self._frame_index else None

    @property
    def expected_num_frames(self) -> int | None:
        """See Video; for a video that is cut short, the number that its header states."""
        return (
            (self._frame_index and self._frame_index.declared_frames)
            or self.num_frames
            or self._declared_frames
            or self._estimated_frames
        )

    def _decode_start(self, index: int) -> int:
        return self._frame_index.decode_start(index) if self._frame_index else 0

    def _read(self, start: int, stop: int | None) -> Generator[FrameOrWarning, None, None]:
        if self._frame_index is None:
            yield from self._in_range(self._numbered_frames(), start, stop)
        elif start < len(self._frame_index.pts):
            opener = partial(open_video_file, self.path)
            yield from self._in_range(decode_from(opener, self._frame_index, start), start, stop)
            declared, found = self._frame_index.declared_frames, len(self._frame_index.pts)
            if declared is not None and (stop is None or stop > found):
                yield FrameWarning(
                    f"{self.path!r} ends early: {declared} frames expected, {found} found; "
                    "the frames present were read: copy or download it again for the rest"
                )

    def _in_range(
        self, frames: Iterator[NumberedFrame], start: int, stop: int | None
    ) -> Generator[FrameOrWarning, None, None]:
        """Yield frames from `start` to before `stop`; where numbers are missing, one warning before the next frame."""
        known = self.num_frames
        end = stop if known is None else min(known, known if stop is None else stop)
        due = seen = start
        if end is not None and start >= end:
            return
        for number, frame in frames:
            seen = max(seen, number + (frame is None))
            if frame is None or number < due:
                continue
            if end is not None and number >= end:
                break
            if number > due:
                yield self._missing_frames_warning(due, number)
            time = self._time(frame.pts)
            if time is None and self._fps:
                time = number / self._fps
            if self._size is None:
                note = color_note(frame, self.path)
                self._notes = [] if note is None else [note]
                if is_quarter_turned(frame):
                    self.pixel_aspect = 1 / self.pixel_aspect
            image = Frame(upright_rgb(frame, self.path), self.path, number, time)
            if self._size is not None and image.size != self._size:
                raise frame_size_error(self.path, number, self._size, image.size)
            yield image
            due = number + 1
            if due == end:
                return
        if known is None:
            end = seen
        if end is not None and due < end:
            yield self._missing_frames_warning(due, end)

    def _missing_frames_warning(self, first: int, end: int) -> FrameWarning:
        many = end - first > 1
        which = f"frames {first} to {end - 1}" if many else f"frame {first}"
        when = self._time(self._frame_index.pts[first]) if self._frame_index else None
        at = "" if when is None else f" (at {when:.3f} s)"
        traces = self._frame_index.next_keyframe(end - 1) if self._frame_index else end
        marked = f", those up to {traces - 1} may show traces of it" if traces > end else ""
        return FrameWarning(
            f"{self.path!r}: {which}{at} cannot be decoded and {'are' if many else 'is'} left out; "
            f"the frames after keep their numbers{marked}: copy the video again if it should be complete"
        )

    def _time(self, pts: int | None) -> float | None:
        return None if pts is None or self._time_base is None else float(pts * self._time_base) - self._start_time

    def _numbered_frames(self) -> Generator[NumberedFrame, None, None]:
        """Number frames without usable times as they come, including damaged ones after the first."""
        number = 0
        with open_video_file(self.path) as (container, stream):
            for packet in iter_packets(container, stream):
                for frame in decode_packet(stream, packet):
                    if frame is not None or number:
                        yield number, frame
                        number += 1
