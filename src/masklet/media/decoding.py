"""What film files and streams share: opening with FFmpeg, choosing the picture stream, upright RGB pixels."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import av
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from masklet.errors import SourceError
from masklet.media.pictures import Pixels

__all__ = ["Opened", "decoded", "open_container", "opened_film", "picture_stream", "upright_rgb"]

Opened = tuple[InputContainer, VideoStream]

# FFmpeg shows plain text as a film of a terminal; nobody means that.
_NO_FILMS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
_ATTACHED_PICTURE = 0x400


def open_container(name: str, timeout: tuple[float, float] | None = None, **options: str) -> InputContainer:
    """FFmpeg's reader for `name`, a path after `file:` or an address; raises av.FFmpegError."""
    container = av.open(name, metadata_errors="replace", timeout=timeout, options=options)
    assert isinstance(container, InputContainer)
    return container


def picture_stream(container: InputContainer, path: str) -> VideoStream:
    """The stream with the pictures; raises SourceError where there is none, or no decoder for it."""
    if container.format.name in _NO_FILMS:
        raise SourceError(f"{path!r} is text, not a film; give a film such as MP4, MKV, MOV, AVI or WebM")
    # A song's cover is a video stream of one picture for FFmpeg.
    films = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PICTURE]
    if not films:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(
            f"{path!r} has no video stream (it is {container.format.name} and holds {kinds}); "
            "a film has pictures: check that it is the right file"
        )
    stream = films[0]
    if getattr(stream, "codec_context", None) is None:
        raise SourceError(
            f"{path!r} is packed in a way this FFmpeg has no decoder for; "
            "convert it: ffmpeg -i FILM -c:v libx264 film.mp4"
        )
    # Only then is a frame whose damage was painted over marked as such, and errors belong to their packet.
    stream.thread_type = "NONE"
    return stream


def decoded(stream: VideoStream, packet: Packet[VideoStream] | None) -> Iterator[VideoFrame | None]:
    """The frames that come out when `packet` (None: the flush) goes in; None for one that is damaged."""
    try:
        frames = stream.decode(packet)
    except av.FFmpegError:
        yield None
        return
    for frame in frames:
        yield None if frame.is_corrupt else frame


def upright_rgb(frame: VideoFrame) -> Pixels:
    """Pixels as they are to be shown: RGB uint8 (H, W, 3), the film's rotation and mirroring applied."""
    rgb = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return np.ascontiguousarray(_turned(rgb, _display_matrix(frame)))


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of x' = a x + c y, y' = b x + d y, y downwards; None where the film stands upright."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = struct.unpack_from("5i", memoryview(cast(Buffer, data)))
    return a, b, c, d


def _turned(rgb: Pixels, matrix: tuple[int, int, int, int] | None) -> Pixels:
    """By quarter turns and mirrors; a tilt between them has no pixels of its own and goes to the nearest."""
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb = rgb.transpose(1, 0, 2)
        flip_x, flip_y = c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _local_name(path: str) -> str:
    """A path as FFmpeg takes it: without this `take 1: dog.mp4` would be an address."""
    return "file:" + os.path.abspath(path)


@contextmanager
def opened_film(path: str) -> Iterator[Opened]:
    """The film file `path`, open while the block lasts; raises SourceError where it cannot be read.

    Example:
        >>> with opened_film("clip.mp4") as (container, stream):  # doctest: +SKIP
        ...     print(stream.average_rate)
    """
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
        container = open_container(_local_name(path))
    except (av.FFmpegError, UnicodeError) as cause:
        raise SourceError(f"{path!r} cannot be read as a film: {_why(head, cause)}") from cause
    with container:
        yield container, picture_stream(container, path)


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
