"""Decoding a film file from any frame, with the pixels it has when decoded from the beginning."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing

from av.video.frame import VideoFrame

from masklet.media.decoding import Opened, decoded
from masklet.media.timeline import Timeline, packets

__all__ = ["Numbered", "Opener", "frames_from"]

Numbered = tuple[int, VideoFrame | None]
Opener = Callable[[], AbstractContextManager[Opened]]


def frames_from(opener: Opener, timeline: Timeline, start: int) -> Generator[Numbered, None, None]:
    """Frames from `start` to the end with their numbers; damaged ones are left out.

    Some key frames heal the picture over several frames and show none of them. So where `start` does not
    come, decoding begins again at the key frame before.

    Example:
        >>> next(frames_from(opener, timeline, 250))[0]  # doctest: +SKIP
        250
    """
    key = timeline.key(start)
    frames = _decoded_from(opener, timeline, key)
    first = next((item for item in frames if item[0] >= start), None)
    if key > 0 and (first is None or first[0] > start):
        frames.close()
        frames = _decoded_from(opener, timeline, timeline.key(start, earlier=1))
        first = next((item for item in frames if item[0] >= start), None)
    with closing(frames):
        if first is not None:
            yield first
            yield from frames


def _decoded_from(opener: Opener, timeline: Timeline, key: int) -> Generator[Numbered, None, None]:
    """What comes out when decoding begins at the key frame `key` (0: at the beginning of the file)."""
    begin = timeline.pts[key]
    for jump in (True, False) if key > 0 else (False,):
        with opener() as (container, stream):
            if jump:
                container.seek(begin, stream=stream, backward=True)
            found = key == 0
            for packet in packets(container, stream):
                if not found and packet is not None and packet.pts is not None:
                    found = packet.pts == begin
                    if packet.is_keyframe and packet.pts > begin:
                        break  # too far: this container has no index, so read it from the beginning
                if not found:
                    continue
                for frame in decoded(stream, packet):
                    if frame is not None and frame.pts is not None:
                        yield timeline.number(frame.pts), frame
            if found:
                return
