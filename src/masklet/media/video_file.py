"""`Video`: a video file that FFmpeg reads, with every frame at hand in any order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from masklet.errors import SourceError
from masklet.media.video import Frame, FrameOrWarning, FrameWarning, SeekableVideo, frame_size_error
from masklet.media.video_decoder import (
    FrameIndex,
    NumberedFrame,
    OpenedVideo,
    build_frame_index,
    decode_from,
    decode_packet,
    iter_packets,
    open_video_file,
    upright_rgb,
)

__all__ = ["VideoFile"]


class VideoFile(SeekableVideo):
    """A video file. It is read once without decoding, so that its frames are known and numbered.

    Times are seconds on the clock players show: the file begins at 0, whatever its first time stamp.

    Raises SourceError when the file is empty, no video, without a video stream or without one good frame.

    Example:
        >>> Video("clip.mp4").count  # doctest: +SKIP
        289
    """

    def __init__(self, path: str, prefetch_frames: int) -> None:
        super().__init__(path, prefetch_frames)
        with open_video_file(path) as (container, stream):
            self._frame_index, self._declared_frames = build_frame_index(container, stream)
            rate = stream.average_rate or stream.guessed_rate
            self._fps = float(rate) if rate else None
            # Where only an order is stored, the times FFmpeg makes up follow the decoder's.
            made_up = self._frame_index is None and "avi" in container.format.name
            self._time_base: Fraction | None = None if made_up else stream.time_base
            self._start_time = (container.start_time or 0) / av.time_base
            self._estimated_frames = _estimate_num_frames(container, self._fps)
        self._size: tuple[int, int] | None = None
        with closing(self._read(0, None)) as items:
            first = next((item for item in items if isinstance(item, Frame)), None)
        if first is None:
            raise SourceError(
                f"{path!r} holds no frame that can be decoded; "
                "a video has at least one: it is damaged or cut short, copy or export it again"
            )
        self._size = first.size
        self._cache[first.index] = first

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
        """See Video; for a video that is cut short, the number its header states."""
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
            yield from self._in_range(decode_from(self._open, self._frame_index, start), start, stop)
            yield from self._truncation_warning(self._frame_index, stop)

    def _truncation_warning(self, frame_index: FrameIndex, stop: int | None) -> Iterator[FrameWarning]:
        found = len(frame_index.pts)
        if frame_index.declared_frames is not None and (stop is None or stop > found):
            yield FrameWarning(
                f"{self.path!r} ends early: {frame_index.declared_frames} frames expected, {found} found; "
                "those that are there were read: copy or download it again for the rest"
            )

    def _in_range(
        self, frames: Iterator[NumberedFrame], start: int, stop: int | None
    ) -> Generator[FrameOrWarning, None, None]:
        """Frames from `start` to before `stop`; where numbers are missing, one notice before the next frame."""
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
            yield self._to_frame(number, frame)
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
            f"the frames after keep their numbers{marked}: copy the video again if it should be whole"
        )

    def _time(self, pts: int | None) -> float | None:
        return None if pts is None or self._time_base is None else float(pts * self._time_base) - self._start_time

    def _to_frame(self, number: int, frame: VideoFrame) -> Frame:
        rgb = upright_rgb(frame)
        time = self._time(frame.pts)
        if time is None and self._fps:
            time = number / self._fps
        shown = Frame(rgb, self.path, number, time)
        if self._size is not None and shown.size != self._size:
            raise frame_size_error(self.path, number, self._size, shown.size)
        return shown

    def _open(self) -> AbstractContextManager[OpenedVideo]:
        return open_video_file(self.path)

    def _numbered_frames(self) -> Generator[NumberedFrame, None, None]:
        """Without usable times frames are numbered as they come, damaged ones after the first included."""
        number = 0
        with open_video_file(self.path) as (container, stream):
            for packet in iter_packets(container, stream):
                for frame in decode_packet(stream, packet):
                    if frame is not None or number:
                        yield number, frame
                        number += 1


def _estimate_num_frames(container: InputContainer, fps: float | None) -> int | None:
    if container.duration is None or not fps:
        return None
    return max(1, round(container.duration / av.time_base * fps))
