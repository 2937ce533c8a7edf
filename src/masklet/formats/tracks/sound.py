"""The finished film: the part that was written, put in order for browsers, with the sound of its source."""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from masklet.errors import MaskletWarning
from masklet.files import atomic_path
from masklet.formats.tracks.encoding import film_error

__all__ = ["Sound", "finish_film", "plays"]

COPIED = ("aac", "mp3", "mp3float")
"""Sound that browsers play in MP4 as it is; all other is encoded as AAC."""

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
MOST_CHANNELS = 2

Timed: TypeAlias = "tuple[float, Packet[Any]]"


@dataclass(frozen=True)
class Sound:
    """The sound of `source` from `start` to `stop`, in seconds of the clock that players show.

    Example:
        >>> Sound("clip.mp4", 2.0, 5.5)
    """

    source: str | os.PathLike[str]
    start: float
    stop: float


def finish_film(part: Path, path: Path, sound: Sound | None) -> None:
    """Write the film in `part` to `path`, index first, and the sound beside it; the pictures are copied.

    Sound that cannot be had is named in a MaskletWarning, and the film is silent.

    Example:
        >>> finish_film(Path("clip.part.mp4"), Path("clip.mp4"), Sound("source.mp4", 0.0, 5.5))

    Raises:
        OutputError: the file cannot be written; `part` stays.
    """
    if sound is not None and os.path.isfile(sound.source):
        try:
            with av.open(os.fspath(sound.source)) as source, atomic_path(path) as temporary:
                _put_together(part, temporary, lambda out: _sound(source, out, sound))
            return
        except (av.FFmpegError, ValueError) as error:  # not OutputError: a disk that is full is full without sound
            warnings.warn(
                f"the sound of {os.fspath(sound.source)!r} cannot be kept ({error}); {path} is silent: convert the "
                "sound to AAC, or leave audio out",
                MaskletWarning,
                stacklevel=2,
            )
    try:
        with atomic_path(path) as temporary:
            _put_together(part, temporary, lambda out: iter(()))
    except av.FFmpegError as error:
        raise film_error(path, error) from error


def plays(path: Path) -> bool:
    """Whether a film has at least one picture.

    Example:
        >>> plays(Path("clip.part.mp4"))
        True
    """
    try:
        with av.open(path) as film:
            return any(not packet.is_corrupt for packet in _whole(film, film.streams.video[0]))
    except (av.FFmpegError, IndexError):
        return False


def _put_together(part: Path, path: Path, sound: Callable[[OutputContainer], Iterator[Timed]]) -> None:
    with av.open(part) as film, av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        pictures = _pictures(film, out)
        for _, packet in heapq.merge(pictures, sound(out), key=_seconds):
            out.mux(packet)


def _seconds(item: Timed) -> float:
    return item[0]


def _pictures(film: InputContainer, out: OutputContainer) -> Iterator[Timed]:
    """The packets of the film; where a fragment was cut they end."""
    source = film.streams.video[0]
    target = out.add_stream_from_template(source)
    return _onto(target, (packet for packet in _whole(film, source) if not packet.is_corrupt))


def _sound(source: InputContainer, out: OutputContainer, sound: Sound) -> Iterator[Timed]:
    """The packets of the source's sound, copied or encoded, on the clock of the film."""
    if not source.streams.audio:
        return iter(())
    stream = source.streams.audio[0]
    start = sound.start + (source.start_time or 0) / av.time_base
    stop = start + sound.stop - sound.start
    if sound.start > 1:
        source.seek(int(start * av.time_base))
    packets = _whole(source, stream)
    if stream.codec_context.name in COPIED:
        target = out.add_stream_from_template(stream)
        return _onto(target, _cut(packets, start, stop))
    return _encoded(packets, _aac(out, stream), start, stop)


def _whole(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """Packets with data and a time; where reading breaks off they end."""
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                yield packet
    except av.FFmpegError:  # the pictures or the sound end here
        return


def _onto(target: Stream, packets: Iterable[Packet[Any]]) -> Iterator[Timed]:
    """Packets as they are, for another file; the muxer wants their times to rise."""
    before = None
    for packet in packets:
        assert packet.dts is not None
        if before is None or packet.dts > before:
            before = packet.dts
            packet.stream = target
            yield float(packet.dts * packet.time_base), packet


def _cut(packets: Iterable[Packet[Any]], start: float, stop: float) -> Iterator[Packet[Any]]:
    """The packets that sound between `start` and `stop`, and the one before, from which AAC starts; from 0 on."""
    for packet in packets:
        assert packet.pts is not None
        assert packet.dts is not None
        base = packet.time_base
        shift = round(start / base)
        if packet.pts * base >= stop:
            return
        if packet.pts + (packet.duration or 0) >= shift:
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet


def _aac(out: OutputContainer, stream: AudioStream) -> AudioStream:
    rate = stream.codec_context.sample_rate
    target = out.add_stream("aac", rate=rate if rate in AAC_RATES else 48000)
    assert isinstance(target, AudioStream)
    target.codec_context.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    return target


def _encoded(packets: Iterable[Packet[Any]], target: AudioStream, start: float, stop: float) -> Iterator[Timed]:
    """The sound between `start` and `stop` as AAC, from 0 on."""
    for frame in _frames(packets):
        if frame.pts is not None and frame.time_base is not None and start <= frame.pts * frame.time_base + 1e-6 < stop:
            frame.pts -= round(start / frame.time_base)
            yield from _timed(target.encode(frame))
    yield from _timed(target.encode(None))


def _frames(packets: Iterable[Packet[AudioStream]]) -> Iterator[av.AudioFrame]:
    for packet in packets:
        try:
            yield from packet.decode()
        except av.FFmpegError:  # a damaged packet is a gap in the sound
            continue


def _timed(packets: Iterable[Packet[Any]]) -> Iterator[Timed]:
    return ((float((packet.dts or 0) * packet.time_base), packet) for packet in packets)
