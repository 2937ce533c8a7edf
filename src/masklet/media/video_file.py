"""`Film`: a film file that FFmpeg reads, with every frame at hand in any order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from masklet.errors import SourceError
from masklet.media.video import Frame, Item, Notice, Recorded, size_change
from masklet.media.video_decoder import (
    Numbered,
    Opened,
    Timeline,
    decoded,
    frames_from,
    opened_film,
    packets,
    scan,
    upright_rgb,
)

__all__ = ["Film"]


class Film(Recorded):
    """A film file. It is read once without decoding, so that its frames are known and numbered.

    Times are seconds on the clock players show: the file begins at 0, whatever its first time stamp.

    Raises SourceError when the file is empty, no film, without a video stream or without one good frame.

    Example:
        >>> Film("clip.mp4").count  # doctest: +SKIP
        289
    """

    def __init__(self, path: str, read_ahead: int) -> None:
        super().__init__(path, read_ahead)
        with opened_film(path) as (container, stream):
            self._timeline, self._stated = scan(container, stream)
            rate = stream.average_rate or stream.guessed_rate
            self._fps = float(rate) if rate else None
            # Where only an order is stored, the times FFmpeg makes up follow the decoder's.
            made_up = self._timeline is None and "avi" in container.format.name
            self._tick: Fraction | None = None if made_up else stream.time_base
            self._origin = (container.start_time or 0) / av.time_base
            self._estimate = _estimate(container, self._fps)
        self._size: tuple[int, int] | None = None
        with closing(self._read(0, None)) as items:
            first = next((item for item in items if isinstance(item, Frame)), None)
        if first is None:
            raise SourceError(
                f"{path!r} holds no frame that can be decoded; "
                "a film has at least one: it is damaged or cut short, copy or export it again"
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
    def count(self) -> int | None:
        """See Video."""
        return len(self._timeline.pts) if self._timeline else None

    @property
    def expected(self) -> int | None:
        """See Video; for a film that is cut short, the number its header states."""
        return (self._timeline and self._timeline.stated) or self.count or self._stated or self._estimate

    def _nearest_start(self, index: int) -> int:
        return self._timeline.key(index) if self._timeline else 0

    def _read(self, start: int, stop: int | None) -> Generator[Item, None, None]:
        if self._timeline is None:
            yield from self._in_range(self._counted(), start, stop)
        elif start < len(self._timeline.pts):
            yield from self._in_range(frames_from(self._opened, self._timeline, start), start, stop)
            yield from self._missing_end(self._timeline, stop)

    def _missing_end(self, timeline: Timeline, stop: int | None) -> Iterator[Notice]:
        found = len(timeline.pts)
        if timeline.stated is not None and (stop is None or stop > found):
            yield Notice(
                f"{self.path!r} ends early: {timeline.stated} frames expected, {found} found; "
                "those that are there were read: copy or download it again for the rest"
            )

    def _in_range(self, frames: Iterator[Numbered], start: int, stop: int | None) -> Generator[Item, None, None]:
        """Frames from `start` to before `stop`; where numbers are missing, one notice before the next frame."""
        known = self.count
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
                yield self._lost(due, number)
            yield self._shown(number, frame)
            due = number + 1
            if due == end:
                return
        if known is None:
            end = seen
        if end is not None and due < end:
            yield self._lost(due, end)

    def _lost(self, first: int, end: int) -> Notice:
        many = end - first > 1
        which = f"frames {first} to {end - 1}" if many else f"frame {first}"
        when = self._time(self._timeline.pts[first]) if self._timeline else None
        at = "" if when is None else f" (at {when:.3f} s)"
        traces = self._timeline.key_after(end - 1) if self._timeline else end
        marked = f", those up to {traces - 1} may show traces of it" if traces > end else ""
        return Notice(
            f"{self.path!r}: {which}{at} cannot be decoded and {'are' if many else 'is'} left out; "
            f"the frames after keep their numbers{marked}: copy the film again if it should be whole"
        )

    def _time(self, pts: int | None) -> float | None:
        return None if pts is None or self._tick is None else float(pts * self._tick) - self._origin

    def _shown(self, number: int, frame: VideoFrame) -> Frame:
        rgb = upright_rgb(frame)
        time = self._time(frame.pts)
        if time is None and self._fps:
            time = number / self._fps
        shown = Frame(rgb, self.path, number, time)
        if self._size is not None and shown.size != self._size:
            raise size_change(self.path, number, self._size, shown.size)
        return shown

    def _opened(self) -> AbstractContextManager[Opened]:
        return opened_film(self.path)

    def _counted(self) -> Generator[Numbered, None, None]:
        """Without usable times frames are numbered as they come, damaged ones after the first included."""
        number = 0
        with opened_film(self.path) as (container, stream):
            for packet in packets(container, stream):
                for frame in decoded(stream, packet):
                    if frame is not None or number:
                        yield number, frame
                        number += 1


def _estimate(container: InputContainer, fps: float | None) -> int | None:
    if container.duration is None or not fps:
        return None
    return max(1, round(container.duration / av.time_base * fps))
