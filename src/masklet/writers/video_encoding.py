"""The finished video: the part that was written, put in order for browsers, with the sound of its source.

A video while it is being written: H.264 in an MP4 made of fragments, which plays as far as it goes.
"""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from masklet.atomic_files import atomic_path
from masklet.errors import MaskletWarning, OutputError
from masklet.writers.append_file import write_error

__all__ = [
    "H264_ENCODERS",
    "TICKS_PER_SECOND",
    "AudioTrack",
    "FragmentedMp4",
    "available_encoders",
    "ffmpeg_write_error",
    "finalize_video",
    "is_playable",
]

COPYABLE_CODECS = ("aac", "mp3", "mp3float")
"""Sound that browsers play in MP4 as it is; all other is encoded as AAC."""

AAC_SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
MOST_CHANNELS = 2

TimedPacket: TypeAlias = "tuple[float, Packet[Any]]"


@dataclass(frozen=True)
class AudioTrack:
    """The sound of `source` from `start` to `stop`, in seconds of the clock that players show.

    Example:
        >>> Sound("clip.mp4", 2.0, 5.5)
    """

    source: str | os.PathLike[str]
    start: float
    stop: float


def finalize_video(partial_path: Path, path: Path, audio: AudioTrack | None) -> None:
    """Write the video in `part` to `path`, index first, and the sound beside it; the images are copied.

    Sound that cannot be had is named in a MaskletWarning, and the video is silent.

    Example:
        >>> finish_video(Path("clip.part.mp4"), Path("clip.mp4"), Sound("source.mp4", 0.0, 5.5))

    Raises:
        OutputError: the file cannot be written; `part` stays.
    """
    if audio is not None and os.path.isfile(audio.source):
        try:
            with av.open(os.fspath(audio.source)) as source, atomic_path(path) as temporary:
                _mux(partial_path, temporary, lambda out: _audio_packets(source, out, audio))
            return
        except (av.FFmpegError, ValueError) as error:  # not OutputError: a disk that is full is full without sound
            warnings.warn(
                f"the sound of {os.fspath(audio.source)!r} cannot be kept ({error}); {path} is silent: convert the "
                "sound to AAC, or leave audio out",
                MaskletWarning,
                stacklevel=2,
            )
    try:
        with atomic_path(path) as temporary:
            _mux(partial_path, temporary, lambda out: iter(()))
    except av.FFmpegError as error:
        raise ffmpeg_write_error(path, error) from error


def is_playable(path: Path) -> bool:
    """Whether a video has at least one image.

    Example:
        >>> plays(Path("clip.part.mp4"))
        True
    """
    try:
        with av.open(path) as video:
            return any(not packet.is_corrupt for packet in _valid_packets(video, video.streams.video[0]))
    except (av.FFmpegError, IndexError):
        return False


def _mux(partial_path: Path, path: Path, open_audio: Callable[[OutputContainer], Iterator[TimedPacket]]) -> None:
    with av.open(partial_path) as video, av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        images = _video_packets(video, out)
        for _, packet in heapq.merge(images, open_audio(out), key=_timestamp):
            out.mux(packet)


def _timestamp(item: TimedPacket) -> float:
    return item[0]


def _video_packets(video: InputContainer, out: OutputContainer) -> Iterator[TimedPacket]:
    """The packets of the video; where a fragment was cut they end."""
    source = video.streams.video[0]
    target = out.add_stream_from_template(source)
    return _remux(target, (packet for packet in _valid_packets(video, source) if not packet.is_corrupt))


def _audio_packets(source: InputContainer, out: OutputContainer, audio: AudioTrack) -> Iterator[TimedPacket]:
    """The packets of the source's sound, copied or encoded, on the clock of the video."""
    if not source.streams.audio:
        return iter(())
    stream = source.streams.audio[0]
    start = audio.start + (source.start_time or 0) / av.time_base
    stop = start + audio.stop - audio.start
    if audio.start > 1:
        source.seek(int(start * av.time_base))
    packets = _valid_packets(source, stream)
    if stream.codec_context.name in COPYABLE_CODECS:
        target = out.add_stream_from_template(stream)
        return _remux(target, _trim_packets(packets, start, stop))
    return _encode_aac(packets, _add_aac_stream(out, stream), start, stop)


