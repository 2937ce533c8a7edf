"""Encode frames as H.264 into an MP4 that plays at any moment, then finalize it with the audio of its source.

While frames arrive, the file is a fragmented MP4: a killed program leaves a video that plays. `finalize_video` copies
its packets into a regular MP4 with the index first, as browsers want it, and multiplexes the audio.
"""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
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
    "MAX_FRAME_DURATION_S",
    "MIN_FRAME_DURATION_S",
    "AudioTrack",
    "FragmentedMp4",
    "available_encoders",
    "finalize_video",
    "is_playable",
]

TICKS_PER_SECOND = 90000
"""Unit of timestamps, in which 24, 25, 30 and 60 frames per second, and 30000/1001, are exact."""

MIN_FRAME_DURATION_S = 1 / TICKS_PER_SECOND
MAX_FRAME_DURATION_S = 6 * 3600.0
"""FFmpeg writes durations of up to 31 bits into an MP4: 6.6 hours of these ticks."""

MAX_ENCODER_RATE = 1000.0
"""Frame rate that the encoder is given, for its key frames and levels; timestamps are not bound by it."""

H264_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "h264_nvenc", "h264_qsv", "h264_amf")
"""H.264 encoders, the best first; builds of PyAV list those of graphics cards even if they cannot open them."""

FRAGMENTED_MP4_OPTIONS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1000000", "flush_packets": "1"}
KEYFRAME_INTERVAL_S = 2
BT709 = 1
LIMITED_RANGE = 1
BITS_PER_PIXEL = 0.12
"""Bit rate of encoders that have no constant quality."""

COPYABLE_CODECS = ("aac", "mp3", "mp3float")
"""Audio that browsers play in MP4 as it is; other audio is encoded as AAC."""

AAC_SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

TimedPacket: TypeAlias = "tuple[float, Packet[Any]]"
"""A packet and its decoding time in seconds."""


class FragmentedMp4:
    """Encode images into a fragmented MP4: H.264, yuv420p, BT.709; odd sizes get one more row or column.

    A killed program loses the last second and what the encoder has buffered; the rest plays.

    Args:
        size: (height, width) in pixels.
        crf: Quality, from 0 (best) to 51 (worst).
        pixel_aspect: Width of a pixel by its height, for players.

    Example:
        >>> video = FragmentedMp4(Path("clip.part.mp4"), size=(480, 640), fps=30.0, crf=20)  # doctest: +SKIP
        >>> video.add_frame(rgb, timestamp=0.0)  # doctest: +SKIP
        >>> video.close(last_duration=1 / 30)  # doctest: +SKIP

    Raises:
        OutputError: if no H.264 encoder opens, or the file cannot be written.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], fps: float, crf: int, pixel_aspect: Fraction | float = 1.0
    ) -> None:
        self.path = path
        fps = min(max(fps, 1 / MAX_FRAME_DURATION_S), MAX_ENCODER_RATE)
        self._pending_packet: Packet[VideoStream] | None = None
        failures = []
        for name in available_encoders():
            try:
                container = av.open(path, "w", format="mp4", options=FRAGMENTED_MP4_OPTIONS)
            except av.FFmpegError as error:
                raise _ffmpeg_write_error(path, error) from error
            stream = container.add_stream(name, rate=Fraction(fps).limit_denominator(1001) or 1)
            assert isinstance(stream, VideoStream)
            _configure_encoder(stream, size, fps, crf)
            if pixel_aspect != 1:
                stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect).limit_denominator(65535)
            try:
                stream.codec_context.open()
                self._container, self._stream = container, stream
                return
            except (av.FFmpegError, ValueError) as error:
                failures.append(f"{name}: {error}")
                container.close()
        path.unlink(missing_ok=True)
        height, width = _even_size(size)
        raise OutputError(
            f"no H.264 encoder opens for {width}x{height} pixels ({'; '.join(failures)}): track a smaller video, or "
            "save png or coco"
        )

    def add_frame(self, rgb: npt.NDArray[np.uint8], timestamp: float) -> None:
        """Write an (H, W, 3) RGB image that is shown from `timestamp` seconds on; timestamps must increase.

        Raises:
            OutputError: if the file cannot be written; what was written before stays.
        """
        height, width = rgb.shape[:2]
        even_height, even_width = _even_size((height, width))
        even = np.pad(rgb, ((0, even_height - height), (0, even_width - width), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = round(timestamp * TICKS_PER_SECOND), Fraction(1, TICKS_PER_SECOND)
        self._encode(frame)

    def close(self, last_duration: float) -> None:
        """Flush the encoder and close the file; the last image is shown for `last_duration` seconds.

        Raises:
            OutputError: if the file cannot be written; what was written before stays.
        """
        try:
            self._encode(None)
            if self._pending_packet is not None:
                self._mux_pending(round(last_duration * TICKS_PER_SECOND))
        finally:
            try:
                self._container.close()
            except av.FFmpegError as error:
                raise _ffmpeg_write_error(self.path, error) from error

    def abort(self) -> None:
        """Close the file as it is, after a write failed."""
        try:
            self._container.close()
        except av.FFmpegError:  # the failed write was already reported
            return

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Encode a frame, or flush the encoder; a packet waits for the next, which tells how long it is shown."""
        try:
            for packet in self._stream.encode(frame):
                if self._pending_packet is not None and self._pending_packet.dts is not None and packet.dts is not None:
                    self._mux_pending(packet.dts - self._pending_packet.dts)
                self._pending_packet = packet
        except av.FFmpegError as error:
            raise _ffmpeg_write_error(self.path, error) from error

    def _mux_pending(self, duration: int) -> None:
        assert self._pending_packet is not None
        self._pending_packet.duration = duration
        self._container.mux(self._pending_packet)
        self._pending_packet = None


