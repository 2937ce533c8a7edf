"""Videos that only go forward: iterators, cameras, and addresses on the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Protocol, cast

from av.container import InputContainer

from masklet.damaged_files import damage_errors
from masklet.errors import SourceError, StateError
from masklet.media.image import AnyArray, Channels, SourceImage, from_array
from masklet.media.image_sequence import read_image_or_warning
from masklet.media.image_source import ImageLike, image_readers
from masklet.media.prefetch import OverflowPolicy, Prefetcher
from masklet.media.video import Frame, FrameOrWarning, FrameWarning, Video, frame_size_error
from masklet.media.video_decoder import (
    color_note,
    decode_packet,
    frame_rate,
    open_container,
    select_video_stream,
    upright_rgb,
)

__all__ = ["StreamInfo", "StreamedVideo", "open_camera", "open_iterator", "open_url"]

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
# These servers send at their own pace, whether the reader keeps up or not.
_LIVE = ("rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
_SCHEMES = ("http", "https", *_LIVE)
_CAP_PROP_FPS = 5
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")


class Capture(Protocol):
    """The methods of OpenCV's VideoCapture that are used."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def read(self) -> tuple[bool, AnyArray]: ...
    def get(self, property: int, /) -> float: ...
    def release(self) -> None: ...


@dataclass(frozen=True)
class StreamInfo:
    """Properties of a video that only goes forward; `release` closes it if it was never read."""

    live: bool = False
    fps: float | None = None
    expected_num_frames: int | None = None
    release: Callable[[], None] | None = None


class StreamedVideo(Video):
    """A video whose frames come once; `frames()` continues where reading stopped.

    Example:
        >>> StreamedVideo(iter([]), "iterator", 4).seekable
        False
    """

    def __init__(
        self,
        items: Iterator[FrameOrWarning],
        path: str,
        prefetch_frames: int,
        on_overflow: OverflowPolicy = "wait",
        info: StreamInfo | None = None,
    ) -> None:
        super().__init__(path, prefetch_frames)
        self._info = info or StreamInfo()
        self.live = self._info.live
        self._on_overflow: OverflowPolicy = on_overflow if self.live else "wait"
        self._items: Iterator[FrameOrWarning] | None = items
        self._prefetcher: Prefetcher[FrameOrWarning] | None = None
        self._buffered_frame: Frame | None = None
        self._size: tuple[int, int] | None = None
        self._position = 0

    @property
    def size(self) -> tuple[int, int]:
        """See Video; waits for the first frame, which `frames()` then yields."""
        if self._size is None:
            self._buffered_frame = self._read_next()
        assert self._size is not None
        return self._size

    @property
    def fps(self) -> float | None:
        """See Video."""
        return self._info.fps

    @property
    def num_frames(self) -> None:
        """Unknown before the end."""
        return

    @property
    def expected_num_frames(self) -> int | None:
        """See Video."""
        return self._info.expected_num_frames

    @property
    def dropped(self) -> int:
        """See Video."""
        return 0 if self._prefetcher is None else self._prefetcher.dropped

    def frames(self, start: int | None = None, stop: int | None = None, *, reverse: bool = False) -> Iterator[Frame]:
        """See Video; frames before `start` are read and skipped."""
        self._check_open()
        if reverse:
            raise self._forward_only_error("going backwards")
        if start is not None and start < self._position:
            raise self._forward_only_error(f"frame {start} again, after frame {self._position - 1}")
        return self._iterate(start or 0, stop)

    def __getitem__(self, index: int) -> Frame:
        """Refuse: raises StateError, as frames come once and in order."""
        raise self._forward_only_error(f"frame {index} by its number")

    def close(self) -> None:
        """See Video."""
        super().close()
        if self._prefetcher is None and self._items is not None and self._info.release is not None:
            self._info.release()
        self._items = None
        self._buffered_frame = None

    def _forward_only_error(self, what: str) -> StateError:
        return StateError(
            f"{self.path!r}: {what} is not available; the frames of an iterator, a camera or a stream come once "
            "and in order: save it as a video first, or pass a file, a folder, a list or an array"
        )

    def _iterate(self, start: int, stop: int | None) -> Generator[Frame, None, None]:
        while stop is None or self._position < stop:
            frame, self._buffered_frame = self._buffered_frame or self._read_next(), None
            if frame is None:
                return
            if stop is not None and frame.index >= stop:
                self._buffered_frame = frame
                return
            self._position = frame.index + 1
            if frame.index >= start:
                yield frame

    def _read_next(self) -> Frame | None:
        self._check_open()
        if self._prefetcher is None:
            assert self._items is not None
            self._prefetcher = Prefetcher(self._items, self._prefetch_frames, self._on_overflow)
            self._prefetchers.add(self._prefetcher)
            self._items = None
        frame = next(self._with_warnings(self._prefetcher), None)
        if frame is None and self._size is None:
            raise SourceError(
                f"{self.path!r} ended without a frame; a video has at least one: check where its frames come from"
            )
        if frame is None:
            return None
        if self._size is not None and frame.size != self._size:
            self._prefetcher.close()
            raise frame_size_error(frame.path, frame.index, self._size, frame.size)
        self._size = frame.size
        return frame


