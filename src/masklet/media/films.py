"""`Film`: a film file that FFmpeg reads, with every frame at hand in any order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from masklet.errors import SourceError
from masklet.media.decoding import decoded, local_name, open_container, picture_stream, upright_rgb
from masklet.media.timeline import Timeline, packets, scan
from masklet.media.video import Frame, Item, Notice, Recorded, size_change

__all__ = ["Film"]

Numbered = tuple[int, VideoFrame | None]


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
        with _opened(path) as container:
            stream = picture_stream(container, path)
            self._timeline, self._stated = scan(container, stream)
            rate = stream.average_rate or stream.guessed_rate
            self._fps = float(rate) if rate else None
            self._tick: Fraction | None = stream.time_base
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
            yield from self._in_range(self._from_key(self._timeline, start), start, stop)
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
        for number, frame in frames:
            if due == end:
                return
            seen = max(seen, number + (frame is None))
            if frame is None or number < due:
                continue
            if end is not None and number >= end:
                break
            if number > due:
                yield self._lost(due, number)
            yield self._shown(number, frame)
            due = number + 1
        if known is None:
            end = seen
        if end is not None and due < end:
            yield self._lost(due, end)

    def _lost(self, first: int, end: int) -> Notice:
        many = end - first > 1
        which = f"frames {first} to {end - 1}" if many else f"frame {first}"
        when = self._time(self._timeline.pts[first]) if self._timeline else None
        at = "" if when is None else f" (at {when:.3f} s)"
        return Notice(
            f"{self.path!r}: {which}{at} cannot be decoded and {'are' if many else 'is'} left out; "
            "the frames after keep their numbers: copy the film again if it should be whole"
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

    def _from_key(self, timeline: Timeline, start: int) -> Generator[Numbered, None, None]:
        """Decoded frames from `start` on, beginning at the key frame before it.

        Some key frames heal the picture over several frames and show none of them: if `start` does not
        come, the attempt before it is made from one key earlier.
        """
        for earlier in (0, 1):
            key = timeline.key(start, earlier)
            with closing(self._decoded_from(timeline, key)) as frames:
                first = next((item for item in frames if item[0] >= start), None)
                if (first is None or first[0] > start) and key > 0 and earlier == 0:
                    continue
                if first is not None:
                    yield first
                    yield from frames
                return

    def _decoded_from(self, timeline: Timeline, key: int) -> Generator[Numbered, None, None]:
        for seek in (True, False) if key > 0 else (False,):
            with _opened(self.path) as container:
                stream = picture_stream(container, self.path)
                if seek:
                    container.seek(timeline.pts[key], stream=stream, backward=True)
                found = key == 0
                for packet in packets(container, stream):
                    if not found and packet is not None:
                        found = packet.pts == timeline.pts[key]
                        if packet.is_keyframe and packet.pts is not None and packet.pts > timeline.pts[key]:
                            break  # the jump went too far: this container has no index
                    if not found:
                        continue
                    for frame in decoded(stream, packet):
                        if frame is not None and frame.pts is not None:
                            yield timeline.number(frame.pts), frame
                if found:
                    return

    def _counted(self) -> Generator[Numbered, None, None]:
        """Without usable times frames are numbered as they come, damaged ones after the first included."""
        number = 0
        with _opened(self.path) as container:
            stream = picture_stream(container, self.path)
            for packet in packets(container, stream):
                for frame in decoded(stream, packet):
                    if frame is not None or number:
                        yield number, frame
                        number += 1


@contextmanager
def _opened(path: str) -> Iterator[InputContainer]:
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as cause:
        raise SourceError(
            f"cannot read {path!r}: {cause.strerror or cause}; a readable film is needed: check its permissions"
        ) from cause
    if not head:
        raise SourceError(f"{path!r} is empty (0 bytes); a film is needed: copy or download it again")
    try:
        container = open_container(local_name(path))
    except (av.FFmpegError, UnicodeError) as cause:
        raise SourceError(f"{path!r} cannot be read as a film: {_why(head, cause)}") from cause
    with container:
        yield container


def _why(head: bytes, cause: Exception) -> str:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return (
            f"it begins like MP4 or MOV, but its index is missing or damaged ({getattr(cause, 'strerror', cause)}), "
            "as when a recording or a copy was cut short: copy it again"
        )
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page; download the film itself"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the film"
    return (
        f"it begins with {head[:12]!r}, which is no film or picture FFmpeg knows; "
        "give a film such as MP4, MKV, MOV, AVI or WebM, or a folder of pictures"
    )


def _estimate(container: InputContainer, fps: float | None) -> int | None:
    if container.duration is None or not fps:
        return None
    return max(1, round(container.duration / av.time_base * fps))
