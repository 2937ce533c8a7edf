"""Decode videos with FFmpeg: open them, index their frames from packets alone, and decode from any frame.

Frame numbers are positions in presentation order. A frame has the same number and the same pixels whether the video is
read from the beginning, from the middle or backward, and frames that cannot be decoded keep their number.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from masklet.damaged_files import check_regular_file, damage_errors, decoder_errors, describe_error
from masklet.errors import SourceError
from masklet.media.image import Pixels, check_image_size

__all__ = [
    "FrameIndex",
    "NumberedFrame",
    "OpenedVideo",
    "VideoOpener",
    "build_frame_index",
    "color_note",
    "decode_from",
    "decode_packet",
    "frame_rate",
    "is_quarter_turned",
    "iter_packets",
    "open_container",
    "open_video_file",
    "select_video_stream",
    "upright_rgb",
]

# Formats whose header states the duration; in others FFmpeg estimates it from the packets.
_FORMATS_WITH_DURATION = ("matroska", "webm", "flv")
_DURATION_TOLERANCE = 0.02
# FFmpeg shows plain text as a video of a terminal, which is never intended.
_TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
_ATTACHED_PIC = 0x400
_JPEG_END = b"\xff\xd9"
MAX_FRAME_RATE = 100_000.0
"""Frames per second; more is made up by a damaged header, and no camera's rate."""
_BT2020 = 9
_UNSPECIFIED = 2
_NEAREST_MATRIX = {8: 1, 10: _BT2020, 11: _BT2020, 12: _BT2020, 13: _BT2020, 14: _BT2020}
_MATRIX_NAMES = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "YDzDx",
    12: "derived from its primaries",
    13: "derived from its primaries, with constant luminance",
    14: "ICtCp",
}
"""Color matrices of H.273 that FFmpeg's scaler does not convert, and the nearest one that it does."""
_HDR_CURVES = {16: "PQ", 18: "HLG"}

OpenedVideo = tuple[InputContainer, VideoStream]
VideoOpener = Callable[[], AbstractContextManager[OpenedVideo]]
NumberedFrame = tuple[int, VideoFrame | None]


@dataclass(frozen=True)
class FrameIndex:
    """Presentation times of all frames, in ticks of the stream.

    Example:
        >>> FrameIndex((0, 512, 1024), (0,), 3).frame_number(512)
        1
    """

    pts: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    """Times at which decoding can begin."""
    declared_frames: int | None
    """The number of frames stated by the header of a video that is cut short; None: it is complete."""

    def frame_number(self, pts: int) -> int:
        """Return the number of the frame shown at `pts`; -1 before the first."""
        return bisect_right(self.pts, pts) - 1

    def decode_start(self, number: int, earlier: int = 0) -> int:
        """Return the key frame at which to begin decoding for frame `number`, or one `earlier` key frames before."""
        at = bisect_right(self.keyframe_pts, self.pts[number]) - 1 - earlier
        return self.frame_number(self.keyframe_pts[at]) if at > 0 else 0

    def next_keyframe(self, number: int) -> int:
        """Return the first key frame after `number`; the number of frames if there is none."""
        at = bisect_right(self.keyframe_pts, self.pts[number])
        return self.frame_number(self.keyframe_pts[at]) if at < len(self.keyframe_pts) else len(self.pts)