def _valid_packets(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """Packets with data and a time; where reading breaks off they end."""
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                yield packet
    except av.FFmpegError:  # the images or the sound end here
        return


def _remux(target: Stream, packets: Iterable[Packet[Any]]) -> Iterator[TimedPacket]:
    """Packets as they are, for another file; the muxer wants their times to rise."""
    before = None
    for packet in packets:
        assert packet.dts is not None
        if before is None or packet.dts > before:
            before = packet.dts
            packet.stream = target
            yield float(packet.dts * packet.time_base), packet


def _trim_packets(packets: Iterable[Packet[Any]], start: float, stop: float) -> Iterator[Packet[Any]]:
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


def _add_aac_stream(out: OutputContainer, stream: AudioStream) -> AudioStream:
    rate = stream.codec_context.sample_rate
    target = out.add_stream("aac", rate=rate if rate in AAC_SAMPLE_RATES else 48000)
    assert isinstance(target, AudioStream)
    target.codec_context.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    return target


def _encode_aac(
    packets: Iterable[Packet[Any]], target: AudioStream, start: float, stop: float
) -> Iterator[TimedPacket]:
    """The sound between `start` and `stop` as AAC, from 0 on."""
    for frame in _decode_audio(packets):
        if frame.pts is not None and frame.time_base is not None and start <= frame.pts * frame.time_base + 1e-6 < stop:
            frame.pts -= round(start / frame.time_base)
            yield from _with_timestamps(target.encode(frame))
    yield from _with_timestamps(target.encode(None))


def _decode_audio(packets: Iterable[Packet[AudioStream]]) -> Iterator[av.AudioFrame]:
    for packet in packets:
        try:
            yield from packet.decode()
        except av.FFmpegError:  # a damaged packet is a gap in the sound
            continue


def _with_timestamps(packets: Iterable[Packet[Any]]) -> Iterator[TimedPacket]:
    return ((float((packet.dts or 0) * packet.time_base), packet) for packet in packets)


Pixels = npt.NDArray[np.uint8]

TICKS_PER_SECOND = 90000
"""Parts of a second in which times are written: 24, 25, 30 and 60 frames a second, and 30000/1001, are exact."""

H264_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "h264_nvenc", "h264_qsv", "h264_amf")
"""H.264 encoders, the best first; those of graphics cards are listed by builds that cannot open them."""

FRAGMENTED_MP4_OPTIONS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1000000", "flush_packets": "1"}
KEYFRAME_INTERVAL_S = 2
BT709 = 1
LIMITED_RANGE = 1
BITS_PER_PIXEL = 0.12
"""For encoders that know no constant quality."""