def available_encoders() -> list[str]:
    """Return the H.264 encoders that this build of PyAV lists, the best first.

    Raises:
        OutputError: if there is none.
    """
    names = [name for name in H264_ENCODERS if name in av.codecs_available]
    if not names:
        raise OutputError(
            f"this build of PyAV {av.__version__} has no H.264 encoder ({', '.join(H264_ENCODERS)}): install the wheel "
            "from PyPI with 'pip install --force-reinstall av', or save png or coco"
        )
    return names


def is_playable(path: Path) -> bool:
    """Whether a video file has at least one image."""
    try:
        with av.open(path) as video:
            return any(not packet.is_corrupt for packet in _valid_packets(video, video.streams.video[0]))
    except (av.FFmpegError, IndexError):
        return False


@dataclass(frozen=True)
class AudioTrack:
    """The audio of the file `source` from `start` to `stop`, in seconds of the clock that players show."""

    source: str | os.PathLike[str]
    start: float
    stop: float


def finalize_video(partial_path: Path, path: Path, audio: AudioTrack | None) -> None:
    """Copy a fragmented video to `path` with its index first, and multiplex the audio.

    If the audio cannot be read, the video is silent and a MaskletWarning says why.

    Raises:
        OutputError: if the file cannot be written; the file `partial_path` stays.
    """
    if audio is not None and os.path.isfile(audio.source):
        try:
            with av.open(os.fspath(audio.source)) as source, atomic_path(path) as temporary:
                _mux(partial_path, temporary, lambda out: _audio_packets(source, out, audio))
            return
        except (av.FFmpegError, ValueError) as error:  # not OutputError: a full disk is full without audio
            warnings.warn(
                f"the audio of {os.fspath(audio.source)!r} cannot be kept ({error}); {path} is silent: convert the "
                "audio to AAC, or switch audio off",
                MaskletWarning,
                stacklevel=2,
            )
    try:
        with atomic_path(path) as temporary:
            _mux(partial_path, temporary, lambda out: iter(()))
    except av.FFmpegError as error:
        raise _ffmpeg_write_error(path, error) from error