def iter_packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream] | None]:
    """Read packets with data in decoding order, then None to flush, also where reading fails."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except damage_errors():  # the missing frames show in the count
        pass
    yield None


def build_frame_index(container: InputContainer, stream: VideoStream) -> tuple[FrameIndex | None, int | None]:
    """Index the frames from packets, and return the number of frames that the header states.

    Reads the file once. The index is None where packets carry no usable times. A recording that begins in the middle
    of a group begins at its first key frame.
    """
    declared = stream.frames or None
    if declared is not None and not 0 < declared <= max(1, container.size):  # a frame has a byte at least
        declared = None
    entries = getattr(stream, "index_entries", None) if "mp4" in container.format.name else None
    if entries is not None and len(entries):  # an MP4 knows its frames after its edit list is applied
        declared = len(entries)
    times: list[int] = []
    keys: list[int] = []
    total = 0
    end = read_until = 0
    is_cut = False
    hidden_vp8 = stream.codec_context.name == "vp8"
    if "avi" in container.format.name and stream.codec_context.has_b_frames:
        return None, declared  # AVI stores no times, only an order, and that is the decoder's
    for packet in iter_packets(container, stream):
        if packet is None:
            break
        total += 1
        read_until = (packet.pos or 0) + packet.size
        is_cut = container.format.name == "mjpeg" and bytes(memoryview(packet)[-2:]) != _JPEG_END
        if packet.is_discard or (hidden_vp8 and not memoryview(packet)[0] & 0x10):
            continue
        if packet.pts is None:
            return None, declared
        if packet.is_keyframe:
            keys.append(packet.pts)
        times.append(packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
    shown = sorted(time for time in times if not keys or time >= keys[0])
    if not shown or len(set(shown)) < len(shown):
        return None, declared
    missing = _missing_frames(container, stream, end, total, declared)
    if container.format.name == "yuv4mpegpipe" and read_until < container.size:  # FFmpeg drops half a frame silently
        missing = total + 1
    elif is_cut and len(shown) > 1:  # half a JPEG decodes without an error, to gray below
        shown.pop()
        missing = total
    return FrameIndex(tuple(shown), tuple(sorted(keys)), missing), declared


def _missing_frames(
    container: InputContainer, stream: VideoStream, end: int, total: int, declared: int | None
) -> int | None:
    """Return how many frames there should be, if the header states clearly more than the `total` packets read.

    It states a number of frames, or else a duration, which is compared with the `end` of the last packet.
    """
    if declared is not None:
        tolerance = 0 if "mp4" in container.format.name else max(1, _DURATION_TOLERANCE * declared)
        return declared if declared - total > tolerance else None
    seconds, rate = _declared_duration(container, stream), frame_rate(stream)
    if seconds is None or rate is None or stream.time_base is None:
        return None
    if seconds * rate > max(1, container.size):  # a duration made up by a damaged header
        return None
    if seconds - float(end * stream.time_base) <= max(0.5, _DURATION_TOLERANCE * seconds):
        return None
    return max(total + 1, round(seconds * rate))


def _declared_duration(container: InputContainer, stream: VideoStream) -> float | None:
    if not any(name in container.format.name for name in _FORMATS_WITH_DURATION):
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


def open_container(name: str, timeout: tuple[float, float] | None = None, **options: str) -> InputContainer:
    """Open FFmpeg's reader for `name`, a path after `file:` or a URL; raises av.FFmpegError."""
    container = av.open(name, metadata_errors="replace", timeout=timeout, options=options)
    assert isinstance(container, InputContainer)
    return container


def select_video_stream(container: InputContainer, path: str) -> VideoStream:
    """Return the stream that holds the video.

    Raises:
        SourceError: if there is none, or no decoder for it.
    """
    if container.format.name in _TEXT_FORMATS:
        raise SourceError(f"{path!r} is text, not a video; give a video such as MP4, MKV, MOV, AVI or WebM")
    # A song's cover is a video stream of one image for FFmpeg.
    videos = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PIC]
    if not videos:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(
            f"{path!r} has no video stream (it is {container.format.name} and holds {kinds}); "
            "a video has images: check that it is the right file"
        )
    stream = videos[0]
    if getattr(stream, "codec_context", None) is None:
        raise SourceError(
            f"{path!r} is packed in a way this FFmpeg has no decoder for; "
            "convert it: ffmpeg -i VIDEO -c:v libx264 video.mp4"
        )
    check_image_size(stream.width, stream.height, path)
    # With threads, concealed damage is not reported, and errors do not belong to their packet.
    stream.thread_type = "NONE"
    return stream


def decode_packet(stream: VideoStream, packet: Packet[VideoStream] | None) -> Iterator[VideoFrame | None]:
    """Decode a packet (None: flush the decoder); a damaged frame is None."""
    try:
        frames = stream.decode(packet)
    except decoder_errors():
        yield None
        return
    for frame in frames:
        yield None if frame.is_corrupt else frame


def frame_rate(stream: VideoStream) -> float | None:
    """Return the frames per second that the header or FFmpeg's estimate gives; None: none that can be."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and 0 < rate <= MAX_FRAME_RATE:
            return float(rate)
    return None


def color_note(frame: VideoFrame, path: str) -> str | None:
    """Describe what the conversion to RGB leaves out of the colors of a frame: HDR, or a matrix without support."""
    matrix, curve = int(frame.colorspace), _HDR_CURVES.get(int(getattr(frame, "color_trc", _UNSPECIFIED)))
    parts = []
    if curve is not None:
        parts.append(f"is HDR ({curve}) and is converted without tone mapping, so that it looks flat")
    if matrix in _NEAREST_MATRIX:
        nearest = "BT.2020" if _NEAREST_MATRIX[matrix] == _BT2020 else "BT.709"
        parts.append(f"has the color matrix {_MATRIX_NAMES[matrix]} and is converted with the nearest, {nearest}")
    if not parts:
        return None
    return f"{path!r} {' and '.join(parts)}: convert it to BT.709 first if its colors matter"


def is_quarter_turned(frame: VideoFrame) -> bool:
    """Whether the video's rotation exchanges width and height."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False
    a, b, _, c, d = struct.unpack_from("5i", memoryview(cast(Buffer, data)))
    return bool(abs(a) + abs(d) < abs(b) + abs(c))


