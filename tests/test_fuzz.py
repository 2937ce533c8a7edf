"""Damaged files of every kind end in a result or in one of masklet's own errors: seeded mutations of tiny files.

A run without `-m slow` tries a few mutations of each kind; the slow part tries 20,000 in all. A failure names the kind
and the seed, and `mutated(content, random.Random(seed))` makes the file again.
"""

from __future__ import annotations

import io
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from masklet.errors import MaskletError
from masklet.media import open_images, open_video
from masklet.media.image import MAX_PIXELS_VARIABLE

FAST_MUTATIONS = 25
MAX_PIXELS = 4_000_000
"""Limit of the image size: a damaged header must not reserve gigabytes."""
MAX_SECONDS = 5.0
"""Time that one file may take; most take a millisecond."""
NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x01")
WORDS = (b"nan", b"-1", b"1e999", b"99999999999999999999", b"\xff\xfe", b"\0", b"'\"<&{[(", b"../../etc", b"true")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to three ways: flipped bits, cuts, repeated and zero blocks, odd numbers, inserted text."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(max(1, len(data)))
        if rng.random() < 0.4:  # headers decide more than pixels
            at = rng.randrange(max(1, min(len(data), 128)))
        length = rng.choice((1, 2, 4, 16, 100))
        match rng.randrange(6):
            case 0:
                for _ in range(rng.choice((1, 1, 4, 20))):
                    if data:
                        data[rng.randrange(len(data)) if rng.random() < 0.5 else min(at, len(data) - 1)] ^= (
                            1 << rng.randrange(8)
                        )
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[at : at + length] * rng.choice((1, 3))
            case 3:
                data[at : at + length] = bytes(len(data[at : at + length]))
            case 4:
                number = rng.choice(NUMBERS)
                data[at : at + len(number)] = number
            case 5:
                data[at:at] = rng.choice(WORDS)
    return bytes(data)


def image_bytes(kind: str, **options: object) -> bytes:
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (4, 5, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    image = Image.fromarray(pixels)
    if options.pop("deep", False):
        image = Image.fromarray(np.linspace(0, 65535, 320).astype(np.uint16).reshape(16, 20))
    frames = options.pop("frames", 0)
    if frames:
        options |= {"save_all": True, "append_images": [image.rotate(90 * i) for i in range(1, frames)], "duration": 40}
    if kind == "JPEG":
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def video_bytes(container: str, codec: str, pixel_format: str = "yuv420p", **options: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_format
        stream.options = {"g": "2", **options}
        for number in range(4):
            pixels = np.full((32, 32, 3), 60 + 10 * number, np.uint8)
            pixels[4:20, 2 * number : 12 + 2 * number] = (220, 40, 40)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)))
        output.mux(stream.encode())
    return buffer.getvalue()


def read_image(path: Path) -> None:
    for image in open_images(path):
        assert image.rgb.shape[0] * image.rgb.shape[1] > 0


def read_video(path: Path) -> None:
    """Read a video forward and one frame by its number; a damaged header must not make it endless."""
    with open_video(path) as video, closing(video.frames()) as frames:
        count = sum(frame.rgb.shape[:2] == video.size for frame in islice(frames, 100))
        if video.num_frames:
            assert count <= video.num_frames or count == 100
            video[video.num_frames - 1]


Kind = tuple[str, Callable[[], bytes], Callable[[Path], None], int]
"""Name of the file, its content, its reader, and how many of the 20,000 mutations it gets."""
KINDS: dict[str, Kind] = {
    "png": ("a.png", lambda: image_bytes("PNG"), read_image, 1500),
    "png of 16 bits": ("a.png", lambda: image_bytes("PNG", deep=True), read_image, 600),
    "jpg": ("a.jpg", lambda: image_bytes("JPEG"), read_image, 1500),
    "webp": ("a.webp", lambda: image_bytes("WEBP"), read_image, 1000),
    "gif": ("a.gif", lambda: image_bytes("GIF"), read_image, 1000),
    "bmp": ("a.bmp", lambda: image_bytes("BMP"), read_image, 1000),
    "tiff": ("a.tif", lambda: image_bytes("TIFF", compression="tiff_lzw"), read_image, 1000),
    "tiff of 16 bits": ("a.tif", lambda: image_bytes("TIFF", deep=True), read_image, 600),
    "mp4": ("a.mp4", lambda: video_bytes("mp4", "libx264"), read_video, 800),
    "fragmented mp4": ("a.mp4", lambda: video_bytes("mp4", "mpeg4"), read_video, 500),
    "mkv": ("a.mkv", lambda: video_bytes("matroska", "libx264"), read_video, 800),
    "webm": ("a.webm", lambda: video_bytes("webm", "libvpx"), read_video, 500),
    "avi": ("a.avi", lambda: video_bytes("avi", "mjpeg", "yuvj420p"), read_video, 700),
    "mpeg-ts": ("a.ts", lambda: video_bytes("mpegts", "libx264"), read_video, 700),
    "y4m": ("a.y4m", lambda: video_bytes("yuv4mpegpipe", "wrapped_avframe"), read_video, 700),
    "raw h264": ("a.h264", lambda: video_bytes("h264", "libx264"), read_video, 500),
    "gif video": ("a.gif", lambda: image_bytes("GIF", frames=4), read_video, 800),
    "webp video": ("a.webp", lambda: image_bytes("WEBP", frames=4), read_video, 500),
    "png video": ("a.png", lambda: image_bytes("PNG", frames=4), read_video, 400),
}
if features.check("avif"):
    KINDS["avif"] = ("a.avif", lambda: image_bytes("AVIF"), read_image, 500)


def failures(kind: str, folder: Path, seeds: range) -> Iterator[str]:
    """Read mutations of one kind of file; yield each that ends in an error of another library, or takes too long."""
    name, make, read, _ = KINDS[kind]
    original, path = make(), folder / name
    path.write_bytes(original)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
        for seed in seeds:
            path.write_bytes(mutated(original, random.Random(seed)))
            begin = time.monotonic()
            try:
                read(path)
            except MaskletError:
                pass
            except Exception as error:
                yield f"{kind}, seed {seed}: {type(error).__module__}.{type(error).__name__}: {error}"
            if time.monotonic() - begin > MAX_SECONDS:
                yield f"{kind}, seed {seed}: took {time.monotonic() - begin:.0f} s"


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(MAX_PIXELS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutations_of_every_kind(kind: str, tmp_path: Path) -> None:
    assert list(failures(kind, tmp_path, range(FAST_MUTATIONS))) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutations_of_every_kind(kind: str, tmp_path: Path) -> None:
    assert list(failures(kind, tmp_path, range(1000, 1000 + KINDS[kind][3]))) == []