def _mux(partial_path: Path, path: Path, open_audio: Callable[[OutputContainer], Iterator[TimedPacket]]) -> None:
    with av.open(partial_path) as video, av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as out:
        source = video.streams.video[0]
        target = out.add_stream_from_template(source)
        images = _remux(target, (packet for packet in _valid_packets(video, source) if not packet.is_corrupt))
        for _, packet in heapq.merge(images, open_audio(out), key=itemgetter(0)):
            out.mux(packet)


def _audio_packets(source: InputContainer, out: OutputContainer, audio: AudioTrack) -> Iterator[TimedPacket]:
    """The audio packets of the source on the clock of the video, copied or encoded as AAC."""
    if not source.streams.audio:
        return iter(())
    stream = source.streams.audio[0]
    start = audio.start + (source.start_time or 0) / av.time_base
    stop = start + audio.stop - audio.start
    if audio.start > 1:
        source.seek(int(start * av.time_base))
    packets = _valid_packets(source, stream)
    if stream.codec_context.name in COPYABLE_CODECS:
        return _remux(out.add_stream_from_template(stream), _trim_packets(packets, start, stop))
    rate = stream.codec_context.sample_rate
    target = out.add_stream("aac", rate=rate if rate in AAC_SAMPLE_RATES else 48000)
    assert isinstance(target, AudioStream)
    target.codec_context.layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    return _encode_aac(packets, target, start, stop)


def _valid_packets(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """Packets with data and timestamps, up to the first read error."""
    try:
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                yield packet
    except av.FFmpegError:  # a truncated file ends here
        return


def _remux(target: Stream, packets: Iterable[Packet[Any]]) -> Iterator[TimedPacket]:
    """Move packets to another file; the muxer wants increasing timestamps."""
    before = None
    for packet in packets:
        assert packet.dts is not None
        if before is None or packet.dts > before:
            before = packet.dts
            packet.stream = target
            yield float(packet.dts * packet.time_base), packet


def _trim_packets(packets: Iterable[Packet[Any]], start: float, stop: float) -> Iterator[Packet[Any]]:
    """Packets played between `start` and `stop`, shifted to begin at 0; one more at the front, as AAC needs it."""
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


def _encode_aac(
    packets: Iterable[Packet[AudioStream]], target: AudioStream, start: float, stop: float
) -> Iterator[TimedPacket]:
    """Encode the audio between `start` and `stop` as AAC, shifted to begin at 0."""

    def frames() -> Iterator[av.AudioFrame]:
        for packet in packets:
            try:
                yield from packet.decode()
            except av.FFmpegError:  # a damaged packet is a gap in the audio
                continue

    def encode(frame: av.AudioFrame | None) -> Iterator[TimedPacket]:
        for packet in target.encode(frame):
            yield float((packet.dts or 0) * packet.time_base), packet

    for frame in frames():
        if frame.pts is not None and frame.time_base is not None and start <= frame.pts * frame.time_base + 1e-6 < stop:
            frame.pts -= round(start / frame.time_base)
            yield from encode(frame)
    yield from encode(None)


def _even_size(size: tuple[int, int]) -> tuple[int, int]:
    """Round (height, width) up to even numbers, as yuv420p needs them."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _configure_encoder(stream: VideoStream, size: tuple[int, int], fps: float, crf: int) -> None:
    context = stream.codec_context
    context.height, context.width = _even_size(size)
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, TICKS_PER_SECOND)
    context.gop_size = max(1, round(KEYFRAME_INTERVAL_S * fps))
    context.max_b_frames = 0  # timestamps are then in order, and a fragment needs none of the next
    context.color_range = LIMITED_RANGE
    context.colorspace = context.color_primaries = context.color_trc = BT709
    if context.name == "libx264":
        context.options = {"crf": str(crf), "preset": "veryfast"}
    else:
        context.bit_rate = round(context.height * context.width * fps * BITS_PER_PIXEL)


def _ffmpeg_write_error(path: Path, error: av.FFmpegError) -> OutputError:
    return write_error(path, error if isinstance(error, OSError) else OSError(str(error)))
