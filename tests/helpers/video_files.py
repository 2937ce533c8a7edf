"""Small videos made here, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class Shot:
    """How a video is made; `times(i)` is the time of frame i in frame lengths."""

    count: int = 30
    group: int = 12
    codec: str = "libx264"
    size: tuple[int, int] = (64, 48)
    pixels: str = "yuv420p"
    between: int = 2
    container: str | None = None
    rotation: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    muxing: dict[str, str] = field(default_factory=dict)
    times: Callable[[int], int] = int


def make_image(number: int, size: tuple[int, int]) -> np.ndarray:
    """Stripes that move, on four quarters of different colors: no two frames and no two corners are alike."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 40, 40)
    pixels[: height // 2, width // 2 :] = (40, 200, 40)
    pixels[height // 2 :, : width // 2] = (40, 40, 220)
    pixels[:, (number * 3) % width] = 255
    pixels[(number * 2) % height] = 128
    return pixels


def make_video(path: Path, shot: Shot | None = None) -> Path:
    shot = shot or Shot()
    with av.open(str(path), "w", format=shot.container, options=shot.muxing) as container:
        stream = container.add_stream(shot.codec, rate=25, options=shot.options)
        stream.width, stream.height = shot.size
        stream.pix_fmt = shot.pixels
        stream.codec_context.gop_size = shot.group
        stream.codec_context.max_b_frames = shot.between
        if shot.rotation is not None:
            stream.set_display_rotation(shot.rotation)
        for number in range(shot.count):
            frame = av.VideoFrame.from_ndarray(make_image(number, shot.size), format="rgb24")
            frame.pts = shot.times(number)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def packet_spans(path: Path) -> list[tuple[int, int, int]]:
    """(frame number, position in the file, bytes) of every packet, in decoding order."""
    with av.open(str(path)) as container:
        found = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    order = sorted(pts for pts, _, _ in found)
    return [(order.index(pts), position, size) for pts, position, size in found]


def damage(path: Path, number: int, part: slice) -> None:
    """Overwrite a part (in hundredths) of the packet that holds frame `number`."""
    _, position, size = next(span for span in packet_spans(path) if span[0] == number)
    data = bytearray(path.read_bytes())
    for at in range(position + size * part.start // 100, position + size * part.stop // 100):
        data[at] ^= 0x5A
    path.write_bytes(data)


def cut(path: Path, part: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path