def open_iterator(source: Iterable[object], channels: Channels, prefetch_frames: int) -> StreamedVideo:
    """Open an iterator of images, paths, arrays or frames; it is read one item at a time.

    Example:
        >>> import numpy as np
        >>> next(iter(open_iterator((np.zeros((2, 3, 3), np.uint8) for _ in range(9)), "rgb", 4))).index
        0
    """

    def read() -> Generator[FrameOrWarning, None, None]:
        names = count()
        number = 0
        for item in source:
            if isinstance(item, Frame):
                yield Frame(item.rgb, item.path, number, item.time)
                number += 1
                continue
            for reader in image_readers(cast(ImageLike, item), names, channels):
                image = read_image_or_warning(reader, number)
                yield Frame(image.rgb, image.path, number) if isinstance(image, SourceImage) else image
                number += 1

    return StreamedVideo(read(), "iterator", prefetch_frames)


def open_camera(number: int, prefetch_frames: int, on_overflow: OverflowPolicy) -> StreamedVideo:
    """Open a camera by its number, the first is 0; times are seconds since its first frame.

    Example:
        >>> camera = open_camera(0, 4, "drop")  # doctest: +SKIP

    Raises:
        SourceError: if there is no such camera; later, if it stops giving frames.
    """
    path = f"camera {number}"
    capture = open_capture(number) if number >= 0 else None
    if capture is None or not capture.isOpened():
        if capture is not None:
            capture.release()
        raise SourceError(
            f"{path} cannot be opened; a camera's number is 0 for the first, 1 for the next ...: "
            "check that it is connected, that no other program uses it and that this one may"
        )
    rate = capture.get(_CAP_PROP_FPS)
    info = StreamInfo(live=True, fps=rate if 0 < rate < 1000 else None, release=capture.release)
    return StreamedVideo(_frames_from_camera(capture, path), path, prefetch_frames, on_overflow, info)


def _frames_from_camera(capture: Capture, path: str) -> Generator[FrameOrWarning, None, None]:
    begin: float | None = None
    try:
        for number in count():
            good, pixels = capture.read()
            now = monotonic()
            if not good:
                raise SourceError(
                    f"{path} stopped after {number} frames; a camera runs until it is closed: "
                    "check its cable and that no other program took it"
                )
            begin = now if begin is None else begin
            yield Frame(from_array(pixels, path, channels="bgr").rgb, path, number, now - begin)
    finally:
        capture.release()


def open_capture(number: int) -> Capture:
    """Open a camera with OpenCV; nothing else touches a device."""
    import cv2

    return cast(Capture, cv2.VideoCapture(number))


def open_url(url: str, prefetch_frames: int, on_overflow: OverflowPolicy) -> StreamedVideo:
    """Open a video or live stream behind rtsp, http, https and the like; passwords are left out of its `path`.

    Example:
        >>> stream = open_url("rtsp://camera.local/1", 4, "drop")  # doctest: +SKIP

    Raises:
        SourceError: if it cannot be reached or holds no video; later, if it breaks off.
    """
    scheme = url.partition("://")[0].lower()
    path = _PASSWORD.sub(r"\1***@", url)
    if scheme not in _SCHEMES:
        raise SourceError(f"{path!r}: {scheme}:// is not read; streams are {', '.join(_SCHEMES)}: use one of these")
    options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
    try:
        container = open_container(url, (OPEN_TIMEOUT_S, READ_TIMEOUT_S), **options)
    except damage_errors() as cause:
        raise SourceError(
            f"cannot open {path!r}: {getattr(cause, 'strerror', None) or cause}; a reachable stream or video is "
            "needed: check the address, the password and the network, or play it with ffplay"
        ) from cause
    try:
        stream = select_video_stream(container, path)
    except SourceError:
        container.close()
        raise
    info = StreamInfo(
        live=scheme in _LIVE or container.duration is None,
        fps=frame_rate(stream),
        expected_num_frames=stream.frames or None,
        release=container.close,
    )
    return StreamedVideo(
        _frames_from_container(container, path, info.expected_num_frames), path, prefetch_frames, on_overflow, info
    )


def _frames_from_container(
    container: InputContainer, path: str, expected_num_frames: int | None
) -> Generator[FrameOrWarning, None, None]:
    """Number frames as they come; damaged ones count, but not those before the first key frame."""
    number = 0
    origin: float | None = None
    with container:
        stream = select_video_stream(container, path)
        tick = float(stream.time_base) if stream.time_base is not None else None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except damage_errors() as cause:
                raise SourceError(
                    f"{path!r} broke off after {number} frames: {getattr(cause, 'strerror', None) or cause}; "
                    "what came before was read: check the network and open it again"
                ) from cause
            if packet is None:
                break
            for frame in decode_packet(stream, packet if packet.size else None):
                if frame is not None:
                    time = None if frame.pts is None or tick is None else frame.pts * tick
                    origin = time if origin is None else origin
                    elapsed = None if time is None else time - (origin or 0.0)
                    if number == 0 and (note := color_note(frame, path)) is not None:
                        yield FrameWarning(note)
                    yield Frame(upright_rgb(frame, path), path, number, elapsed)
                elif number:
                    yield FrameWarning(
                        f"{path!r}: frame {number} cannot be decoded and is left out; the stream continues"
                    )
                number += frame is not None or number > 0
    if expected_num_frames is not None and number < expected_num_frames:
        yield FrameWarning(
            f"{path!r} ends early: {expected_num_frames} frames expected, {number} found; "
            "those that came were read: open it again for the rest"
        )
