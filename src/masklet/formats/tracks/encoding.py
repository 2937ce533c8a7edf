"""A film while it is being written: H.264 in an MP4 made of fragments, which plays as far as it goes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from masklet.errors import OutputError
from masklet.formats.tracks.lines import unwritten

__all__ = ["ENCODERS", "TICKS", "FilmPart", "film_error", "known_encoders"]

Pixels = npt.NDArray[np.uint8]

TICKS = 90000
"""Parts of a second in which times are written: 24, 25, 30 and 60 frames a second, and 30000/1001, are exact."""

ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "h264_nvenc", "h264_qsv", "h264_amf")
"""H.264 encoders, the best first; those of graphics cards are listed by builds that cannot open them."""

FRAGMENTS = {"movflags": "empty_moov+default_base_moof", "frag_duration": "1000000", "flush_packets": "1"}
KEY_SECONDS = 2
BT709 = 1
LIMITED_RANGE = 1
BITS_A_PIXEL = 0.12
"""For encoders that know no constant quality."""


class FilmPart:
    """An H.264 film, yuv420p, BT.709, with one picture after the other; odd sizes get one more row or column.

    A killed program loses the last second and what the encoder still holds; the rest plays.

    Example:
        >>> part = FilmPart(Path("out/clip_overlay.part.mp4"), size=(480, 640), fps=30.0, crf=20)
        >>> part.add(rgb, seconds=0.0)
        >>> part.close(last=1 / 30)

    Raises:
        OutputError: no H.264 encoder opens, or the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, crf: int) -> None:
        self.path = path
        self._held: Packet[VideoStream] | None = None
        height, width = (side + side % 2 for side in size)
        self._container, self._stream = _open(path, (height, width), fps, crf)

    def add(self, rgb: Pixels, seconds: float) -> None:
        """Write an (H, W, 3) RGB picture that is shown from `seconds` on; every one is later than the one before.

        Raises:
            OutputError: the file cannot be written; what was written before stays.
        """
        frame = av.VideoFrame.from_ndarray(_even(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = round(seconds * TICKS), Fraction(1, TICKS)
        self._encode(frame)

    def close(self, last: float) -> None:
        """Write what the encoder still holds; the last picture is shown for `last` seconds.

        Raises:
            OutputError: the file cannot be written; what was written before stays.
        """
        try:
            self._encode(None)
            if self._held is not None:
                self._mux(round(last * TICKS))
        finally:
            try:
                self._container.close()
            except av.FFmpegError as error:
                raise film_error(self.path, error) from error

    def abandon(self) -> None:
        """Close the file as it is, after it could not be written."""
        try:
            self._container.close()
        except av.FFmpegError:  # said when it happened first
            return

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                if self._held is not None and self._held.dts is not None and packet.dts is not None:
                    self._mux(packet.dts - self._held.dts)
                self._held = packet
        except av.FFmpegError as error:
            raise film_error(self.path, error) from error

    def _mux(self, duration: int) -> None:
        """Write the packet in hand, now that it is known how long its picture is shown."""
        assert self._held is not None
        self._held.duration = duration
        self._container.mux(self._held)
        self._held = None


def known_encoders() -> list[str]:
    """The H.264 encoders that this build of PyAV lists, the best first.

    Example:
        >>> known_encoders()
        ['libx264', 'h264_nvenc']

    Raises:
        OutputError: it has none.
    """
    names = [name for name in ENCODERS if name in av.codecs_available]
    if not names:
        raise OutputError(
            f"this build of PyAV {av.__version__} has no H.264 encoder ({', '.join(ENCODERS)}): install the wheel "
            "from PyPI with 'pip install --force-reinstall av', or save png or coco"
        )
    return names


def film_error(path: Path, error: av.FFmpegError) -> OutputError:
    """The OutputError for a film that FFmpeg cannot go on writing."""
    return unwritten(path, error if isinstance(error, OSError) else OSError(str(error)))


def _open(path: Path, size: tuple[int, int], fps: float, crf: int) -> tuple[OutputContainer, VideoStream]:
    """The file and its stream with the first encoder that opens."""
    refused = []
    for name in known_encoders():
        try:
            container = av.open(path, "w", format="mp4", options=FRAGMENTS)
        except av.FFmpegError as error:
            raise film_error(path, error) from error
        stream = container.add_stream(name, rate=Fraction(fps).limit_denominator(1001))
        assert isinstance(stream, VideoStream)
        _set_up(stream, size, fps, crf)
        try:
            stream.codec_context.open()
            return container, stream
        except (av.FFmpegError, ValueError) as error:
            refused.append(f"{name}: {error}")
            container.close()
    path.unlink(missing_ok=True)
    raise OutputError(
        f"no H.264 encoder opens for {size[1]}x{size[0]} pixels ({'; '.join(refused)}): track a smaller film, or save "
        "png or coco"
    )


def _set_up(stream: VideoStream, size: tuple[int, int], fps: float, crf: int) -> None:
    context = stream.codec_context
    context.height, context.width = size
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, TICKS)
    context.gop_size = max(1, round(KEY_SECONDS * fps))
    context.max_b_frames = 0  # times are then in order, and a fragment needs none of the next
    context.color_range = LIMITED_RANGE
    context.colorspace = context.color_primaries = context.color_trc = BT709
    if context.name == "libx264":
        context.options = {"crf": str(crf), "preset": "veryfast"}
    else:
        context.bit_rate = round(size[0] * size[1] * fps * BITS_A_PIXEL)


def _even(rgb: Pixels) -> Pixels:
    """(H, W, 3) with one more row or column, the same as the last, where H or W is odd."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(rgb)
