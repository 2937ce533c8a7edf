"""Which frames a film file holds, from its packets alone: no picture is decoded.

Frame numbers are positions in presentation order. So a frame has the same number whether the film is read
from the beginning, from the middle or backwards, and frames that cannot be decoded keep theirs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

__all__ = ["Timeline", "packets", "scan"]

# Formats whose header states how long the film is; elsewhere FFmpeg only guesses from what is there.
_DURATION_IS_STATED = ("matroska", "webm", "flv")
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Timeline:
    """Presentation times of all frames, in ticks, and those from which decoding can begin.

    Example:
        >>> Timeline((0, 512, 1024), (0,), 3).number(512)
        1
    """

    pts: tuple[int, ...]
    keys: tuple[int, ...]
    stated: int | None

    def number(self, pts: int) -> int:
        """The number of the frame shown at `pts`; -1 before the first."""
        return bisect_right(self.pts, pts) - 1

    def key(self, number: int, earlier: int = 0) -> int:
        """The frame to begin decoding at to see frame `number`; `earlier` goes back by that many more."""
        at = bisect_right(self.keys, self.pts[number]) - 1 - earlier
        return self.number(self.keys[at]) if at > 0 else 0

    def key_after(self, number: int) -> int:
        """The first frame after `number` at which decoding begins anew; the number of frames if there is none."""
        at = bisect_right(self.keys, self.pts[number])
        return self.number(self.keys[at]) if at < len(self.keys) else len(self.pts)


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
    """Packets with data in decoding order, then None to flush; where reading breaks off the rest is None too."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError:  # what is missing shows in the count of frames
        pass
    yield None


def scan(container: InputContainer, stream: VideoStream) -> tuple[Timeline | None, int | None]:
    """The timeline, and how many frames the header states; no timeline where packets carry no usable times.

    Reads the file once. A recording that begins in the middle of a group begins at its first key frame.
    """
    stated = _stated_frames(container, stream)
    times: list[int] = []
    keys: list[int] = []
    total = 0
    end = 0
    hidden_vp8 = stream.codec_context.name == "vp8"
    if "avi" in container.format.name and stream.codec_context.has_b_frames:
        return None, stated  # AVI stores no times, only an order, and that is the decoder's
    for packet in packets(container, stream):
        if packet is None:
            break
        total += 1
        if packet.is_discard or (hidden_vp8 and not memoryview(packet)[0] & 0x10):
            continue
        if packet.pts is None:
            return None, stated
        if packet.is_keyframe:
            keys.append(packet.pts)
        times.append(packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
    shown = sorted(time for time in times if not keys or time >= keys[0])
    if not shown or len(set(shown)) < len(shown):
        return None, stated
    missing = _beyond(container, stream, end, total) if stated is None else _unseen(container, total, stated)
    return Timeline(tuple(shown), tuple(sorted(keys)), missing), stated


def _stated_frames(container: InputContainer, stream: VideoStream) -> int | None:
    """From the header alone. An MP4 knows its samples after its edit list is applied; ask it first."""
    if "mp4" in container.format.name:
        entries = getattr(stream, "index_entries", None)
        if entries is not None and len(entries):
            return len(entries)
    return stream.frames or None


def _unseen(container: InputContainer, total: int, stated: int) -> int | None:
    """The number of frames stated, if it is clearly more than the `total` packets there are."""
    exact = "mp4" in container.format.name
    return stated if stated - total > (0 if exact else max(1, _TOLERANCE * stated)) else None


def _beyond(container: InputContainer, stream: VideoStream, end: int, total: int) -> int | None:
    """About how many frames there should be, if the header states a time clearly after the last one's end."""
    seconds, rate = _stated_seconds(container, stream), stream.average_rate
    if seconds is None or not rate or stream.time_base is None:
        return None
    if seconds - float(end * stream.time_base) <= max(0.5, _TOLERANCE * seconds):
        return None
    return max(total + 1, round(seconds * float(rate)))


def _stated_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if not any(name in container.format.name for name in _DURATION_IS_STATED):
        return None
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = (float(part) for part in parts)
        return hours * 3600 + minutes * 60 + seconds
    except ValueError:
        pass
    if len(container.streams) > 1 or container.duration is None:  # another stream may be the longer one
        return None
    return container.duration / av.time_base