def upright_rgb(frame: VideoFrame, path: str) -> Pixels:
    """Convert a frame to RGB uint8 (H, W, 3), with the video's rotation and mirroring applied.

    Only quarter turns are applied: a tilt between them is rounded to the nearest.

    Raises:
        SourceError: if the frame cannot be converted.
    """
    try:
        rgb = frame.to_ndarray(format="rgb24")
    except decoder_errors():
        frame.colorspace = _NEAREST_MATRIX.get(int(frame.colorspace), _UNSPECIFIED)
        for tag in ("color_primaries", "color_trc"):
            if hasattr(frame, tag):
                setattr(frame, tag, _UNSPECIFIED)
        try:
            rgb = frame.to_ndarray(format="rgb24")
        except decoder_errors() as cause:
            raise SourceError(
                f"{path!r}: a frame of the pixel format {frame.format.name} cannot be converted to RGB "
                f"({describe_error(cause)}); convert the video first: ffmpeg -i VIDEO -pix_fmt yuv420p video.mp4"
            ) from cause
    rgb = rgb.astype(np.uint8, copy=False)
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.ascontiguousarray(rgb)
    a, b, _, c, d = struct.unpack_from("5i", memoryview(cast(Buffer, data)))  # x' = a x + c y, y' = b x + d y
    if is_quarter_turned(frame):
        rgb = rgb.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


@contextmanager
def open_video_file(path: str) -> Iterator[OpenedVideo]:
    """Open a video file while the block lasts.

    Raises:
        SourceError: if it cannot be read.

    Example:
        >>> with open_video_file("clip.mp4") as (container, stream):  # doctest: +SKIP
        ...     print(stream.average_rate)
    """
    check_regular_file(path, "video")
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as cause:
        raise SourceError(
            f"cannot read {path!r}: {cause.strerror or cause}; a readable video is needed: check its permissions"
        ) from cause
    try:
        # without "file:", a path such as `take 1: dog.mp4` would be a URL
        container = open_container("file:" + os.path.abspath(path))
    except damage_errors() as cause:
        raise SourceError(f"{path!r} cannot be read as a video: {_open_error_hint(head, cause)}") from cause
    with container:
        yield container, select_video_stream(container, path)


def _open_error_hint(head: bytes, cause: Exception) -> str:
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return (
            f"it begins like MP4 or MOV, but its index is missing or damaged ({getattr(cause, 'strerror', cause)}), "
            "as when a recording or a copy was cut short: copy it again"
        )
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page; download the video itself"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the video"
    return (
        f"it begins with {head[:12]!r}, which is no video or image FFmpeg knows; "
        "give a video such as MP4, MKV, MOV, AVI or WebM, or a folder of images"
    )


def decode_from(opener: VideoOpener, frame_index: FrameIndex, start: int) -> Generator[NumberedFrame, None, None]:
    """Decode the frames from `start` to the end with their numbers; damaged ones are left out.

    Some key frames refresh the image over several frames and show none of them. So if `start` does not come, decoding
    begins again at the key frame before.

    Example:
        >>> next(decode_from(opener, frame_index, 250))[0]  # doctest: +SKIP
        250
    """
    key = frame_index.decode_start(start)
    frames = _decode_from_keyframe(opener, frame_index, key)
    first = next((item for item in frames if item[0] >= start), None)
    if key > 0 and (first is None or first[0] > start):
        frames.close()
        frames = _decode_from_keyframe(opener, frame_index, frame_index.decode_start(start, earlier=1))
        first = next((item for item in frames if item[0] >= start), None)
    with closing(frames):
        if first is not None:
            yield first
            yield from frames


def _decode_from_keyframe(
    opener: VideoOpener, frame_index: FrameIndex, key: int
) -> Generator[NumberedFrame, None, None]:
    """Decode from the key frame `key` on (0: from the beginning of the file)."""
    begin = frame_index.pts[key]
    for jump in (True, False) if key > 0 else (False,):
        with opener() as (container, stream):
            if jump:
                try:
                    container.seek(begin, stream=stream, backward=True)
                except damage_errors():  # a damaged index: read from the beginning
                    continue
            started = key == 0
            for packet in iter_packets(container, stream):
                if not started and packet is not None and packet.pts is not None:
                    started = packet.pts == begin
                    if packet.is_keyframe and packet.pts > begin:
                        break  # too far: this container has no index, so read it from the beginning
                if not started:
                    continue
                for frame in decode_packet(stream, packet):
                    if frame is not None and frame.pts is not None:
                        yield frame_index.frame_number(frame.pts), frame
            if started:
                return