class FragmentedMp4:
    """An H.264 video, yuv420p, BT.709, with one image after the other; odd sizes get one more row or column.

    A killed program loses the last second and what the encoder still holds; the rest plays.

    Example:
        >>> part = VideoPart(Path("out/clip_overlay.part.mp4"), size=(480, 640), fps=30.0, crf=20)
        >>> part.add(rgb, seconds=0.0)
        >>> part.close(last=1 / 30)

    Raises:
        OutputError: no H.264 encoder opens, or the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, crf: int) -> None:
        self.path = path
        self._pending_packet: Packet[VideoStream] | None = None
        height, width = (side + side % 2 for side in size)
        self._container, self._stream = _open_output(path, (height, width), fps, crf)

    def add_frame(self, rgb: Pixels, timestamp: float) -> None:
        """Write an (H, W, 3) RGB image that is shown from `seconds` on; every one is later than the one before.

        Raises:
            OutputError: the file cannot be written; what was written before stays.
        """
        frame = av.VideoFrame.from_ndarray(_even(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = round(timestamp * TICKS_PER_SECOND), Fraction(1, TICKS_PER_SECOND)
        self._encode(frame)

    def close(self, last_duration: float) -> None:
        """Write what the encoder still holds; the last image is shown for `last` seconds.

        Raises:
            OutputError: the file cannot be written; what was written before stays.
        """
        try:
            self._encode(None)
            if self._pending_packet is not None:
                self._mux(round(last_duration * TICKS_PER_SECOND))
        finally:
            try:
                self._container.close()
            except av.FFmpegError as error:
                raise ffmpeg_write_error(self.path, error) from error

    def abort(self) -> None:
        """Close the file as it is, after it could not be written."""
        try:
            self._container.close()
        except av.FFmpegError:  # said when it happened first
            return

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                if self._pending_packet is not None and self._pending_packet.dts is not None and packet.dts is not None:
                    self._mux(packet.dts - self._pending_packet.dts)
                self._pending_packet = packet
        except av.FFmpegError as error:
            raise ffmpeg_write_error(self.path, error) from error

    def _mux(self, duration: int) -> None:
        """Write the packet in hand, now that it is known how long its image is shown."""
        assert self._pending_packet is not None
        self._pending_packet.duration = duration
        self._container.mux(self._pending_packet)
        self._pending_packet = None


def available_encoders() -> list[str]:
    """The H.264 encoders that this build of PyAV lists, the best first.

    Example:
        >>> known_encoders()
        ['libx264', 'h264_nvenc']

    Raises:
        OutputError: it has none.
    """
    names = [name for name in H264_ENCODERS if name in av.codecs_available]
    if not names:
        raise OutputError(
            f"this build of PyAV {av.__version__} has no H.264 encoder ({', '.join(H264_ENCODERS)}): install the wheel "
            "from PyPI with 'pip install --force-reinstall av', or save png or coco"
        )
    return names


def ffmpeg_write_error(path: Path, error: av.FFmpegError) -> OutputError:
    """The OutputError for a video that FFmpeg cannot go on writing."""
    return write_error(path, error if isinstance(error, OSError) else OSError(str(error)))


def _open_output(path: Path, size: tuple[int, int], fps: float, crf: int) -> tuple[OutputContainer, VideoStream]:
    """The file and its stream with the first encoder that opens."""
    refused = []
    for name in available_encoders():
        try:
            container = av.open(path, "w", format="mp4", options=FRAGMENTED_MP4_OPTIONS)
        except av.FFmpegError as error:
            raise ffmpeg_write_error(path, error) from error
        stream = container.add_stream(name, rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, VideoStream)
        _configure_stream(stream, size, fps, crf)
        try:
            stream.codec_context.open()
            return container, stream
        except (av.FFmpegError, ValueError) as error:
            refused.append(f"{name}: {error}")
            container.close()
    path.unlink(missing_ok=True)
    raise OutputError(
        f"no H.264 encoder opens for {size[1]}x{size[0]} pixels ({'; '.join(refused)}): track a smaller video, or save "
        "png or coco"
    )


def _configure_stream(stream: VideoStream, size: tuple[int, int], fps: float, crf: int) -> None:
    context = stream.codec_context
    context.height, context.width = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, TICKS_PER_SECOND)
    context.gop_size = max(1, round(KEYFRAME_INTERVAL_S * fps))
    context.max_b_frames = 0  # times are then in order, and a fragment needs none of the next
    context.color_range = LIMITED_RANGE
    context.colorspace = context.color_primaries = context.color_trc = BT709
    if context.name == "libx264":
        context.options = {"crf": str(crf), "preset": "veryfast"}
    else:
        context.bit_rate = round(size[0] * size[1] * fps * BITS_PER_PIXEL)


def _even(rgb: Pixels) -> Pixels:
    """(H, W, 3) with one more row or column, the same as the last, where H or W is odd."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb)
